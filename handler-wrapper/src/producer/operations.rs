//! Which of SQS's operations are traced, and what each starts and ends with.

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
use super::span::{self, Operation, Queue, Start};
use super::{receive, send};

/// Starts what the operation calls for, and changes its input accordingly.
pub(crate) fn open(
    settings: Arc<Settings>,
    input: &mut Input,
    parent: Context,
    started: (Instant, SystemTime),
) -> Option<Open> {
    let (operation, queue, messages, spans) =
        if let Some(input) = input.downcast_mut::<SendMessageInput>() {
            let queue = Queue::new(input.queue_url.as_deref());
            let spans = send::single(&settings, Outgoing::single(input), &queue, &parent);
            (Operation::Send, queue, 1, spans)
        } else if let Some(input) = input.downcast_mut::<SendMessageBatchInput>() {
            let queue = Queue::new(input.queue_url.as_deref());
            let messages: Vec<_> = input
                .entries
                .iter_mut()
                .flatten()
                .map(Outgoing::entry)
                .collect();
            let sending = messages.len();
            let spans = send::batch(&settings, messages, &queue, &parent);
            (Operation::Send, queue, sending, spans)
        } else if let Some(input) = input.downcast_mut::<ReceiveMessageInput>() {
            receive::ask(&settings, input);
            (
                Operation::Receive,
                Queue::new(input.queue_url.as_deref()),
                0,
                Spans::default(),
            )
        } else {
            let (operation, queue, batch) = settling(input)?;
            let spans = settle_spans(&settings, operation, &queue, batch, &parent);
            (operation, queue, batch.unwrap_or(1), spans)
        };
    let (server, request_id) = (Vec::new(), None);
    Some(Open {
        settings,
        operation,
        queue,
        parent,
        started,
        messages,
        server,
        request_id,
        spans,
    })
}

/// What a settling call does, to which queue, and for a batch to how many messages.
fn settling(input: &Input) -> Option<(Operation, Queue, Option<usize>)> {
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
    Some((operation, Queue::new(url), batch))
}

fn settle_spans(
    settings: &Settings,
    operation: Operation,
    queue: &Queue,
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
            queue,
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

/// What SQS's answer says came of the call.
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
        return End::Entries(results(sent, output.failed()));
    }
    if let Some(output) = output.downcast_ref::<DeleteMessageBatchOutput>() {
        return End::Entries(results(
            output.successful().iter().map(|entry| (entry.id(), None)),
            output.failed(),
        ));
    }
    if let Some(output) = output.downcast_ref::<ChangeMessageVisibilityBatchOutput>() {
        return End::Entries(results(
            output.successful().iter().map(|entry| (entry.id(), None)),
            output.failed(),
        ));
    }
    End::Done { message_id: None }
}

fn results<'a>(
    done: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    failed: &'a [BatchResultErrorEntry],
) -> HashMap<String, EntryResult> {
    let done = done.map(|(id, message_id)| {
        (
            id.to_owned(),
            EntryResult::Done {
                message_id: message_id.map(str::to_owned),
            },
        )
    });
    let failed = failed.iter().map(|entry| {
        (
            entry.id().to_owned(),
            EntryResult::Failed {
                code: entry.code().to_owned(),
            },
        )
    });
    done.chain(failed).collect()
}
