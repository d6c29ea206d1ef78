//! What the planner needs to know of a message, and how a plan is carried out on it.

use std::collections::HashMap;

use aws_sdk_sqs::operation::send_message::SendMessageInput;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeNameForSends as SystemName,
    MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use aws_smithy_types::Blob;
use opentelemetry::trace::SpanContext;

use super::context::Texts;
use super::plan::{DATA_TYPE, Entry, Field, Fields, Plan};
use crate::parent::w3c::Traceparent;

/// A message attribute of SQS or of SNS: two types of the same shape.
pub(crate) trait Attribute: Sized {
    /// A plain text.
    fn text(text: &str) -> Option<Self>;
    fn as_text(&self) -> Option<&str>;
    /// The type with its label, and the value: what both services count beside the name (SQS,
    /// "Message quotas"; SNS, "MessageAttributeValue").
    fn bytes(&self) -> usize;
}

type Attributes<A> = Option<HashMap<String, A>>;
type SystemAttributes = Option<HashMap<SystemName, MessageSystemAttributeValue>>;

/// A message on its way out: `SendMessage`, `Publish`, or one entry of a batch.
pub(crate) struct Outgoing<'a, A> {
    /// The entry's id; a single message has none.
    pub(crate) id: Option<String>,
    /// Bytes beside those of the attributes.
    pub(super) body: usize,
    pub(super) attributes: &'a mut Attributes<A>,
    /// Where SQS takes `AWSTraceHeader`. SNS has no such place.
    pub(super) system_attributes: Option<&'a mut SystemAttributes>,
}

impl<'a> Outgoing<'a, MessageAttributeValue> {
    pub(crate) fn single(input: &'a mut SendMessageInput) -> Self {
        Self {
            id: None,
            body: input.message_body.as_deref().map_or(0, str::len),
            attributes: &mut input.message_attributes,
            system_attributes: Some(&mut input.message_system_attributes),
        }
    }

    pub(crate) fn entry(entry: &'a mut SendMessageBatchRequestEntry) -> Self {
        Self {
            id: Some(entry.id.clone()),
            body: entry.message_body.len(),
            attributes: &mut entry.message_attributes,
            system_attributes: Some(&mut entry.message_system_attributes),
        }
    }
}

impl<A: Attribute> Outgoing<'_, A> {
    /// The creation context that the caller has written, if it is a valid one.
    pub(crate) fn callers_own(&self) -> Option<SpanContext> {
        let text = |name| self.only(name)?.as_text();
        let (context, _) =
            Traceparent::parse(text("traceparent")?)?.into_span_context(text("tracestate"));
        Some(context)
    }

    /// The facts that the planner decides by.
    pub(crate) fn facts(&self, texts: Option<&Texts>) -> Entry {
        let mut entry = Entry {
            bytes: self.body,
            callers_own: self.callers_own().is_some(),
            xray_taken: self
                .system_attributes
                .iter()
                .flat_map(|attributes| attributes.iter().flatten())
                .any(|(name, _)| *name == SystemName::AwsTraceHeader),
            ..Entry::default()
        };
        for (name, value) in self.attributes.iter().flatten() {
            entry.attributes += 1;
            entry.bytes += name.len() + value.bytes();
            if let Some(field) = Field::ALL
                .into_iter()
                .find(|field| name.eq_ignore_ascii_case(field.name()))
            {
                entry.taken.set(field, true);
            }
        }
        if let Some(texts) = texts {
            for field in Field::ALL {
                entry.offered[field as usize] =
                    texts.get(field).map_or(0, |text| field.bytes(text));
            }
        }
        entry
    }

    /// Writes what the plan says.
    pub(crate) fn apply(
        &mut self,
        plan: Plan,
        texts: Option<&Texts>,
        trace_header: Option<String>,
    ) {
        for field in Field::ALL {
            if let Some(text) = texts
                .and_then(|texts| texts.get(field))
                .filter(|_| plan.fields.has(field))
                && let Some(value) = A::text(text)
            {
                self.attributes
                    .get_or_insert_default()
                    .insert(field.name().to_owned(), value);
            }
        }
        if let Some(attributes) = &mut self.system_attributes
            && let Some(header) = trace_header.filter(|_| plan.xray)
            && let Ok(value) = MessageSystemAttributeValue::builder()
                .data_type(DATA_TYPE)
                .string_value(header)
                .build()
        {
            attributes
                .get_or_insert_default()
                .insert(SystemName::AwsTraceHeader, value);
        }
    }

    /// The attribute of this name, as a consumer would find it: two spellings are none.
    fn only(&self, name: &str) -> Option<&A> {
        let attributes = self.attributes.as_ref()?;
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
}

impl Attribute for MessageAttributeValue {
    fn text(text: &str) -> Option<Self> {
        let value = Self::builder().data_type(DATA_TYPE).string_value(text);
        value.build().ok()
    }

    fn as_text(&self) -> Option<&str> {
        self.string_value()
    }

    fn bytes(&self) -> usize {
        bytes(
            &self.data_type,
            self.string_value(),
            self.binary_value.as_ref(),
        )
    }
}

pub(super) fn bytes(data_type: &str, text: Option<&str>, binary: Option<&Blob>) -> usize {
    data_type.len() + text.map_or(0, str::len) + binary.map_or(0, |blob| blob.as_ref().len())
}

impl Fields {
    #[cfg(test)]
    pub(crate) fn of(fields: &[Field]) -> Self {
        let mut set = Self::default();
        fields.iter().for_each(|field| set.set(*field, true));
        set
    }
}
