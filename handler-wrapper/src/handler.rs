//! The handler: a tower service that takes a batch and answers for it.

mod batch;
mod builder;
mod driver;
mod failure;
mod message;
mod options;
mod record;
mod spans;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lambda_events::sqs::SqsBatchResponse;
use lambda_runtime::LambdaEvent;
use tower::Service;

use crate::event::Batch;
use crate::outcome::BatchError;

#[cfg(feature = "producer")]
pub(crate) use failure::type_name;
pub use message::{FromMessage, Json};
pub use options::BatchSpan;
use options::Options;

/// A handler for SQS batches, made by [`traced_sqs_handler`].
///
/// It is a `Clone` tower [`Service`] over `LambdaEvent<`[`Batch`]`>`: give it to
/// [`throughline::run`](crate::run), to `lambda_runtime::run` or `run_concurrent`, or wrap it in
/// other layers.
pub struct SqsHandler<F, A> {
    process: Arc<F>,
    options: Arc<Options>,
    argument: PhantomData<fn(A)>,
}

/// Wraps `process`, which handles one message, into a handler for batches.
///
/// Each record gets a CONSUMER span that continues the trace of its producer, and is current while
/// `process` runs, for `tracing` and for OpenTelemetry's API. A record whose processing returns an
/// error or panics is a failed record.
///
/// The latter needs `panic = "unwind"`, which is Cargo's default but not that of `cargo lambda build
/// --release` (and so of `sam build`): write it into the release profile of your `Cargo.toml`. With
/// `"abort"` a panic ends the function, and all of the batch is delivered again.
///
/// # Answers
///
/// By default the answer is for the whole batch: if any record failed, the invocation fails, and
/// SQS delivers all of it again. That is safe under every event source mapping. A partial answer
/// under a mapping without `ReportBatchItemFailures` silently deletes the failed messages, and the
/// event does not tell which kind of mapping it came from. So partial answers are asked for where
/// the mapping is set up: by [`partial_batch`](SqsHandler::partial_batch) in code, or with
/// `THROUGHLINE_PARTIAL_BATCH=1` in the function's environment.
///
/// ```
/// use throughline::{SqsMessage, traced_sqs_handler};
///
/// async fn process(message: SqsMessage) -> Result<(), std::io::Error> {
///     println!("{:?}", message.body);
///     Ok(())
/// }
///
/// let handler = traced_sqs_handler(process).partial_batch();
/// # drop(handler);
/// ```
pub fn traced_sqs_handler<F, A, Fut, E>(process: F) -> SqsHandler<F, A>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    A: FromMessage + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    SqsHandler {
        process: Arc::new(process),
        options: Arc::default(),
        argument: PhantomData,
    }
}

// === impl SqsHandler ===

impl<F, A> SqsHandler<F, A> {
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<F, A> Clone for SqsHandler<F, A> {
    fn clone(&self) -> Self {
        Self {
            process: Arc::clone(&self.process),
            options: Arc::clone(&self.options),
            argument: PhantomData,
        }
    }
}

impl<F, A> fmt::Debug for SqsHandler<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsHandler")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<F, A, Fut, E> Service<LambdaEvent<Batch>> for SqsHandler<F, A>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    A: FromMessage + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    type Response = SqsBatchResponse;
    type Error = BatchError;
    type Future = Pin<Box<dyn Future<Output = Result<SqsBatchResponse, BatchError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BatchError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: LambdaEvent<Batch>) -> Self::Future {
        let (process, options) = (Arc::clone(&self.process), Arc::clone(&self.options));
        // The caller's context, taken here: the future may be polled in another one.
        let ambient = spans::ambient();
        Box::pin(batch::run(process, options, event, ambient))
    }
}
