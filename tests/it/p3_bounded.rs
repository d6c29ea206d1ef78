//! P3: a flush never holds an invocation longer than its budget; a lost end signal costs at most one held
//! invocation.

use std::time::Duration;

use it::binary;
use lambda_emulator::{
    Builder, Completion, Delivery, Event, Invocation, OtlpSink, Outcome, Sandbox, SinkAnswer, TelemetryFaults,
    Timeline, Who,
};

/// `THROUGHLINE_FLUSH_TIMEOUT` of these tests, and what a loaded machine may add to a wait that is bounded by it.
const BUDGET: Duration = Duration::from_millis(600);
const SLACK: Duration = Duration::from_millis(1800);
/// The function's timeout: stop_waiting lies 500 ms before its end.
const TIMEOUT: Duration = Duration::from_secs(6);
/// What is certainly shorter than a hold until stop_waiting.
const NOT_HELD: Duration = Duration::from_millis(3000);

pub(crate) fn sandbox(timeline: &Timeline, sink: &OtlpSink) -> Builder {
    Sandbox::builder("bounded")
        .timeline(timeline)
        .bootstrap(binary("it-function"))
        .extension(binary("throughline-extension"))
        .extension_env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .extension_env("THROUGHLINE_FLUSH_TIMEOUT", "600ms")
        .timeout(TIMEOUT)
}

pub(crate) fn extension() -> Who {
    Who::Extension("throughline-extension".into())
}

/// Invokes and waits for the freeze.
pub(crate) async fn invoke(sandbox: &Sandbox, event: &str) -> Invocation {
    let invocation = sandbox.invoke(event.to_owned()).await;
    let answered = matches!(invocation.outcome, Outcome::Answered(_));
    assert!(answered, "{:?}\n{}", invocation.outcome, sandbox.log_text());
    let completion = sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(completion, Completion::Done, "{}\n{}", sandbox.log_text(), sandbox.timeline().to_text());
    invocation
}

/// How long `/next` was held after the function had asked for its own.
fn held(sandbox: &Sandbox, invocation: &Invocation) -> Duration {
    sandbox.post_runtime_extensions(&invocation.request_id).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_that_works_holds_for_the_flush_only() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, &sink).start().await.unwrap();
    for number in 1..=3 {
        let invocation = invoke(&sandbox, r#"{"spans":10}"#).await;
        assert!(held(&sandbox, &invocation) < NOT_HELD);
        assert_eq!(sink.spans().len(), number * 10, "{}\n{}", sandbox.log_text(), timeline.to_text());
    }
    sandbox.shutdown("spindown").await;
    assert_eq!(sink.unique_spans().len(), 30);
}
