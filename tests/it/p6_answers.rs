//! P6: the user's handler decides the answer; tracing never changes which messages are deleted.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use it::binary;
use lambda_emulator::{
    Builder, Event, MappingSpec, OtlpSink, Outcome, QueueSpec, ReceivedSpan, Sandbox, SinkAnswer,
    SqsServer, Timeline,
};
use serde_json::{Value, json};

use crate::events::{event, record, traceparent};

/// Bound of a wait: far longer than it takes, so that only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

fn consumer(timeline: &Timeline, bootstrap: &str) -> Builder {
    Sandbox::builder("consumer")
        .timeline(timeline)
        .bootstrap(binary(bootstrap))
        .timeout(Duration::from_secs(30))
}

fn answer(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answered(bytes) => serde_json::from_slice(bytes).expect("a JSON answer"),
        Outcome::FunctionError(error) => json!({ "error": error["errorType"] }),
        other => panic!("expected an answer, got {other:?}"),
    }
}

/// Ten orders, of which those numbers can never be handled.
fn orders(poisoned: &[u64]) -> Vec<u8> {
    let order = |n: u64| {
        let body = json!({"id": format!("o-{n}"), "poison": poisoned.contains(&n)}).to_string();
        record(&format!("m-{n}"), &body, Some(&traceparent(n.into(), n)))
    };
    event((1..=10).map(order).collect())
}

fn failures(ids: &[&str]) -> Value {
    let items: Vec<_> = ids
        .iter()
        .map(|id| json!({ "itemIdentifier": id }))
        .collect();
    json!({ "batchItemFailures": items })
}

fn records(spans: &[ReceivedSpan]) -> Vec<&ReceivedSpan> {
    spans
        .iter()
        .filter(|span| span.name == "process orders")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_order_fails_alone_and_every_span_is_in_its_producers_trace() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = consumer(&timeline, "example-consumer")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke(orders(&[4])).await;
    assert_eq!(answer(&invocation.outcome), failures(&["m-4"]));
    sandbox.wait_frozen(&invocation.request_id).await;

    let spans = sink.spans();
    let records = records(&spans);
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
    assert_eq!(
        spans.iter().filter(|span| span.name == "reserve").count(),
        10
    );
    assert_eq!(spans.iter().filter(|span| span.name == "charge").count(), 9);
    sandbox.shutdown("spindown").await;
}

/// What may be wrong with the way of the spans.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Nowhere,
    Disabled,
    Straight,
    Extension,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_the_same_wherever_the_spans_go_and_whatever_becomes_of_them() {
    let hang = SinkAnswer::Hang;
    for (way, sink_answer) in [
        (Way::Nowhere, SinkAnswer::Ok),
        (Way::Disabled, SinkAnswer::Ok),
        (Way::Straight, SinkAnswer::Ok),
        (Way::Straight, SinkAnswer::status(503)),
        (Way::Straight, hang.clone()),
        (Way::Straight, SinkAnswer::CloseInstead),
        (Way::Extension, SinkAnswer::Ok),
        (Way::Extension, SinkAnswer::status(400)),
        (Way::Extension, hang),
    ] {
        let timeline = Timeline::new();
        let sink = OtlpSink::start_on(&timeline).await.unwrap();
        sink.set_default(sink_answer.clone());
        let mut builder = consumer(&timeline, "example-consumer");
        if way != Way::Nowhere {
            builder = builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url());
        }
        if way == Way::Disabled {
            builder = builder.function_env("OTEL_SDK_DISABLED", "true");
        }
        if way == Way::Extension {
            builder = builder.extension(binary("throughline-extension"));
        }
        let sandbox = builder.start().await.unwrap();
        for (poisoned, expected) in [
            (&[][..], failures(&[])),
            (&[1, 7][..], failures(&["m-1", "m-7"])),
            (
                &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10][..],
                json!({"error": "AllRecordsFailed"}),
            ),
        ] {
            let invocation = sandbox.invoke(orders(poisoned)).await;
            let story = format!(
                "{way:?} {sink_answer:?} {poisoned:?}\n{}",
                timeline.to_text()
            );
            assert_eq!(answer(&invocation.outcome), expected, "{story}");
            sandbox.wait_frozen(&invocation.request_id).await;
        }
        // The caller had each answer before the first span of its invocation was on the way.
        let mut answered = 0;
        let mut exported = 0;
        for entry in timeline.entries() {
            match entry.event {
                Event::ResponsePosted { .. } => answered += 1,
                Event::SinkRequestArrived { .. } if way == Way::Straight => {
                    exported += 1;
                    assert!(
                        answered > 0,
                        "{way:?} {sink_answer:?}\n{}",
                        timeline.to_text()
                    );
                }
                _ => {}
            }
        }
        assert_eq!(answered, 3);
        assert_eq!(exported > 0, way == Way::Straight);
        sandbox.shutdown("spindown").await;
    }
}

/// A queue of orders with a dead-letter queue after two receives, and a client for it.
struct Queue {
    timeline: Timeline,
    sqs: SqsServer,
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    async fn new() -> Self {
        let timeline = Timeline::new();
        let sqs = SqsServer::start_on(&timeline).await.unwrap();
        sqs.create_queue(QueueSpec::new("dead"));
        let spec = QueueSpec::new("orders").visibility_timeout(Duration::from_secs(30));
        let url = sqs.create_queue(spec.redrive("dead", 2));
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(sqs.endpoint_url())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .build();
        let client = aws_sdk_sqs::Client::from_conf(config);
        Self {
            timeline,
            sqs,
            client,
            url,
        }
    }

    /// Sends orders with these amounts in one call; nobody pays for an amount of zero.
    async fn send(&self, amounts: &[u32]) -> Vec<String> {
        let mut batch = self.client.send_message_batch().queue_url(&self.url);
        for (n, amount) in amounts.iter().enumerate() {
            let body = json!({"id": format!("o-{n}"), "amount": amount}).to_string();
            let entry = aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder();
            batch = batch.entries(entry.id(n.to_string()).message_body(body).build().unwrap());
        }
        let sent = batch.send().await.unwrap();
        let mut ids: Vec<_> = sent
            .successful()
            .iter()
            .map(|entry| (entry.id().to_owned(), entry.message_id().to_owned()))
            .collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// How often each message was received from the queue.
    fn receives(&self) -> HashMap<String, u32> {
        let mut receives = HashMap::new();
        for entry in self.timeline.entries() {
            if let Event::MessageReceived {
                queue, message_id, ..
            } = entry.event
                && queue == "orders"
            {
                *receives.entry(message_id).or_default() += 1;
            }
        }
        receives
    }

    fn deleted(&self) -> HashSet<String> {
        let id = |entry: &lambda_emulator::Entry| match &entry.event {
            Event::MessageDeleted { queue, message_id } if queue == "orders" => {
                Some(message_id.clone())
            }
            _ => None,
        };
        self.timeline.entries().iter().filter_map(id).collect()
    }

    fn dead(&self) -> HashSet<String> {
        let id = |entry: &lambda_emulator::Entry| match &entry.event {
            Event::MessageMoved { message_id, .. } => Some(message_id.clone()),
            _ => None,
        };
        self.timeline.entries().iter().filter_map(id).collect()
    }
}

fn set(ids: &[&String]) -> HashSet<String> {
    ids.iter().map(|id| (*id).clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_partial_answers_only_what_failed_comes_back() {
    let queue = Queue::new().await;
    let sandbox = consumer(&queue.timeline, "example-json-bodies")
        .function_env("THROUGHLINE_PARTIAL_BATCH", "1")
        .start()
        .await
        .unwrap();
    let ids = queue.send(&[5, 0, 7]).await;
    let spec = MappingSpec::default()
        .batch_size(10)
        .report_batch_item_failures(true);
    let mapping = queue
        .sqs
        .event_source_mapping("orders", &sandbox, spec.retry_at_once(true));
    assert!(
        queue.sqs.wait_for_messages("dead", 1, PATIENCE).await,
        "{}",
        queue.timeline.to_text()
    );
    mapping.stop().await;
    assert_eq!(queue.deleted(), set(&[&ids[0], &ids[2]]));
    assert_eq!(queue.dead(), set(&[&ids[1]]));
    assert_eq!(
        queue.receives()[&ids[0]],
        1,
        "what succeeded is not handled twice"
    );
    assert_eq!(queue.receives()[&ids[1]], 2);
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_no_mapping_deletes_what_failed() {
    for reports in [false, true] {
        let queue = Queue::new().await;
        let sandbox = consumer(&queue.timeline, "example-json-bodies")
            .start()
            .await
            .unwrap();
        let ids = queue.send(&[5, 0, 7]).await;
        let spec = MappingSpec::default()
            .batch_size(10)
            .report_batch_item_failures(reports);
        let mapping = queue
            .sqs
            .event_source_mapping("orders", &sandbox, spec.retry_at_once(true));
        let moved = queue.sqs.wait_for_messages("dead", 1, PATIENCE).await;
        assert!(moved, "{}", queue.timeline.to_text());
        assert!(queue.sqs.wait_empty("orders", PATIENCE).await);
        mapping.stop().await;
        assert!(queue.dead().contains(&ids[1]) && !queue.deleted().contains(&ids[1]));
        sandbox.shutdown("spindown").await;
    }
}

// Why partial answers are not the default: this is what they do under a mapping that does not
// expect them. Should Lambda ever change this, or the event tell the two kinds of mapping apart,
// the default can be another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_answer_under_a_mapping_without_the_setting_deletes_what_failed() {
    let queue = Queue::new().await;
    let sandbox = consumer(&queue.timeline, "example-json-bodies")
        .function_env("THROUGHLINE_PARTIAL_BATCH", "1")
        .start()
        .await
        .unwrap();
    let ids = queue.send(&[5, 0]).await;
    let spec = MappingSpec::default()
        .batch_size(10)
        .report_batch_item_failures(false);
    let mapping = queue.sqs.event_source_mapping("orders", &sandbox, spec);
    assert!(queue.sqs.wait_empty("orders", PATIENCE).await);
    mapping.stop().await;
    assert!(queue.deleted().contains(&ids[1]) && queue.dead().is_empty());
    sandbox.shutdown("spindown").await;
}
