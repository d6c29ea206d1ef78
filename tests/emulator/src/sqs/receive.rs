//! `ReceiveMessage`: long polls, and messages as a receiver sees them.

use super::{Shared, attribute, queue::Message, refusal::Refusal};
use crate::clock::unix_ms;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

pub(super) async fn receive(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    let url = request["QueueUrl"].as_str().unwrap_or_default();
    let count = request["MaxNumberOfMessages"].as_u64().unwrap_or(1);
    if !(1..=10).contains(&count) {
        let text = format!(
            "Value {count} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
        );
        return Err(Refusal::parameter(text));
    }
    let wait = request["WaitTimeSeconds"].as_u64().map(Duration::from_secs);
    let wait = match wait {
        Some(wait) if wait > Duration::from_secs(20) => {
            return Err(Refusal::parameter(
                "WaitTimeSeconds must be >= 0 and <= 20.",
            ));
        }
        Some(wait) => wait,
        None => shared.with(url, |queue, _| Ok(queue.spec.wait))?,
    };
    let visibility = request["VisibilityTimeout"]
        .as_u64()
        .map(Duration::from_secs);
    let deadline = Instant::now() + wait;
    let mut changed = shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let taken = shared.receive(url, usize::try_from(count).unwrap_or(10), visibility)?;
        if !taken.is_empty() {
            let messages: Vec<_> = taken
                .iter()
                .map(|message| shown(message, request))
                .collect();
            return Ok(json!({"Messages": messages}));
        }
        let now = std::time::Instant::now();
        let next = {
            let queues = shared.lock();
            let queue = queues.get(url.rsplit('/').next().unwrap_or_default());
            queue.and_then(|queue| queue.next_visible(now))
        };
        let wake = next.map_or(deadline, |at| deadline.min(Instant::from_std(at)));
        if Instant::now() >= deadline {
            return Ok(json!({}));
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

pub(super) fn names<'a>(request: &'a Value, key: &str) -> Vec<&'a str> {
    request[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// A message as a receiver sees it: with the attributes it asked for.
fn shown(message: &Message, request: &Value) -> Value {
    let mut value = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": attribute::md5_of_body(&message.body),
        "Body": message.body,
    });
    let mut wanted = names(request, "MessageSystemAttributeNames");
    wanted.extend(names(request, "AttributeNames"));
    let system: Map<String, Value> = system_attributes(message)
        .into_iter()
        .filter(|(name, _)| wanted.iter().any(|one| *one == "All" || one == name))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if !system.is_empty() {
        value["Attributes"] = Value::Object(system);
    }
    let wanted = names(request, "MessageAttributeNames");
    let user: Vec<_> = message
        .attributes
        .iter()
        .filter(|(name, _)| asked(&wanted, name))
        .collect();
    if !user.is_empty() {
        value["MD5OfMessageAttributes"] = json!(attribute::md5_of(user.iter().copied()));
        let map = user
            .into_iter()
            .map(|(name, attribute)| (name.clone(), attribute.to_json()));
        value["MessageAttributes"] = Value::Object(map.collect());
    }
    value
}

/// Whether a receiver asked for an attribute: by name, by `prefix.*`, by `All` or `.*`.
fn asked(wanted: &[&str], name: &str) -> bool {
    wanted.iter().any(|one| match one.strip_suffix(".*") {
        Some("") => true,
        Some(prefix) => name.starts_with(prefix),
        None => *one == "All" || *one == name,
    })
}

fn system_attributes(message: &Message) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("SenderId", "AIDAIENQZJOLO23YVJ4VO".to_owned()),
        ("SentTimestamp", unix_ms(message.sent.wall).to_string()),
        ("ApproximateReceiveCount", message.receive_count.to_string()),
    ];
    let optional = [
        (
            "ApproximateFirstReceiveTimestamp",
            message
                .first_received
                .map(|at| unix_ms(at.wall).to_string()),
        ),
        ("AWSTraceHeader", message.trace_header.clone()),
        ("MessageGroupId", message.group.clone()),
        ("MessageDeduplicationId", message.deduplication_id.clone()),
        ("SequenceNumber", message.sequence.clone()),
        (
            "DeadLetterQueueSourceArn",
            message.dead_letter_source.clone(),
        ),
    ];
    all.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_names_by_name_prefix_and_all() {
        for (wanted, name, yes) in [
            ("All", "x", true),
            (".*", "x", true),
            ("trace.*", "traceparent", true),
            ("trace.*", "baggage", false),
            ("baggage", "baggage", true),
            ("bag", "baggage", false),
        ] {
            assert_eq!(asked(&[wanted], name), yes, "{wanted} {name}");
        }
        assert!(!asked(&[], "x"));
    }
}
