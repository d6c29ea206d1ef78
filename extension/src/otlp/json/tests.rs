//! OTLP/JSON against `opentelemetry-proto`, which writes and reads it with serde and prost.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
    number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status,
    span::{Event, Link},
};
use proptest::prelude::*;
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

// The messages below are written out without `..Default::default()`:
// a field that a later version of OTLP adds stops the compiler here, and then belongs into the schema.

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, of: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value(of)),
        key_strindex: 0,
    }
}

fn attributes() -> Vec<KeyValue> {
    vec![
        pair("s", Value::StringValue("a \"ü\" \u{1f600}\n".into())),
        pair("empty", Value::StringValue(String::new())),
        pair("t", Value::BoolValue(true)),
        pair("f", Value::BoolValue(false)),
        pair("i", Value::IntValue(i64::MIN)),
        pair("zero", Value::IntValue(0)),
        pair("d", Value::DoubleValue(-2.5)),
        pair("b", Value::BytesValue(vec![0, 255, 254, 1, 2])),
        pair(
            "a",
            Value::ArrayValue(ArrayValue {
                values: vec![
                    value(Value::IntValue(1)),
                    value(Value::StringValue("x".into())),
                ],
            }),
        ),
        pair(
            "m",
            Value::KvlistValue(KeyValueList {
                values: vec![pair("k", Value::IntValue(7))],
            }),
        ),
    ]
}

fn resource() -> Option<Resource> {
    let entity = EntityRef {
        schema_url: "https://e".into(),
        r#type: "service".into(),
        id_keys: vec!["service.name".into()],
        description_keys: vec!["a".into(), "b".into()],
    };
    Some(Resource {
        attributes: attributes(),
        dropped_attributes_count: 1,
        entity_refs: vec![entity],
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "scope".into(),
        version: "1".into(),
        attributes: attributes(),
        dropped_attributes_count: 2,
    })
}

fn traces() -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: (1..=16).collect(),
        span_id: (241..=248).collect(),
        trace_state: "a=b".into(),
        parent_span_id: (3..=10).collect(),
        flags: 0x301,
        name: "span".into(),
        kind: 5,
        start_time_unix_nano: u64::MAX,
        end_time_unix_nano: 1_700_000_000_000_000_001,
        attributes: attributes(),
        dropped_attributes_count: 3,
        events: vec![Event {
            time_unix_nano: 5,
            name: "event".into(),
            attributes: attributes(),
            dropped_attributes_count: 4,
        }],
        dropped_events_count: 5,
        links: vec![Link {
            trace_id: (2..=17).collect(),
            span_id: (4..=11).collect(),
            trace_state: "c=d".into(),
            attributes: attributes(),
            dropped_attributes_count: 6,
            flags: 0x100,
        }],
        dropped_links_count: 7,
        status: Some(Status {
            message: "bad".into(),
            code: 2,
        }),
    };
    let scope_spans = ScopeSpans {
        scope: scope(),
        spans: vec![span.clone(), span],
        schema_url: "u".into(),
    };
    let one = ResourceSpans {
        resource: resource(),
        scope_spans: vec![scope_spans],
        schema_url: "v".into(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![one.clone(), one],
    }
}

fn logs() -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 17,
        severity_text: "ERROR".into(),
        body: Some(value(Value::StringValue("body".into()))),
        attributes: attributes(),
        dropped_attributes_count: 3,
        flags: 1,
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        event_name: "event".into(),
    };
    let scope_logs = ScopeLogs {
        scope: scope(),
        log_records: vec![record],
        schema_url: "u".into(),
    };
    let one = ResourceLogs {
        resource: resource(),
        scope_logs: vec![scope_logs],
        schema_url: "v".into(),
    };
    ExportLogsServiceRequest {
        resource_logs: vec![one],
    }
}

fn exemplar(value: exemplar::Value) -> Exemplar {
    Exemplar {
        filtered_attributes: attributes(),
        time_unix_nano: 9,
        span_id: (1..=8).collect(),
        trace_id: (1..=16).collect(),
        value: Some(value),
    }
}

fn number(value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        exemplars: vec![
            exemplar(exemplar::Value::AsDouble(0.0)),
            exemplar(exemplar::Value::AsInt(-4)),
        ],
        flags: 1,
        value: Some(value),
    }
}

fn metrics() -> ExportMetricsServiceRequest {
    let histogram = HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 6,
        sum: Some(0.0),
        bucket_counts: vec![1, 2, u64::MAX],
        explicit_bounds: vec![-0.5, 10.0],
        exemplars: vec![exemplar(exemplar::Value::AsDouble(1.5))],
        flags: 1,
        min: Some(-1.0),
        max: Some(9.5),
    };
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 7,
        sum: Some(3.25),
        scale: -3,
        zero_count: 2,
        positive: Some(Buckets {
            offset: -1,
            bucket_counts: vec![0, 300, 1],
        }),
        negative: Some(Buckets {
            offset: i32::MAX,
            bucket_counts: vec![],
        }),
        flags: 1,
        exemplars: vec![exemplar(exemplar::Value::AsInt(5))],
        min: Some(0.0),
        max: Some(4.0),
        zero_threshold: 0.25,
    };
    let summary = SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: 4.5,
        quantile_values: vec![ValueAtQuantile {
            quantile: 0.99,
            value: 1.25,
        }],
        flags: 1,
    };
    let kinds = [
        Data::Gauge(Gauge {
            data_points: vec![
                number(number_data_point::Value::AsDouble(0.5)),
                number(number_data_point::Value::AsInt(i64::MAX)),
            ],
        }),
        Data::Sum(Sum {
            data_points: vec![number(number_data_point::Value::AsInt(-1))],
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(Histogram {
            data_points: vec![histogram],
            aggregation_temporality: 1,
        }),
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: 1,
        }),
        Data::Summary(Summary {
            data_points: vec![summary],
        }),
    ];
    let metrics = kinds.map(|data| Metric {
        name: "metric".into(),
        description: "what".into(),
        unit: "ms".into(),
        metadata: attributes(),
        data: Some(data),
    });
    let scope_metrics = ScopeMetrics {
        scope: scope(),
        metrics: metrics.to_vec(),
        schema_url: "u".into(),
    };
    let one = ResourceMetrics {
        resource: resource(),
        scope_metrics: vec![scope_metrics],
        schema_url: "v".into(),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![one],
    }
}

fn ours<M: prost::Message + Default>(signal: Signal, json: &str) -> M {
    let protobuf = json_to_protobuf(signal, json.as_bytes()).unwrap();
    M::decode(protobuf.as_slice()).unwrap()
}

fn there_and_back<M>(signal: Signal, message: &M)
where
    M: prost::Message + Default + PartialEq + fmt::Debug + Serialize,
{
    let json = serde_json::to_string(message).unwrap();
    assert_eq!(&ours::<M>(signal, &json), message, "{json}");
    let counted = super::super::count(signal, &message.encode_to_vec());
    assert_eq!(
        super::super::count(signal, &json_to_protobuf(signal, json.as_bytes()).unwrap()),
        counted
    );
}

#[test]
fn what_opentelemetry_proto_writes_is_read() {
    there_and_back(Signal::Traces, &traces());
    there_and_back(Signal::Metrics, &metrics());
    there_and_back(Signal::Logs, &logs());
}

fn both_read<M>(signal: Signal, json: &str)
where
    M: prost::Message + Default + PartialEq + fmt::Debug + DeserializeOwned,
{
    let theirs: M = serde_json::from_str(json).unwrap();
    assert_eq!(ours::<M>(signal, json), theirs, "{json}");
}

// The forms that SDKs send: numbers of 64 bits as strings (protobuf libraries) and as numbers (Node).
#[test]
fn what_sdks_write_is_read_as_opentelemetry_proto_reads_it() {
    both_read::<ExportTraceServiceRequest>(
        Signal::Traces,
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}],
        "droppedAttributesCount":0},"scopeSpans":[{"scope":{"name":"n","version":""},"spans":[{
        "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"",
        "name":"a","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000",
        "attributes":[{"key":"k","value":{"intValue":"123"}}],"droppedAttributesCount":0,"events":[],
        "droppedEventsCount":0,"status":{"code":0},"links":[],"droppedLinksCount":0,"flags":257}]}]}]}"#,
    );
    both_read::<ExportLogsServiceRequest>(
        Signal::Logs,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1544712660300000000",
        "observedTimeUnixNano":"1544712660300000000","severityNumber":10,"severityText":"Information",
        "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
        "body":{"stringValue":"e"},"attributes":[{"key":"m","value":{"kvlistValue":{"values":[
        {"key":"some.key","value":{"stringValue":"v"}}]}}}]}]}]}]}"#,
    );
    both_read::<ExportMetricsServiceRequest>(
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"c","unit":"1","sum":{
        "aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"asDouble":5,
        "startTimeUnixNano":"1544712660300000000","timeUnixNano":"1544712660300000000"}]}},
        {"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"2","sum":2,
        "bucketCounts":["1","1"],"explicitBounds":[1],"min":0,"max":2}]}}]}]}]}"#,
    );
}

/// The one span of a request whose span is `json`.
fn span(json: &str) -> Result<Span, JsonError> {
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{json}]}}]}}]}}"#);
    let protobuf = json_to_protobuf(Signal::Traces, json.as_bytes())?;
    let mut request = ExportTraceServiceRequest::decode(protobuf.as_slice()).unwrap();
    Ok(request
        .resource_spans
        .remove(0)
        .scope_spans
        .remove(0)
        .spans
        .remove(0))
}

#[test]
fn lenient_forms() {
    let table: Vec<(&str, Span)> = vec![
        ("{}", Span::default()),
        // OTLP, "JSON Protobuf Encoding": unknown fields are ignored, original names are no names.
        (
            r#"{"x":[{"y":"\ud800"}],"span_id":"zz","":null}"#,
            Span::default(),
        ),
        (
            r#"{"name":null,"kind":null,"events":null,"status":null,"traceId":null}"#,
            Span::default(),
        ),
        (
            r#"{"kind":"SPAN_KIND_CONSUMER"}"#,
            Span {
                kind: 5,
                ..Span::default()
            },
        ),
        (
            r#"{"kind":3.0}"#,
            Span {
                kind: 3,
                ..Span::default()
            },
        ),
        (
            r#"{"startTimeUnixNano":1.7e18}"#,
            Span {
                start_time_unix_nano: 1_700_000_000_000_000_000,
                ..Span::default()
            },
        ),
        (
            r#"{"startTimeUnixNano":18446744073709551615}"#,
            Span {
                start_time_unix_nano: u64::MAX,
                ..Span::default()
            },
        ),
        (
            r#"{"name":"a\ud83d"}"#,
            Span {
                name: "a\u{fffd}\u{fffd}\u{fffd}".into(),
                ..Span::default()
            },
        ),
        (
            r#"{"name":"a","name":"b"}"#,
            Span {
                name: "b".into(),
                ..Span::default()
            },
        ),
        (
            r#"{"status":{"code":"STATUS_CODE_ERROR"}}"#,
            Span {
                status: Some(Status {
                    code: 2,
                    ..Default::default()
                }),
                ..Span::default()
            },
        ),
        (
            r#"{"attributes":[{"key":"k","value":{"arrayValue":{"values":[null,{"intValue":1}]}}}]}"#,
            Span {
                attributes: vec![pair(
                    "k",
                    Value::ArrayValue(ArrayValue {
                        values: vec![AnyValue::default(), value(Value::IntValue(1))],
                    }),
                )],
                ..Span::default()
            },
        ),
        (
            r#"{"attributes":[{"key":"k","value":{"bytesValue":"-_8"}}]}"#,
            Span {
                attributes: vec![pair("k", Value::BytesValue(vec![0xfb, 0xff]))],
                ..Span::default()
            },
        ),
        (
            r#"{"attributes":[{"key":"k","value":{"doubleValue":"-Infinity"}}]}"#,
            Span {
                attributes: vec![pair("k", Value::DoubleValue(f64::NEG_INFINITY))],
                ..Span::default()
            },
        ),
    ];
    for (json, expected) in table {
        assert_eq!(span(json), Ok(expected), "{json}");
    }
}

#[test]
fn what_is_no_otlp_is_refused_with_a_reason() {
    let table = [
        (r#"{"traceId":"0102"}"#, "traceId"),
        (
            r#"{"traceId":"5b8efff798038103d269b633813fc60g"}"#,
            "traceId",
        ),
        (r#"{"spanId":"ü15b8efff79803810"}"#, "spanId"),
        (r#"{"spanId":7}"#, "spanId"),
        (r#"{"name":7}"#, "name"),
        (r#"{"name":["a"]}"#, "name"),
        (r#"{"name":{}}"#, "name"),
        (r#"{"kind":"CONSUMER"}"#, "kind"),
        (r#"{"kind":true}"#, "kind"),
        (r#"{"kind":1.5}"#, "kind"),
        (r#"{"startTimeUnixNano":-1}"#, "startTimeUnixNano"),
        (r#"{"startTimeUnixNano":"1.5"}"#, "startTimeUnixNano"),
        (
            r#"{"startTimeUnixNano":18446744073709551616}"#,
            "startTimeUnixNano",
        ),
        (r#"{"droppedEventsCount":4294967296}"#, "droppedEventsCount"),
        (r#"{"attributes":{"key":"k"}}"#, "attributes"),
        (r#"{"attributes":[7]}"#, "attributes"),
        (r#"{"attributes":[[]]}"#, "attributes"),
        (
            r#"{"attributes":[{"value":{"boolValue":"true"}}]}"#,
            "boolValue",
        ),
        (
            r#"{"attributes":[{"value":{"bytesValue":"a"}}]}"#,
            "bytesValue",
        ),
        (
            r#"{"attributes":[{"value":{"bytesValue":"a*b="}}]}"#,
            "bytesValue",
        ),
        (
            r#"{"attributes":[{"value":{"doubleValue":"inf"}}]}"#,
            "doubleValue",
        ),
        (r#"{"name":"a""#, "line 1"),
    ];
    for (json, named) in table {
        let error = span(json).expect_err(json).to_string();
        assert!(error.contains(named), "{json}: {error}");
    }
    for json in [
        "",
        "[]",
        "null",
        "7",
        "{} {}",
        "{\"resourceSpans\":[]",
        "\u{0a}\u{02}",
    ] {
        assert!(
            json_to_protobuf(Signal::Traces, json.as_bytes()).is_err(),
            "{json}"
        );
    }
    let bounds = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[
        {"explicitBounds":1}]}}]}]}]}"#;
    assert!(json_to_protobuf(Signal::Metrics, bounds.as_bytes()).is_err());
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let mut json = r#"{"values":[{"arrayValue":"#.repeat(10_000);
    json.insert_str(
        0,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"arrayValue":"#,
    );
    let error = json_to_protobuf(Signal::Logs, json.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("recursion"), "{error}");
}

proptest! {
    #[test]
    fn damaged_json_never_panics(
        signal in prop::sample::select(Signal::ALL.as_slice()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut json = match signal {
            Signal::Traces => serde_json::to_vec(&traces()),
            Signal::Metrics => serde_json::to_vec(&metrics()),
            Signal::Logs => serde_json::to_vec(&logs()),
        }
        .unwrap();
        for (at, byte) in damage {
            let at = at.index(json.len());
            json[at] = byte;
        }
        if let Ok(protobuf) = json_to_protobuf(signal, &json) {
            prop_assert!(super::super::count(signal, &protobuf).is_ok());
        }
    }

    #[test]
    fn whole_numbers_survive(number in any::<i64>(), as_text in any::<bool>()) {
        let quote = if as_text { "\"" } else { "" };
        let json = format!(r#"{{"attributes":[{{"key":"k","value":{{"intValue":{quote}{number}{quote}}}}}]}}"#);
        prop_assert_eq!(span(&json).unwrap().attributes, vec![pair("k", Value::IntValue(number))]);
    }
}
