//! What happens shortly before the deadline.

use std::sync::Arc;
use std::time::Duration;

use throughline::{BatchSpan, SqsMessage, traced_sqs_handler};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::{Collector, call, error, event_with_deadline, message};

fn timeout() -> Option<(String, String)> {
    Some(("timeout".to_owned(), "timeout".to_owned()))
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A processor whose record `slow` waits for the gate, and the gate.
fn gated() -> (
    Arc<Notify>,
    impl Fn(SqsMessage) -> Work + Send + Sync + 'static,
) {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let process = move |message: SqsMessage| {
        let gate = Arc::clone(&waiting);
        let work: std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> =
            Box::pin(async move {
                if message.body.as_deref() == Some("slow") {
                    gate.notified().await;
                }
                Ok(())
            });
        work
    };
    (gate, process)
}

#[tokio::test(start_paused = true)]
async fn by_default_open_spans_are_told_in_time_and_nothing_else_changes() {
    let (gate, process) = gated();
    let collector = Collector::new();
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .batch_span(BatchSpan::Always)
        .partial_batch();
    let batch = [
        message("quick", ""),
        message("slow", "slow"),
        message("after", ""),
    ];
    let started = Instant::now();
    let running = tokio::spawn(async move {
        call(
            &handler,
            event_with_deadline(batch, Duration::from_secs(10)),
        )
        .await
    });
    // 20 % of the limit would be two seconds: one at most.
    tokio::time::sleep(Duration::from_millis(8_900)).await;
    assert!(!collector.records().contains_key("slow"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(error(&collector.records()["slow"]), timeout());
    assert_eq!(error(&collector.batches()[0]), timeout());
    assert_eq!(error(&collector.records()["quick"]), None);

    gate.notify_one();
    assert_eq!(
        running.await.unwrap(),
        Ok(vec![]),
        "the answer is the processor's"
    );
    // `records` fails on a second span of the same message.
    assert_eq!(collector.records().len(), 3);
    assert_eq!(error(&collector.records()["after"]), None);
    assert_eq!(
        error(&collector.records()["slow"]),
        timeout(),
        "what was told stays"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn the_margin_is_a_fifth_of_a_short_limit() {
    let (gate, process) = gated();
    let collector = Collector::new();
    let handler = traced_sqs_handler(process).telemetry(&collector.telemetry);
    let batch = [message("slow", "slow")];
    let running = tokio::spawn(async move {
        call(&handler, event_with_deadline(batch, Duration::from_secs(1))).await
    });
    tokio::time::sleep(Duration::from_millis(750)).await;
    assert!(collector.spans().is_empty());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(error(&collector.records()["slow"]), timeout());
    gate.notify_one();
    assert_eq!(running.await.unwrap(), Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn watching_can_be_turned_off_and_needs_a_deadline() {
    for (observe, left) in [(false, 10_u64), (true, 0), (true, 3 * 60 * 60)] {
        let (gate, process) = gated();
        let collector = Collector::new();
        let handler = traced_sqs_handler(process)
            .telemetry(&collector.telemetry)
            .observe_deadline(observe);
        let batch = [message("slow", "slow")];
        let event = event_with_deadline(batch, Duration::from_secs(left));
        let running = tokio::spawn(async move { call(&handler, event).await });
        tokio::time::sleep(Duration::from_secs(4 * 60 * 60)).await;
        assert!(collector.spans().is_empty(), "{observe} {left}");
        gate.notify_one();
        assert_eq!(running.await.unwrap(), Ok(vec![]));
        assert_eq!(error(&collector.records()["slow"]), None);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_inside_the_margin() {
    for concurrency in [1, 2] {
        let (gate, process) = gated();
        let collector = Collector::new();
        let handler = traced_sqs_handler(process)
            .telemetry(&collector.telemetry)
            .partial_batch()
            .concurrency(concurrency)
            .observe_deadline(false)
            .stop_before_deadline(Duration::from_secs(3));
        let batch = [
            message("quick", ""),
            message("slow1", "slow"),
            message("slow2", "slow"),
            message("late", ""),
        ];
        let event = event_with_deadline(batch, Duration::from_secs(10));
        let running = tokio::spawn(async move { call(&handler, event).await });
        tokio::time::sleep(Duration::from_millis(7_100)).await;
        gate.notify_waiters();
        let returned = running.await.unwrap().unwrap();
        let records = collector.records();
        if concurrency == 1 {
            assert_eq!(returned, ["slow2", "late"], "those that succeeded are kept");
            assert_eq!(records.len(), 2, "what was not started has no span");
        } else {
            assert_eq!(returned, ["late"]);
        }
        assert_eq!(error(&records["slow1"]), None, "what runs may finish");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_record_is_dropped_at_the_margin_when_asked() {
    let (_gate, process) = gated();
    let collector = Collector::new();
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .partial_batch()
        .cancel_at_deadline(Duration::from_secs(2));
    let batch = [
        message("quick", ""),
        message("slow", "slow"),
        message("late", ""),
    ];
    let started = Instant::now();
    let event = event_with_deadline(batch, Duration::from_secs(10));
    assert_eq!(
        call(&handler, event).await,
        Ok(vec!["slow".to_owned(), "late".to_owned()])
    );
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(7_900) && took < Duration::from_secs(9),
        "{took:?}"
    );
    let records = collector.records();
    assert_eq!(error(&records["slow"]), timeout());
    assert_eq!(records.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_margin_longer_than_the_limit_starts_nothing() {
    let (_gate, process) = gated();
    let collector = Collector::new();
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .partial_batch()
        .stop_before_deadline(Duration::from_secs(60));
    let event = event_with_deadline([message("a", "")], Duration::from_secs(10));
    assert_eq!(
        call(&handler, event).await,
        Err("AllRecordsFailed".to_owned())
    );
    assert!(collector.spans().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_is_dropped_ends_its_spans() {
    let (_gate, process) = gated();
    let collector = Collector::new();
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .batch_span(BatchSpan::Always)
        .concurrency(2);
    let batch = [
        message("quick", ""),
        message("slow", "slow"),
        message("slow2", "slow"),
    ];
    let event = event_with_deadline(batch, Duration::from_secs(10));
    let calling = call(&handler, event);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), calling)
            .await
            .is_err()
    );
    let cancelled = Some(("cancelled".to_owned(), "cancelled".to_owned()));
    let records = collector.records();
    assert_eq!(error(&records["slow"]), cancelled);
    assert_eq!(error(&records["slow2"]), cancelled);
    assert_eq!(error(&records["quick"]), None);
    assert_eq!(error(&collector.batches()[0]), cancelled);
}
