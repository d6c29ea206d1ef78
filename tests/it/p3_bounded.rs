//! P3: a flush never holds an invocation longer than its budget; a lost end signal costs at most one held
//! invocation.
//!
//! Real processes around a scripted Telemetry API and a scripted upstream. How long `/next` was held is read from
//! the timeline: from the function asking for its next event to the extension asking for its own.

use std::time::Duration;

use it::binary;
use lambda_emulator::{
    Builder, Call, Completion, Delivery, Event, ExitReason, Invocation, OtlpSink, Outcome, Sandbox,
    SinkAnswer, TelemetryFault, TelemetryFaults, Timeline, Who,
};
use serde_json::Value;

/// The longest that a flush of 600 ms may hold on a loaded machine.
const BUDGET_SEEN: Duration = Duration::from_millis(4000);
/// The function's timeout; without an end signal `/next` is held until 500 ms before it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any flush, shorter than a hold for an end signal that never comes.
const HELD_FOR_A_SIGNAL: Duration = Duration::from_millis(7000);

const SPANS: &str = r#"{"spans":3}"#;
const EXTENSION: &str = "throughline-extension";

// === What the tests of the extension share ===

pub(crate) fn builder(timeline: &Timeline, sink: &OtlpSink) -> Builder {
    Sandbox::builder("function")
        .timeline(timeline)
        .bootstrap(binary("it-function"))
        .extension(binary(EXTENSION))
        .extension_env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .extension_env("THROUGHLINE_FLUSH_TIMEOUT", "600ms")
        .timeout(TIMEOUT)
}

/// Invokes, and waits for the freeze; the function must have answered.
pub(crate) async fn invoke(sandbox: &Sandbox, event: &str) -> Invocation {
    let invocation = sandbox.invoke(event.to_owned()).await;
    frozen(sandbox, invocation).await
}

async fn frozen(sandbox: &Sandbox, invocation: Invocation) -> Invocation {
    let answered = matches!(invocation.outcome, Outcome::Answered(_));
    assert!(answered, "{:?}\n{}", invocation.outcome, sandbox.log_text());
    let completion = sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(
        completion,
        Completion::Done,
        "{}\n{}",
        sandbox.log_text(),
        sandbox.timeline().to_text()
    );
    invocation
}

/// Ends the sandbox; the extension must have exited by itself, with 0 and within Lambda's 2 s.
pub(crate) async fn shut_down(sandbox: &Sandbox) {
    let shutdown = sandbox.shutdown("spindown").await;
    let exit = shutdown.of(&Who::Extension(EXTENSION.into()));
    assert_eq!(exit, Some(ExitReason::Exited(0)), "{}", sandbox.log_text());
}

/// The last ledger line.
pub(crate) fn ledger(sandbox: &Sandbox) -> Value {
    let lines = sandbox.logs().into_iter().rev();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok())
        .find(|line| line["message"] == "ledger")
        .unwrap_or_else(|| panic!("no ledger line\n{}", sandbox.log_text()))["ledger"]
        .clone()
}

/// One column of the spans' account, as `exported` or `dropped/overflow`.
pub(crate) fn spans(ledger: &Value, column: &str) -> u64 {
    let value = ledger["spans"].pointer(&format!("/{column}"));
    value
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no column {column} in {ledger}"))
}

/// How long `/next` was held after the function had asked for its own.
fn held(sandbox: &Sandbox, invocation: &Invocation) -> Duration {
    sandbox
        .post_runtime_extensions(&invocation.request_id)
        .unwrap_or_default()
}

/// Nothing was lost: all that came is upstream, and the ledger says the same.
fn assert_nothing_lost(sandbox: &Sandbox, sink: &OtlpSink, sent: usize) {
    let ledger = ledger(sandbox);
    let timeline = sandbox.timeline().to_text();
    assert_eq!(
        sink.unique_spans().len(),
        sent,
        "{ledger}\n{}\n{timeline}",
        sandbox.log_text()
    );
    assert_eq!(spans(&ledger, "received"), sent as u64);
    assert_eq!(spans(&ledger, "exported"), sent as u64);
}

async fn start() -> (Timeline, OtlpSink) {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    (timeline, sink)
}

/// Plays six invocations under these faults; how many were held as long as for a signal that never comes.
async fn held_for_a_signal(faults: TelemetryFaults) -> usize {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink)
        .telemetry(faults)
        .start()
        .await
        .unwrap();
    let mut count = 0;
    for _ in 0..6 {
        let invocation = invoke(&sandbox, SPANS).await;
        count += usize::from(held(&sandbox, &invocation) >= HELD_FOR_A_SIGNAL);
    }
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 18);
    count
}

// === End signals ===

#[tokio::test(flavor = "multi_thread")]
async fn working_telemetry_holds_for_the_flush_only_and_spans_are_upstream_before_the_freeze() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for number in 1..=3 {
        let invocation = invoke(&sandbox, SPANS).await;
        assert!(held(&sandbox, &invocation) < BUDGET_SEEN);
        assert_eq!(
            sink.spans().len(),
            number * 3,
            "{}\n{}",
            sandbox.log_text(),
            timeline.to_text()
        );
    }
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_done_that_never_comes_costs_one_held_invocation() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().lose("platform.runtimeDone")).await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_withheld_runtime_done_costs_one_held_invocation() {
    let lost = TelemetryFault::Lose("platform.runtimeDone".into());
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().for_invocation(1, lost)).await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_hold_nothing() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().unknown_events()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_events_hold_nothing() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().restore_events()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fractional_numbers_hold_nothing() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().fractional_numbers()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_older_request_ends_nothing_and_holds_nothing() {
    let faults = TelemetryFaults::default().older_request_first().reversed();
    assert_eq!(held_for_a_signal(faults).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_cut_off_cost_two_held_invocations_of_six_at_most() {
    // Each batch loses its tail. The first loss costs one; a late end brings the belief back once; the second loss
    // in a row takes it for eight signals.
    let held = held_for_a_signal(TelemetryFaults::default().invalid_json()).await;
    assert!(held <= 2, "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_telemetry_holds_nothing() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().refuse()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_telemetry_holds_nothing_but_a_moment_of_the_first_invocation() {
    assert_eq!(
        held_for_a_signal(TelemetryFaults::default().silent()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_nonsense_holds_nothing() {
    for nonsense in [0, 600_000, u64::MAX / 2] {
        let (timeline, sink) = start().await;
        let sandbox = builder(&timeline, &sink)
            .deadline_ms(move |_| nonsense)
            .start()
            .await
            .unwrap();
        for _ in 0..3 {
            let invocation = invoke(&sandbox, SPANS).await;
            assert!(held(&sandbox, &invocation) < BUDGET_SEEN, "{nonsense}");
        }
        shut_down(&sandbox).await;
        assert_nothing_lost(&sandbox, &sink, 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_ends_the_invocation_whenever_invoke_comes() {
    let deliveries = [
        Delivery::Together,
        Delivery::ExtensionFirst,
        Delivery::ExtensionAfterResponse,
        Delivery::ExtensionAfterRuntimeNext,
    ];
    for delivery in deliveries {
        let (timeline, sink) = start().await;
        let sandbox = builder(&timeline, &sink)
            .function_env("HELLO", "1")
            .telemetry(TelemetryFaults::default().refuse())
            .delivery(delivery)
            .start()
            .await
            .unwrap();
        for number in 1..=5 {
            let invocation = invoke(&sandbox, SPANS).await;
            assert!(
                held(&sandbox, &invocation) < HELD_FOR_A_SIGNAL,
                "{delivery:?}\n{}",
                timeline.to_text()
            );
            assert_eq!(
                sink.spans().len(),
                number * 3,
                "{delivery:?}\n{}",
                timeline.to_text()
            );
        }
        shut_down(&sandbox).await;
        assert_nothing_lost(&sandbox, &sink, 15);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_retry_with_the_same_request_id_is_not_ended_by_the_first_try() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink)
        .function_env("HELLO", "1")
        .start()
        .await
        .unwrap();
    for number in 1..=3 {
        let call = Call {
            payload: SPANS.into(),
            request_id: Some("the-same".into()),
            ..Call::default()
        };
        let invocation = sandbox.call(call).await;
        let invocation = frozen(&sandbox, invocation).await;
        assert!(held(&sandbox, &invocation) < HELD_FOR_A_SIGNAL);
        assert_eq!(sink.spans().len(), number * 3, "{}", timeline.to_text());
    }
    shut_down(&sandbox).await;
}

// === Upstream ===

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_answers_503_for_ever_costs_nothing_and_loses_nothing() {
    let (timeline, sink) = start().await;
    sink.set_default(SinkAnswer::status(503));
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for _ in 0..10 {
        let invocation = invoke(&sandbox, SPANS).await;
        assert!(held(&sandbox, &invocation) < BUDGET_SEEN);
    }
    // One flush with its one retry; then the breaker lets a probe through now and then, never one an invocation.
    assert!(sink.requests().len() < 10, "{}", timeline.to_text());
    assert_eq!(sink.unique_spans().len(), 0);
    sink.set_default(SinkAnswer::Ok);
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 30);
    let outages = sandbox
        .logs()
        .iter()
        .filter(|line| line.text.contains("does not take telemetry"))
        .count();
    assert_eq!(outages, 1, "said once\n{}", sandbox.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_costs_one_budget_twice_and_loses_nothing() {
    let (timeline, sink) = start().await;
    sink.set_default(SinkAnswer::Hang);
    let builder = builder(&timeline, &sink).extension_env("THROUGHLINE_FLUSH_TIMEOUT", "3s");
    let sandbox = builder.start().await.unwrap();
    let mut budgets = 0;
    for _ in 0..8 {
        let invocation = invoke(&sandbox, SPANS).await;
        let held = held(&sandbox, &invocation);
        assert!(held < HELD_FOR_A_SIGNAL, "{held:?}\n{}", timeline.to_text());
        budgets += usize::from(held >= Duration::from_millis(2900));
    }
    assert_eq!(budgets, 2, "{}", timeline.to_text());
    sink.set_default(SinkAnswer::Ok);
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_backlog_leaves_while_a_function_runs() {
    let (timeline, sink) = start().await;
    sink.set_default(SinkAnswer::status(503));
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for _ in 0..3 {
        invoke(&sandbox, SPANS).await;
    }
    sink.set_default(SinkAnswer::Ok);
    // Pauses are 1 s, then 2 s: some function that works for a while meets a probe that is due.
    for number in 4.. {
        assert!(
            number < 20,
            "the breaker never closed\n{}",
            sandbox.log_text()
        );
        invoke(&sandbox, r#"{"spans":3,"work_ms":400}"#).await;
        if sink.unique_spans().len() == number * 3 {
            break;
        }
    }
    shut_down(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_in_the_freeze_costs_no_span_its_freeze() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for number in 1..=5 {
        let invocation = invoke(&sandbox, SPANS).await;
        assert!(held(&sandbox, &invocation) < BUDGET_SEEN);
        assert_eq!(
            sink.spans().len(),
            number * 3,
            "{}\n{}",
            sandbox.log_text(),
            timeline.to_text()
        );
        sink.close_idle_connections();
    }
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_without_an_answer_loses_nothing() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    sink.script([
        SinkAnswer::CloseInstead,
        SinkAnswer::CloseAfter,
        SinkAnswer::CloseInstead,
    ]);
    for _ in 0..5 {
        invoke(&sandbox, SPANS).await;
    }
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 15);
}

// === The rest of a sandbox's life ===

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_as_the_first_event_ends_at_once() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    shut_down(&sandbox).await;
    assert_eq!(spans(&ledger(&sandbox), "received"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_with_a_hanging_upstream_ends_in_time_and_says_what_was_lost() {
    let (timeline, sink) = start().await;
    sink.set_default(SinkAnswer::Hang);
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for _ in 0..3 {
        invoke(&sandbox, SPANS).await;
    }
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_eq!(spans(&ledger, "dropped/shutdown"), 9, "{ledger}");
    assert_eq!(spans(&ledger, "received"), 9, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_spans_are_not_lost() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink).start().await.unwrap();
    for _ in 0..4 {
        // The thread may be frozen before it sends; it goes on with the next invocation.
        invoke(&sandbox, r#"{"spans":1,"late_ms":1,"work_ms":5}"#).await;
    }
    invoke(&sandbox, r#"{"spans":1,"work_ms":300}"#).await;
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_or_is_cut_off_keeps_its_spans() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink)
        .timeout(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let failed = sandbox.invoke(r#"{"spans":3,"fail":true}"#).await;
    assert!(
        matches!(failed.outcome, Outcome::FunctionError(_)),
        "{:?}",
        failed.outcome
    );
    sandbox.wait_frozen(&failed.request_id).await;
    let cut_off = sandbox.invoke(r#"{"spans":4,"work_ms":60000}"#).await;
    assert!(
        matches!(cut_off.outcome, Outcome::TimedOut),
        "{:?}",
        cut_off.outcome
    );
    sandbox.wait_idle().await;
    assert_eq!(
        sink.unique_spans().len(),
        7,
        "{}\n{}",
        sandbox.log_text(),
        timeline.to_text()
    );
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_flush_by_age_without_invoke_events() {
    let (timeline, sink) = start().await;
    let sandbox = builder(&timeline, &sink)
        .managed_instances(2)
        .start()
        .await
        .unwrap();
    for _ in 0..6 {
        let invocation = sandbox.invoke(SPANS).await;
        assert!(
            matches!(invocation.outcome, Outcome::Answered(_)),
            "{}",
            sandbox.log_text()
        );
    }
    // By age: before SHUTDOWN.
    let arrived = sink
        .wait_until(
            |sink| sink.unique_spans().len() == 18,
            Duration::from_secs(60),
        )
        .await;
    // Both workers of the function number their invocations from 0, so that some spans have the same ids.
    assert!(
        arrived || sink.spans().len() == 18,
        "{}\n{}",
        sandbox.log_text(),
        timeline.to_text()
    );
    let registered = timeline.select(|entry| matches!(entry.event, Event::Registered { .. }));
    let events: Vec<_> = registered.iter().map(|entry| entry.event.clone()).collect();
    let expected = Event::Registered {
        extension: EXTENSION.into(),
        events: vec!["SHUTDOWN".into()],
    };
    assert!(events.contains(&expected), "{events:?}");
    shut_down(&sandbox).await;
    assert_eq!(spans(&ledger(&sandbox), "exported"), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptive_holds_nothing_in_a_burst_and_loses_nothing() {
    let (timeline, sink) = start().await;
    sink.set_default(SinkAnswer::slow(Duration::from_millis(30)));
    let sandbox = builder(&timeline, &sink)
        .function_env("HELLO", "1")
        .extension_env("THROUGHLINE_FLUSH", "adaptive")
        .start()
        .await
        .unwrap();
    for _ in 0..12 {
        invoke(&sandbox, SPANS).await;
    }
    let before_the_end = sink.unique_spans().len();
    assert!(before_the_end < 36, "the last of a burst waits");
    shut_down(&sandbox).await;
    assert_nothing_lost(&sandbox, &sink, 36);
}
