//! Judging a message that is to be sent.

use super::{
    attribute::{self, MessageAttributes},
    queue::Draft,
    refusal::Refusal,
    settings::QueueSpec,
};
use serde_json::Value;
use std::time::Duration;

/// Reads a `SendMessage` request or an entry of a batch. The trace header of the HTTP request is taken
/// unless the message has its own (X-Ray, "Amazon SQS": the system attribute overrides the header).
pub(super) fn draft(
    spec: &QueueSpec,
    request: &Value,
    http_trace: Option<&str>,
) -> Result<Draft, Refusal> {
    let body = request["MessageBody"]
        .as_str()
        .filter(|body| !body.is_empty());
    let body = body.ok_or_else(|| Refusal::missing("MessageBody"))?;
    if !body.chars().all(allowed) {
        return Err(Refusal::contents());
    }
    let attributes = attribute::parse(&request["MessageAttributes"])?;
    let trace_header = attribute::parse_system(&request["MessageSystemAttributes"])?;
    let draft = Draft {
        body: body.to_owned(),
        trace_header: trace_header.or_else(|| http_trace.map(str::to_owned)),
        group: text(request, "MessageGroupId")?,
        deduplication_id: text(request, "MessageDeduplicationId")?,
        delay: delay(request)?,
        attributes,
    };
    let bytes = draft.bytes();
    if bytes > spec.message_bytes_max {
        let text = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
            spec.message_bytes_max
        );
        return Err(Refusal::parameter(text));
    }
    if spec.fifo() {
        fifo(spec, draft)
    } else {
        standard(draft)
    }
}

impl Draft {
    /// Size as SQS counts it: body and attributes, the system attribute not.
    pub(super) fn bytes(&self) -> usize {
        self.body.len() + attribute::bytes(&self.attributes)
    }

    pub(super) fn md5_of_attributes(attributes: &MessageAttributes) -> Option<String> {
        attribute::md5_of(attributes)
    }
}

/// SQS, "SendMessage": the characters of XML 1.0.
fn allowed(c: char) -> bool {
    matches!(c, '\u{9}' | '\u{a}' | '\u{d}' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

fn fifo(spec: &QueueSpec, mut draft: Draft) -> Result<Draft, Refusal> {
    if draft.group.is_none() {
        return Err(Refusal::missing("MessageGroupId"));
    }
    if draft.delay.take().is_some_and(|delay| !delay.is_zero()) {
        return Err(Refusal::parameter(
            "Value for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.",
        ));
    }
    if draft.deduplication_id.is_none() {
        if !spec.content_based_deduplication {
            return Err(Refusal::parameter(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ));
        }
        // A digest of the body alone: attributes make no difference.
        draft.deduplication_id = Some(attribute::md5_of_body(&draft.body));
    }
    Ok(draft)
}

fn standard(draft: Draft) -> Result<Draft, Refusal> {
    // A group is allowed since fair queues, a deduplication id is not.
    match draft.deduplication_id {
        Some(_) => Err(Refusal::parameter(
            "The request includes a parameter that is not valid for this queue type: MessageDeduplicationId",
        )),
        None => Ok(draft),
    }
}

fn text(request: &Value, name: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = request[name].as_str() else {
        return Ok(None);
    };
    let good = !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_ascii_graphic());
    match good {
        true => Ok(Some(text.to_owned())),
        false => Err(Refusal::parameter(format!(
            "Value {text} for parameter {name} is invalid."
        ))),
    }
}

fn delay(request: &Value) -> Result<Option<Duration>, Refusal> {
    match request["DelaySeconds"].as_i64() {
        None => Ok(None),
        Some(seconds @ 0..=900) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(seconds) => {
            let text = format!(
                "Value {seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            );
            Err(Refusal::parameter(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn send(queue: QueueSpec, request: Value) -> Result<Draft, Refusal> {
        draft(&queue, &request, None)
    }

    #[test]
    fn size_is_body_and_attributes_up_to_the_limit_and_not_one_more() {
        let attribute = json!({"a": {"DataType": "String", "StringValue": "v"}});
        let rest = "a".len() + "String".len() + "v".len();
        for (extra, good) in [(0, true), (1, false)] {
            let body = "x".repeat(1024 - rest + extra);
            let request = json!({"MessageBody": body, "MessageAttributes": attribute,
                "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "free"}}});
            assert_eq!(
                send(QueueSpec::new("q").message_bytes_max(1024), request).is_ok(),
                good
            );
        }
        let whole = |bytes: usize| {
            send(
                QueueSpec::new("q"),
                json!({"MessageBody": "x".repeat(bytes)}),
            )
        };
        assert!(whole(1_048_576).is_ok());
        assert!(whole(1_048_577).is_err());
    }

    #[test]
    fn fifo_wants_a_group_and_an_identity() {
        let queue = || QueueSpec::new("q.fifo");
        assert_eq!(
            send(queue(), json!({"MessageBody": "b"})).unwrap_err().code,
            "MissingParameter"
        );
        assert!(send(queue(), json!({"MessageBody": "b", "MessageGroupId": "g"})).is_err());
        let by_id =
            json!({"MessageBody": "b", "MessageGroupId": "g", "MessageDeduplicationId": "d"});
        assert!(send(queue(), by_id.clone()).is_ok());
        let by_body = send(
            queue().content_based_deduplication(true),
            json!({"MessageBody": "b", "MessageGroupId": "g"}),
        );
        assert!(by_body.unwrap().deduplication_id.is_some());
        assert!(send(QueueSpec::new("q"), by_id).is_err());
        assert!(
            send(
                QueueSpec::new("q"),
                json!({"MessageBody": "b", "MessageGroupId": "fair"})
            )
            .is_ok()
        );
    }

    #[test]
    fn the_messages_own_trace_header_overrides_that_of_http() {
        let request = json!({"MessageBody": "b",
            "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "own"}}});
        let queue = QueueSpec::new("q");
        assert_eq!(
            draft(&queue, &request, Some("http"))
                .unwrap()
                .trace_header
                .as_deref(),
            Some("own")
        );
        let bare = json!({"MessageBody": "b"});
        assert_eq!(
            draft(&queue, &bare, Some("http"))
                .unwrap()
                .trace_header
                .as_deref(),
            Some("http")
        );
        assert_eq!(
            draft(&queue, &json!({"MessageBody": "\u{1}"}), None)
                .unwrap_err()
                .code,
            "InvalidMessageContents"
        );
        assert_eq!(
            draft(&queue, &json!({}), None).unwrap_err().code,
            "MissingParameter"
        );
    }
}
