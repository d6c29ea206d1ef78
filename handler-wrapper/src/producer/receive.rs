//! `ReceiveMessage`: asks for what the context is read from, and for nothing twice.

use std::time::SystemTime;

use aws_sdk_sqs::operation::receive_message::ReceiveMessageInput;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as SystemName, QueueAttributeName};

use super::Settings;
use super::call::Received;
use super::plan::Field;
use crate::parent;

/// Adds the names of our attributes to the request, unless it asks for them already.
pub(crate) fn ask(input: &mut ReceiveMessageInput) {
    let names = input.message_attribute_names.get_or_insert_default();
    for field in Field::ALL {
        if !names.iter().any(|asked| covers(asked, field.name())) {
            names.push(field.name().to_owned());
        }
    }
    ask_for_header(input);
}

/// SQS, "ReceiveMessage": `All` and `.*` are every attribute, `bar.*` those that start with `bar`.
fn covers(asked: &str, name: &str) -> bool {
    asked == "All"
        || asked == name
        || asked
            .strip_suffix(".*")
            .is_some_and(|prefix| name.starts_with(prefix))
}

/// The parameter for system attributes has an older, deprecated twin: a request that uses only the
/// older one gets our name there, so that it is still asked in one way.
#[allow(deprecated)] // callers may use it
fn ask_for_header(input: &mut ReceiveMessageInput) {
    let older = input.attribute_names.as_deref().unwrap_or_default();
    let newer = input
        .message_system_attribute_names
        .as_deref()
        .unwrap_or_default();
    let header = SystemName::AwsTraceHeader;
    let asked = newer.contains(&SystemName::All)
        || newer.contains(&header)
        || older
            .iter()
            .any(|name| *name == QueueAttributeName::All || name.as_str() == header.as_str());
    if asked {
        return;
    }
    if newer.is_empty() && !older.is_empty() {
        input
            .attribute_names
            .get_or_insert_default()
            .push(QueueAttributeName::from(header.as_str()));
    } else {
        input
            .message_system_attribute_names
            .get_or_insert_default()
            .push(header);
    }
}

/// What a receive span says about the messages.
pub(crate) fn received(settings: &Settings, messages: &[Message]) -> Vec<Received> {
    let now = SystemTime::now();
    let read = |message: &Message| Received {
        message_id: message.message_id().map(str::to_owned),
        creation: parent::read_received(message, &settings.context, now).creation,
    };
    messages.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(names: &[&str]) -> Vec<String> {
        let input = ReceiveMessageInput::builder().set_message_attribute_names(Some(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ));
        let mut input = input.build().unwrap();
        ask(&mut input);
        input.message_attribute_names.unwrap()
    }

    #[test]
    fn what_is_asked_for_already_is_not_asked_for_again() {
        assert_eq!(asked(&[]), ["traceparent", "tracestate", "baggage"]);
        assert_eq!(asked(&["All"]), ["All"]);
        assert_eq!(asked(&[".*"]), [".*"]);
        assert_eq!(asked(&["trace.*"]), ["trace.*", "baggage"]);
        assert_eq!(
            asked(&["b.*", "traceparent"]),
            ["b.*", "traceparent", "tracestate"]
        );
        assert_eq!(
            asked(&["app", "traceparent"]),
            ["app", "traceparent", "tracestate", "baggage"]
        );
        assert_eq!(
            asked(&["Traceparent.*"]),
            ["Traceparent.*", "traceparent", "tracestate", "baggage"]
        );
    }

    #[test]
    #[allow(deprecated)]
    fn the_header_is_asked_for_where_the_caller_asks() {
        let ask_with = |older: &[&str], newer: &[&str]| {
            let list = |names: &[&str]| {
                (!names.is_empty()).then(|| {
                    names
                        .iter()
                        .map(|name| (*name).to_owned())
                        .collect::<Vec<_>>()
                })
            };
            let mut input = ReceiveMessageInput::builder()
                .set_attribute_names(
                    list(older)
                        .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
                )
                .set_message_system_attribute_names(
                    list(newer)
                        .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
                )
                .build()
                .unwrap();
            ask(&mut input);
            let older: Vec<_> = input
                .attribute_names()
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect();
            let newer: Vec<_> = input
                .message_system_attribute_names()
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect();
            (older.join(","), newer.join(","))
        };
        let pair = |older: &str, newer: &str| (older.to_owned(), newer.to_owned());
        assert_eq!(ask_with(&[], &[]), pair("", "AWSTraceHeader"));
        assert_eq!(ask_with(&[], &["All"]), pair("", "All"));
        assert_eq!(
            ask_with(&[], &["SentTimestamp"]),
            pair("", "SentTimestamp,AWSTraceHeader")
        );
        assert_eq!(ask_with(&["All"], &[]), pair("All", ""));
        assert_eq!(
            ask_with(&["SentTimestamp"], &[]),
            pair("SentTimestamp,AWSTraceHeader", "")
        );
        assert_eq!(
            ask_with(&["SentTimestamp"], &["SenderId"]),
            pair("SentTimestamp", "SenderId,AWSTraceHeader")
        );
    }
}
