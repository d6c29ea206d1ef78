//! One view of a message for both kinds: `aws_lambda_events` (a Lambda event) and `aws_sdk_sqs` (polling).

use std::borrow::Cow;
use std::fmt;

use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};

/// The texts of one W3C carrier, for [`ContextOptions::with_carrier`](super::ContextOptions::with_carrier).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The `traceparent`. Without a valid one the other two are not read.
    pub traceparent: String,
    /// The `tracestate` that belongs to it.
    pub tracestate: Option<String>,
    /// The `baggage`; used only with `trust_envelope_baggage`.
    pub baggage: Option<String>,
}

/// A read-only view of an SQS message, however it was received.
#[derive(Clone, Copy)]
pub struct MessageView<'a>(&'a dyn Message);

impl<'a> MessageView<'a> {
    pub(crate) fn new(message: &'a dyn Message) -> Self {
        Self(message)
    }

    /// The message's body.
    #[must_use]
    pub fn body(&self) -> Option<&'a str> {
        self.0.body()
    }

    /// The text of a message attribute: the exact name, else the only name that is equal but for
    /// ASCII case. `None` for numbers, for bytes that are not ASCII, and where two names differ
    /// only by case.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        self.0.attribute(name)?.text()
    }

    /// A system attribute such as `SentTimestamp`, by its exact name.
    #[must_use]
    pub fn system_attribute(&self, name: &str) -> Option<&'a str> {
        self.0.system_attribute(name)
    }
}

impl fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No contents: a body may hold what must not be logged.
        f.debug_struct("MessageView").finish_non_exhaustive()
    }
}

/// A message attribute, before its type is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) data_type: Option<&'a str>,
    pub(crate) string: Option<&'a str>,
    pub(crate) binary: Option<&'a [u8]>,
}

impl<'a> Attribute<'a> {
    /// SQS, "Message attribute data types": a label may follow the type after a dot. `Number` is
    /// never text of ours, and the list values are reserved and unused.
    fn text(self) -> Option<Cow<'a, str>> {
        let base = self
            .data_type
            .map(|data_type| data_type.split('.').next().unwrap_or_default());
        match base {
            None | Some("String") => self.string.map(Cow::Borrowed),
            Some("Binary") => self
                .binary
                .filter(|bytes| bytes.is_ascii())
                .and_then(|bytes| str::from_utf8(bytes).ok())
                .map(Cow::Borrowed),
            Some(_) => None,
        }
    }
}

/// What the readers ask a message for.
pub(crate) trait Message {
    fn body(&self) -> Option<&str>;
    fn attribute(&self, name: &str) -> Option<Attribute<'_>>;
    fn system_attribute(&self, name: &str) -> Option<&str>;
}

/// The entry with exactly this name, else the only one that differs by ASCII case alone.
fn entry_of<'a, V>(
    exact: Option<&'a V>,
    entries: impl Iterator<Item = (&'a String, &'a V)>,
    name: &str,
) -> Option<&'a V> {
    if exact.is_some() {
        return exact;
    }
    let mut variants = entries.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    match (variants.next(), variants.next()) {
        (Some((_, only)), None) => Some(only),
        _ => None, // absent, or two spellings: like a header that was sent twice
    }
}

impl Message for SqsMessage {
    fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        let attributes = &self.message_attributes;
        let found: &SqsMessageAttribute = entry_of(attributes.get(name), attributes.iter(), name)?;
        Some(Attribute {
            data_type: found.data_type.as_deref(),
            string: found.string_value.as_deref(),
            binary: found.binary_value.as_ref().map(|bytes| bytes.0.as_slice()),
        })
    }

    fn system_attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

#[cfg(feature = "producer")]
impl Message for aws_sdk_sqs::types::Message {
    fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        let attributes = self.message_attributes.as_ref()?;
        let found = entry_of(attributes.get(name), attributes.iter(), name)?;
        Some(Attribute {
            data_type: Some(found.data_type.as_str()),
            string: found.string_value.as_deref(),
            binary: found.binary_value.as_ref().map(AsRef::as_ref),
        })
    }

    fn system_attribute(&self, name: &str) -> Option<&str> {
        let attributes = self.attributes.as_ref()?;
        attributes
            .get(&aws_sdk_sqs::types::MessageSystemAttributeName::from(name))
            .map(String::as_str)
    }
}
