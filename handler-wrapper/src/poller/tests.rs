//! Polled messages, and what is recorded about them.

use std::collections::HashMap;

use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName as SystemName};
use opentelemetry::trace::{FutureExt as _, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

use super::*;

const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Bench {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
    poller: Poller,
}

impl Bench {
    fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let poller = Poller::new(QUEUE).with_tracer_provider(&provider);
        Self {
            provider,
            exporter,
            poller,
        }
    }

    fn one(&self, message: Message) -> TracedMessage {
        self.poller.trace_messages([message]).next().unwrap()
    }

    fn span(&self, name: &str) -> SpanData {
        let spans = self.exporter.get_finished_spans().unwrap();
        let mut named: Vec<_> = spans.into_iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "spans named {name:?}");
        named.remove(0)
    }
}

fn message() -> Message {
    let traceparent = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(TRACEPARENT)
        .build()
        .unwrap();
    Message::builder()
        .message_id("m-1")
        .body("hello")
        .message_attributes("traceparent", traceparent)
        .attributes(SystemName::ApproximateReceiveCount, "3")
        .attributes(SystemName::SentTimestamp, "1700000000000")
        .attributes(
            SystemName::DeadLetterQueueSourceArn,
            "arn:aws:sqs:eu-west-1:123456789012:orders-main",
        )
        .build()
}

fn attributes(span: &SpanData) -> HashMap<String, String> {
    span.attributes
        .iter()
        .map(|a| (a.key.to_string(), a.value.as_str().into_owned()))
        .collect()
}

#[tokio::test]
async fn a_message_is_processed_below_its_producer() {
    let bench = Bench::new();
    let tracer = bench.provider.tracer("test");
    let received = bench
        .one(message())
        .process(async |message: Message| {
            tracer.in_span("inner", |_| {});
            Ok::<_, fmt::Error>(message.body().unwrap_or_default().len())
        })
        .await;
    assert_eq!(received, Ok(5));
    let span = bench.span("process orders");
    assert_eq!(span.span_kind, SpanKind::Consumer);
    assert_eq!(
        span.span_context.trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.parent_span_is_remote);
    assert_eq!(
        span.links.links.len(),
        1,
        "the creation context is linked as well"
    );
    assert_eq!(span.status, Status::Unset);
    assert_eq!(
        bench.span("inner").parent_span_id,
        span.span_context.span_id()
    );
    let attributes = attributes(&span);
    for (key, value) in [
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.message.id", "m-1"),
        ("aws.sqs.queue.url", QUEUE),
        ("throughline.context.source", "w3c"),
        ("throughline.message.receive_count", "3"),
        ("throughline.dead_letter.source", "orders-main"),
    ] {
        assert_eq!(
            attributes.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
    assert!(attributes.contains_key("throughline.message.queue_time"));
    assert!(!attributes.contains_key("faas.trigger"));
}

#[tokio::test]
async fn an_error_names_its_type_and_is_given_back() {
    let bench = Bench::new();
    let failed = bench
        .one(message())
        .process(async |_| Err::<(), _>(fmt::Error))
        .await;
    assert_eq!(failed, Err(fmt::Error));
    let span = bench.span("process orders");
    assert_eq!(span.status, Status::error("core::fmt::Error"));
    assert_eq!(attributes(&span)["error.type"], "core::fmt::Error");
}

#[tokio::test]
async fn a_panic_goes_on_and_is_told() {
    let bench = Bench::new();
    let traced = bench.one(message());
    let task =
        tokio::spawn(traced.process(async |_| -> Result<(), ()> { panic!("a processor's") }));
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(
        attributes(&bench.span("process orders"))["error.type"],
        "panic"
    );
}

#[tokio::test]
async fn processing_that_is_dropped_is_cancelled() {
    let bench = Bench::new();
    let mut processing = Box::pin(bench.one(message()).process(async |_| {
        std::future::pending::<()>().await;
        Ok::<_, ()>(())
    }));
    assert!(futures_util::poll!(&mut processing).is_pending());
    drop(processing);
    assert_eq!(
        attributes(&bench.span("process orders"))["error.type"],
        "cancelled"
    );
}

#[tokio::test]
async fn a_message_that_is_not_processed_has_no_span() {
    let bench = Bench::new();
    let traced = bench.one(message());
    assert_eq!(traced.into_message().message_id(), Some("m-1"));
    assert!(bench.exporter.get_finished_spans().unwrap().is_empty());
}

#[tokio::test]
async fn the_span_around_the_loop_is_linked_when_the_producer_is_the_parent() {
    let bench = Bench::new();
    let around = bench.provider.tracer("test").start("poll");
    let around = Context::new().with_span(around);
    let id = around.span().span_context().span_id();
    bench
        .one(message())
        .process(async |_| Ok::<_, ()>(()))
        .with_context(around.clone())
        .await
        .unwrap();
    let span = bench.span("process orders");
    assert_eq!(span.links.links[1].span_context.span_id(), id);

    let bench = Bench::new();
    let without = Message::builder().message_id("m-2").build();
    bench
        .one(without)
        .process(async |_| Ok::<_, ()>(()))
        .with_context(around)
        .await
        .unwrap();
    let span = bench.span("process orders");
    assert_eq!(span.parent_span_id, id);
    assert!(span.links.links.is_empty());
}

#[tokio::test]
async fn an_open_decision_is_linked_unless_the_sampler_knows_it() {
    let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8";
    let message = || {
        Message::builder()
            .attributes(SystemName::AwsTraceHeader, header)
            .build()
    };
    let bench = Bench::new();
    bench
        .one(message())
        .process(async |_| Ok::<_, ()>(()))
        .await
        .unwrap();
    let span = bench.span("process orders");
    assert_eq!(span.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(span.links.links.len(), 1);

    let exporter = InMemorySpanExporter::default();
    let sampler = crate::DecideDeferred::new(opentelemetry_sdk::trace::Sampler::ParentBased(
        Box::new(opentelemetry_sdk::trace::Sampler::AlwaysOn),
    ));
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_simple_exporter(exporter.clone())
        .build();
    let telemetry = Telemetry::from_provider(provider).decides_deferred();
    let poller = Poller::new(QUEUE).telemetry(&telemetry);
    let traced = poller.trace_messages([message()]).next().unwrap();
    traced.process(async |_| Ok::<_, ()>(())).await.unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans[0].parent_span_id.to_string(), "53995c3f42cd8ad8");
}

#[tokio::test]
async fn telemetry_that_is_off_makes_no_spans_and_changes_nothing() {
    let poller = Poller::new(QUEUE).telemetry(&Telemetry::disabled());
    let traced = poller.trace_messages([message()]).next().unwrap();
    assert_eq!(traced.process(async |_| Ok::<_, ()>(7)).await, Ok(7));
}
