//! Metrics of a consumer, as an OTLP endpoint gets them.
#![allow(clippy::unwrap_used)] // a test
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lambda_emulator::{OtlpSink, Signal, SinkAnswer};
use lambda_runtime::{Context, LambdaEvent};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, metric::Data, number_data_point::Value,
};
use prost::Message;
use serde_json::{Value as Json, json};
use throughline::{Batch, SqsMessage, Telemetry, traced_sqs_handler};
use tower::Service;

/// A counter's or a histogram's count by its attributes, `name{attributes}`, of one export request.
fn counts(request: &ExportMetricsServiceRequest) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let cumulative = AggregationTemporality::Cumulative as i32;
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => {
                assert_eq!(
                    (sum.aggregation_temporality, sum.is_monotonic),
                    (cumulative, true)
                );
                assert_eq!(metric.unit, "{message}");
                for point in &sum.data_points {
                    let Some(Value::AsInt(count)) = point.value else {
                        panic!("{point:?}")
                    };
                    counts.insert(
                        key(&metric.name, &point.attributes),
                        count.try_into().unwrap(),
                    );
                }
            }
            Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, cumulative);
                assert_eq!(metric.unit, "s");
                for point in &histogram.data_points {
                    assert_eq!(point.explicit_bounds[..3], [0.005, 0.01, 0.025]);
                    assert_eq!(point.explicit_bounds.len(), 14);
                    counts.insert(key(&metric.name, &point.attributes), point.count);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    counts
}

fn key(name: &str, attributes: &[KeyValue]) -> String {
    let mut pairs: Vec<String> = attributes
        .iter()
        .map(|attribute| {
            let Some(Any::StringValue(text)) = &attribute.value.as_ref().unwrap().value else {
                panic!("{attribute:?}")
            };
            format!("{}={text}", attribute.key)
        })
        .collect();
    pairs.sort();
    format!("{name}{{{}}}", pairs.join(","))
}

fn requests(sink: &OtlpSink) -> Vec<ExportMetricsServiceRequest> {
    let requests = sink
        .requests()
        .into_iter()
        .filter(|r| r.signal == Some(Signal::Metrics));
    let taken = requests.filter(|request| request.taken);
    taken
        .map(|request| ExportMetricsServiceRequest::decode(request.body).unwrap())
        .collect()
}

/// A record whose producer did not sample its trace.
fn unsampled(id: &str, queue: &str, body: &str) -> Json {
    json!({
        "messageId": id,
        "body": body,
        "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:eu-west-1:123456789012:{queue}"),
        "messageAttributes": {"traceparent": {
            "dataType": "String",
            "stringValue": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        }},
    })
}

/// Processes a batch; as nothing drives the handler, it flushes before it answers.
async fn invoke(telemetry: &Telemetry, records: &[Json]) {
    let batch: Batch = serde_json::from_value(json!({"Records": records})).unwrap();
    let mut handler = traced_sqs_handler(|message: SqsMessage| async move {
        if message.body.as_deref() == Some("bad") {
            Err(std::fmt::Error)
        } else {
            Ok(())
        }
    })
    .partial_batch()
    .telemetry(telemetry);
    handler
        .call(LambdaEvent::new(batch, Context::default()))
        .await
        .unwrap();
}

/// The requests, when the last one counts what is expected.
///
/// On a loaded machine the flush before an answer may be cut off; then later ones bring the rest.
async fn settled(
    telemetry: &Telemetry,
    sink: &OtlpSink,
    expected: &BTreeMap<String, u64>,
) -> Vec<ExportMetricsServiceRequest> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let requests = requests(sink);
        let last = requests.last().map(counts);
        if last.as_ref() == Some(expected) {
            return requests;
        }
        assert!(Instant::now() < patience, "{last:?}");
        telemetry.flush().await;
        // After a flush that was cut off nothing is sent for a second.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const CONSUMED: &str = "messaging.client.consumed.messages";
const DURATION: &str = "messaging.process.duration";

fn of(metric: &str, queue: &str, more: &str) -> String {
    let name = "messaging.operation.name=process,messaging.system=aws_sqs";
    format!("{metric}{{{more}messaging.destination.name={queue},{name}}}")
}

#[tokio::test]
async fn deliveries_and_durations_of_records_that_nobody_sampled() {
    let sink = OtlpSink::start().await.unwrap();
    let telemetry = Telemetry::to_endpoint(&sink.url()).unwrap();
    let batch = [
        unsampled("a", "orders", ""),
        unsampled("b", "orders", "bad"),
        unsampled("c", "returns", ""),
    ];
    invoke(&telemetry, &batch).await;
    invoke(&telemetry, &batch[..1]).await;

    let failed = "error.type=core::fmt::Error,";
    let expected = |orders, succeeded| {
        BTreeMap::from([
            (of(CONSUMED, "orders", ""), orders),
            (of(CONSUMED, "returns", ""), 1),
            (of(DURATION, "orders", ""), succeeded),
            (of(DURATION, "orders", failed), 1),
            (of(DURATION, "returns", ""), 1),
        ])
    };
    // Cumulative.
    let requests = settled(&telemetry, &sink, &expected(3, 2)).await;
    assert_eq!(counts(&requests[0]), expected(2, 1));
    assert!(sink.spans().is_empty(), "no span was sampled");
    let scope = requests[0].resource_metrics[0].scope_metrics[0]
        .scope
        .as_ref()
        .unwrap();
    assert_eq!(scope.name, "throughline");
}

#[tokio::test]
async fn what_was_not_taken_is_in_what_comes_next() {
    let sink = OtlpSink::start().await.unwrap();
    let telemetry = Telemetry::to_endpoint(&sink.url()).unwrap();
    sink.set_default(SinkAnswer::status(503));
    let batch = [unsampled("a", "orders", "")];
    invoke(&telemetry, &batch).await;
    invoke(&telemetry, &batch).await;
    assert!(requests(&sink).is_empty());
    sink.set_default(SinkAnswer::Ok);
    let expected = BTreeMap::from([
        (of(CONSUMED, "orders", ""), 2),
        (of(DURATION, "orders", ""), 2),
    ]);
    settled(&telemetry, &sink, &expected).await;
}
