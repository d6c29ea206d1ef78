//! One message from the start of its processing to its deletion.

use std::borrow::Cow;
use std::fmt;
use std::time::Instant;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::types::Message;
use opentelemetry::Context;
use opentelemetry::trace::{FutureExt as _, TraceContextExt};
use tracing::Instrument as _;

use super::{Poller, fail};
use crate::handler::type_name;
use crate::logs::{LogFields, anchor_span};
use crate::metrics::Processing;

/// A message that was received, and whose span starts when it is processed.
#[derive(Clone, Debug)]
pub struct TracedMessage {
    poller: Poller,
    message: Message,
}

/// Why [`TracedMessage::process_and_delete`] did not delete a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeleteError<E> {
    /// The processor failed; the message comes again after its visibility timeout.
    Process(E),
    /// The processor succeeded, but the message could not be deleted, so it comes again.
    Delete(Box<SdkError<DeleteMessageError>>),
}

impl TracedMessage {
    pub(super) fn new(poller: Poller, message: Message) -> Self {
        Self { poller, message }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message, without a span.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Processes the message in a span of its own, under which both `tracing`'s spans and
    /// OpenTelemetry's find themselves, and gives back what the processor says.
    ///
    /// An error fails the span with the error's type name; a panic is `panic`, and goes on; a
    /// future that is dropped is `cancelled`.
    ///
    /// # Errors
    ///
    /// The processor's own.
    pub async fn process<F, Fut, T, E>(self, process: F) -> Result<T, E>
    where
        F: FnOnce(Message) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run(process).await.0
    }

    /// [`process`](Self::process), and deletes the message when the processor succeeded. The
    /// deletion belongs to the message's span: a `delete` span of the interceptor is its child.
    ///
    /// # Errors
    ///
    /// The processor's own, or that of the deletion.
    pub async fn process_and_delete<F, Fut, T, E>(
        self,
        client: &Client,
        process: F,
    ) -> Result<T, DeleteError<E>>
    where
        F: FnOnce(Message) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let delete = client
            .delete_message()
            .queue_url(self.poller.queue_url())
            .set_receipt_handle(self.message.receipt_handle.clone());
        let (processed, context) = self.run(process).await;
        let value = processed.map_err(DeleteError::Process)?;
        let deleted = delete.send().with_context(context).await;
        deleted.map_err(|error| DeleteError::Delete(Box::new(error)))?;
        Ok(value)
    }

    async fn run<F, Fut, T, E>(self, process: F) -> (Result<T, E>, Context)
    where
        F: FnOnce(Message) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let context = self.poller.start(&self.message, &Context::current());
        let context = context.with_value(LogFields {
            request_id: "".into(),
            message_id: self.message.message_id().map(Into::into),
        });
        let ending = Ending {
            context: Some(context.clone()),
            began: Instant::now(),
            measured: self.poller.measure(),
        };
        let anchor = {
            let _current = context.clone().attach();
            anchor_span()
        };
        let message = self.message;
        // The making of the future belongs to the span as well.
        let processing = async move { process(message).await };
        let result = processing
            .instrument(anchor)
            .with_context(context.clone())
            .await;
        ending.end(result.as_ref().err().map(|_| type_name::<E>()));
        (result, context)
    }
}

/// Ends a message's span, also when its processing panics or is dropped.
struct Ending {
    context: Option<Context>,
    began: Instant,
    measured: Option<Processing>,
}

impl Ending {
    fn end(mut self, error_type: Option<Cow<'static, str>>) {
        self.end_once(error_type);
    }

    fn end_once(&mut self, error_type: Option<Cow<'static, str>>) {
        let Some(context) = self.context.take() else {
            return;
        };
        if let Some(measured) = &self.measured {
            measured.ended(self.began.elapsed(), error_type.as_ref());
        }
        if let Some(error_type) = error_type {
            fail(&context, &error_type);
        }
        context.span().end();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let error_type = if std::thread::panicking() {
            "panic"
        } else {
            "cancelled"
        };
        self.end_once(Some(error_type.into()));
    }
}

// === impl DeleteError ===

impl<E: fmt::Display> fmt::Display for DeleteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(error) => write!(f, "the message was not processed: {error}"),
            Self::Delete(_) => f.write_str("the message was processed but could not be deleted"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for DeleteError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Process(error) => error.source(),
            Self::Delete(error) => Some(error),
        }
    }
}
