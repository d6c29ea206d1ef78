//! Nothing is emitted that `docs/telemetry/emitted.txt` does not name, nothing is named there that is not emitted,
//! and our own names are those of our registry.
#![allow(clippy::unwrap_used)] // a test
#![cfg(all(feature = "metrics", feature = "producer"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, Region};
use aws_sdk_sqs::types::{MessageSystemAttributeName, SendMessageBatchRequestEntry as Entry};
use lambda_emulator::{QueueSpec, SqsServer};
use lambda_runtime::{Context, LambdaEvent};
use opentelemetry::{Array, KeyValue, Value, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde_json::json;
use throughline::parent::Relation;
use throughline::poller::Poller;
use throughline::producer::Interceptor;
use throughline::{Batch, BatchSpan, SqsMessage, Telemetry, traced_sqs_handler};
use tower::Service;

/// Where, name and type.
type Emitted = BTreeSet<(String, String, &'static str)>;

/// The message attribute that is asked for as a span attribute.
const HEADER: &str = "priority";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(docs().join(name)).unwrap()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::I64(_) => "int",
        Value::F64(_) => "double",
        Value::String(_) => "string",
        Value::Array(Array::String(_)) => "string[]",
        other => panic!("{other:?}"),
    }
}

fn note<'a>(
    emitted: &mut Emitted,
    place: &str,
    attributes: impl IntoIterator<Item = &'a KeyValue>,
) {
    for KeyValue { key, value, .. } in attributes {
        let name = key.as_str().replace(
            &format!("messaging.message.header.{HEADER}"),
            "messaging.message.header.<key>",
        );
        emitted.insert((place.to_owned(), name, type_of(value)));
    }
}

/// Every SQS event among the fixtures, and records with everything that SQS can say.
fn batches() -> Vec<Batch> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/events");
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let events = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    // What is not an SQS event is refused, which is tested elsewhere.
    let read = |path: PathBuf| serde_json::from_slice::<Batch>(&std::fs::read(path).unwrap()).ok();
    let mut batches: Vec<Batch> = events.filter_map(read).collect();
    assert!(batches.len() >= 10, "{}", batches.len());
    let record = |queue: &str| {
        json!({
            "messageId": "m-1",
            "body": "fail",
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:eu-west-1:123456789012:{queue}"),
            "receiptHandle": "secret",
            "attributes": {
                "ApproximateReceiveCount": "2",
                "SentTimestamp": "1700000000000",
                "SenderId": "someone@example.com",
                "MessageGroupId": "tenant",
                "DeadLetterQueueSourceArn": "arn:aws:sqs:eu-west-1:123456789012:orders",
            },
            "messageAttributes": {
                (HEADER): {"dataType": "String", "stringValue": "high"},
                "traceparent": {
                    "dataType": "String",
                    "stringValue": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                },
                "baggage": {"dataType": "String", "stringValue": "user=someone"},
            },
        })
    };
    for queues in [&["dead"][..], &["dead", "orders.fifo"]] {
        let records: Vec<_> = queues.iter().map(|queue| record(queue)).collect();
        batches.push(serde_json::from_value(json!({"Records": records})).unwrap());
    }
    batches
}

/// Runs the handler with all its options over all batches.
async fn handle(telemetry: &Telemetry) {
    let process = |message: SqsMessage| async move {
        if message.body.as_deref() == Some("fail") {
            Err(std::fmt::Error)
        } else {
            Ok(())
        }
    };
    for relation in [Relation::Parent, Relation::Link] {
        let mut handler = traced_sqs_handler(process)
            .relation(relation)
            .batch_span(BatchSpan::Always)
            .fifo_attribute()
            .message_sizes()
            .header_attributes([HEADER])
            .error_message()
            .telemetry(telemetry);
        for batch in batches() {
            let _ = handler
                .call(LambdaEvent::new(batch, Context::default()))
                .await;
        }
    }
}

/// Sends, receives and deletes, each once well and once not, with the messages processed by a worker in between.
async fn send_and_poll(provider: &SdkTracerProvider) {
    let sqs = SqsServer::start().await.unwrap();
    sqs.create_queue(QueueSpec::new("dead"));
    // Received once, and then moved.
    let orders = sqs.create_queue(
        QueueSpec::new("orders")
            .visibility_timeout(Duration::ZERO)
            .redrive("dead", 1),
    );
    let interceptor = Interceptor::new()
        .with_tracer_provider(provider)
        .settle_spans(true);
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version_latest()
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("a", "b", None, None, "test"))
        .endpoint_url(sqs.endpoint_url())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .interceptor(interceptor);
    let client = Client::from_conf(config.build());
    let missing = orders.replace("orders", "missing");
    for queue in [&orders, &missing] {
        let entry = |id: &str| Entry::builder().id(id).message_body("x").build().unwrap();
        let _ = client
            .send_message()
            .queue_url(queue)
            .message_body("x")
            .send()
            .await;
        let _ = client
            .send_message_batch()
            .queue_url(queue)
            .entries(entry("a"))
            .entries(entry("b"))
            .send()
            .await;
        let _ = client.receive_message().queue_url(queue).send().await;
        let _ = client
            .delete_message()
            .queue_url(queue)
            .receipt_handle("none")
            .send()
            .await;
    }
    let poller = Poller::new(&orders).with_tracer_provider(provider);
    for queue in ["orders", "dead"] {
        let url = sqs.queue_url(queue);
        let receive = client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10);
        let all = MessageSystemAttributeName::All;
        let received = receive
            .message_system_attribute_names(all)
            .send()
            .await
            .unwrap();
        let messages = received.messages.unwrap_or_default();
        assert!(!messages.is_empty() || queue == "orders", "{queue}");
        for message in poller.trace_messages(messages) {
            let _ = message
                .process(async |_| Err::<(), _>(std::fmt::Error))
                .await;
        }
    }
}

async fn emitted() -> Emitted {
    let spans = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(spans.clone())
        .build();
    let metrics = InMemoryMetricExporter::default();
    let meters = SdkMeterProvider::builder()
        .with_reader(PeriodicReader::builder(metrics.clone()).build())
        .build();
    // With a tracer provider of the user's, metrics go to the user's meter provider.
    global::set_meter_provider(meters.clone());
    handle(&Telemetry::from_provider(provider.clone())).await;
    send_and_poll(&provider).await;

    let mut emitted = Emitted::new();
    for span in spans.get_finished_spans().unwrap() {
        let place = place(&span.attributes);
        note(&mut emitted, place, &span.attributes);
        assert!(span.events.is_empty(), "{:?}", span.events);
        for link in span.links.iter() {
            note(&mut emitted, &format!("{place}-link"), &link.attributes);
        }
    }
    meters.force_flush().unwrap();
    let collected = metrics.get_finished_metrics().unwrap();
    let scopes = collected
        .iter()
        .flat_map(|resource| resource.scope_metrics());
    for metric in scopes.flat_map(|scope| scope.metrics()) {
        note_points(&mut emitted, metric);
    }
    emitted
}

/// Which kind of span has these attributes.
fn place(attributes: &[KeyValue]) -> &'static str {
    let text = |name: &str| {
        attributes
            .iter()
            .find(|a| a.key.as_str() == name)
            .map(|a| a.value.to_string())
    };
    match text("messaging.operation.type").as_deref() {
        Some("process") if text("messaging.batch.message_count").is_some() => "batch",
        Some("process") if text("faas.trigger").is_some() => "record",
        Some("process") => "polled",
        Some("create") => "create",
        Some("send") => "send",
        Some("receive") => "receive",
        Some("settle") => "settle",
        other => panic!("{other:?}"),
    }
}

fn note_points(emitted: &mut Emitted, metric: &Metric) {
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram
                .data_points()
                .for_each(|point| note(emitted, metric.name(), point.attributes()));
        }
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            sum.data_points()
                .for_each(|point| note(emitted, metric.name(), point.attributes()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_emitted_is_what_is_listed() {
    let emitted: BTreeSet<String> = emitted()
        .await
        .into_iter()
        .map(|(place, name, kind)| format!("{place} {name} {kind}"))
        .collect();
    let listed: BTreeSet<String> = read("emitted.txt")
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let missing: Vec<_> = emitted.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "emitted and not in docs/telemetry/emitted.txt: {missing:#?}"
    );
    let stale: Vec<_> = listed.difference(&emitted).collect();
    assert!(
        stale.is_empty(),
        "in docs/telemetry/emitted.txt and not emitted: {stale:#?}"
    );
}

/// The value of the first `key: value` line of that key.
fn value<'a>(lines: &[&'a str], key: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| {
        line.trim()
            .strip_prefix(key)?
            .strip_prefix(": ")
            .map(str::trim)
    })
}

#[test]
fn our_own_names_are_those_of_our_registry() {
    let registry = read("registry/throughline.yaml");
    let definitions = registry
        .split("\n      - id: ")
        .skip(1)
        .filter(|part| part.starts_with("throughline."));
    let mut defined = BTreeSet::new();
    for part in definitions {
        let lines: Vec<&str> = part.lines().collect();
        let name = lines[0].trim();
        // An enumeration has its members where others have the name of a type.
        let kind = value(&lines, "type")
            .filter(|kind| !kind.is_empty())
            .unwrap_or("string");
        defined.insert(format!("{name} {kind}"));
        assert!(value(&lines, "brief").is_some(), "{name}");
    }
    let listed: BTreeSet<String> = read("emitted.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some(format!(
                "{} {}",
                words
                    .next()
                    .filter(|name| name.starts_with("throughline."))?,
                words.next()?
            ))
        })
        .collect();
    assert_eq!(listed, defined);

    // The table of the page is the registry's.
    let page = read("README.md");
    for name in &defined {
        let (name, kind) = name.split_once(' ').unwrap();
        assert!(
            page.contains(&format!("| `{name}` | {kind} |")),
            "{name} is not in the table of docs/telemetry/README.md"
        );
    }
}
