//! One record, and the list of them.

use std::fmt;

use aws_lambda_events::encodings::Base64Data;
use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::leaf::{Leaf, Lenient, List, Map};
use super::{Defect, Record};

const SOURCE: &str = "aws:sqs";

/// The value of `Records`.
pub(super) enum Records {
    List(Vec<Record>),
    /// The first record that comes from elsewhere, by the service it names.
    Foreign(String),
    NotAList,
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordsVisitor)
    }
}

struct RecordsVisitor;

impl<'de> Visitor<'de> for RecordsVisitor {
    type Value = Records;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Records, A::Error> {
        let mut records = Vec::with_capacity(seq.size_hint().unwrap_or(0));
        let mut foreign = None;
        while let Some(element) = seq.next_element::<Element>()? {
            match element {
                Element::Ours(record) => records.push(record),
                Element::Foreign(source) => {
                    foreign.get_or_insert(source);
                }
            }
        }
        Ok(match foreign {
            Some(source) => Records::Foreign(source),
            None => Records::List(records),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Records, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Records::NotAList)
    }

    fn visit_unit<E>(self) -> Result<Records, E> {
        Ok(Records::NotAList)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Records, E> {
        Ok(Records::NotAList)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Records, E> {
        Ok(Records::NotAList)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Records, E> {
        Ok(Records::NotAList)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Records, E> {
        Ok(Records::NotAList)
    }

    fn visit_str<E>(self, _: &str) -> Result<Records, E> {
        Ok(Records::NotAList)
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "moved into the list at once; a box would be an allocation for every record"
)]
enum Element {
    Ours(Record),
    Foreign(String),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl ElementVisitor {
    fn not_an_object<E>() -> Result<Element, E> {
        Ok(Element::Ours(Record {
            message: SqsMessage::default(),
            defect: Some(Defect::NotAnObject),
        }))
    }
}

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    // Written by hand and not derived: a key that comes twice must not lose the batch.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut m = SqsMessage::default();
        let mut body = Leaf::Odd;
        // SNS writes the name with a capital letter.
        let mut foreign_spelling = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "messageId" => m.message_id = text(&mut map)?,
                "receiptHandle" => m.receipt_handle = text(&mut map)?,
                "body" => body = map.next_value()?,
                "md5OfBody" => m.md5_of_body = text(&mut map)?,
                "md5OfMessageAttributes" => m.md5_of_message_attributes = text(&mut map)?,
                "attributes" => m.attributes = map.next_value::<Map<String>>()?.0,
                "messageAttributes" => {
                    m.message_attributes = map.next_value::<Map<SqsMessageAttribute>>()?.0;
                }
                "eventSourceARN" => m.event_source_arn = text(&mut map)?,
                "eventSource" => m.event_source = text(&mut map)?,
                "EventSource" => foreign_spelling = text(&mut map)?,
                "awsRegion" => m.aws_region = text(&mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Some(source) = foreign_source(&m, foreign_spelling) {
            return Ok(Element::Foreign(source));
        }
        let mut record = Record {
            message: m,
            defect: Some(Defect::NoBody),
        };
        if let Leaf::Text(body) = body {
            record.message.body = Some(body);
            record.defect = None;
        }
        Ok(Element::Ours(record))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Self::not_an_object()
    }

    fn visit_unit<E>(self) -> Result<Element, E> {
        Self::not_an_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Element, E> {
        Self::not_an_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
        Self::not_an_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
        Self::not_an_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
        Self::not_an_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<Element, E> {
        Self::not_an_object()
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    map.next_value::<Leaf>().map(Leaf::into_text)
}

/// The service a record comes from, if it is another than SQS.
///
/// A record that names none is taken for SQS when it has what only SQS records have.
fn foreign_source(message: &SqsMessage, other_spelling: Option<String>) -> Option<String> {
    match (&message.event_source, other_spelling) {
        (Some(source), _) if source == SOURCE => None,
        (Some(source), _) => Some(source.clone()),
        (None, Some(source)) => Some(source),
        (None, None) => {
            let ours = message.message_id.is_some()
                || message.receipt_handle.is_some()
                || message
                    .event_source_arn
                    .as_deref()
                    .is_some_and(|arn| arn.split(':').nth(2) == Some("sqs"));
            (!ours).then(|| "a service that they do not name".to_owned())
        }
    }
}

impl Lenient for SqsMessageAttribute {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        deserializer.deserialize_any(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Option<SqsMessageAttribute>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attribute = SqsMessageAttribute::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "stringValue" => attribute.string_value = text(&mut map)?,
                "binaryValue" => {
                    attribute.binary_value = map.next_value::<super::leaf::Item<Base64Data>>()?.0;
                }
                "stringListValues" => {
                    attribute.string_list_values = map.next_value::<List<String>>()?.0;
                }
                "binaryListValues" => {
                    attribute.binary_list_values = map.next_value::<List<Base64Data>>()?.0;
                }
                "dataType" => attribute.data_type = text(&mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(attribute))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}
