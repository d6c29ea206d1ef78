//! Publishing to SNS: which spans a call makes, what they say, and what the messages carry.

mod limits;
mod round_trip;

use std::collections::BTreeSet;

use aws_sdk_sns::operation::publish::builders::PublishFluentBuilder;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SpanData;
use serde_json::{Value, json};

use super::fake::*;
use super::limits::{ours, parent};
use super::spans::CUSTOM;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:placed";

fn text(value: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder().string_value(value);
    value.data_type("String").build().unwrap()
}

fn entry(id: &str, message: impl Into<String>) -> PublishBatchRequestEntry {
    let entry = PublishBatchRequestEntry::builder().id(id).message(message);
    entry.build().unwrap()
}

impl Bench {
    fn publish(&self) -> PublishFluentBuilder {
        self.topics.publish().topic_arn(TOPIC).message("hello")
    }

    async fn publish_batch(&self, entries: impl IntoIterator<Item = PublishBatchRequestEntry>) {
        let entries = entries.into_iter().collect();
        let batch = self.topics.publish_batch().topic_arn(TOPIC);
        let batch = batch.set_publish_batch_request_entries(Some(entries));
        batch.send().with_context(parent()).await.unwrap();
    }

    fn published(&self) -> Vec<Value> {
        let entries = self.fake.request(0)["PublishBatchRequestEntries"].take();
        serde_json::from_value(entries).unwrap()
    }

    /// The `create` spans, in the order of their entries.
    fn creates(&self) -> Vec<SpanData> {
        let spans = self.spans().into_iter();
        spans.filter(|span| span.name == "create placed").collect()
    }
}

#[tokio::test]
async fn a_message_carries_the_context_of_its_send_span() {
    let bench = Bench::plain();
    let parent = Context::new().with_span(bench.provider.tracer("test").start("parent"));
    let parent_id = parent.span().span_context().span_id();
    bench.publish().send().with_context(parent).await.unwrap();

    let span = bench.span("send placed");
    assert_eq!(kind(&span), SpanKind::Producer);
    assert_eq!(span.parent_span_id, parent_id);
    assert_eq!(span.status, Status::Unset);
    for (key, value) in [
        ("messaging.system", "aws.sns"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "placed"),
        ("messaging.message.id", "m-1"),
        ("aws.sns.topic.arn", TOPIC),
        ("aws.request_id", "request-1"),
        ("server.address", "127.0.0.1"),
        ("server.port", "1"),
    ] {
        assert_eq!(attribute(&span, key).as_deref(), Some(value), "{key}");
    }
    let message = bench.fake.request(0);
    assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(&span)));
    // An empty value would make SNS refuse the message.
    assert_eq!(message["MessageAttributes"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn each_entry_of_a_batch_carries_the_context_of_its_own_create_span() {
    let bench = Bench::plain();
    bench
        .publish_batch([entry("a", "x"), entry("b", "x")])
        .await;
    let (creates, send) = (bench.creates(), bench.span("send placed"));
    assert_eq!((creates.len(), kind(&send)), (2, SpanKind::Client));
    let count = attribute(&send, "messaging.batch.message_count");
    assert_eq!(count.as_deref(), Some("2"));
    for (number, (id, message)) in ["m-a", "m-b"]
        .into_iter()
        .zip(bench.published())
        .enumerate()
    {
        let create = &creates[number];
        assert_eq!(kind(create), SpanKind::Producer);
        assert_eq!(attribute(create, "messaging.message.id").unwrap(), id);
        assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(create)));
        let link = &send.links.links[number];
        assert_eq!(link.span_context.span_id(), create.span_context.span_id());
        assert_eq!(link.attributes, [KeyValue::new("messaging.message.id", id)]);
    }
}

#[tokio::test]
async fn without_create_spans_every_entry_carries_the_send_span() {
    let bench = Bench::new(Fake::default(), |with| with.create_spans(false));
    bench
        .publish_batch([entry("a", "x"), entry("b", "x")])
        .await;
    assert_eq!(bench.spans().len(), 1);
    let send = bench.span("send placed");
    assert_eq!(kind(&send), SpanKind::Producer);
    for message in bench.published() {
        assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(&send)));
    }
}

#[tokio::test]
async fn entries_that_failed_say_so_on_their_own_spans() {
    let failed = |id: &str, code: &str| json!({ "Id": id, "Code": code, "SenderFault": true });
    for (code, expected) in [("InternalError", "InternalError"), ("Other", "_OTHER")] {
        let answer = Answer::Ok(json!({
            "Successful": [{ "Id": "a", "MessageId": "m-a" }],
            "Failed": [failed("b", "InternalError"), failed("c", code)],
        }));
        let bench = Bench::new(Fake::answering([answer]), |with| with);
        bench
            .publish_batch(["a", "b", "c"].map(|id| entry(id, "x")))
            .await;
        let creates = bench.creates();
        assert_eq!(creates[0].status, Status::Unset);
        assert!(is_error(&creates[1], "InternalError"));
        assert!(is_error(&creates[2], code));
        assert!(is_error(&bench.span("send placed"), expected));
    }
}

#[tokio::test]
async fn a_traceparent_of_the_callers_is_kept_and_linked() {
    for name in ["traceparent", "TraceParent"] {
        let bench = Bench::plain();
        let publish = bench.publish().message_attributes(name, text(CUSTOM));
        publish.send().with_context(parent()).await.unwrap();
        let span = bench.span("send placed");
        assert_eq!(kind(&span), SpanKind::Client);
        let linked = span.links.links[0].span_context.span_id().to_string();
        assert_eq!(linked, "b7ad6b7169203331");
        let message = bench.fake.request(0);
        assert_eq!(sent(&message, name).as_deref(), Some(CUSTOM));
        assert_eq!(message["MessageAttributes"].as_object().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn in_a_batch_only_the_entry_with_its_own_context_is_left_alone() {
    let bench = Bench::plain();
    let custom = PublishBatchRequestEntry::builder().id("a").message("x");
    let custom = custom.message_attributes("traceparent", text(CUSTOM));
    bench
        .publish_batch([custom.build().unwrap(), entry("b", "x")])
        .await;
    let published = bench.published();
    assert_eq!(sent(&published[0], "traceparent").as_deref(), Some(CUSTOM));
    assert_eq!(ours(&published[0]), "T");
    let create = bench.span("create placed");
    assert_eq!(
        sent(&published[1], "traceparent"),
        Some(traceparent_of(&create))
    );
    let linked = bench.span("send placed").links.links.len();
    assert_eq!(linked, 2);
}

#[tokio::test]
async fn a_traceparent_that_is_none_is_not_overwritten() {
    let bench = Bench::plain();
    let publish = bench
        .publish()
        .message_attributes("traceparent", text("mine"));
    publish.send().with_context(parent()).await.unwrap();
    let message = bench.fake.request(0);
    assert_eq!(sent(&message, "traceparent").as_deref(), Some("mine"));
}

#[tokio::test]
async fn failures_have_codes_or_one_of_the_words_and_retries_are_in_one_span() {
    for (answers, expected, attempts) in [
        (vec![Answer::Error(404, "NotFound")], "NotFound", 1),
        (vec![Answer::Refused; 3], "io", 3),
    ] {
        let bench = Bench::new(Fake::answering(answers.clone()), |with| with);
        bench.publish().send().await.unwrap_err();
        assert_eq!(bench.fake.requests(), attempts);
        assert!(
            is_error(&bench.span("send placed"), expected),
            "{:?}",
            bench.spans()
        );

        let bench = Bench::new(Fake::answering(answers), |with| with);
        let batch = bench.topics.publish_batch().topic_arn(TOPIC);
        let batch = batch.publish_batch_request_entries(entry("a", "x"));
        batch.send().await.unwrap_err();
        for name in ["send placed", "create placed"] {
            assert!(is_error(&bench.span(name), expected), "{:?}", bench.spans());
        }
    }
}

#[tokio::test]
async fn targets_that_are_topics_are_topics() {
    let bench = Bench::plain();
    let publish = bench.topics.publish().target_arn(TOPIC).message("x");
    publish.send().await.unwrap();
    let span = bench.span("send placed");
    assert_eq!(
        attribute(&span, "aws.sns.topic.arn").as_deref(),
        Some(TOPIC)
    );
    assert_eq!(ours(&bench.fake.request(0)), "T");
}

#[tokio::test]
async fn phones_devices_and_other_operations_are_left_alone() {
    let device =
        "arn:aws:sns:eu-west-1:123456789012:endpoint/GCM/app/5e3e9847-3183-3f18-a7e8-671c3a57d4b3";
    let bench = Bench::plain();
    let publish = || bench.topics.publish().message("x");
    publish().phone_number("+15550100").send().await.unwrap();
    publish().target_arn(device).send().await.unwrap();
    bench.topics.list_topics().send().await.unwrap();
    assert!(bench.spans().is_empty());
    for number in 0..2 {
        assert!(
            bench
                .fake
                .request(number)
                .get("MessageAttributes")
                .is_none()
        );
    }
}

#[tokio::test]
async fn without_a_topic_there_is_a_span_without_its_name() {
    let bench = Bench::plain();
    bench.topics.publish().message("x").send().await.unwrap();
    let span = bench.span("send");
    assert_eq!(attribute(&span, "aws.sns.topic.arn"), None);
}

#[tokio::test]
async fn without_a_provider_nothing_is_written() {
    let fake = Fake::default();
    let none = opentelemetry::trace::noop::NoopTracerProvider::new();
    let interceptor = crate::producer::Interceptor::new().with_tracer_provider(&none);
    let publish = topics(&fake, interceptor).publish().topic_arn(TOPIC);
    publish.message("x").send().await.unwrap();
    assert!(fake.request(0).get("MessageAttributes").is_none());
}

/// Everything that `docs/telemetry/emitted.txt` says of queues is so for topics, and nothing else.
#[tokio::test]
async fn what_is_emitted_is_what_is_documented() {
    let answers = [
        Answer::Ok(json!({ "MessageId": "m-1" })),
        Answer::Ok(json!({
            "Successful": [{ "Id": "a", "MessageId": "m-a" }],
            "Failed": [{ "Id": "b", "Code": "InternalError", "SenderFault": false }],
        })),
    ];
    let bench = Bench::new(Fake::answering(answers), |with| with);
    bench.publish().send().await.unwrap();
    bench
        .publish_batch([entry("a", "x"), entry("b", "x")])
        .await;
    let documented = include_str!("../../../../docs/telemetry/emitted.txt");
    for place in ["send", "create"] {
        let lines = documented.lines().map(str::split_whitespace);
        let documented: BTreeSet<_> = lines
            .filter_map(|mut words| (words.next()? == place).then(|| words.next().unwrap()))
            .map(|name| name.replace("aws.sqs.queue.url", "aws.sns.topic.arn"))
            .collect();
        let spans = bench.spans().into_iter();
        let emitted: BTreeSet<_> = spans
            .filter(|span| span.name.starts_with(place))
            .flat_map(|span| span.attributes)
            .map(|attribute| attribute.key.to_string())
            .collect();
        assert_eq!(emitted, documented, "{place}");
    }
}
