//! Which operations are traced, and what each starts and ends with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityInput;
use aws_sdk_sqs::operation::change_message_visibility_batch::{
    ChangeMessageVisibilityBatchInput, ChangeMessageVisibilityBatchOutput,
};
use aws_sdk_sqs::operation::delete_message::DeleteMessageInput;
use aws_sdk_sqs::operation::delete_message_batch::{
    DeleteMessageBatchInput, DeleteMessageBatchOutput,
};
use aws_sdk_sqs::operation::receive_message::{ReceiveMessageInput, ReceiveMessageOutput};
use aws_sdk_sqs::operation::send_message::{SendMessageInput, SendMessageOutput};
use aws_sdk_sqs::operation::send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput};
use aws_sdk_sqs::types::BatchResultErrorEntry;
use aws_smithy_runtime_api::client::interceptors::context::{Input, Output};
use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};

use super::Settings;
use super::call::{End, EntryResult, Open, Spans, count};
use super::message::Outgoing;
use super::span::{self, Destination, Operation, Start};
use super::{receive, send};

/// What a call does, where, with how many messages, and the spans that were started for it.
pub(super) type Started = (Operation, Destination, usize, Spans);

/// Starts what the operation calls for, and changes its input accordingly.
pub(crate) fn open(
    settings: Arc<Settings>,
    input: &mut Input,
    parent: Context,
    started: (Instant, SystemTime),
) -> Option<Open> {
    let (operation, destination, messages, spans) = start(&settings, input, &parent)?;
    let (server, request_id) = (Vec::new(), None);
    Some(Open {
        settings,
        operation,
        destination,
        parent,
        started,
        messages,
        server,
        request_id,
        spans,
    })
}

fn start(settings: &Settings, input: &mut Input, parent: &Context) -> Option<Started> {
    if let Some(input) = input.downcast_mut::<SendMessageInput>() {
        let queue = Destination::queue(input.queue_url.as_deref());
        let spans = send::single(settings, Outgoing::single(input), &queue, parent);
        return Some((Operation::Send, queue, 1, spans));
    }
    if let Some(input) = input.downcast_mut::<SendMessageBatchInput>() {
        let queue = Destination::queue(input.queue_url.as_deref());
        let entries = input.entries.iter_mut().flatten();
        let messages: Vec<_> = entries.map(Outgoing::entry).collect();
        let sending = messages.len();
        let spans = send::batch(settings, messages, &queue, parent);
        return Some((Operation::Send, queue, sending, spans));
    }
    if let Some(input) = input.downcast_mut::<ReceiveMessageInput>() {
        receive::ask(settings, input);
        let queue = Destination::queue(input.queue_url.as_deref());
        return Some((Operation::Receive, queue, 0, Spans::default()));
    }
    #[cfg(feature = "sns")]
    if let Some(started) = super::sns::start(settings, input, parent) {
        return Some(started);
    }
    let (operation, queue, batch) = settling(input)?;
    let spans = settle_spans(settings, operation, &queue, batch, parent);
    Some((operation, queue, batch.unwrap_or(1), spans))
}

/// What a settling call does, to which queue, and for a batch to how many messages.
fn settling(input: &Input) -> Option<(Operation, Destination, Option<usize>)> {
    let (operation, url, batch) = if let Some(input) = input.downcast_ref::<DeleteMessageInput>() {
        (Operation::Delete, input.queue_url(), None)
    } else if let Some(input) = input.downcast_ref::<DeleteMessageBatchInput>() {
        (
            Operation::Delete,
            input.queue_url(),
            Some(input.entries().len()),
        )
    } else if let Some(input) = input.downcast_ref::<ChangeMessageVisibilityInput>() {
        (Operation::ChangeVisibility, input.queue_url(), None)
    } else {
        let input = input.downcast_ref::<ChangeMessageVisibilityBatchInput>()?;
        (
            Operation::ChangeVisibility,
            input.queue_url(),
            Some(input.entries().len()),
        )
    };
    Some((operation, Destination::queue(url), batch))
}

fn settle_spans(
    settings: &Settings,
    operation: Operation,
    queue: &Destination,
    batch: Option<usize>,
    parent: &Context,
) -> Spans {
    if !settings.settle_spans {
        return Spans::default();
    }
    let count =
        batch.map(|messages| KeyValue::new("messaging.batch.message_count", count(messages)));
    let context = span::start(
        settings,
        Start {
            operation,
            kind: SpanKind::Client,
            destination: queue,
            parent,
            at: None,
            links: Vec::new(),
            attributes: count.into_iter().collect(),
        },
    );
    Spans {
        context: Some(context),
        ..Spans::default()
    }
}

/// What the answer says came of the call.
pub(crate) fn end(settings: &Settings, output: &Output) -> End {
    if let Some(output) = output.downcast_ref::<SendMessageOutput>() {
        return End::Done {
            message_id: output.message_id().map(str::to_owned),
        };
    }
    if let Some(output) = output.downcast_ref::<ReceiveMessageOutput>() {
        return End::Received(receive::received(settings, output.messages()));
    }
    if let Some(output) = output.downcast_ref::<SendMessageBatchOutput>() {
        let sent = output
            .successful()
            .iter()
            .map(|entry| (entry.id(), Some(entry.message_id())));
        return End::Entries(results(sent, failures(output.failed())));
    }
    if let Some(output) = output.downcast_ref::<DeleteMessageBatchOutput>() {
        return End::Entries(results(
            output.successful().iter().map(|entry| (entry.id(), None)),
            failures(output.failed()),
        ));
    }
    if let Some(output) = output.downcast_ref::<ChangeMessageVisibilityBatchOutput>() {
        return End::Entries(results(
            output.successful().iter().map(|entry| (entry.id(), None)),
            failures(output.failed()),
        ));
    }
    #[cfg(feature = "sns")]
    if let Some(end) = super::sns::end(output) {
        return end;
    }
    End::Done { message_id: None }
}

/// Ids and codes.
fn failures(failed: &[BatchResultErrorEntry]) -> impl Iterator<Item = (&str, &str)> {
    failed.iter().map(|entry| (entry.id(), entry.code()))
}

/// What became of each entry: ids with message ids, and ids with error codes.
pub(super) fn results<'a>(
    done: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    failed: impl Iterator<Item = (&'a str, &'a str)>,
) -> HashMap<String, EntryResult> {
    let done = done.map(|(id, message_id)| {
        let message_id = message_id.map(str::to_owned);
        (id.to_owned(), EntryResult::Done { message_id })
    });
    let failed = failed.map(|(id, code)| {
        let code = code.to_owned();
        (id.to_owned(), EntryResult::Failed { code })
    });
    done.chain(failed).collect()
}
