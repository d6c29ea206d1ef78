//! P4: nothing is lost silently while the process lives: received = exported + rejected + dropped + buffered +
//! in flight, and what was dropped is said.
//!
//! Both ends are counted independently of the extension: the function says what it sent, the sink what it took.

use std::time::Duration;

use lambda_emulator::{OtlpSink, Sandbox, SinkAnswer, Timeline};
use serde_json::Value;

use crate::p3_bounded::{builder, invoke, ledger, shut_down, spans};

/// The identity of every signal in a ledger line, at shutdown: nothing is buffered or in flight any more.
fn assert_balanced(ledger: &Value) {
    for signal in ["spans", "log_records", "data_points"] {
        let column = |pointer: &str| {
            let value = ledger[signal].pointer(pointer);
            value
                .and_then(Value::as_u64)
                .unwrap_or_else(|| panic!("{signal}{pointer} in {ledger}"))
        };
        let dropped = [
            "/dropped/overflow",
            "/dropped/too_large",
            "/dropped/shutdown",
        ];
        let known =
            column("/exported") + column("/rejected") + dropped.map(column).iter().sum::<u64>();
        assert_eq!(column("/received"), known, "{signal} in {ledger}");
        assert_eq!(
            (column("/buffered"), column("/in_flight")),
            (0, 0),
            "{signal} in {ledger}"
        );
    }
}

async fn start(
    answers: impl IntoIterator<Item = SinkAnswer>,
    env: &[(&str, &str)],
) -> (OtlpSink, Sandbox) {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    sink.script(answers);
    let mut builder = builder(&timeline, &sink).function_env("HELLO", "1");
    for (name, value) in env {
        builder = builder.extension_env(*name, *value);
    }
    (sink, builder.start().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_signals_are_counted_alike() {
    let (sink, sandbox) = start([], &[]).await;
    for _ in 0..3 {
        invoke(&sandbox, r#"{"spans":2,"logs":3,"points":5}"#).await;
    }
    assert_eq!(
        (
            sink.unique_spans().len(),
            sink.log_records(),
            sink.data_points()
        ),
        (6, 9, 15),
        "before the freeze"
    );
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    for (signal, items) in [("spans", 6), ("log_records", 9), ("data_points", 15)] {
        assert_eq!(ledger[signal]["received"], items, "{ledger}");
        assert_eq!(ledger[signal]["exported"], items, "{ledger}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_every_kind_leave_a_balanced_ledger() {
    let faults = [
        SinkAnswer::status(503),
        SinkAnswer::Ok,
        SinkAnswer::PartialSuccess {
            rejected: 1,
            message: "quota".into(),
        },
        SinkAnswer::CloseInstead,
        SinkAnswer::slow(Duration::from_millis(50)),
        SinkAnswer::status(400),
        SinkAnswer::status(413),
        SinkAnswer::retry_after(429, 0),
        SinkAnswer::Ok,
        SinkAnswer::Hang,
        SinkAnswer::status(500),
    ];
    let (sink, sandbox) = start(faults, &[]).await;
    for _ in 0..16 {
        invoke(
            &sandbox,
            r#"{"spans":3,"logs":2,"points":2,"requests":2,"work_ms":60}"#,
        )
        .await;
    }
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    assert_eq!(spans(&ledger, "received"), 16 * 6);
    // Acknowledged is what the sink took; nothing else is missing there than what the ledger says.
    let missing = spans(&ledger, "rejected") + spans(&ledger, "dropped/shutdown");
    let taken = sink.unique_spans().len() as u64;
    assert!(taken >= spans(&ledger, "exported"), "{taken} {ledger}");
    assert!(
        taken + missing >= 16 * 6,
        "{taken} {ledger}\n{}",
        sandbox.log_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisoned_request_is_rejected_alone() {
    let (sink, sandbox) = start([], &[]).await;
    sink.set_default(SinkAnswer::Poison("span-0-3-0".into()));
    invoke(&sandbox, r#"{"spans":2,"requests":8}"#).await;
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    assert_eq!(
        (spans(&ledger, "rejected"), spans(&ledger, "exported")),
        (2, 14),
        "{ledger}"
    );
    assert_eq!(sink.unique_spans().len(), 14);
    assert!(
        sandbox.log_text().contains("rejected telemetry"),
        "said\n{}",
        sandbox.log_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_arrive_in_parts() {
    let (sink, sandbox) = start([], &[]).await;
    sink.set_default(SinkAnswer::TooLargeAbove(20_000));
    invoke(&sandbox, r#"{"spans":50,"bytes":2000,"requests":2}"#).await;
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    assert_eq!(
        sink.unique_spans().len(),
        100,
        "{ledger}\n{}",
        sandbox.log_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_drops_the_oldest_and_says_so() {
    let (sink, sandbox) = start([], &[("THROUGHLINE_BUFFER_BYTES", "64KiB")]).await;
    sink.set_default(SinkAnswer::status(503));
    for _ in 0..4 {
        invoke(&sandbox, r#"{"spans":10,"bytes":3000}"#).await;
    }
    sink.set_default(SinkAnswer::Ok);
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    assert_eq!(
        (
            spans(&ledger, "dropped/overflow"),
            spans(&ledger, "exported")
        ),
        (20, 20),
        "{ledger}"
    );
    // The newest are what is left.
    let mut names: Vec<String> = sink
        .unique_spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    names.sort();
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("span-2-") || name.starts_with("span-3-")),
        "{names:?}"
    );
    let lines = sandbox
        .logs()
        .iter()
        .filter(|line| line.text.contains("\"ledger\":{"))
        .count();
    assert!(
        lines >= 2,
        "once when it happened, once at the end\n{}",
        sandbox.log_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_goes_nowhere_counts() {
    let (_sink, sandbox) = start([], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).await;
    invoke(&sandbox, r#"{"spans":2}"#).await;
    shut_down(&sandbox).await;
    let ledger = ledger(&sandbox);
    assert_balanced(&ledger);
    assert_eq!(spans(&ledger, "dropped/shutdown"), 2, "{ledger}");
}
