//! Contexts inside the body: SNS notifications without raw delivery, and EventBridge events.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::carriers::Fields;
use super::embedded;

/// SNS's notification, no stricter than needed: emulators and FIFO topics leave fields out that
/// published types require.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notification {
    #[serde(rename = "Type")]
    kind: String,
    #[expect(
        dead_code,
        reason = "its presence tells a notification from an application's JSON"
    )]
    topic_arn: String,
    #[serde(default)]
    message_attributes: HashMap<String, Value>,
}

/// Reads the attributes of an SNS notification. Never looks into its `Message`, which belongs to
/// the application.
pub(super) fn sns(body: &str) -> Option<Fields> {
    // Most bodies are no envelope, so they are not parsed.
    if !body.trim_ascii_start().starts_with('{')
        || !body.contains("\"TopicArn\"")
        || !body.contains("\"MessageAttributes\"")
    {
        return None;
    }
    let notification: Notification = serde_json::from_str(body).ok()?;
    if notification.kind != "Notification" {
        return None;
    }
    let attribute = |name: &str| text_of(one_of(&notification.message_attributes, name)?);
    Some(Fields {
        traceparent: attribute("traceparent")?,
        tracestate: attribute("tracestate"),
        baggage: attribute("baggage"),
    })
}

/// Reads the `detail` of an EventBridge event: `traceparent` itself, or inside `_datadog`.
pub(super) fn eventbridge(body: &str) -> Option<Fields> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "detail-type")]
        #[expect(
            dead_code,
            reason = "its presence tells an event from an application's JSON"
        )]
        detail_type: String,
        detail: HashMap<String, Value>,
    }
    if !body.trim_ascii_start().starts_with('{') || !body.contains("\"detail-type\"") {
        return None;
    }
    let detail = serde_json::from_str::<Event>(body).ok()?.detail;
    let text = |name: &str| Some(detail.get(name)?.as_str()?.to_owned());
    match text("traceparent") {
        Some(traceparent) => Some(Fields {
            traceparent,
            tracestate: text("tracestate"),
            baggage: text("baggage"),
        }),
        None => embedded::fields_of(detail.get("_datadog")?),
    }
}

/// The exact name, else the only one that differs by ASCII case alone (as for message attributes).
fn one_of<'a>(attributes: &'a HashMap<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(exact) = attributes.get(name) {
        return Some(exact);
    }
    let mut variants = attributes
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    variants
        .next()
        .filter(|_| variants.next().is_none())
        .map(|(_, value)| value)
}

/// SNS, "Message attribute data types": text, or bytes in base64. `String.Array` is a JSON list
/// there and no text.
fn text_of(attribute: &Value) -> Option<String> {
    let value = attribute.get("Value")?.as_str()?;
    match attribute.get("Type")?.as_str()? {
        "String" => Some(value.to_owned()),
        "Binary" => String::from_utf8(STANDARD.decode(value).ok()?).ok(),
        _ => None,
    }
}
