//! P6: the user's handler decides the answer; tracing never changes which messages are deleted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use lambda_emulator::{OtlpSink, Outcome, ReceivedSpan, Sandbox, Timeline};
use serde_json::{Value, json};

const SECONDS: Duration = Duration::from_secs(20);

fn binary(name: &str) -> PathBuf {
    it::binary(name)
}

/// A record whose producer's span is `n` in trace `n`.
fn record(n: u64, body: &Value) -> Value {
    json!({
        "messageId": format!("m-{n}"),
        "receiptHandle": "secret-handle",
        "body": body.to_string(),
        "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1795346000000", "SenderId": "AIDA:someone@example.com"},
        "messageAttributes": {"traceparent": {"dataType": "String", "stringValue": format!("00-{n:032x}-{n:016x}-01")}},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "awsRegion": "eu-west-1",
    })
}

fn event(records: impl IntoIterator<Item = Value>) -> Vec<u8> {
    json!({"Records": records.into_iter().collect::<Vec<_>>()}).to_string().into_bytes()
}

fn answered(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answered(bytes) => serde_json::from_slice(bytes).expect("a JSON answer"),
        other => panic!("expected an answer, got {other:?}"),
    }
}

fn record_spans(spans: &[ReceivedSpan]) -> Vec<&ReceivedSpan> {
    spans.iter().filter(|span| span.name == "process orders").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_order_fails_alone_and_every_span_is_in_its_producers_trace() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = Sandbox::builder("orders-consumer")
        .timeline(&timeline)
        .bootstrap(binary("example-consumer"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .timeout(Duration::from_secs(30))
        .start()
        .await
        .unwrap();
    let records = (1..=10).map(|n| record(n, &json!({"id": format!("o-{n}"), "poison": n == 4})));
    let invocation = sandbox.invoke(event(records)).await;
    assert_eq!(
        answered(&invocation.outcome),
        json!({"batchItemFailures": [{"itemIdentifier": "m-4"}]})
    );
    sandbox.wait_frozen(&invocation.request_id).await;

    let spans = sink.spans();
    let records = record_spans(&spans);
    assert_eq!(records.len(), 10, "{}", timeline.to_text());
    for span in &records {
        let n = u64::from_str_radix(&span.trace_id, 16).unwrap();
        assert_eq!(span.parent_span_id, format!("{n:016x}"));
        assert_eq!(span.status == "ERROR", n == 4, "{span:?}");
    }
    let ids: HashSet<_> = records.iter().map(|span| &span.span_id).collect();
    for child in spans.iter().filter(|span| span.name == "reserve") {
        assert!(ids.contains(&child.parent_span_id), "{child:?}");
    }
    assert_eq!(spans.iter().filter(|span| span.name == "reserve").count(), 10);
    assert_eq!(spans.iter().filter(|span| span.name == "charge").count(), 9);
    sandbox.shutdown("spindown").await;
    let _ = SECONDS;
}
