//! Publishing to topics of SNS: the same spans and the same planner, in SNS's types.

use aws_sdk_sns::operation::publish::{PublishInput, PublishOutput};
use aws_sdk_sns::operation::publish_batch::{PublishBatchInput, PublishBatchOutput};
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use aws_smithy_runtime_api::client::interceptors::context::{Input, Output};
use opentelemetry::Context;

use super::Settings;
use super::call::End;
use super::message::{self, Attribute, Outgoing};
use super::operations::{Started, results};
use super::plan::DATA_TYPE;
use super::send;
use super::span::{Destination, Operation};

/// SNS, "Publishing large messages": what a topic takes that was not told to take more, 256 KiB.
pub(crate) const MESSAGE_BYTES: usize = 262_144;

/// Starts what publishing calls for. `None` for every other operation, and for messages to phone
/// numbers and devices: those have no topic, and nothing there reads an attribute of ours.
pub(crate) fn start(settings: &Settings, input: &mut Input, parent: &Context) -> Option<Started> {
    if let Some(input) = input.downcast_mut::<PublishInput>() {
        let topic = Destination::topic(topic(input)?);
        let spans = send::single(settings, Outgoing::publish(input), &topic, parent);
        return Some((Operation::Send, topic, 1, spans));
    }
    let input = input.downcast_mut::<PublishBatchInput>()?;
    let topic = Destination::topic(input.topic_arn());
    let entries = input.publish_batch_request_entries.iter_mut().flatten();
    let messages: Vec<_> = entries.map(Outgoing::publish_entry).collect();
    let sending = messages.len();
    let spans = send::batch(settings, messages, &topic, parent);
    Some((Operation::Send, topic, sending, spans))
}

/// The topic that is published to. The outer `None`: it is none. The inner one: the call does not
/// say, and SNS will refuse it.
fn topic(input: &PublishInput) -> Option<Option<&str>> {
    let Some(target) = input.target_arn() else {
        let to_phone = input.phone_number().is_some() && input.topic_arn().is_none();
        return (!to_phone).then(|| input.topic_arn());
    };
    // SNS, "Publish": a target is a topic or an endpoint; the ARNs of the latter have slashes.
    (!target.contains('/')).then(|| input.topic_arn().or(Some(target)))
}

/// What SNS's answer says came of publishing.
pub(crate) fn end(output: &Output) -> Option<End> {
    if let Some(output) = output.downcast_ref::<PublishOutput>() {
        return Some(End::Done {
            message_id: output.message_id().map(str::to_owned),
        });
    }
    let output = output.downcast_ref::<PublishBatchOutput>()?;
    let done = output.successful().iter();
    let done = done.filter_map(|entry| Some((entry.id()?, entry.message_id())));
    let failed = output.failed().iter();
    let failed = failed.map(|entry| (entry.id(), entry.code()));
    Some(End::Entries(results(done, failed)))
}

impl<'a> Outgoing<'a, MessageAttributeValue> {
    fn publish(input: &'a mut PublishInput) -> Self {
        Self {
            id: None,
            body: length(input.message()) + length(input.subject()),
            attributes: &mut input.message_attributes,
            system_attributes: None,
        }
    }

    fn publish_entry(entry: &'a mut PublishBatchRequestEntry) -> Self {
        Self {
            id: Some(entry.id.clone()),
            body: entry.message.len() + length(entry.subject()),
            attributes: &mut entry.message_attributes,
            system_attributes: None,
        }
    }
}

/// Subjects are counted as well: SNS does not say that it leaves them out.
fn length(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
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
        message::bytes(
            &self.data_type,
            self.string_value(),
            self.binary_value.as_ref(),
        )
    }
}
