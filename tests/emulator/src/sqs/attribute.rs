//! Message attributes: their rules, their size and their MD5.

use super::refusal::Refusal;
use crate::ids;
use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most attributes a message may have; system attributes do not count.
const ATTRIBUTES_MAX: usize = 10;
/// Longest name and longest type.
const NAME_CHARS_MAX: usize = 256;

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, each with a label of the sender's after a dot if it likes.
    pub data_type: String,
    /// Value of `String` and `Number`.
    pub string_value: Option<String>,
    /// Value of `Binary`.
    pub binary_value: Option<Vec<u8>>,
}

pub(super) type MessageAttributes = BTreeMap<String, MessageAttribute>;

impl MessageAttribute {
    fn value(&self) -> &[u8] {
        match (&self.string_value, &self.binary_value) {
            (Some(text), _) => text.as_bytes(),
            (_, Some(bytes)) => bytes,
            _ => &[],
        }
    }

    /// As the JSON protocol writes it.
    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({"DataType": self.data_type});
        if let Some(text) = &self.string_value {
            value["StringValue"] = json!(text);
        }
        if let Some(bytes) = &self.binary_value {
            value["BinaryValue"] = json!(BASE64_STANDARD.encode(bytes));
        }
        value
    }
}

/// Reads and judges the attributes of a message.
pub(super) fn parse(value: &Value) -> Result<MessageAttributes, Refusal> {
    let Some(map) = value.as_object() else {
        return Ok(MessageAttributes::new());
    };
    if map.len() > ATTRIBUTES_MAX {
        let text = format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
            map.len()
        );
        return Err(Refusal::parameter(text));
    }
    map.iter()
        .map(|(name, value)| Ok((name.clone(), parse_one(name, value)?)))
        .collect()
}

fn parse_one(name: &str, value: &Value) -> Result<MessageAttribute, Refusal> {
    check_name(name)?;
    let data_type = value["DataType"].as_str().unwrap_or_default();
    let string_value = value["StringValue"].as_str().map(str::to_owned);
    let binary_value = value["BinaryValue"]
        .as_str()
        .map(|text| BASE64_STANDARD.decode(text));
    let binary_value = binary_value
        .transpose()
        .map_err(|_| odd(name, "is not base64"))?;
    let kind = data_type.split('.').next().unwrap_or_default();
    if !["String", "Number", "Binary"].contains(&kind) || data_type.len() > NAME_CHARS_MAX {
        return Err(odd(
            name,
            &format!("has an invalid message attribute type '{data_type}'"),
        ));
    }
    let attribute = match kind {
        "Binary" => MessageAttribute {
            data_type: data_type.to_owned(),
            string_value: None,
            binary_value,
        },
        _ => MessageAttribute {
            data_type: data_type.to_owned(),
            string_value,
            binary_value: None,
        },
    };
    if attribute.value().is_empty() {
        return Err(odd(
            name,
            &format!("must contain a non-empty value of type '{data_type}'"),
        ));
    }
    let number = attribute.string_value.as_deref().unwrap_or_default();
    if kind == "Number" && number.trim().parse::<f64>().is_err() {
        return Err(odd(name, "is no number"));
    }
    Ok(attribute)
}

fn odd(name: &str, text: &str) -> Refusal {
    Refusal::parameter(format!("Message (user) attribute '{name}' {text}."))
}

/// SQS, "Amazon SQS message metadata", section "Message attribute components".
fn check_name(name: &str) -> Result<(), Refusal> {
    let chars = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    let lower = name.to_ascii_lowercase();
    let reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
    match name.is_empty() || name.len() > NAME_CHARS_MAX || !chars || dots || reserved {
        true => Err(odd(name, "has an invalid name")),
        false => Ok(()),
    }
}

/// Reads and judges the system attributes a sender may set: the trace header alone.
pub(super) fn parse_system(value: &Value) -> Result<Option<String>, Refusal> {
    let Some(map) = value.as_object() else {
        return Ok(None);
    };
    let mut header = None;
    for (name, value) in map {
        if name != "AWSTraceHeader" {
            let text = format!("Message (system) attribute '{name}' is not recognized.");
            return Err(Refusal::parameter(text));
        }
        if value["DataType"] != "String" {
            return Err(Refusal::parameter(
                "Message (system) attribute 'AWSTraceHeader' must be of type 'String'.",
            ));
        }
        match value["StringValue"].as_str() {
            Some(text) if !text.is_empty() => header = Some(text.to_owned()),
            _ => {
                return Err(Refusal::parameter(
                    "Message (system) attribute 'AWSTraceHeader' must not be empty.",
                ));
            }
        }
    }
    Ok(header)
}

/// What attributes add to a message's size: names, types and values.
pub(super) fn bytes(attributes: &MessageAttributes) -> usize {
    attributes
        .iter()
        .map(|(name, value)| name.len() + value.data_type.len() + value.value().len())
        .sum()
}

/// MD5 of a text, in hex.
pub(super) fn md5_of_body(body: &str) -> String {
    ids::hex(&Md5::digest(body))
}

/// MD5 of attributes, in hex; `None` when there are none.
/// SQS, "Calculating the MD5 message digest for message attributes": sorted by name,
/// each part with its length before it, one byte that says text or bytes before the value.
pub(super) fn md5_of<'a>(
    attributes: impl IntoIterator<Item = (&'a String, &'a MessageAttribute)>,
) -> Option<String> {
    let mut digest = Md5::new();
    let mut any = false;
    for (name, attribute) in attributes {
        any = true;
        part(&mut digest, name.as_bytes());
        part(&mut digest, attribute.data_type.as_bytes());
        digest.update([if attribute.data_type.starts_with("Binary") {
            2
        } else {
            1
        }]);
        part(&mut digest, attribute.value());
    }
    any.then(|| ids::hex(&digest.finalize()))
}

/// MD5 of the system attributes a sender set.
pub(super) fn md5_of_system(trace_header: &str) -> Option<String> {
    let attribute = MessageAttribute {
        data_type: "String".into(),
        string_value: Some(trace_header.to_owned()),
        binary_value: None,
    };
    md5_of([(&"AWSTraceHeader".to_owned(), &attribute)])
}

fn part(digest: &mut Md5, bytes: &[u8]) {
    digest.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    digest.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        json!({"DataType": "String", "StringValue": value})
    }

    #[test]
    fn digests_as_the_sdks_compute_them() {
        assert_eq!(md5_of_body("hello"), "5d41402abc4b2a76b9719d911017c592");
        let attributes = parse(&json!({
            "b": {"DataType": "Binary", "BinaryValue": "AAE="},
            "a": {"DataType": "Number.int", "StringValue": "1"},
        }))
        .unwrap();
        // By hand: a, Number.int, 1, "1"; b, Binary, 2, 00 01.
        let mut bytes = Vec::new();
        for (name, kind, transport, value) in [
            ("a", "Number.int", 1, &b"1"[..]),
            ("b", "Binary", 2, &[0, 1][..]),
        ] {
            for one in [name.as_bytes(), kind.as_bytes()] {
                bytes.extend(u32::try_from(one.len()).unwrap().to_be_bytes());
                bytes.extend(one);
            }
            bytes.push(transport);
            bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(value);
        }
        assert_eq!(md5_of(&attributes), Some(ids::hex(&Md5::digest(&bytes))));
        assert_eq!(md5_of(&MessageAttributes::new()), None);
        // As published with another emulator.
        let timestamp =
            json!({"timestamp": {"DataType": "Number", "StringValue": "1493147359900"}});
        let digest = md5_of(&parse(&timestamp).unwrap());
        assert_eq!(digest.as_deref(), Some("235c5c510d26fb653d073faed50ae77c"));
    }

    #[test]
    fn ten_go_eleven_do_not() {
        let some = |count: usize| {
            Value::Object((0..count).map(|n| (format!("a{n}"), text("v"))).collect())
        };
        assert!(parse(&some(10)).is_ok());
        assert!(parse(&some(11)).unwrap_err().message.contains("[11]"));
    }

    #[test]
    fn refusals() {
        for (name, value) in [
            ("tracestate", text("")),
            ("aws.x", text("v")),
            ("Amazon.x", text("v")),
            (".x", text("v")),
            ("x..y", text("v")),
            ("x y", text("v")),
            ("x", json!({"DataType": "Text", "StringValue": "v"})),
            ("x", json!({"DataType": "Number", "StringValue": "one"})),
            ("x", json!({"DataType": "Binary", "BinaryValue": ""})),
            ("x", json!({"DataType": "String", "BinaryValue": "AAE="})),
        ] {
            let refused = parse(&json!({name: value})).unwrap_err();
            assert_eq!(refused.code, "InvalidParameterValue", "{name} {value}");
        }
        assert!(
            parse(&json!({"tracestate": text("")}))
                .unwrap_err()
                .message
                .contains("must contain a non-empty value")
        );
        assert!(
            parse(
                &json!({"awsome": text("v"), "n": {"DataType": "Number", "StringValue": "-1.5e3"}})
            )
            .is_ok()
        );
        assert!(parse_system(&json!({"Other": text("v")})).is_err());
        assert_eq!(
            parse_system(&json!({"AWSTraceHeader": text("Root=1")}))
                .unwrap()
                .as_deref(),
            Some("Root=1")
        );
    }
}
