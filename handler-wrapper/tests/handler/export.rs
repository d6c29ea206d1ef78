//! The way of spans to an endpoint: what arrives, what is kept, and that every span is accounted for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lambda_emulator::{OtlpSink, SinkAnswer};
use opentelemetry::trace::{Tracer, TracerProvider};
use throughline::{SpanCounts, SqsMessage, Telemetry, traced_sqs_handler};
use tokio::runtime::Runtime;

use crate::support::{Message, call, event, message};

/// A sink, and telemetry that sends to it only when it is told to: made outside of the runtime, so
/// that nothing flushes in the background, as in Lambda.
fn exporting() -> (Runtime, OtlpSink, Telemetry) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let sink = runtime.block_on(OtlpSink::start()).unwrap();
    let telemetry = Telemetry::to_endpoint(&sink.url()).unwrap();
    (runtime, sink, telemetry)
}

fn make_spans(telemetry: &Telemetry, n: usize) {
    let tracer = telemetry.provider().unwrap().tracer("test");
    for _ in 0..n {
        drop(tracer.start("span"));
    }
}

fn counts(telemetry: &Telemetry) -> SpanCounts {
    let counts = telemetry.counts().unwrap();
    let SpanCounts {
        received,
        exported,
        rejected,
        dropped,
        pending,
    } = counts;
    assert_eq!(
        received,
        exported + rejected + dropped + pending,
        "{counts:?}"
    );
    counts
}

async fn flush_all(telemetry: &Telemetry) {
    for _ in 0..100 {
        telemetry.flush().await;
        if counts(telemetry).pending == 0 {
            return;
        }
    }
    panic!("spans stay: {:?}", counts(telemetry));
}

#[test]
fn a_flush_sends_what_has_ended_over_one_connection() {
    let (runtime, sink, telemetry) = exporting();
    runtime.block_on(async {
        for round in 1..=3 {
            make_spans(&telemetry, 10);
            telemetry.flush().await;
            assert_eq!(
                sink.spans().len(),
                10 * round,
                "acknowledged before the flush returned"
            );
        }
        telemetry.flush().await;
        assert_eq!(sink.requests().len(), 3, "nothing is sent for nothing");
        assert_eq!(sink.connections(), 1);
        let scope = sink.spans()[0].scope.clone();
        assert_eq!(scope, "test");
    });
    assert_eq!(counts(&telemetry).exported, 30);
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_opened_again() {
    let (runtime, sink, telemetry) = exporting();
    runtime.block_on(async {
        for round in 1..=5 {
            make_spans(&telemetry, 1);
            telemetry.flush().await;
            assert_eq!(sink.unique_spans().len(), round);
            sink.close_idle_connections();
        }
    });
    assert_eq!(counts(&telemetry).exported, 5);
}

#[test]
fn a_connection_that_breaks_while_it_is_used_costs_no_span() {
    for broken in [SinkAnswer::CloseInstead, SinkAnswer::CloseAfter] {
        let (runtime, sink, telemetry) = exporting();
        runtime.block_on(async {
            make_spans(&telemetry, 1);
            telemetry.flush().await;
            sink.script([broken]);
            make_spans(&telemetry, 1);
            telemetry.flush().await;
            make_spans(&telemetry, 1);
            telemetry.flush().await;
        });
        assert_eq!(counts(&telemetry).exported, 3);
        assert_eq!(sink.unique_spans().len(), 3);
    }
}

#[test]
fn what_the_endpoint_cannot_take_now_is_kept_for_the_next_flush() {
    for status in [429, 502, 503, 504] {
        let (runtime, sink, telemetry) = exporting();
        runtime.block_on(async {
            sink.script([SinkAnswer::status(status)]);
            make_spans(&telemetry, 600);
            telemetry.flush().await;
            assert_eq!(counts(&telemetry).pending, 600, "{status}");
            assert_eq!(sink.requests().len(), 1, "no retry inside a flush");
            make_spans(&telemetry, 1);
            telemetry.flush().await;
        });
        assert_eq!(counts(&telemetry).exported, 601, "{status}");
        assert_eq!(sink.unique_spans().len(), 601);
    }
}

#[test]
fn what_the_endpoint_refuses_for_good_is_rejected_and_counted() {
    for status in [400, 401, 404, 413, 500] {
        let (runtime, sink, telemetry) = exporting();
        runtime.block_on(async {
            sink.script([SinkAnswer::status(status)]);
            make_spans(&telemetry, 3);
            telemetry.flush().await;
            make_spans(&telemetry, 2);
            telemetry.flush().await;
        });
        let counts = counts(&telemetry);
        assert_eq!((counts.rejected, counts.exported), (3, 2), "{status}");
        assert_eq!(sink.spans().len(), 2);
    }
}

#[test]
fn a_partial_success_is_counted_as_such() {
    let (runtime, sink, telemetry) = exporting();
    runtime.block_on(async {
        sink.script([SinkAnswer::PartialSuccess {
            rejected: 4,
            message: String::new(),
        }]);
        make_spans(&telemetry, 10);
        telemetry.flush().await;
    });
    let counts = counts(&telemetry);
    assert_eq!((counts.rejected, counts.exported), (4, 6));
}

#[test]
fn an_endpoint_that_never_answers_holds_one_flush_and_then_none() {
    let (runtime, sink, telemetry) = exporting();
    runtime.block_on(async {
        sink.set_default(SinkAnswer::Hang);
        make_spans(&telemetry, 5);
        let started = Instant::now();
        telemetry.flush().await;
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "the limit is one second"
        );
        assert_eq!(counts(&telemetry).pending, 5);
        make_spans(&telemetry, 5);
        telemetry.flush().await;
        assert_eq!(sink.requests().len(), 1, "the pause: nothing was tried");
        assert_eq!(counts(&telemetry).pending, 10, "and nothing was lost");
    });
}

#[test]
fn without_a_listener_spans_are_kept_up_to_the_bound() {
    let (runtime, sink, telemetry) = exporting();
    let gone = {
        // A port that nobody listens on any more.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Telemetry::to_endpoint(&format!("http://127.0.0.1:{port}")).unwrap()
    };
    let tracer = gone.provider().unwrap().tracer("test");
    let large = opentelemetry::KeyValue::new("large", "x".repeat(1_000));
    runtime.block_on(async {
        for _ in 0..60 {
            for _ in 0..100 {
                drop(
                    tracer
                        .span_builder("span")
                        .with_attributes([large.clone()])
                        .start(&tracer),
                );
            }
            gone.flush().await;
        }
    });
    let counts = counts(&gone);
    assert_eq!(counts.received, 6_000);
    assert!(
        counts.dropped > 1_000 && counts.pending > 3_000,
        "4 MiB are kept: {counts:?}"
    );
    drop((sink, telemetry));
}

#[test]
fn what_one_record_makes_beyond_the_bound_is_dropped_and_counted() {
    let (runtime, sink, telemetry) = exporting();
    make_spans(&telemetry, 8_192);
    assert_eq!(
        counts(&telemetry).dropped,
        0,
        "at the bound nothing is lost"
    );
    make_spans(&telemetry, 100);
    assert_eq!(counts(&telemetry).dropped, 100);
    runtime.block_on(flush_all(&telemetry));
    assert_eq!(sink.spans().len(), 8_192);
    assert_eq!(sink.requests().len(), 8_192 / 512);
}

fn batch(n: u64, sampled: impl Fn(u64) -> bool) -> impl Iterator<Item = Message> {
    (1..=n).map(move |i| message(&format!("m{i}"), "").sent_by_span(i, sampled(i)))
}

#[test]
fn ten_thousand_records_lose_no_span_and_keep_few() {
    for concurrency in [1, 64] {
        let (runtime, sink, telemetry) = exporting();
        let most = Arc::new(Mutex::new(0));
        let (seen, watched) = (Arc::clone(&most), telemetry.clone());
        // Never waits for anything, so that nothing leaves unless the handler sees to it.
        let process = move |_: SqsMessage| {
            let pending = watched.counts().unwrap().pending;
            let mut most = seen.lock().unwrap();
            *most = pending.max(*most);
            std::future::ready(Ok::<(), String>(()))
        };
        let handler = traced_sqs_handler(process)
            .telemetry(&telemetry)
            .concurrency(concurrency);
        runtime.block_on(async {
            assert_eq!(
                call(&handler, event(batch(10_000, |_| true))).await,
                Ok(vec![])
            );
            flush_all(&telemetry).await;
        });
        assert_eq!(counts(&telemetry).exported, 10_000);
        let ids: HashSet<_> = sink.spans().into_iter().map(|span| span.span_id).collect();
        assert_eq!(ids.len(), 10_000);
        let most = *most.lock().unwrap();
        assert!(most < 4_096, "{most} spans were waiting at once");
        assert!(sink.requests().len() >= 10_000 / 512);
    }
}

#[test]
fn a_tenth_sampled_by_the_producer_stays_that_tenth() {
    let (runtime, sink, telemetry) = exporting();
    let handler =
        traced_sqs_handler(async |_: SqsMessage| Ok::<(), String>(())).telemetry(&telemetry);
    // Every third context came in a header, where there was no room for an attribute.
    let messages = (1..=10_000_u64).map(|n| {
        let sampled = n % 10 == 0;
        if n % 3 == 0 {
            let header = format!(
                "Root=1-00000000-{n:024x};Parent={n:016x};Sampled={};Tl=1",
                u8::from(sampled)
            );
            message(&format!("m{n}"), "").set("/attributes/AWSTraceHeader", header)
        } else {
            message(&format!("m{n}"), "").sent_by_span(n, sampled)
        }
    });
    runtime.block_on(async {
        assert_eq!(call(&handler, event(messages)).await, Ok(vec![]));
        flush_all(&telemetry).await;
    });
    let traces: HashSet<_> = sink.spans().into_iter().map(|span| span.trace_id).collect();
    let expected: HashSet<_> = (1..=1_000_u64)
        .map(|n| format!("{:032x}", 10 * n))
        .collect();
    assert_eq!(traces, expected);
    assert_eq!(sink.spans().len(), 1_000);
}

#[test]
fn a_dead_endpoint_does_not_hold_a_large_batch_for_long() {
    let (runtime, sink, telemetry) = exporting();
    let handler =
        traced_sqs_handler(async |_: SqsMessage| Ok::<(), String>(())).telemetry(&telemetry);
    runtime.block_on(async {
        sink.set_default(SinkAnswer::Hang);
        let started = Instant::now();
        assert_eq!(
            call(&handler, event(batch(10_000, |_| true))).await,
            Ok(vec![])
        );
        // One second of holding back, a quarter before the answer; the rest is the machine's.
        assert!(
            started.elapsed() < Duration::from_secs(9),
            "{:?}",
            started.elapsed()
        );
    });
    assert_eq!(counts(&telemetry).received, 10_000);
}

#[test]
fn invocations_side_by_side_each_find_their_spans_sent() {
    let (runtime, sink, telemetry) = exporting();
    sink.set_default(SinkAnswer::slow(Duration::from_millis(2)));
    let handler = traced_sqs_handler(async |_: SqsMessage| {
        tokio::task::yield_now().await;
        Ok::<(), String>(())
    })
    .telemetry(&telemetry);
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for invocation in 0..4_u64 {
            let (handler, telemetry, sink) = (handler.clone(), telemetry.clone(), sink.clone());
            running.spawn(async move {
                for round in 0..10 {
                    let n = 1 + invocation * 1_000 + round * 10;
                    let records =
                        (n..n + 10).map(|n| message(&format!("m{n}"), "").sent_by_span(n, true));
                    assert_eq!(call(&handler, event(records)).await, Ok(vec![]));
                    let began = Instant::now();
                    telemetry.flush().await;
                    if began.elapsed() > Duration::from_millis(900) {
                        continue; // cut off by its limit, on a machine under load
                    }
                    let traces: HashSet<_> =
                        sink.spans().into_iter().map(|span| span.trace_id).collect();
                    for n in n..n + 10 {
                        assert!(
                            traces.contains(&format!("{n:032x}")),
                            "{invocation} {round}"
                        );
                    }
                }
            });
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
    });
    runtime.block_on(flush_all(&telemetry));
    assert_eq!(counts(&telemetry).exported, 4 * 10 * 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_lambda_spans_leave_by_themselves() {
    let sink = OtlpSink::start().await.unwrap();
    let telemetry = Telemetry::to_endpoint(&sink.url()).unwrap();
    make_spans(&telemetry, 512);
    let arrived = sink.wait_for_spans(512, Duration::from_secs(30)).await;
    assert!(arrived.is_ok(), "{:?}", telemetry.counts());
}
