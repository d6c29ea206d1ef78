//! Decoding, for ourselves, with `opentelemetry-proto`.

use crate::clock::Moment;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::metric::Data,
    trace::v1::Span,
};
use prost::Message;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A signal of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// `traces`, `metrics`, `logs`.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    /// By the path's last part, whatever stands before it.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        [Signal::Traces, Signal::Metrics, Signal::Logs]
            .into_iter()
            .find(|signal| {
                path.split('?')
                    .next()
                    .is_some_and(|path| path.ends_with(&format!("/v1/{}", signal.as_str())))
            })
    }
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Text.
    Text(String),
    /// Truth.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Number.
    Double(f64),
    /// List.
    List(Vec<Value>),
    /// Map.
    Map(Attributes),
    /// Bytes.
    Bytes(Vec<u8>),
    /// No value at all.
    Empty,
}

impl Value {
    /// The text, `None` for what is not text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, `None` for what is not one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == Some(other)
    }
}

/// Attributes by name; the last one wins where a name comes twice.
pub type Attributes = BTreeMap<String, Value>;

/// An event of a span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpanEvent {
    /// Name.
    pub name: String,
    /// When.
    pub time: SystemTime,
    /// Attributes.
    pub attributes: Attributes,
}

/// A link of a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpanLink {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// `tracestate`.
    pub trace_state: String,
}

/// A span as the sink decoded it.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits, empty for a root.
    pub parent_span_id: String,
    /// `tracestate`.
    pub trace_state: String,
    /// Name.
    pub name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `UNSPECIFIED`.
    pub kind: &'static str,
    /// Start.
    pub start: SystemTime,
    /// End.
    pub end: SystemTime,
    /// `UNSET`, `OK` or `ERROR`.
    pub status: &'static str,
    /// Text of the status.
    pub status_message: String,
    /// Bits 0 to 7 are the trace flags, 8 and 9 say whether the parent is remote.
    pub flags: u32,
    /// Attributes.
    pub attributes: Attributes,
    /// Events.
    pub events: Vec<SpanEvent>,
    /// Links.
    pub links: Vec<SpanLink>,
    /// Attributes of the resource.
    pub resource: Attributes,
    /// Name of the instrumentation scope.
    pub scope: String,
    /// Number of the request that brought it.
    pub request: usize,
    /// When the request had been read.
    pub arrived: Moment,
    /// When the answer had been written, `None` when it was not.
    pub acknowledged: Option<Moment>,
}

/// What was in a request.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) spans: Vec<ReceivedSpan>,
    pub(super) items: usize,
}

/// Decodes a body.
pub(super) fn decode(signal: Signal, body: &[u8]) -> Result<Decoded, prost::DecodeError> {
    Ok(match signal {
        Signal::Traces => traces(ExportTraceServiceRequest::decode(body)?),
        Signal::Metrics => Decoded {
            items: data_points(&ExportMetricsServiceRequest::decode(body)?),
            ..Decoded::default()
        },
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(body)?;
            let scopes = request
                .resource_logs
                .iter()
                .flat_map(|resource| &resource.scope_logs);
            Decoded {
                items: scopes.map(|scope| scope.log_records.len()).sum(),
                ..Decoded::default()
            }
        }
    })
}

/// The export response of a signal, with a partial success when something is to be said.
pub(super) fn response(signal: Signal, rejected: usize, message: &str) -> Vec<u8> {
    let (count, error_message) = (
        i64::try_from(rejected).unwrap_or(i64::MAX),
        message.to_owned(),
    );
    let partial = rejected > 0 || !message.is_empty();
    match signal {
        Signal::Traces => ExportTraceServiceResponse {
            partial_success: partial.then_some(ExportTracePartialSuccess {
                rejected_spans: count,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceResponse {
            partial_success: partial.then_some(ExportMetricsPartialSuccess {
                rejected_data_points: count,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Logs => ExportLogsServiceResponse {
            partial_success: partial.then_some(ExportLogsPartialSuccess {
                rejected_log_records: count,
                error_message,
            }),
        }
        .encode_to_vec(),
    }
}

fn traces(request: ExportTraceServiceRequest) -> Decoded {
    let mut spans = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = attributes(
            resource_spans
                .resource
                .map(|r| r.attributes)
                .unwrap_or_default(),
        );
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans
                .scope
                .map(|scope| scope.name)
                .unwrap_or_default();
            spans.extend(
                scope_spans
                    .spans
                    .into_iter()
                    .map(|span| received(span, &resource, &scope)),
            );
        }
    }
    Decoded {
        items: spans.len(),
        spans,
    }
}

fn received(span: Span, resource: &Attributes, scope: &str) -> ReceivedSpan {
    let status = span.status.unwrap_or_default();
    let events = span.events.into_iter().map(|event| SpanEvent {
        name: event.name,
        time: time(event.time_unix_nano),
        attributes: attributes(event.attributes),
    });
    let links = span.links.into_iter().map(|link| SpanLink {
        trace_id: crate::ids::hex(&link.trace_id),
        span_id: crate::ids::hex(&link.span_id),
        trace_state: link.trace_state,
    });
    ReceivedSpan {
        trace_id: crate::ids::hex(&span.trace_id),
        span_id: crate::ids::hex(&span.span_id),
        parent_span_id: crate::ids::hex(&span.parent_span_id),
        trace_state: span.trace_state,
        name: span.name,
        kind: [
            "UNSPECIFIED",
            "INTERNAL",
            "SERVER",
            "CLIENT",
            "PRODUCER",
            "CONSUMER",
        ]
        .get(usize::try_from(span.kind).unwrap_or(0))
        .unwrap_or(&"UNSPECIFIED"),
        start: time(span.start_time_unix_nano),
        end: time(span.end_time_unix_nano),
        status: ["UNSET", "OK", "ERROR"]
            .get(usize::try_from(status.code).unwrap_or(0))
            .unwrap_or(&"UNSET"),
        status_message: status.message,
        flags: span.flags,
        attributes: attributes(span.attributes),
        events: events.collect(),
        links: links.collect(),
        resource: resource.clone(),
        scope: scope.to_owned(),
        // Filled in from the request when spans are asked for.
        request: 0,
        arrived: Moment::now(),
        acknowledged: None,
    }
}

fn data_points(request: &ExportMetricsServiceRequest) -> usize {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    metrics
        .map(|metric| match &metric.data {
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => data.data_points.len(),
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
            None => 0,
        })
        .sum()
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs
        .into_iter()
        .map(|pair| (pair.key, pair.value.map_or(Value::Empty, value)))
        .collect()
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(text)) => Value::Text(text),
        Some(any_value::Value::BoolValue(truth)) => Value::Bool(truth),
        Some(any_value::Value::IntValue(number)) => Value::Int(number),
        Some(any_value::Value::DoubleValue(number)) => Value::Double(number),
        Some(any_value::Value::ArrayValue(list)) => {
            Value::List(list.values.into_iter().map(value).collect())
        }
        Some(any_value::Value::KvlistValue(map)) => Value::Map(attributes(map.values)),
        Some(any_value::Value::BytesValue(bytes)) => Value::Bytes(bytes),
        _ => Value::Empty,
    }
}

fn time(unix_nano: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nano)
}
