//! A `traceparent` inside a JSON object, as Datadog's tracers send it in one attribute.

use serde_json::Value;

use super::carriers::Fields;

/// Reads the attribute `_datadog`.
pub(super) fn datadog(text: &str) -> Option<Fields> {
    fields_of(&serde_json::from_str(text).ok()?)
}

/// Reads the fields of a JSON object of headers.
pub(super) fn fields_of(object: &Value) -> Option<Fields> {
    let text = |name: &str| Some(object.get(name)?.as_str()?.to_owned());
    Some(Fields {
        traceparent: text("traceparent")?,
        tracestate: text("tracestate"),
        baggage: text("baggage"),
    })
}
