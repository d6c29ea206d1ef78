//! Spans made while a record is processed are children of the record's span, whatever subscriber
//! the process has, and log lines carry the ids of the span they were written in.
//!
//! Each subscriber also sees the span that `lambda_runtime::run` puts around an invocation, which
//! is not the parent of anything of ours.
#![allow(clippy::unwrap_used)] // a test

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use lambda_runtime::{Context as LambdaContext, LambdaEvent};
use opentelemetry::trace::{FutureExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracer, SdkTracerProvider, SpanData};
use serde_json::{Value, json};
use throughline::logs::{LineFormat, Lines};
use throughline::{Batch, SqsMessage, Telemetry, traced_sqs_handler};
use tower::Service;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Instrument, info, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{fmt, registry};

const PRODUCER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Whose child a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Record,
    /// Of nothing, or of another trace.
    Other,
    /// There is no such span.
    Nobody,
}

/// What was exported and logged while one record was processed.
struct Seen {
    spans: HashMap<String, SpanData>,
    lines: HashMap<String, Value>,
}

impl Seen {
    fn parent(&self, name: &str) -> Of {
        let Some(span) = self.spans.get(name) else {
            return Of::Nobody;
        };
        let record = &self.spans["process orders"].span_context;
        let same_trace = span.span_context.trace_id() == record.trace_id();
        if same_trace && span.parent_span_id == record.span_id() {
            Of::Record
        } else {
            Of::Other
        }
    }

    /// Whether a line was written with the ids of the span.
    fn line_is_in(&self, message: &str, span: &str) -> bool {
        let (line, context) = (&self.lines[message], &self.spans[span].span_context);
        line["span_id"] == context.span_id().to_string()
            && line["trace_id"] == context.trace_id().to_string()
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Processes one record under the subscriber that `subscriber` makes.
async fn seen_under(subscriber: impl FnOnce(&Telemetry, SdkTracer, Log) -> Dispatch) -> Seen {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let telemetry = Telemetry::from_provider(provider.clone());
    let log = Log::default();
    let dispatch = subscriber(&telemetry, provider.tracer("tracing"), log.clone());
    let _default = tracing::dispatcher::set_default(&dispatch);

    let tracer = provider.tracer("user");
    let process = move |_: SqsMessage| every_kind_of_child(tracer.clone());
    let event = json!({"Records": [{
        "messageId": "m-1",
        "body": "x",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "messageAttributes": {"traceparent": {"dataType": "String", "stringValue": PRODUCER}},
    }]});
    let batch: Batch = serde_json::from_value(event).unwrap();
    let mut context = LambdaContext::default();
    context.request_id = "request-1".into();
    let runtimes = info_span!(target: "lambda_runtime::layers::trace", "Lambda runtime invoke");
    let mut handler = traced_sqs_handler(process).telemetry(&telemetry);
    // Inside the span, since the handler reads what is current when it is called.
    let invocation = async { handler.call(LambdaEvent::new(batch, context)).await };
    invocation.instrument(runtimes).await.unwrap();

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let spans = exporter.get_finished_spans().unwrap();
    Seen {
        spans: spans
            .into_iter()
            .map(|span| (span.name.to_string(), span))
            .collect(),
        lines: lines
            .map(|line| (line["message"].as_str().unwrap().to_owned(), line))
            .collect(),
    }
}

async fn every_kind_of_child(tracer: SdkTracer) -> Result<(), Infallible> {
    info!("in the record");
    tracer.in_span("otel", |_| info!("in otel"));
    async {
        info!("in tracing");
        tokio::task::yield_now().await;
        info!("in tracing, later");
        tracer.in_span("otel in tracing", |_| ());
    }
    .instrument(info_span!("tracing"))
    .await;

    let make_both = |otel: &'static str, tracing: fn() -> tracing::Span| {
        let tracer = tracer.clone();
        async move {
            tokio::task::yield_now().await;
            tracer.in_span(otel, |_| ());
            async { info!("in a task's span") }
                .instrument(tracing())
                .await;
        }
    };
    let in_span = make_both("spawned in span: otel", || {
        info_span!("spawned in span: tracing")
    });
    tokio::spawn(in_span.in_current_span()).await.unwrap();
    let in_context = make_both("spawned in context: otel", || {
        info_span!("spawned in context: tracing")
    });
    tokio::spawn(in_context.with_current_context())
        .await
        .unwrap();
    Ok(())
}

fn lines(log: Log) -> impl Fn() -> Log {
    move || log.clone()
}

/// What must hold under every subscriber.
fn check_record(seen: &Seen) {
    let record = &seen.spans["process orders"];
    assert_eq!(record.span_context.trace_id().to_string(), &PRODUCER[3..35]);
    assert_eq!(record.parent_span_id.to_string(), &PRODUCER[36..52]);
    assert_eq!(seen.parent("otel"), Of::Record);
    assert_eq!(seen.parent("spawned in context: otel"), Of::Record);
}

#[tokio::test]
async fn without_a_subscriber() {
    let seen = seen_under(|_, _, _| Dispatch::new(NoSubscriber::default())).await;
    check_record(&seen);
    assert_eq!(seen.parent("tracing"), Of::Nobody);
}

#[tokio::test]
async fn with_lines_only() {
    let seen = seen_under(|_, _, log| {
        let lines = fmt::layer()
            .event_format(Lines::new(LineFormat::Json))
            .with_writer(lines(log));
        Dispatch::new(registry().with(lines))
    })
    .await;
    check_record(&seen);
    assert_eq!(seen.parent("tracing"), Of::Nobody);
    assert!(seen.line_is_in("in the record", "process orders"));
    assert!(seen.line_is_in("in otel", "otel"));
    assert!(
        seen.line_is_in("in tracing", "process orders"),
        "`tracing` makes no span here"
    );
    let line = &seen.lines["in the record"];
    assert_eq!(
        (&line["requestId"], &line["messageId"]),
        (&json!("request-1"), &json!("m-1"))
    );
}

#[tokio::test]
async fn with_an_opentelemetry_layer_as_its_documentation_shows_it() {
    let seen = seen_under(|_, tracer, _| {
        Dispatch::new(registry().with(tracing_opentelemetry::layer().with_tracer(tracer)))
    })
    .await;
    check_record(&seen);
    assert_eq!(seen.parent("tracing"), Of::Record);
    assert_eq!(seen.parent("spawned in context: tracing"), Of::Record);
    // What `Anchor` is for.
    assert_eq!(seen.parent("spawned in span: tracing"), Of::Other);
}

#[tokio::test]
async fn with_the_ready_layers() {
    let seen = seen_under(|telemetry, _, log| {
        let lines = fmt::layer()
            .event_format(Lines::new(LineFormat::Json))
            .with_writer(lines(log));
        Dispatch::new(registry().with(telemetry.layers()).with(lines))
    })
    .await;
    check_record(&seen);
    for name in [
        "tracing",
        "spawned in context: tracing",
        "spawned in span: tracing",
        "spawned in span: otel",
    ] {
        assert_eq!(seen.parent(name), Of::Record, "{name}");
    }
    let (outer, inner) = (&seen.spans["tracing"], &seen.spans["otel in tracing"]);
    assert_eq!(inner.parent_span_id, outer.span_context.span_id());
    for (message, span) in [
        ("in the record", "process orders"),
        ("in otel", "otel"),
        ("in tracing", "tracing"),
        ("in tracing, later", "tracing"),
    ] {
        assert!(seen.line_is_in(message, span), "{message}");
    }
    assert_eq!(seen.lines["in a task's span"]["messageId"], "m-1");
    let expected = 1 + 2 + 1 + 4;
    assert_eq!(
        seen.spans.len(),
        expected,
        "neither the runtime's span nor the anchor's: {:?}",
        seen.spans.keys()
    );
}

#[tokio::test]
async fn with_a_filter_that_lets_errors_through_only() {
    let seen = seen_under(|telemetry, _, _| {
        Dispatch::new(registry().with(LevelFilter::ERROR).with(telemetry.layers()))
    })
    .await;
    check_record(&seen);
    assert_eq!(seen.parent("tracing"), Of::Nobody);
    assert_eq!(
        seen.parent("spawned in span: otel"),
        Of::Record,
        "the anchor is of level ERROR for this"
    );
}

#[tokio::test]
async fn with_a_layer_whose_context_activation_is_off() {
    let seen = seen_under(|_, tracer, _| {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_context_activation(false);
        Dispatch::new(registry().with(layer))
    })
    .await;
    check_record(&seen);
    // The price of switching it off, which the documentation of `logs` tells.
    assert_eq!(seen.parent("tracing"), Of::Other);
}
