//! The five small examples, each as it is, under the sandbox with the real extension.

use std::collections::HashMap;
use std::time::Duration;

use it::binary;
use lambda_emulator::{OtlpSink, Outcome, ReceivedSpan, Sandbox, Timeline};
use serde_json::{Value, json};

use crate::events::{event, record, traceparent};

/// What one invocation of an example led to.
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) spans: Vec<ReceivedSpan>,
    pub(crate) log: Vec<Value>,
    /// How many data points arrived.
    pub(crate) data_points: usize,
    /// For the message of a failing assertion.
    pub(crate) story: String,
}

impl Run {
    /// The batch answer.
    fn answer(&self) -> Value {
        match &self.outcome {
            Outcome::Answered(bytes) => serde_json::from_slice(bytes).expect("a JSON answer"),
            other => panic!("expected an answer, got {other:?}\n{}", self.story),
        }
    }

    /// The ids that the batch answer returns to the queue, in its order.
    fn returned(&self) -> Vec<String> {
        let answer = self.answer();
        let failures = answer["batchItemFailures"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let id = |failure: &Value| {
            failure["itemIdentifier"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        failures.iter().map(id).collect()
    }

    /// The spans of records, by message id.
    fn records(&self) -> HashMap<&str, &ReceivedSpan> {
        let id = |span: &ReceivedSpan| span.attributes.contains_key("messaging.message.id");
        let spans = self.spans.iter().filter(|span| id(span));
        spans
            .map(|span| {
                (
                    span.attributes["messaging.message.id"].as_str().unwrap(),
                    span,
                )
            })
            .collect()
    }

    pub(crate) fn named(&self, name: &str) -> &ReceivedSpan {
        let found: Vec<_> = self.spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "spans named {name:?}\n{}", self.story);
        found[0]
    }
}

/// Runs one invocation of an example from init to shutdown.
pub(crate) async fn run(example: &str, records: Vec<Value>, env: &[(&str, &str)]) -> Run {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let mut builder = Sandbox::builder(example)
        .timeline(&timeline)
        .bootstrap(binary(example))
        .extension(binary("throughline-extension"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .timeout(Duration::from_secs(30));
    for (name, value) in env {
        builder = builder.function_env(*name, *value);
    }
    let sandbox = builder.start().await.unwrap();
    let invocation = sandbox.invoke(event(records)).await;
    sandbox.wait_frozen(&invocation.request_id).await;
    sandbox.shutdown("spindown").await;
    // That they are there before the freeze is P2's to show; on a loaded machine a flush may be cut
    // off at its second, and the rest leaves at the shutdown.
    let (spans, data_points) = (sink.unique_spans(), sink.data_points());
    let lines = sandbox.logs();
    let log = lines
        .iter()
        .filter_map(|line| serde_json::from_str(&line.text).ok())
        .collect();
    let story = format!("{}\n{}", timeline.to_text(), sandbox.log_text());
    Run {
        outcome: invocation.outcome,
        spans,
        log,
        data_points,
        story,
    }
}

/// Record `m-n`, sent by span n of trace n.
pub(crate) fn sent(n: u64, body: &str) -> Value {
    record(
        &format!("m-{n}"),
        body,
        Some(&traceparent(u128::from(n), n)),
    )
}

/// The producer's span of a record's link or parent: 16 digits.
fn producer(n: u64) -> String {
    format!("{n:016x}")
}

fn error_type(span: &ReceivedSpan) -> Option<&str> {
    span.attributes
        .get("error.type")
        .and_then(|value| value.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_bodies() {
    let records = || {
        vec![
            sent(1, r#"{"id":"o-1","amount":3}"#),
            sent(2, "not JSON"),
            sent(3, r#"{"id":"o-3","amount":0}"#),
        ]
    };
    let partial = run(
        "example-json-bodies",
        records(),
        &[("THROUGHLINE_PARTIAL_BATCH", "1")],
    )
    .await;
    assert_eq!(partial.returned(), ["m-2", "m-3"], "{}", partial.story);
    let spans = partial.records();
    assert_eq!(spans.len(), 3, "{}", partial.story);
    assert_eq!(error_type(spans["m-1"]), None);
    assert_eq!(error_type(spans["m-2"]), Some("invalid_body"));
    assert_eq!(
        error_type(spans["m-3"]),
        Some("example_json_bodies::NothingToPay")
    );
    for (id, n) in [("m-1", 1), ("m-2", 2), ("m-3", 3)] {
        assert_eq!(spans[id].trace_id, format!("{n:032x}"));
        assert_eq!(spans[id].parent_span_id, producer(n));
        // The error of the second would quote its body, so the status says only its type.
        assert!(
            !spans[id].status_message.contains("line 1"),
            "{:?}",
            spans[id]
        );
    }

    // Without the variable any failure is the batch's.
    let whole = run("example-json-bodies", records(), &[]).await;
    let Outcome::FunctionError(error) = &whole.outcome else {
        panic!(
            "expected an error, got {:?}\n{}",
            whole.outcome, whole.story
        );
    };
    assert_eq!(error["errorType"], "RecordsFailed", "{error}");
    assert_eq!(whole.records().len(), 3, "{}", whole.story);
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_batch() {
    let parcel = |n: u64, grams: u32, parts: u32| {
        sent(
            n,
            &json!({"id": format!("p-{n}"), "grams": grams, "parts": parts}).to_string(),
        )
    };
    // The third one panics.
    let records = vec![
        parcel(1, 500, 1),
        parcel(2, 90_000, 1),
        parcel(3, 500, 0),
        parcel(4, 90_000, 4),
    ];
    let run = run("example-partial-batch", records, &[]).await;
    assert_eq!(run.returned(), ["m-2", "m-3"], "{}", run.story);
    let spans = run.records();
    let types = ["m-1", "m-2", "m-3", "m-4"].map(|id| error_type(spans[id]));
    assert_eq!(
        types,
        [None, Some("too_heavy"), Some("panic"), None],
        "{}",
        run.story
    );
    let statuses = ["m-1", "m-2", "m-3", "m-4"].map(|id| spans[id].status);
    assert_eq!(statuses, ["UNSET", "ERROR", "ERROR", "UNSET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo() {
    let booking = |n: u64, account: &str, balance: i64| {
        let mut record = sent(
            n,
            &json!({"account": account, "balance": balance}).to_string(),
        );
        record["eventSourceARN"] = "arn:aws:sqs:eu-west-1:123456789012:bookings.fifo".into();
        record["attributes"]["MessageGroupId"] = account.into();
        record
    };
    let records = vec![
        booking(1, "a", 5),
        booking(2, "b", 5),
        booking(3, "a", -1),
        booking(4, "b", 4),
        booking(5, "a", 3),
    ];
    let run = run("example-fifo", records, &[]).await;
    assert_eq!(run.returned(), ["m-3", "m-5"], "{}", run.story);
    let spans = run.records();
    assert_eq!(error_type(spans["m-3"]), Some("overdrawn"));
    assert!(
        !spans.contains_key("m-5"),
        "it was not processed\n{}",
        run.story
    );
    assert_eq!(spans.len(), 4);
    assert!(
        spans
            .values()
            .all(|span| span.name == "process bookings.fifo"),
        "{}",
        run.story
    );
    for (earlier, later) in [("m-1", "m-3"), ("m-2", "m-4")] {
        assert!(
            spans[earlier].end <= spans[later].start,
            "{earlier} before {later}\n{}",
            run.story
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn child_spans() {
    let run = run("example-child-spans", vec![sent(7, "hello")], &[]).await;
    assert_eq!(run.answer(), json!({"batchItemFailures": []}));
    let record = run.named("process orders");
    assert_eq!(record.parent_span_id, producer(7));
    for child in ["validate", "INSERT orders", "audit", "notify"] {
        assert_eq!(
            run.named(child).parent_span_id,
            record.span_id,
            "{child}\n{}",
            run.story
        );
    }
    assert_eq!(
        run.named("checksum").parent_span_id,
        run.named("validate").span_id,
        "{}",
        run.story
    );
    assert!(
        run.spans
            .iter()
            .all(|span| span.trace_id == format!("{:032x}", 7)),
        "{}",
        run.story
    );
    assert_eq!(run.spans.len(), 6, "{}", run.story);
    for (message, span) in [
        ("in the record", "process orders"),
        ("in validate", "validate"),
        ("in the database", "INSERT orders"),
        ("in audit", "audit"),
        ("in notify", "notify"),
    ] {
        let line = run.log.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("no line {message:?}\n{}", run.story));
        assert_eq!(
            line["span_id"],
            run.named(span).span_id.as_str(),
            "{message}\n{}",
            run.story
        );
        assert_eq!(line["trace_id"], record.trace_id.as_str());
        assert_eq!(line["messageId"], "m-7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_mode() {
    let run = run(
        "example-link-mode",
        vec![sent(1, "one"), sent(2, "two")],
        &[],
    )
    .await;
    assert_eq!(run.answer(), json!({"batchItemFailures": []}));
    let records = run.records();
    assert_eq!((records.len(), run.spans.len()), (2, 3), "{}", run.story);
    let batch = run
        .spans
        .iter()
        .find(|span| span.parent_span_id.is_empty())
        .expect("a root");
    assert_eq!(batch.name, "process orders");
    assert_eq!(batch.kind, "CONSUMER");
    let links = |span: &ReceivedSpan| {
        span.links
            .iter()
            .map(|link| link.span_id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(links(batch), [producer(1), producer(2)], "{}", run.story);
    for (id, n) in [("m-1", 1), ("m-2", 2)] {
        assert_eq!(records[id].parent_span_id, batch.span_id);
        assert_eq!(records[id].trace_id, batch.trace_id);
        assert_eq!(links(records[id]), [producer(n)]);
    }
}
