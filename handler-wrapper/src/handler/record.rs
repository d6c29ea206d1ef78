//! One record, in a span of its own.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::FromMessage;
use super::failure::Failure;
use super::options::Options;
use super::spans::{self, OpenSpans};
use crate::consumer_span::Queue;
use crate::event::{Defect, Record};
use crate::logs::{LogFields, anchor_span};
use crate::parent::{self, RecordContext};
use crate::telemetry::Telemetry;

/// What all records of one invocation share.
pub(super) struct Invocation<F> {
    pub(super) process: Arc<F>,
    pub(super) options: Arc<Options>,
    pub(super) context_options: parent::ContextOptions,
    pub(super) telemetry: Telemetry,
    /// What is current around each record: the batch span, or the caller's context.
    pub(super) base: Context,
    pub(super) request_id: Arc<str>,
    pub(super) open: OpenSpans,
    pub(super) cancel_at: Option<Instant>,
}

/// One record on its way.
pub(super) struct Work {
    pub(super) index: usize,
    pub(super) record: Record,
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) context: Option<RecordContext>,
}

/// Processes one record in a span of its own; gives back why it failed, if it did.
pub(super) async fn process_record<F, A, Fut, E>(
    invocation: Arc<Invocation<F>>,
    work: Work,
) -> (usize, Option<Failure>)
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    A: FromMessage + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    let Work {
        index,
        record,
        queue,
        context,
    } = work;
    let Record { message, defect } = record;
    let options = &invocation.options;
    let span = spans::without_panics(|| {
        let (telemetry, base) = (&invocation.telemetry, &invocation.base);
        if !telemetry.is_enabled() {
            return None;
        }
        let now = SystemTime::now();
        let context =
            context.unwrap_or_else(|| parent::read(&message, &invocation.context_options, now));
        spans::start_record(
            telemetry,
            options,
            base,
            &message,
            queue.as_deref(),
            &context,
            now,
        )
    });
    let span = span.map(Arc::new);
    if let Some(span) = &span {
        invocation.open.insert(index, span);
    }
    // Dropped with this future, should the invocation be: the span ends as cancelled then.
    let guard = Forget {
        invocation: &invocation,
        index,
    };

    let around = span.as_ref().map_or(&invocation.base, |span| &span.cx);
    let cx = around.with_value(LogFields {
        request_id: invocation.request_id.clone(),
        message_id: message.message_id.as_deref().map(Into::into),
    });
    let anchor = {
        let _current = cx.clone().attach();
        anchor_span()
    };
    let work = async {
        match defect {
            Some(Defect::NotAnObject) => return Err(Failure::INVALID_RECORD),
            Some(Defect::NoBody) => return Err(Failure::INVALID_BODY),
            None => {}
        }
        let argument =
            A::from_message(message).map_err(|error| Failure::invalid_body(options, &error))?;
        let processing = (invocation.process)(argument);
        processing
            .await
            .map_err(|error| Failure::error(options, &error))
    };
    // Around the making of the future as well: a processor may panic before its first await.
    let guarded = AssertUnwindSafe(work)
        .catch_unwind()
        .instrument(anchor)
        .with_context(cx.clone());
    let ended = match invocation.cancel_at {
        Some(at) => timeout_at(at, guarded).await,
        None => Ok(guarded.await),
    };
    let failure = match ended {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(failure))) => Some(failure),
        Ok(Err(_panic)) => Some(Failure::PANIC),
        Err(_elapsed) => Some(Failure::TIMEOUT),
    };
    if let Some(failure) = &failure {
        let _current = cx.attach();
        tracing::warn!(target: "throughline", error_type = %failure.error_type, "record failed");
    }
    drop(guard);
    if let Some(span) = span {
        span.end(failure.as_ref());
    }
    (index, failure)
}

/// Takes a record's span out of the open ones when it is dropped.
struct Forget<'a, F> {
    invocation: &'a Invocation<F>,
    index: usize,
}

impl<F> Drop for Forget<'_, F> {
    fn drop(&mut self) {
        self.invocation.open.remove(self.index);
    }
}
