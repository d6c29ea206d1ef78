//! What the planner needs to know of a message, and how a plan is carried out on it.

use std::collections::HashMap;

use aws_sdk_sqs::operation::send_message::SendMessageInput;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeNameForSends as SystemName,
    MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use opentelemetry::trace::SpanContext;

use super::context::Texts;
use super::plan::{DATA_TYPE, Entry, Field, Fields, Plan};
use crate::parent::w3c::Traceparent;

type Attributes = Option<HashMap<String, MessageAttributeValue>>;
type SystemAttributes = Option<HashMap<SystemName, MessageSystemAttributeValue>>;

/// A message on its way out: `SendMessage`, or one entry of a batch.
pub(crate) struct Outgoing<'a> {
    /// The entry's id; a single message has none.
    pub(crate) id: Option<String>,
    body: usize,
    attributes: &'a mut Attributes,
    system_attributes: &'a mut SystemAttributes,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn single(input: &'a mut SendMessageInput) -> Self {
        Self {
            id: None,
            body: input.message_body.as_deref().map_or(0, str::len),
            attributes: &mut input.message_attributes,
            system_attributes: &mut input.message_system_attributes,
        }
    }

    pub(crate) fn entry(entry: &'a mut SendMessageBatchRequestEntry) -> Self {
        Self {
            id: Some(entry.id.clone()),
            body: entry.message_body.len(),
            attributes: &mut entry.message_attributes,
            system_attributes: &mut entry.message_system_attributes,
        }
    }

    /// The creation context that the caller has written, if it is a valid one.
    pub(crate) fn callers_own(&self) -> Option<SpanContext> {
        let text = |name| self.only(name)?.string_value();
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
                .flatten()
                .any(|(name, _)| *name == SystemName::AwsTraceHeader),
            ..Entry::default()
        };
        for (name, value) in self.attributes.iter().flatten() {
            entry.attributes += 1;
            entry.bytes += attribute_bytes(name, value);
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
                && let Ok(value) = MessageAttributeValue::builder()
                    .data_type(DATA_TYPE)
                    .string_value(text)
                    .build()
            {
                self.attributes
                    .get_or_insert_default()
                    .insert(field.name().to_owned(), value);
            }
        }
        if let Some(header) = trace_header.filter(|_| plan.xray)
            && let Ok(value) = MessageSystemAttributeValue::builder()
                .data_type(DATA_TYPE)
                .string_value(header)
                .build()
        {
            self.system_attributes
                .get_or_insert_default()
                .insert(SystemName::AwsTraceHeader, value);
        }
    }

    /// The attribute of this name, as a consumer would find it: two spellings are none.
    fn only(&self, name: &str) -> Option<&MessageAttributeValue> {
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

/// SQS, "Message quotas": the name, the type with its label, and the value count.
fn attribute_bytes(name: &str, value: &MessageAttributeValue) -> usize {
    let text = value.string_value.as_deref().map_or(0, str::len);
    let binary = value
        .binary_value
        .as_ref()
        .map_or(0, |blob| blob.as_ref().len());
    name.len() + value.data_type.len() + text + binary
}

impl Fields {
    #[cfg(test)]
    pub(crate) fn of(fields: &[Field]) -> Self {
        let mut set = Self::default();
        fields.iter().for_each(|field| set.set(*field, true));
        set
    }
}
