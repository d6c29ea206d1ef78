//! The batch that Lambda delivers, decoded without losing a record to one odd field.
//!
//! `aws_lambda_events` fails the whole event when a single attribute is `null`, holds bytes that
//! are not base64, or has a value of another type; then nothing of the batch is processed, again
//! and again, until it is in the dead-letter queue. [`Batch`] reads the same JSON into the same
//! [`SqsMessage`], leaves out what cannot be read, and remembers the records that must not be
//! handed to a processor. What stays an error is an event that is not from SQS: to answer it with
//! success would hide a wrong trigger.

mod foreign;
mod leaf;
mod record;

use std::fmt;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use self::record::Records;

/// An SQS event as a Lambda function receives it, read leniently.
///
/// This is the event type of [`SqsHandler`](crate::SqsHandler). It is read from the JSON of an
/// invocation, or made from an [`SqsEvent`] that somebody else decoded.
///
/// # Errors
///
/// Deserialising fails when `Records` is missing or is not a list, and when a record comes from
/// another service; the error says what the event is instead, as far as that can be told.
///
/// ```
/// let batch: throughline::Batch = serde_json::from_str(
///     r#"{"Records":[{"messageId":"m-1","body":"{}","eventSource":"aws:sqs","attributes":{"SentTimestamp":null}}]}"#,
/// )?;
/// assert_eq!(batch.len(), 1);
///
/// let error = serde_json::from_str::<throughline::Batch>(r#"{"Records":[{"eventSource":"aws:s3"}]}"#).unwrap_err();
/// assert!(error.to_string().starts_with("not an SQS event: its records come from aws:s3"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub(crate) records: Vec<Record>,
}

/// One record of a [`Batch`]: the message, and why it cannot be processed, if so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) message: SqsMessage,
    pub(crate) defect: Option<Defect>,
}

/// What is wrong with a record that is a failure before any processor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The record is `null`, a number, a list …
    NotAnObject,
    /// The body is absent, `null` or not a string. A processor that shrugs at a missing body
    /// would delete the message, so it never sees one.
    NoBody,
}

impl Batch {
    /// The number of records, those that cannot be processed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the event has no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The messages in the order of the event.
    ///
    /// A record that was not a JSON object is an empty message here.
    pub fn messages(&self) -> impl Iterator<Item = &SqsMessage> {
        self.records.iter().map(|record| &record.message)
    }
}

impl From<SqsEvent> for Batch {
    fn from(event: SqsEvent) -> Self {
        event.records.into_iter().collect()
    }
}

impl FromIterator<SqsMessage> for Batch {
    fn from_iter<I: IntoIterator<Item = SqsMessage>>(messages: I) -> Self {
        let records = messages
            .into_iter()
            .map(|message| {
                let defect = message.body.is_none().then_some(Defect::NoBody);
                Record { message, defect }
            })
            .collect();
        Self { records }
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Batch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an SQS event: an object with a list of records under `Records`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Batch, M::Error> {
        let mut records = None;
        let mut shape = foreign::Shape::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "Records" => records = Some(map.next_value::<Records>()?),
                "eventSource" => shape.on_source(map.next_value::<leaf::Leaf>()?.into_text()),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    shape.on_key(key);
                }
            }
        }
        match records {
            Some(Records::List(records)) => Ok(Batch { records }),
            Some(Records::Foreign(source)) => Err(M::Error::custom(format_args!(
                "not an SQS event: its records come from {source}, expected aws:sqs"
            ))),
            Some(Records::NotAList) => Err(M::Error::custom(
                "not an SQS event: `Records` is not a list",
            )),
            None => Err(M::Error::custom(format_args!(
                "not an SQS event: it has no `Records`; {}",
                shape.guess()
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
