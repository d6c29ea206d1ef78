//! Ten attributes and 1 MiB: what is on the wire, byte for byte, counted from the request alone.

use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
    SendMessageBatchRequestEntry,
};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{FutureExt, SpanContext, TraceContextExt, TraceState};
use opentelemetry::{Context, KeyValue, SpanId, TraceFlags, TraceId};
use serde_json::Value;

use super::fake::*;
use crate::producer::XrayHeader;

const MIB: usize = 1_048_576;
pub(super) const TRACEPARENT: usize = "traceparent".len() + "String".len() + 55;
pub(super) const TRACESTATE: usize = "tracestate".len() + "String".len() + "vendor=1".len();
pub(super) const BAGGAGE: usize = "baggage".len() + "String".len() + "tenant=a".len();

/// A context with a tracestate and baggage.
pub(super) fn parent() -> Context {
    let state = TraceState::from_key_value([("vendor", "1")]).unwrap();
    let remote = SpanContext::new(
        TraceId::from(1),
        SpanId::from(2),
        TraceFlags::SAMPLED,
        true,
        state,
    );
    Context::new()
        .with_remote_span_context(remote)
        .with_baggage([KeyValue::new("tenant", "a")])
}

fn attribute(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .unwrap()
}

/// What SQS would count, or SNS, from what it would be sent.
pub(super) fn bytes(message: &Value) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let attributes = message["MessageAttributes"]
        .as_object()
        .into_iter()
        .flatten();
    let texts = ["MessageBody", "Message", "Subject"];
    texts
        .map(|name| length(&message[name]))
        .iter()
        .sum::<usize>()
        + attributes
            .map(|(name, value)| {
                name.len() + length(&value["DataType"]) + length(&value["StringValue"])
            })
            .sum::<usize>()
}

pub(super) fn ours(message: &Value) -> String {
    let mut found = String::new();
    for (name, letter) in [("traceparent", 'T'), ("tracestate", 'S'), ("baggage", 'B')] {
        if sent(message, name).is_some_and(|value| !value.is_empty()) {
            found.push(letter);
        }
    }
    if header(message).is_some() {
        found.push('x');
    }
    found
}

pub(super) fn header(message: &Value) -> Option<&str> {
    message["MessageSystemAttributes"].get("AWSTraceHeader")?["StringValue"].as_str()
}

#[tokio::test]
async fn with_none_to_ten_attributes_of_the_callers() {
    let expected = [
        "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TS", "T", "x",
    ];
    for (count, expected) in expected.into_iter().enumerate() {
        let bench = Bench::plain();
        let mut send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body("hello");
        for number in 0..count {
            send = send.message_attributes(format!("user{number}"), attribute("value"));
        }
        send.send().with_context(parent()).await.unwrap();
        let message = bench.fake.request(0);
        assert_eq!(ours(&message), expected, "{count} attributes");
        let attributes = message["MessageAttributes"].as_object().unwrap();
        assert!(attributes.len() <= 10);
        let kept = attributes
            .keys()
            .filter(|name| name.starts_with("user"))
            .count();
        assert_eq!(kept, count);
        let span = bench.span("send orders");
        if let Some(header) = header(&message) {
            let ids = format!("Parent={};Sampled=1;Tl=1", span.span_context.span_id());
            assert!(
                header.starts_with("Root=1-00000000-") && header.ends_with(&ids),
                "{header}"
            );
        } else {
            assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(&span)));
        }
    }
}

#[tokio::test]
async fn around_the_size_limit_of_a_message() {
    for (room, expected, bytes_sent) in [
        (TRACEPARENT + TRACESTATE + BAGGAGE, "TSB", MIB),
        (
            TRACEPARENT + TRACESTATE + BAGGAGE - 1,
            "TS",
            MIB - BAGGAGE + 1,
        ),
        (TRACEPARENT + TRACESTATE, "TS", MIB),
        (TRACEPARENT + TRACESTATE - 1, "T", MIB - TRACESTATE + 1),
        (TRACEPARENT, "T", MIB),
        (TRACEPARENT - 1, "x", MIB - TRACEPARENT + 1),
        (0, "x", MIB),
    ] {
        let bench = Bench::plain();
        let user = attribute("12345");
        let body = "x".repeat(MIB - room - "user".len() - "String".len() - 5);
        let send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body(body)
            .message_attributes("user", user);
        send.send().with_context(parent()).await.unwrap();
        let message = bench.fake.request(0);
        assert_eq!(
            (ours(&message).as_str(), bytes(&message)),
            (expected, bytes_sent),
            "{room} bytes of room"
        );
    }
}

#[tokio::test]
async fn a_lower_limit_of_the_queue_is_kept_too() {
    let bench = Bench::new(Fake::default(), |interceptor| {
        interceptor.max_message_bytes(1_024)
    });
    let send = bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x".repeat(1_000));
    send.send().with_context(parent()).await.unwrap();
    assert_eq!(ours(&bench.fake.request(0)), "x");
}

#[tokio::test]
async fn bodies_count_in_bytes_and_not_in_characters() {
    let bench = Bench::new(Fake::default(), |interceptor| {
        interceptor.max_message_bytes(1_000)
    });
    let body = "\u{20ac}".repeat(310); // 930 bytes
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body(body)
        .send()
        .with_context(parent())
        .await
        .unwrap();
    assert_eq!(ours(&bench.fake.request(0)), "x");
}

#[tokio::test]
async fn around_the_size_limit_of_a_batch_call() {
    let full = 2 * (TRACEPARENT + TRACESTATE + BAGGAGE);
    for (room, expected) in [
        (full, ["TSB", "TSB"]),
        (full - 1, ["TS", "TS"]),
        (2 * (TRACEPARENT + TRACESTATE), ["TS", "TS"]),
        (2 * (TRACEPARENT + TRACESTATE) - 1, ["T", "T"]),
        (2 * TRACEPARENT, ["T", "T"]),
        (2 * TRACEPARENT - 1, ["T", "x"]),
        (TRACEPARENT, ["T", "x"]),
        (TRACEPARENT - 1, ["x", "x"]),
        (0, ["x", "x"]),
    ] {
        let bench = Bench::plain();
        let entry = |id: &str, bytes: usize| {
            SendMessageBatchRequestEntry::builder()
                .id(id)
                .message_body("x".repeat(bytes))
                .build()
                .unwrap()
        };
        let batch = bench.client.send_message_batch().queue_url(QUEUE);
        let batch = batch
            .entries(entry("a", 1_000))
            .entries(entry("b", MIB - 1_000 - room));
        batch.send().with_context(parent()).await.unwrap();
        let entries = bench.fake.request(0)["Entries"].as_array().unwrap().clone();
        assert_eq!(
            entries.iter().map(ours).collect::<Vec<_>>(),
            expected,
            "{room} bytes of room"
        );
        assert!(entries.iter().map(bytes).sum::<usize>() <= MIB);
    }
}

#[tokio::test]
async fn the_header_of_the_caller_is_left_alone() {
    let own = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value("Root=mine")
        .build()
        .unwrap();
    for policy in [XrayHeader::Always, XrayHeader::Overflow] {
        let bench = Bench::new(Fake::default(), |interceptor| {
            interceptor.xray_header(policy).max_message_bytes(10)
        });
        let send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body("x");
        let send = send.message_system_attributes(
            MessageSystemAttributeNameForSends::AwsTraceHeader,
            own.clone(),
        );
        send.send().with_context(parent()).await.unwrap();
        assert_eq!(header(&bench.fake.request(0)), Some("Root=mine"));
    }
}

#[tokio::test]
async fn the_header_always_or_never() {
    for (policy, count, expected) in [(XrayHeader::Always, 0, "TSBx"), (XrayHeader::Never, 10, "")]
    {
        let bench = Bench::new(Fake::default(), |interceptor| {
            interceptor.xray_header(policy)
        });
        let mut send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body("hello");
        for number in 0..count {
            send = send.message_attributes(format!("user{number}"), attribute("value"));
        }
        send.send().with_context(parent()).await.unwrap();
        assert_eq!(ours(&bench.fake.request(0)), expected);
    }
}

#[tokio::test]
async fn inside_lambda_the_lineage_goes_with_the_header() {
    let of_invocation = "Root=1-66ca4895-3f6cef844dab67fb6f6461a4;Parent=27c4bbf84acc163c;Sampled=0;Lineage=1:d4d48d4d:0";
    let bench = Bench::new(Fake::default(), |interceptor| {
        interceptor.xray_header(XrayHeader::Always)
    });
    let context = parent().with_value(crate::lineage::InvocationHeader(of_invocation.into()));
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .with_context(context)
        .await
        .unwrap();
    let message = bench.fake.request(0);
    assert!(
        header(&message)
            .unwrap()
            .ends_with(";Sampled=1;Lineage=1:d4d48d4d:0;Tl=1")
    );
}

#[test]
fn the_helper_for_eventbridge_says_the_same() {
    let header = crate::producer::trace_header(&parent()).unwrap();
    assert_eq!(
        header,
        "Root=1-00000000-000000000000000000000001;Parent=0000000000000002;Sampled=1;Tl=1"
    );
    assert_eq!(crate::producer::trace_header(&Context::new()), None);
}
