//! Ten attributes and 256 KiB: what is on the wire, byte for byte, counted from the request alone.

use opentelemetry::trace::{FutureExt, Status};

use super::super::fake::*;
use super::super::limits::{BAGGAGE, TRACEPARENT, TRACESTATE, bytes, ours, parent};
use super::{TOPIC, entry, text};
use crate::producer::XrayHeader;

const KIB_256: usize = 262_144;

#[tokio::test]
async fn with_none_to_twelve_attributes_of_the_callers() {
    let expected = [
        "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TS", "T", "", "", "",
    ];
    for policy in [XrayHeader::Overflow, XrayHeader::Always] {
        for (count, expected) in expected.into_iter().enumerate() {
            let bench = Bench::new(Fake::default(), |with| with.xray_header(policy));
            let mut publish = bench.publish();
            for number in 0..count {
                publish = publish.message_attributes(format!("user{number}"), text("value"));
            }
            publish.send().with_context(parent()).await.unwrap();
            let message = bench.fake.request(0);
            assert_eq!(ours(&message), expected, "{count} attributes");
            let attributes = message["MessageAttributes"].as_object().unwrap();
            assert_eq!(attributes.len(), count + expected.len());
            for number in 0..count {
                let value = sent(&message, &format!("user{number}"));
                assert_eq!(value.as_deref(), Some("value"));
            }
            // The call is a span all the same.
            assert_eq!(bench.span("send placed").status, Status::Unset);
        }
    }
}

#[tokio::test]
async fn around_the_size_limit_of_a_message() {
    let full = TRACEPARENT + TRACESTATE + BAGGAGE;
    for (room, expected, missing) in [
        (full, "TSB", 0),
        (full - 1, "TS", BAGGAGE - 1),
        (TRACEPARENT + TRACESTATE, "TS", 0),
        (TRACEPARENT + TRACESTATE - 1, "T", TRACESTATE - 1),
        (TRACEPARENT, "T", 0),
        (TRACEPARENT - 1, "", TRACEPARENT - 1),
        (0, "", 0),
    ] {
        for limit in [KIB_256, 2_000, 4 * KIB_256] {
            let bench = Bench::new(Fake::default(), |with| {
                // What queues take has no say here.
                let with = with.max_message_bytes(1);
                if limit == KIB_256 {
                    with
                } else {
                    with.max_topic_message_bytes(limit)
                }
            });
            let callers = "12345".len() + "user".len() + "String".len() + "subject".len();
            let publish = bench.topics.publish().topic_arn(TOPIC).subject("subject");
            let publish = publish
                .message("x".repeat(limit - room - callers))
                .message_attributes("user", text("12345"));
            publish.send().with_context(parent()).await.unwrap();
            let message = bench.fake.request(0);
            assert_eq!(
                (ours(&message).as_str(), bytes(&message)),
                (expected, limit - missing),
                "{room} bytes of room in {limit}"
            );
        }
    }
}

#[test]
fn no_topic_takes_more_than_one_mebibyte() {
    let interceptor = crate::producer::Interceptor::new().max_topic_message_bytes(usize::MAX);
    assert_eq!(interceptor.settings.topic_message_bytes_max, 1_048_576);
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
        (2 * TRACEPARENT - 1, ["T", ""]),
        (TRACEPARENT, ["T", ""]),
        (TRACEPARENT - 1, ["", ""]),
        (0, ["", ""]),
    ] {
        let bench = Bench::plain();
        let entries = [("a", 1_000), ("b", KIB_256 - 1_000 - room)];
        let entries = entries.map(|(id, length)| entry(id, "x".repeat(length)));
        bench.publish_batch(entries).await;
        let published = bench.published();
        let carried: Vec<_> = published.iter().map(ours).collect();
        assert_eq!(carried, expected, "{room} bytes of room");
        assert!(published.iter().map(bytes).sum::<usize>() <= KIB_256);
    }
}
