//! What is current while a record is processed: in OpenTelemetry and in `tracing`.

use std::sync::{Arc, Mutex};

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{FutureExt, SpanId, TraceContextExt, Tracer, TracerProvider};
use throughline::{SqsMessage, traced_sqs_handler};
use tracing::{Instrument, info_span, instrument};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Collector, call, event, message};

#[instrument(skip_all)]
async fn outer() {
    tokio::task::yield_now().await;
    inner().await;
}

#[instrument(skip_all)]
async fn inner() {
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn tracing_and_opentelemetry_spans_are_children_of_the_record_at_any_depth() {
    let collector = Collector::new();
    let subscriber = tracing_subscriber::registry().with(collector.telemetry.layers());
    let _default = tracing::subscriber::set_default(subscriber);
    let tracer = collector.provider.tracer("user");
    let process = move |_: SqsMessage| {
        let tracer = tracer.clone();
        async move {
            outer().await;
            let span = tracer.start("api");
            let cx = Context::current().with_span(span);
            inner().with_context(cx).await;
            // Tasks that were told their span, one way or the other.
            tokio::spawn(async { info_span!("spawned in span").in_scope(|| {}) }.in_current_span())
                .await
                .unwrap();
            let task = tracer.clone();
            tokio::spawn(async move { drop(task.start("spawned api")) }.in_current_span())
                .await
                .unwrap();
            tokio::spawn(
                async { info_span!("spawned in context").in_scope(|| {}) }.with_current_context(),
            )
            .await
            .unwrap();
            Ok::<(), String>(())
        }
    };
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .concurrency(4);
    let messages = (1..=4).map(|n| message(&format!("m{n}"), "").sent_by_span(n, true));
    call(&handler, event(messages)).await.unwrap();

    let spans = collector.spans();
    let parent_of = |id: SpanId| spans.iter().find(|s| s.span_context.span_id() == id);
    for (name, expected) in [
        ("outer", "process orders"),
        ("api", "process orders"),
        ("spawned in span", "process orders"),
        ("spawned api", "process orders"),
        ("spawned in context", "process orders"),
    ] {
        let of_name: Vec<_> = spans.iter().filter(|s| s.name == name).collect();
        assert_eq!(of_name.len(), 4, "{name}");
        for span in of_name {
            let parent = parent_of(span.parent_span_id).unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!(parent.name, expected, "{name}");
            assert_eq!(parent.span_context.trace_id(), span.span_context.trace_id());
        }
    }
    let mut parents: Vec<_> = spans
        .iter()
        .filter(|s| s.name == "inner")
        .map(|s| parent_of(s.parent_span_id).unwrap().name.to_string())
        .collect();
    parents.sort();
    assert_eq!(
        parents,
        [
            "api", "api", "api", "api", "outer", "outer", "outer", "outer"
        ]
    );
    assert!(
        !spans.iter().any(|s| s.name == "record"),
        "the anchor is not exported"
    );
}

#[tokio::test]
async fn without_any_subscriber_the_api_still_finds_the_record() {
    let collector = Collector::new();
    let tracer = collector.provider.tracer("user");
    let process = move |_: SqsMessage| {
        drop(tracer.start("api"));
        async { Ok::<(), String>(()) }
    };
    let handler = traced_sqs_handler(process).telemetry(&collector.telemetry);
    call(&handler, event([message("m", "").sent_by_span(1, true)]))
        .await
        .unwrap();
    let record = collector.records()["m"].span_context.span_id();
    let spans = collector.spans();
    assert_eq!(
        spans
            .iter()
            .find(|s| s.name == "api")
            .unwrap()
            .parent_span_id,
        record
    );
}

#[tokio::test]
async fn the_runtimes_own_span_is_nobodys_parent() {
    let collector = Collector::new();
    // A setup of the user's own, without our filter.
    let tracer = collector.provider.tracer("user");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let handler = traced_sqs_handler(|_: SqsMessage| async { Ok::<(), String>(()) })
        .telemetry(&collector.telemetry);
    let span = info_span!(target: "lambda_runtime::layers::trace", "Lambda runtime invoke");
    let calling = async { call(&handler, event([message("a", ""), message("b", "")])).await };
    calling.instrument(span).await.unwrap();
    assert!(collector.batches().is_empty());
    for record in collector.records().values() {
        assert_eq!(record.parent_span_id, SpanId::INVALID);
        assert_eq!(record.links.len(), 0);
    }
}

#[tokio::test]
async fn baggage_is_each_records_own() {
    type Seen = Arc<Mutex<Vec<Option<String>>>>;
    let run = |trust: bool| async move {
        let collector = Collector::new();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let process = move |_: SqsMessage| {
            let log = Arc::clone(&log);
            async move {
                tokio::task::yield_now().await;
                let tenant = Context::current()
                    .baggage()
                    .get("tenant")
                    .map(ToString::to_string);
                log.lock().unwrap().push(tenant);
                Ok::<(), String>(())
            }
        };
        let handler = traced_sqs_handler(process)
            .telemetry(&collector.telemetry)
            .trust_baggage(trust);
        let messages = [
            message("a", "")
                .sent_by_span(1, true)
                .attribute("baggage", "tenant=one"),
            message("b", "").sent_by_span(2, true),
            message("c", "")
                .sent_by_span(3, true)
                .attribute("baggage", "tenant=three"),
        ];
        call(&handler, event(messages)).await.unwrap();
        let names = format!("{:?}", collector.spans());
        assert!(!names.contains("tenant"), "baggage is no attribute");
        std::mem::take(&mut *seen.lock().unwrap())
    };
    assert_eq!(
        run(true).await,
        [Some("one".to_owned()), None, Some("three".to_owned())]
    );
    assert_eq!(run(false).await, [None, None, None]);
}
