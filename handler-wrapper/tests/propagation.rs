//! Reads every vector of `tests/fixtures/propagation.json`, or of the file that the environment
//! variable `PROPAGATION_VECTORS` names.
//!
//! The vectors were written from the specifications, without an implementation at hand.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::encodings::Base64Data;
use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry::trace::SpanContext;
use serde_json::{Value, json};
use throughline::parent::{
    CarrierFamily, ContextOptions, ContextSource, Deferred, LinkSecondary, RecordContext, Relation,
    read,
};

/// Vectors marked `optional` in which we differ, each with the reason. (None today.)
const DIFFERS: &[(&str, &str)] = &[];

#[test]
fn every_vector_reads_as_expected() {
    let path = std::env::var_os("PROPAGATION_VECTORS").map_or_else(
        || {
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/fixtures/propagation.json"
            )
            .into()
        },
        std::path::PathBuf::from,
    );
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap();
    let vectors = file["vectors"]
        .as_array()
        .expect("the file has a list of vectors");
    assert!(!vectors.is_empty(), "no vector in {}", path.display());

    let mut failures = Vec::new();
    for vector in vectors {
        let name = vector["name"].as_str().expect("every vector has a name");
        let excused = DIFFERS.iter().any(|(excused, _)| *excused == name);
        let options = options(vector.get("options").unwrap_or(&Value::Null));
        let context = read(&message(vector), &options, now(vector));
        match check(vector, &context) {
            Ok(()) if excused => failures.push(format!("{name}: passes, so it needs no excuse")),
            Err(_) if excused && vector["optional"] == json!(true) => {}
            Ok(()) => {}
            Err(why) => failures.push(format!("{name}: {why} ({})", vector["why"])),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        vectors.len(),
        failures.join("\n")
    );
}

/// What the vectors call a context, from what we read.
fn check(vector: &Value, context: &RecordContext) -> Result<(), String> {
    let expected = &vector["expected"];
    let differs = |what: &str, ours: &Value| {
        let theirs = expected.get(what).unwrap_or(&Value::Null);
        (ours != theirs).then(|| format!("{what} is {ours}, expected {theirs}"))
    };
    let creation = context.creation.as_ref();
    let r#use = match (&context.parent, creation) {
        (Some(_), _) => "parent",
        (None, Some(_)) => "link",
        (None, None) => "none",
    };
    let source = match context.source {
        // Vectors name the kind of header; the carrier beside it says that it was an envelope's.
        ContextSource::Sns => "w3c",
        ContextSource::XrayUnsampled => "xray",
        other => other.as_str(),
    };
    let in_envelope = matches!(
        expected["carrier"].as_str(),
        Some("sns_envelope" | "eventbridge_detail")
    );
    if in_envelope != (context.source == ContextSource::Sns) {
        return Err(format!("the source is {:?}", context.source));
    }
    let mut differences = vec![
        differs("use", &json!(r#use)),
        differs("source", &json!(source)),
    ];
    // A context that is read but not used has no ids for us: nobody may continue it.
    if r#use != "none" {
        let hex = |id: Option<String>| id.map_or(Value::Null, Value::String);
        differences.push(differs(
            "trace_id",
            &hex(creation.map(|c| c.trace_id().to_string())),
        ));
        differences.push(differs(
            "parent_span_id",
            &hex(creation.map(|c| c.span_id().to_string())),
        ));
        differences.push(differs(
            "tracestate",
            &context.tracestate().map_or(Value::Null, Value::String),
        ));
        let deferred = context
            .parent
            .as_ref()
            .is_some_and(|parent| parent.deferred);
        if expected["sampled"].is_null() {
            let as_link = context.parent.is_none();
            if !deferred && !as_link || creation.is_some_and(SpanContext::is_sampled) {
                differences.push(Some("the decision is not left open".into()));
            }
        } else {
            differences.push(differs(
                "sampled",
                &json!(creation.is_some_and(SpanContext::is_sampled)),
            ));
            if deferred {
                differences.push(Some("the decision is left open".into()));
            }
        }
    }
    if expected.get("trace_flags").is_some() {
        let flags = creation.map(|c| format!("{:02x}", c.trace_flags().to_u8()));
        differences.push(differs(
            "trace_flags",
            &flags.map_or(Value::Null, Value::String),
        ));
    }
    if let Some(expected) = expected["secondary_links"].as_array() {
        differences.push(secondary_links_differ(context, expected));
    }
    if let Some(expected) = vector["expected_baggage"].as_object() {
        differences.push(baggage_differs(context, expected));
    }
    match differences.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        some => Err(some.join("; ")),
    }
}

fn secondary_links_differ(context: &RecordContext, expected: &[Value]) -> Option<String> {
    let text = |trace: &str, span: &str| format!("{trace}/{span}");
    let ours: BTreeSet<String> = context
        .links
        .iter()
        .skip(1) // the first is the creation context
        .map(|link| text(&link.trace_id().to_string(), &link.span_id().to_string()))
        .collect();
    let theirs: BTreeSet<String> = expected
        .iter()
        .map(|link| {
            text(
                link["trace_id"].as_str().unwrap(),
                link["span_id"].as_str().unwrap(),
            )
        })
        .collect();
    (ours != theirs).then(|| format!("secondary links are {ours:?}, expected {theirs:?}"))
}

fn baggage_differs(
    context: &RecordContext,
    expected: &serde_json::Map<String, Value>,
) -> Option<String> {
    let ours: serde_json::Map<String, Value> = context
        .baggage
        .iter()
        .flat_map(|baggage| baggage.iter())
        .map(|(key, (value, _))| (key.to_string(), json!(value.as_str())))
        .collect();
    (&ours != expected).then(|| format!("baggage is {ours:?}, expected {expected:?}"))
}

/// The message of a vector, built by hand: the published types refuse some of what SQS can send.
fn message(vector: &Value) -> SqsMessage {
    let mut message = SqsMessage::default();
    message.body = vector
        .get("body")
        .map_or(Some("{}".into()), |body| body.as_str().map(str::to_owned));
    for (name, value) in vector["attributes"].as_object().into_iter().flatten() {
        message
            .attributes
            .insert(name.clone(), value.as_str().unwrap().to_owned());
    }
    for (name, value) in vector["messageAttributes"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let mut attribute = SqsMessageAttribute::default();
        attribute.string_value = text("stringValue");
        attribute.data_type = text("dataType");
        attribute.binary_value = text("binaryValue")
            .and_then(|value| STANDARD.decode(value).ok())
            .map(|bytes| {
                let mut data = Base64Data::default();
                *data = bytes;
                data
            });
        let list = value
            .get("stringListValues")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        attribute.string_list_values = list.filter_map(Value::as_str).map(str::to_owned).collect();
        message.message_attributes.insert(name.clone(), attribute);
    }
    message
}

fn options(vector: &Value) -> ContextOptions {
    let mut options = ContextOptions::default();
    for (name, value) in vector.as_object().into_iter().flatten() {
        match name.as_str() {
            "order" => options.order = value.as_array().unwrap().iter().map(family).collect(),
            "relation" if value == "link" => options.relation = Relation::Link,
            "sns_envelope" => options.sns_envelope = value.as_bool().unwrap(),
            "eventbridge_detail" => options.eventbridge_detail = value.as_bool().unwrap(),
            "datadog" => options.datadog = value.as_bool().unwrap(),
            "respect_xray_unsampled" => options.respect_xray_unsampled = value.as_bool().unwrap(),
            "link_unsampled" => options.link_unsampled = value.as_bool().unwrap(),
            "deferred" if value == "link" => options.deferred = Deferred::Link,
            "link_secondary" if value == "always" => options.link_secondary = LinkSecondary::Always,
            "link_secondary" if value == "never" => options.link_secondary = LinkSecondary::Never,
            "max_parent_age_s" => {
                options.max_parent_age = Some(Duration::from_secs(value.as_u64().unwrap()));
            }
            other => panic!("option {other}={value} is not known to this test"),
        }
    }
    options
}

fn family(name: &Value) -> CarrierFamily {
    match name.as_str() {
        Some("w3c") => CarrierFamily::W3c,
        Some("xray") => CarrierFamily::Xray,
        other => panic!("carrier family {other:?} is not known to this test"),
    }
}

fn now(vector: &Value) -> SystemTime {
    let millis = vector
        .get("now_ms")
        .and_then(Value::as_u64)
        .unwrap_or(1_700_000_000_000);
    UNIX_EPOCH + Duration::from_millis(millis)
}
