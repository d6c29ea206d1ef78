//! P2: every span handed over before the function asked for its next event has been acknowledged
//! upstream before the sandbox can freeze.
//!
//! Real processes, stopped by the operating system after each of 20 invocations; the timeline's order
//! (an order of causes, not of clocks) is the proof.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use it::binary;
use lambda_emulator::{
    Completion, Event, OtlpSink, Outcome, ReceivedSpan, Sandbox, SinkAnswer, TelemetryFaults,
    Timeline,
};

use crate::events::{event, free_port, record, traceparent};

const INVOCATIONS: usize = 20;
const RECORDS: usize = 3;

/// How the extension learns that an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum EndSignal {
    /// The wrapper said hello and says complete.
    Complete,
    /// No wrapper as far as the extension can tell: a plain OTLP client, and telemetry.
    Telemetry,
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrapper_and_telemetry_as_asked() {
    every_span_is_upstream_before_the_freeze(EndSignal::Complete, TelemetryFaults::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrapper_and_telemetry_lost() {
    let lost = TelemetryFaults::default()
        .lose("platform.runtimeDone")
        .lose("platform.start");
    every_span_is_upstream_before_the_freeze(EndSignal::Complete, lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrapper_and_telemetry_refused() {
    every_span_is_upstream_before_the_freeze(
        EndSignal::Complete,
        TelemetryFaults::default().refuse(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrapper_and_telemetry_of_older_requests_first() {
    let older = TelemetryFaults::default().older_request_first();
    every_span_is_upstream_before_the_freeze(EndSignal::Complete, older).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wrapper_and_telemetry_as_asked() {
    every_span_is_upstream_before_the_freeze(EndSignal::Telemetry, TelemetryFaults::default())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wrapper_and_telemetry_delayed() {
    let late = TelemetryFaults::default().delay("platform.runtimeDone", Duration::from_millis(40));
    every_span_is_upstream_before_the_freeze(EndSignal::Telemetry, late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wrapper_and_telemetry_reordered() {
    let reordered = TelemetryFaults::default().older_request_first().reversed();
    every_span_is_upstream_before_the_freeze(EndSignal::Telemetry, reordered).await;
}

async fn every_span_is_upstream_before_the_freeze(signal: EndSignal, telemetry: TelemetryFaults) {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    // Not at once: a flush that is begun and not waited for would be caught.
    sink.set_default(SinkAnswer::slow(Duration::from_millis(15)));
    let sandbox = consumer(&timeline, &sink, signal, telemetry).await;

    let mut requests = Vec::new();
    for number in 0..INVOCATIONS {
        let invocation = sandbox.invoke(batch(number)).await;
        assert!(
            matches!(invocation.outcome, Outcome::Answered(_)),
            "{:?}\n{}",
            invocation.outcome,
            sandbox.log_text()
        );
        let completion = sandbox.wait_frozen(&invocation.request_id).await;
        assert_eq!(completion, Completion::Done, "{}", sandbox.log_text());
        requests.push(invocation.request_id);
    }
    sandbox.shutdown("spindown").await;

    assert_order(&timeline, &sink.spans(), &requests, &sandbox);
    let records = sink
        .unique_spans()
        .iter()
        .filter(|span| message_of(span).is_some())
        .count();
    assert_eq!(records, INVOCATIONS * RECORDS, "{}", timeline.to_text());
}

async fn consumer(
    timeline: &Timeline,
    sink: &OtlpSink,
    signal: EndSignal,
    telemetry: TelemetryFaults,
) -> Sandbox {
    let mut builder = Sandbox::builder("orders-consumer")
        .timeline(timeline)
        .bootstrap(binary("example-consumer"))
        .extension(binary("throughline-extension"))
        .extension_env("THROUGHLINE_ENDPOINT", sink.url())
        .function_env("RAW_BODIES", "1")
        .timeout(Duration::from_secs(30))
        .telemetry(telemetry);
    if signal == EndSignal::Telemetry {
        // The function says hello to a port where nobody listens, and exports like any OTLP client.
        let port = free_port();
        builder = builder
            .extension_env("THROUGHLINE_HTTP_PORT", port.to_string())
            .function_env("THROUGHLINE_HTTP_PORT", "1")
            .function_env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{port}"),
            );
    }
    builder.start().await.unwrap()
}

fn batch(number: usize) -> Vec<u8> {
    let records = (0..RECORDS).map(|index| {
        let trace = 1 + (number * RECORDS + index) as u128;
        record(
            &message_id(number, index),
            "{}",
            Some(&traceparent(trace, trace as u64)),
        )
    });
    event(records.collect())
}

fn message_id(number: usize, index: usize) -> String {
    format!("m-{number}-{index}")
}

fn message_of(span: &ReceivedSpan) -> Option<&str> {
    span.attributes.get("messaging.message.id")?.as_str()
}

/// Every span of invocation N was acknowledged before the freeze that followed N began.
fn assert_order(
    timeline: &Timeline,
    spans: &[ReceivedSpan],
    requests: &[String],
    sandbox: &Sandbox,
) {
    let mut froze = HashMap::new();
    let mut answered = BTreeMap::new();
    for entry in timeline.entries() {
        match entry.event {
            Event::FreezeBegan {
                request_id: Some(id),
            } => {
                froze.insert(id, entry.seq);
            }
            Event::SinkRequestAnswered { number, .. } => {
                answered.insert(number, entry.seq);
            }
            _ => {}
        }
    }
    // A child span belongs to the invocation of the record above it; each record has a trace of its own.
    let invocation_of: HashMap<&str, usize> = spans
        .iter()
        .filter_map(|span| {
            let number = message_of(span)?.split('-').nth(1)?.parse().ok()?;
            Some((span.trace_id.as_str(), number))
        })
        .collect();
    for span in spans {
        let Some(&number) = invocation_of.get(span.trace_id.as_str()) else {
            panic!("a span of no record: {span:?}");
        };
        let freeze = froze[&requests[number]];
        let upstream = answered[&span.request];
        assert!(
            upstream < freeze,
            "span {:?} of invocation {number} was upstream after its freeze\n{}\n{}",
            span.name,
            timeline.to_text(),
            sandbox.log_text(),
        );
    }
}
