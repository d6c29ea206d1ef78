//! What is counted and measured.

use std::collections::BTreeMap;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use serde_json::json;

use super::fake::*;

/// `name{attributes}` → count; for histograms the count of what was recorded.
struct Counted {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

impl Counted {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        Self {
            provider: SdkMeterProvider::builder().with_reader(reader).build(),
            exporter,
        }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.provider.force_flush().unwrap();
        let mut counts = BTreeMap::new();
        let collected = self.exporter.get_finished_metrics().unwrap();
        for metric in collected
            .iter()
            .flat_map(|r| r.scope_metrics())
            .flat_map(|s| s.metrics())
        {
            let mut add = |attributes: &mut dyn Iterator<Item = &opentelemetry::KeyValue>,
                           count| {
                let known = [
                    "messaging.system",
                    "messaging.destination.name",
                    "server.address",
                    "server.port",
                ];
                let mut rest = Vec::new();
                let mut named = 0;
                for attribute in attributes {
                    if known.contains(&attribute.key.as_str()) {
                        named += 1;
                        if attribute.value.as_str() == "aws.sns" {
                            rest.push("sns".to_owned());
                        }
                    } else {
                        rest.push(attribute.value.as_str().into_owned());
                    }
                }
                assert_eq!(
                    named,
                    if metric.name().ends_with("duration") {
                        4
                    } else {
                        2
                    },
                    "{}",
                    metric.name()
                );
                rest.sort();
                counts.insert(format!("{} {}", metric.name(), rest.join(" ")), count);
            };
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    assert!(sum.is_monotonic());
                    sum.data_points()
                        .for_each(|point| add(&mut point.attributes(), point.value()));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    assert_eq!(metric.unit(), "s");
                    histogram
                        .data_points()
                        .for_each(|point| add(&mut point.attributes(), point.count()));
                }
                other => panic!("{} is {other:?}", metric.name()),
            }
        }
        counts
    }
}

fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

const DURATION: &str = "messaging.client.operation.duration";
const SENT: &str = "messaging.client.sent.messages";
const CONSUMED: &str = "messaging.client.consumed.messages";

#[tokio::test]
async fn each_entry_counts_as_it_ended_and_each_call_once() {
    let counted = Counted::new();
    let partly = json!({
        "Successful": [{ "Id": "a", "MessageId": "m-a", "MD5OfMessageBody": "x" }],
        "Failed": [
            { "Id": "b", "Code": "InternalError", "SenderFault": false },
            { "Id": "c", "Code": "InvalidMessageContents", "SenderFault": true },
        ],
    });
    let answers = [
        Answer::Ok(partly),
        Answer::Ok(json!({ "MessageId": "m", "MD5OfMessageBody": "x" })),
        Answer::Error(400, "OverLimit"),
    ];
    let bench = Bench::new(Fake::answering(answers), |interceptor| {
        interceptor.with_meter_provider(&counted.provider)
    });
    let entry = |id: &str| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body("x")
            .build()
            .unwrap()
    };
    let batch = bench.client.send_message_batch().queue_url(QUEUE);
    batch
        .entries(entry("a"))
        .entries(entry("b"))
        .entries(entry("c"))
        .send()
        .await
        .unwrap();
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap();
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap_err();
    let counts = [
        (format!("{DURATION} _OTHER send send"), 1),
        (format!("{DURATION} send send"), 1),
        (format!("{DURATION} OverLimit send send"), 1),
        (format!("{SENT} send"), 2),
        (format!("{SENT} InternalError send"), 1),
        (format!("{SENT} InvalidMessageContents send"), 1),
        (format!("{SENT} OverLimit send"), 1),
    ];
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counted.counts(), expected(&counts));
}

#[tokio::test]
async fn receiving_counts_messages_and_settling_is_measured_without_its_span() {
    let counted = Counted::new();
    let answers = [
        Answer::Ok(
            json!({ "Messages": [{ "MessageId": "1", "Body": "x" }, { "MessageId": "2", "Body": "x" }] }),
        ),
        Answer::Ok(json!({})),
        Answer::Ok(json!({})),
    ];
    let bench = Bench::new(Fake::answering(answers), |interceptor| {
        interceptor.with_meter_provider(&counted.provider)
    });
    bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .await
        .unwrap();
    bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .await
        .unwrap();
    bench
        .client
        .delete_message()
        .queue_url(QUEUE)
        .receipt_handle("r")
        .send()
        .await
        .unwrap();
    let counts = [
        (format!("{DURATION} delete settle"), 1),
        (format!("{DURATION} receive receive"), 2),
        (format!("{CONSUMED} receive"), 2),
    ];
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counted.counts(), expected(&counts));
    assert_eq!(bench.spans().len(), 1);
}

#[cfg(feature = "sns")]
#[tokio::test]
async fn publishing_is_counted_alike() {
    use aws_sdk_sns::types::PublishBatchRequestEntry;
    let counted = Counted::new();
    let partly = json!({
        "Successful": [{ "Id": "a", "MessageId": "m-a" }],
        "Failed": [{ "Id": "b", "Code": "InternalError", "SenderFault": false }],
    });
    let answers = [
        Answer::Ok(partly),
        Answer::Ok(json!({ "MessageId": "m" })),
        Answer::Error(404, "NotFound"),
    ];
    let bench = Bench::new(Fake::answering(answers), |interceptor| {
        interceptor.with_meter_provider(&counted.provider)
    });
    let topic = "arn:aws:sns:eu-west-1:123456789012:placed";
    let mut batch = bench.topics.publish_batch().topic_arn(topic);
    for id in ["a", "b"] {
        let entry = PublishBatchRequestEntry::builder().id(id).message("x");
        batch = batch.publish_batch_request_entries(entry.build().unwrap());
    }
    batch.send().await.unwrap();
    let publish = || bench.topics.publish().topic_arn(topic).message("x").send();
    publish().await.unwrap();
    publish().await.unwrap_err();
    let counts = [
        (format!("{DURATION} InternalError send send sns"), 1),
        (format!("{DURATION} send send sns"), 1),
        (format!("{DURATION} NotFound send send sns"), 1),
        (format!("{SENT} send sns"), 2),
        (format!("{SENT} InternalError send sns"), 1),
        (format!("{SENT} NotFound send sns"), 1),
    ];
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counted.counts(), expected(&counts));
}
