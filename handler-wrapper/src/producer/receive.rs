//! `ReceiveMessage`: asks for what the context is read from, and for nothing twice.

use std::time::SystemTime;

use aws_sdk_sqs::operation::receive_message::ReceiveMessageInput;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as SystemName, QueueAttributeName};

use super::Settings;
use super::call::Received;
use super::plan::Field;
use crate::parent::{self, CarrierFamily, ContextOptions};

/// Adds the names of the attributes that the options read, unless the request asks for them already.
pub(crate) fn ask(settings: &Settings, input: &mut ReceiveMessageInput) {
    let ContextOptions { order, datadog, .. } = &settings.context;
    let names = input.message_attribute_names.get_or_insert_default();
    let mut add = |name: &str| {
        if !names.iter().any(|asked| covers(asked, name)) {
            names.push(name.to_owned());
        }
    };
    if order.contains(&CarrierFamily::W3c) {
        Field::ALL.into_iter().for_each(|field| add(field.name()));
        if *datadog {
            add("_datadog");
        }
    }
    if order.contains(&CarrierFamily::Xray) {
        // SQS's names are case-sensitive; these are how the X-Ray propagators of other languages write it.
        ["X-Amzn-Trace-Id", "x-amzn-trace-id"]
            .into_iter()
            .for_each(add);
        ask_for_header(input);
    }
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
        ask(&Settings::default(), &mut input);
        input.message_attribute_names.unwrap()
    }

    #[test]
    fn what_is_asked_for_already_is_not_asked_for_again() {
        let xray = ["X-Amzn-Trace-Id", "x-amzn-trace-id"];
        let with_xray = |names: &[&'static str]| [names, &xray].concat();
        assert_eq!(
            asked(&[]),
            with_xray(&["traceparent", "tracestate", "baggage"])
        );
        assert_eq!(asked(&["All"]), ["All"]);
        assert_eq!(asked(&[".*"]), [".*"]);
        assert_eq!(asked(&["trace.*"]), with_xray(&["trace.*", "baggage"]));
        assert_eq!(
            asked(&["b.*", "traceparent"]),
            with_xray(&["b.*", "traceparent", "tracestate"])
        );
        assert_eq!(
            asked(&["app", "baggage"]),
            with_xray(&["app", "baggage", "traceparent", "tracestate"])
        );
        assert_eq!(
            asked(&["T.*", "X.*"]),
            [
                "T.*",
                "X.*",
                "traceparent",
                "tracestate",
                "baggage",
                "x-amzn-trace-id"
            ]
        );
    }

    #[test]
    fn what_is_not_read_is_not_asked_for() {
        let ask_in = |order: &[CarrierFamily], datadog| {
            let context = ContextOptions {
                order: order.to_vec(),
                datadog,
                ..ContextOptions::default()
            };
            let mut input = ReceiveMessageInput::builder().build().unwrap();
            ask(
                &Settings {
                    context,
                    ..Settings::default()
                },
                &mut input,
            );
            (
                input.message_attribute_names().join(","),
                input.message_system_attribute_names().len(),
            )
        };
        assert_eq!(
            ask_in(&[CarrierFamily::Xray], true),
            ("X-Amzn-Trace-Id,x-amzn-trace-id".into(), 1)
        );
        assert_eq!(
            ask_in(&[CarrierFamily::W3c], true),
            ("traceparent,tracestate,baggage,_datadog".into(), 0)
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
            ask(&Settings::default(), &mut input);
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
