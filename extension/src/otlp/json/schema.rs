//! The messages of opentelemetry-proto 1.9 that an export request is made of, as tables.
//!
//! Names are those of OTLP/JSON (lower camel case), numbers and types those of the `.proto` files.
//! Fields that OTLP marks as deprecated and profiles' own are left out: like every unknown field they are skipped.

/// A message type.
#[derive(Debug)]
pub(super) struct Message(pub(super) &'static [Field]);

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// A field's type, on the wire and in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Message(&'static Message),
    String,
    /// base64 in JSON.
    Bytes,
    /// A trace or span id of so many bytes: hexadecimal in OTLP/JSON, unlike other bytes.
    Id(usize),
    Bool,
    /// Varints; JSON has 64 bits as a number or a string.
    Uint32,
    Int64,
    Uint64,
    /// A varint in zigzag.
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    /// A number; the names, by number, are read as well.
    Enum(&'static [&'static str]),
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: false,
    }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: true,
    }
}

const TRACE_ID: Kind = Kind::Id(16);
const SPAN_ID: Kind = Kind::Id(8);

// === common.proto, resource.proto ===

static ANY_VALUE: Message = Message(&[
    one("stringValue", 1, Kind::String),
    one("boolValue", 2, Kind::Bool),
    one("intValue", 3, Kind::Int64),
    one("doubleValue", 4, Kind::Double),
    one("arrayValue", 5, Kind::Message(&ARRAY_VALUE)),
    one("kvlistValue", 6, Kind::Message(&KEY_VALUE_LIST)),
    one("bytesValue", 7, Kind::Bytes),
]);
static ARRAY_VALUE: Message = Message(&[many("values", 1, Kind::Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = Message(&[many("values", 1, Kind::Message(&KEY_VALUE))]);
static KEY_VALUE: Message = Message(&[
    one("key", 1, Kind::String),
    one("value", 2, Kind::Message(&ANY_VALUE)),
]);
static SCOPE: Message = Message(&[
    one("name", 1, Kind::String),
    one("version", 2, Kind::String),
    many("attributes", 3, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Kind::Uint32),
]);
static RESOURCE: Message = Message(&[
    many("attributes", 1, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Kind::Uint32),
    many("entityRefs", 3, Kind::Message(&ENTITY_REF)),
]);
static ENTITY_REF: Message = Message(&[
    one("schemaUrl", 1, Kind::String),
    one("type", 2, Kind::String),
    many("idKeys", 3, Kind::String),
    many("descriptionKeys", 4, Kind::String),
]);

// === trace.proto ===

pub(super) static TRACES: Message =
    Message(&[many("resourceSpans", 1, Kind::Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = Message(&[
    one("resource", 1, Kind::Message(&RESOURCE)),
    many("scopeSpans", 2, Kind::Message(&SCOPE_SPANS)),
    one("schemaUrl", 3, Kind::String),
]);
static SCOPE_SPANS: Message = Message(&[
    one("scope", 1, Kind::Message(&SCOPE)),
    many("spans", 2, Kind::Message(&SPAN)),
    one("schemaUrl", 3, Kind::String),
]);
static SPAN: Message = Message(&[
    one("traceId", 1, TRACE_ID),
    one("spanId", 2, SPAN_ID),
    one("traceState", 3, Kind::String),
    one("parentSpanId", 4, SPAN_ID),
    one("name", 5, Kind::String),
    one("kind", 6, Kind::Enum(SPAN_KIND)),
    one("startTimeUnixNano", 7, Kind::Fixed64),
    one("endTimeUnixNano", 8, Kind::Fixed64),
    many("attributes", 9, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 10, Kind::Uint32),
    many("events", 11, Kind::Message(&EVENT)),
    one("droppedEventsCount", 12, Kind::Uint32),
    many("links", 13, Kind::Message(&LINK)),
    one("droppedLinksCount", 14, Kind::Uint32),
    one("status", 15, Kind::Message(&STATUS)),
    one("flags", 16, Kind::Fixed32),
]);
static EVENT: Message = Message(&[
    one("timeUnixNano", 1, Kind::Fixed64),
    one("name", 2, Kind::String),
    many("attributes", 3, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Kind::Uint32),
]);
static LINK: Message = Message(&[
    one("traceId", 1, TRACE_ID),
    one("spanId", 2, SPAN_ID),
    one("traceState", 3, Kind::String),
    many("attributes", 4, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 5, Kind::Uint32),
    one("flags", 6, Kind::Fixed32),
]);
static STATUS: Message = Message(&[
    one("message", 2, Kind::String),
    one("code", 3, Kind::Enum(STATUS_CODE)),
]);
const SPAN_KIND: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUS_CODE: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

// === logs.proto ===

pub(super) static LOGS: Message =
    Message(&[many("resourceLogs", 1, Kind::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = Message(&[
    one("resource", 1, Kind::Message(&RESOURCE)),
    many("scopeLogs", 2, Kind::Message(&SCOPE_LOGS)),
    one("schemaUrl", 3, Kind::String),
]);
static SCOPE_LOGS: Message = Message(&[
    one("scope", 1, Kind::Message(&SCOPE)),
    many("logRecords", 2, Kind::Message(&LOG_RECORD)),
    one("schemaUrl", 3, Kind::String),
]);
static LOG_RECORD: Message = Message(&[
    one("timeUnixNano", 1, Kind::Fixed64),
    one("severityNumber", 2, Kind::Enum(SEVERITY)),
    one("severityText", 3, Kind::String),
    one("body", 5, Kind::Message(&ANY_VALUE)),
    many("attributes", 6, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 7, Kind::Uint32),
    one("flags", 8, Kind::Fixed32),
    one("traceId", 9, TRACE_ID),
    one("spanId", 10, SPAN_ID),
    one("observedTimeUnixNano", 11, Kind::Fixed64),
    one("eventName", 12, Kind::String),
]);
const SEVERITY: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

// === metrics.proto ===

pub(super) static METRICS: Message =
    Message(&[many("resourceMetrics", 1, Kind::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = Message(&[
    one("resource", 1, Kind::Message(&RESOURCE)),
    many("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Kind::String),
]);
static SCOPE_METRICS: Message = Message(&[
    one("scope", 1, Kind::Message(&SCOPE)),
    many("metrics", 2, Kind::Message(&METRIC)),
    one("schemaUrl", 3, Kind::String),
]);
static METRIC: Message = Message(&[
    one("name", 1, Kind::String),
    one("description", 2, Kind::String),
    one("unit", 3, Kind::String),
    one("gauge", 5, Kind::Message(&GAUGE)),
    one("sum", 7, Kind::Message(&SUM)),
    one("histogram", 9, Kind::Message(&HISTOGRAM)),
    one(
        "exponentialHistogram",
        10,
        Kind::Message(&EXPONENTIAL_HISTOGRAM),
    ),
    one("summary", 11, Kind::Message(&SUMMARY)),
    many("metadata", 12, Kind::Message(&KEY_VALUE)),
]);
static GAUGE: Message = Message(&[many("dataPoints", 1, Kind::Message(&NUMBER_POINT))]);
static SUM: Message = Message(&[
    many("dataPoints", 1, Kind::Message(&NUMBER_POINT)),
    one("aggregationTemporality", 2, Kind::Enum(TEMPORALITY)),
    one("isMonotonic", 3, Kind::Bool),
]);
static HISTOGRAM: Message = Message(&[
    many("dataPoints", 1, Kind::Message(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Kind::Enum(TEMPORALITY)),
]);
static EXPONENTIAL_HISTOGRAM: Message = Message(&[
    many("dataPoints", 1, Kind::Message(&EXPONENTIAL_POINT)),
    one("aggregationTemporality", 2, Kind::Enum(TEMPORALITY)),
]);
static SUMMARY: Message = Message(&[many("dataPoints", 1, Kind::Message(&SUMMARY_POINT))]);
const TEMPORALITY: &[&str] = &[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];
static NUMBER_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Kind::Fixed64),
    one("timeUnixNano", 3, Kind::Fixed64),
    one("asDouble", 4, Kind::Double),
    many("exemplars", 5, Kind::Message(&EXEMPLAR)),
    one("asInt", 6, Kind::Sfixed64),
    many("attributes", 7, Kind::Message(&KEY_VALUE)),
    one("flags", 8, Kind::Uint32),
]);
static HISTOGRAM_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Kind::Fixed64),
    one("timeUnixNano", 3, Kind::Fixed64),
    one("count", 4, Kind::Fixed64),
    one("sum", 5, Kind::Double),
    many("bucketCounts", 6, Kind::Fixed64),
    many("explicitBounds", 7, Kind::Double),
    many("exemplars", 8, Kind::Message(&EXEMPLAR)),
    many("attributes", 9, Kind::Message(&KEY_VALUE)),
    one("flags", 10, Kind::Uint32),
    one("min", 11, Kind::Double),
    one("max", 12, Kind::Double),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    many("attributes", 1, Kind::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Kind::Fixed64),
    one("timeUnixNano", 3, Kind::Fixed64),
    one("count", 4, Kind::Fixed64),
    one("sum", 5, Kind::Double),
    one("scale", 6, Kind::Sint32),
    one("zeroCount", 7, Kind::Fixed64),
    one("positive", 8, Kind::Message(&BUCKETS)),
    one("negative", 9, Kind::Message(&BUCKETS)),
    one("flags", 10, Kind::Uint32),
    many("exemplars", 11, Kind::Message(&EXEMPLAR)),
    one("min", 12, Kind::Double),
    one("max", 13, Kind::Double),
    one("zeroThreshold", 14, Kind::Double),
]);
static BUCKETS: Message = Message(&[
    one("offset", 1, Kind::Sint32),
    many("bucketCounts", 2, Kind::Uint64),
]);
static SUMMARY_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Kind::Fixed64),
    one("timeUnixNano", 3, Kind::Fixed64),
    one("count", 4, Kind::Fixed64),
    one("sum", 5, Kind::Double),
    many("quantileValues", 6, Kind::Message(&QUANTILE)),
    many("attributes", 7, Kind::Message(&KEY_VALUE)),
    one("flags", 8, Kind::Uint32),
]);
static QUANTILE: Message = Message(&[
    one("quantile", 1, Kind::Double),
    one("value", 2, Kind::Double),
]);
static EXEMPLAR: Message = Message(&[
    one("timeUnixNano", 2, Kind::Fixed64),
    one("asDouble", 3, Kind::Double),
    one("spanId", 4, SPAN_ID),
    one("traceId", 5, TRACE_ID),
    one("asInt", 6, Kind::Sfixed64),
    many("filteredAttributes", 7, Kind::Message(&KEY_VALUE)),
]);
