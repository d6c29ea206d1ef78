//! One invocation: what is set up for its batch, and the answer.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lambda_events::sqs::SqsBatchResponse;
use lambda_runtime::LambdaEvent;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tokio::time::Instant;

use super::FromMessage;
use super::driver::{Clock, Driver};
use super::failure::Failure;
use super::options::{BatchSpan, Options};
use super::record::{Invocation, Work};
use super::spans::{self, OpenSpan, OpenSpans};
use crate::consumer_span::Queues;
use crate::event::Batch;
use crate::logs::LogFields;
use crate::outcome::{AnswerPolicy, BatchError, answer};
use crate::parent::{self, Deferred, Relation};
use crate::runtime::{Driven, sensible};
use crate::schedule::{OnFailure, Schedule};
use crate::telemetry::Telemetry;

/// What the flush before the answer may take, where nothing runs after the answer.
const FLUSH_BEFORE_ANSWER: Duration = Duration::from_millis(250);

/// Processes a batch.
pub(super) async fn run<F, A, Fut, E>(
    process: Arc<F>,
    options: Arc<Options>,
    event: LambdaEvent<Batch>,
    ambient: Context,
) -> Result<SqsBatchResponse, BatchError>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    A: FromMessage + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    let LambdaEvent { payload, context } = event;
    let started = SystemTime::now();
    let deadline = sensible(context.deadline(), started);
    let driven = ambient.get::<Driven>().map(|driven| driven.0.clone());
    let telemetry = match (&options.telemetry, &driven) {
        (Some(own), _) => own.clone(),
        (None, Some(driven)) => driven.clone(),
        (None, None) => Telemetry::global().await,
    };
    let flushed_by_us = !driven
        .as_ref()
        .is_some_and(|driven| driven.is_same(&telemetry));
    if flushed_by_us {
        telemetry.begin_invocation();
    }

    let policy = AnswerPolicy {
        partial: options.partial.unwrap_or_else(|| telemetry.partial_batch()),
        report_all_failed: options.report_all_failed,
    };
    let request_id = context.request_id.as_str().into();
    let ambient = ambient.with_value(LogFields {
        request_id,
        message_id: None,
    });
    #[cfg(feature = "producer")]
    let ambient = crate::lineage::carry(ambient, context.xray_trace_id.as_deref());
    let result = process_batch(
        process, options, payload, ambient, &telemetry, deadline, policy,
    )
    .await;

    if flushed_by_us {
        // Nothing of ours runs after the answer here, so the spans leave before it.
        let limit = telemetry
            .flush_limit(started, deadline)
            .min(FLUSH_BEFORE_ANSWER);
        if driven.is_some() {
            // Telemetry of the handler's own; the runtime's tells the extension when all is done.
            telemetry.flush_within(limit).await;
        } else {
            telemetry.end_invocation(&context.request_id, limit).await;
        }
    }
    result
}

async fn process_batch<F, A, Fut, E>(
    process: Arc<F>,
    options: Arc<Options>,
    batch: Batch,
    ambient: Context,
    telemetry: &Telemetry,
    deadline: Option<SystemTime>,
    policy: AnswerPolicy,
) -> Result<SqsBatchResponse, BatchError>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    A: FromMessage + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    let ids: Vec<Option<String>> = batch.messages().map(|m| m.message_id.clone()).collect();
    let mut queues = Queues::default();
    let mut work: Vec<Option<Work>> = Vec::with_capacity(batch.len());
    for (index, record) in batch.records.into_iter().enumerate() {
        let queue = queues.of(&record.message);
        work.push(Some(Work {
            index,
            record,
            queue,
            context: None,
        }));
    }
    let (schedule, width) = plan(&work, &options);
    if let Some(metrics) = telemetry.metrics() {
        let queues = work.iter().flatten().map(|work| work.queue.as_deref());
        metrics.consumed(&options.attributes.operation, queues);
    }

    let mut context_options = options.context.clone();
    if !telemetry.knows_deferred() {
        context_options.deferred = Deferred::Link;
    }
    let batch_span = start_batch_span(&mut work, &options, &context_options, telemetry, &ambient);
    let base = batch_span.as_ref().map_or(ambient, |span| span.cx.clone());
    let request_id = base
        .get::<LogFields>()
        .map_or_else(|| "".into(), |f| f.request_id.clone());
    let now = (Instant::now(), SystemTime::now());
    let clock = Clock::new(&options, deadline, now);
    let invocation = Arc::new(Invocation {
        process,
        cancel_at: clock.stop_at.filter(|_| options.cancel),
        options,
        context_options,
        telemetry: telemetry.clone(),
        base,
        request_id,
        open: OpenSpans::default(),
    });
    let batch_span = batch_span.map(Arc::new);
    if let Some(span) = &batch_span {
        invocation.open.insert(usize::MAX, span);
    }

    let ended = Driver {
        invocation,
        work,
        schedule,
        width,
        clock,
    }
    .run()
    .await;

    let error_types = ended.iter().filter_map(|(_, failure)| failure.as_ref());
    let outcomes = ended.iter().map(|(outcome, _)| *outcome);
    let result = answer(ids.iter().map(Option::as_deref).zip(outcomes), policy)
        .map_err(|error| error.with_error_types(error_types.map(|f| f.error_type.clone())));
    if let Some(span) = batch_span {
        // A partial answer is an error that was handled.
        let failure = result.as_ref().err().map(|error| Failure {
            error_type: error.error_type().into(),
            detail: None,
        });
        span.end(failure.as_ref());
    }
    result
}

/// In which order and how many at once.
fn plan(work: &[Option<Work>], options: &Options) -> (Schedule, usize) {
    let works = || work.iter().flatten();
    let fifo = works().any(|w| w.queue.as_ref().is_some_and(|queue| queue.fifo));
    if !fifo {
        return (Schedule::standard(work.len()), options.concurrency.get());
    }
    let groups = works().map(|w| {
        w.record
            .message
            .attributes
            .get("MessageGroupId")
            .map(String::as_str)
    });
    let on_failure = if options.fifo_skip_group {
        OnFailure::SkipGroup
    } else {
        OnFailure::Stop
    };
    (
        Schedule::fifo(groups, on_failure),
        options.concurrency.get(),
    )
}

fn start_batch_span(
    work: &mut [Option<Work>],
    options: &Options,
    context_options: &parent::ContextOptions,
    telemetry: &Telemetry,
    ambient: &Context,
) -> Option<OpenSpan> {
    let wanted = match options.batch_span {
        BatchSpan::Always => true,
        BatchSpan::Never => false,
        BatchSpan::Auto => {
            options.context.relation == Relation::Link
                || (work.len() >= 2 && ambient.span().is_recording())
        }
    };
    if !wanted || work.is_empty() || !telemetry.is_enabled() {
        return None;
    }
    let now = SystemTime::now();
    for work in work.iter_mut().flatten() {
        let message = &work.record.message;
        work.context = spans::without_panics(|| Some(parent::read(message, context_options, now)));
    }
    let records = work
        .iter()
        .flatten()
        .map(|w| (&w.record.message, w.queue.clone(), w.context.as_ref()));
    spans::start_batch(telemetry, options, ambient, records)
}
