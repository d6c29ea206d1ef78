//! FIFO queues: nothing overtakes a failure.

use std::sync::{Arc, Mutex};

use throughline::{SqsMessage, traced_sqs_handler};

use crate::support::{Collector, Message, call, event, message};

/// Messages of groups A and B, written as `A1 B1! A2`: `!` fails.
fn batch(queue: &str, text: &str) -> Vec<Message> {
    text.split(' ')
        .map(|word| {
            let id = word.trim_end_matches('!');
            let body = if word.ends_with('!') { "fail" } else { "" };
            message(id, body).queue(queue).group(&id[..1])
        })
        .collect()
}

type Started = Arc<Mutex<Vec<String>>>;

type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

fn recorder(started: &Started) -> impl Fn(SqsMessage) -> Work + Send + Sync + use<> {
    let started = Arc::clone(started);
    move |message: SqsMessage| {
        let started = Arc::clone(&started);
        Box::pin(async move {
            started.lock().unwrap().push(message.message_id.unwrap());
            tokio::task::yield_now().await;
            if message.body.as_deref() == Some("fail") {
                Err("as told".to_owned())
            } else {
                Ok(())
            }
        })
    }
}

#[tokio::test]
async fn the_rest_of_a_fifo_batch_follows_from_its_first_failure() {
    // queue, skip only the group, batch, processed, returned
    let table = [
        ("q.fifo", false, "A1 B1 A2", "A1 B1 A2", ""),
        ("q.fifo", false, "A1 B1! A2 B2", "A1 B1", "B1 A2 B2"),
        ("q.fifo", false, "A1 A2 A3!", "A1 A2 A3", "A3"),
        ("q.fifo", true, "A1 B1! A2 B2 C1", "A1 B1 A2 C1", "B1 B2"),
        (
            "q.fifo",
            true,
            "A1! B1! A2 B2 C1",
            "A1 B1 C1",
            "A1 B1 A2 B2",
        ),
        // A fair queue is a standard queue whose messages have groups.
        ("q", false, "A1 A2! A3 B1", "A1 A2 A3 B1", "A2"),
        ("q", true, "A1 A2! A3 B1", "A1 A2 A3 B1", "A2"),
        ("fifo", false, "A1 A2! A3", "A1 A2 A3", "A2"),
    ];
    for (queue, skip_group, text, processed, returned) in table {
        let collector = Collector::new();
        let started = Started::default();
        let mut handler = traced_sqs_handler(recorder(&started))
            .telemetry(&collector.telemetry)
            .partial_batch();
        if skip_group {
            handler = handler.fifo_skip_group();
        }
        let answer = call(&handler, event(batch(queue, text))).await;
        let row = format!("{queue} skip_group={skip_group} {text}");
        assert_eq!(answer.unwrap().join(" "), returned, "{row}");
        assert_eq!(started.lock().unwrap().join(" "), processed, "{row}");
        // What was left out was not processed, so it has no span.
        assert_eq!(
            collector.spans().len(),
            processed.split(' ').count(),
            "{row}"
        );
    }
}

#[tokio::test]
async fn a_whole_batch_answer_stops_a_fifo_batch_as_well() {
    let started = Started::default();
    let handler = traced_sqs_handler(recorder(&started)).telemetry(&Collector::new().telemetry);
    let answer = call(&handler, event(batch("q.fifo", "A1! A2"))).await;
    assert_eq!(answer, Err("RecordsFailed".to_owned()));
    assert_eq!(*started.lock().unwrap(), ["A1"]);
}

#[tokio::test]
async fn a_first_failure_in_a_fifo_batch_is_a_failure_of_all() {
    let started = Started::default();
    let telemetry = Collector::new().telemetry;
    let handler = traced_sqs_handler(recorder(&started))
        .telemetry(&telemetry)
        .partial_batch();
    let bad = || event(batch("q.fifo", "A1! A2 B1"));
    assert_eq!(
        call(&handler, bad()).await,
        Err("AllRecordsFailed".to_owned())
    );
    let ids = call(&handler.report_all_failed(), bad()).await.unwrap();
    assert_eq!(ids, ["A1", "A2", "B1"]);
}

#[tokio::test]
async fn concurrent_groups_keep_the_order_inside_each() {
    let started = Started::default();
    let handler = traced_sqs_handler(recorder(&started))
        .telemetry(&Collector::new().telemetry)
        .partial_batch()
        .concurrency(2);
    let answer = call(&handler, event(batch("q.fifo", "A1 A2 B1 B2 C1 C2"))).await;
    assert_eq!(answer, Ok(vec![]));
    let order = started.lock().unwrap().clone();
    assert_eq!(
        order[..2],
        ["A1", "B1"],
        "two groups at once, each with its first"
    );
    for group in ["A", "B", "C"] {
        let of_group: Vec<_> = order.iter().filter(|id| id.starts_with(group)).collect();
        assert!(of_group.is_sorted(), "{order:?}");
    }
}

#[tokio::test]
async fn concurrency_on_a_standard_queue_is_bounded() {
    for limit in [0, 1, 3, 100] {
        let running = Arc::new(Mutex::new((0_usize, 0_usize)));
        let counted = Arc::clone(&running);
        let process = move |_: SqsMessage| {
            let counted = Arc::clone(&counted);
            async move {
                {
                    let mut counts = counted.lock().unwrap();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                }
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                counted.lock().unwrap().0 -= 1;
                Ok::<(), String>(())
            }
        };
        let handler = traced_sqs_handler(process)
            .telemetry(&Collector::new().telemetry)
            .concurrency(limit);
        let batch = (0..20).map(|n| message(&format!("m{n}"), ""));
        assert_eq!(call(&handler, event(batch)).await, Ok(vec![]));
        assert_eq!(
            running.lock().unwrap().1,
            limit.clamp(1, 20),
            "limit {limit}"
        );
    }
}
