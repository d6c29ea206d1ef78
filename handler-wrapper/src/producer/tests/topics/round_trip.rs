//! What was published, in the two forms in which SNS hands it to a queue, read by a consumer.

use std::time::SystemTime;

use opentelemetry::trace::{FutureExt, SpanContext, TraceState};
use serde_json::{Value, json};

use super::super::fake::*;
use super::super::limits::parent;
use super::{TOPIC, entry, text};
use crate::parent::{ContextOptions, ContextSource, RecordContext};

/// A message as SNS hands it to a queue without raw delivery.
fn envelope(message: &Value) -> Value {
    let attributes = message["MessageAttributes"].as_object().unwrap().iter();
    let attributes: serde_json::Map<_, _> = attributes
        .map(|(name, value)| {
            let value = json!({ "Type": value["DataType"], "Value": value["StringValue"] });
            (name.clone(), value)
        })
        .collect();
    let body = json!({
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": message["Message"],
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
        "MessageAttributes": attributes,
    });
    json!({ "messageId": "q-1", "body": body.to_string() })
}

/// A message as SNS hands it to a queue with raw delivery.
fn raw(message: &Value) -> Value {
    let attributes = message["MessageAttributes"].as_object().unwrap().iter();
    let attributes: serde_json::Map<_, _> = attributes
        .map(|(name, value)| {
            let value =
                json!({ "dataType": value["DataType"], "stringValue": value["StringValue"] });
            (name.clone(), value)
        })
        .collect();
    json!({ "messageId": "q-1", "body": message["Message"], "messageAttributes": attributes })
}

fn read(record: Value) -> RecordContext {
    let options = ContextOptions {
        trust_envelope_baggage: true,
        ..ContextOptions::default()
    };
    let record = serde_json::from_value(record).unwrap();
    crate::parent::read(&record, &options, SystemTime::now())
}

#[tokio::test]
async fn a_consumer_behind_the_topic_reads_the_context_that_was_published() {
    let bench = Bench::plain();
    let publish = bench.publish().message_attributes("tenant", text("a"));
    publish.send().with_context(parent()).await.unwrap();
    bench.publish_batch([entry("a", "x")]).await;
    let (send, create) = (&bench.spans()[0], &bench.creates()[0]);
    let batched = bench.fake.request(1)["PublishBatchRequestEntries"][0].take();
    for (message, span) in [(bench.fake.request(0), send), (batched, create)] {
        for (record, source) in [
            (envelope(&message), ContextSource::Sns),
            (raw(&message), ContextSource::W3c),
        ] {
            let context = read(record);
            assert_eq!(context.source, source);
            let ids = &span.span_context;
            let state = TraceState::from_key_value([("vendor", "1")]).unwrap();
            let published = SpanContext::new(
                ids.trace_id(),
                ids.span_id(),
                ids.trace_flags(),
                true,
                state,
            );
            assert_eq!(context.creation.as_ref(), Some(&published));
            assert_eq!(context.parent.unwrap().span_context, published);
            let baggage = context.baggage.unwrap();
            assert_eq!(baggage.get("tenant").unwrap().as_str(), "a");
        }
    }
}
