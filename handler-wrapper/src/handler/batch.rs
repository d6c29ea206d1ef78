//! One invocation: runs the records, watches the deadline, and answers.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lambda_events::sqs::SqsBatchResponse;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lambda_runtime::LambdaEvent;
use opentelemetry::Context;
use opentelemetry::trace::{FutureExt as _, TraceContextExt as _};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument as _;

use super::FromMessage;
use super::failure::Failure;
use super::options::{BatchSpan, Options};
use super::spans::{self, OpenSpan, OpenSpans};
use crate::consumer_span::{Queue, Queues};
use crate::event::{Batch, Defect, Record};
use crate::export::FLUSH_SPANS;
use crate::logs::{LogFields, anchor_span};
use crate::outcome::{AnswerPolicy, BatchError, Outcome, answer};
use crate::parent::{self, Deferred, RecordContext, Relation};
use crate::runtime::{Driven, sensible};
use crate::schedule::{OnFailure, Schedule};
use crate::telemetry::Telemetry;

/// From this many ended spans on, no record is started before a flush has taken some away, so that
/// a processor that never waits for anything cannot fill the 8,192 that are kept.
const HOLD_SPANS: usize = 4 * FLUSH_SPANS;

/// How long records may be held back by exports, in the whole invocation.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// What the flush before the answer may take, where nothing runs after the answer.
const FLUSH_BEFORE_ANSWER: Duration = Duration::from_millis(250);

/// What all records of one invocation share.
struct Invocation<F> {
    process: Arc<F>,
    options: Arc<Options>,
    context_options: parent::ContextOptions,
    telemetry: Telemetry,
    /// What is current around each record: the batch span, or the caller's context.
    base: Context,
    request_id: Arc<str>,
    open: OpenSpans,
    cancel_at: Option<Instant>,
}

/// One record on its way.
struct Work {
    index: usize,
    record: Record,
    queue: Option<Arc<Queue>>,
    context: Option<RecordContext>,
}

type Flushing = Pin<Box<dyn Future<Output = ()> + Send>>;

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
    let flushed_by_us = !driven.is_some_and(|driven| driven.is_same(&telemetry));
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
        telemetry.end_invocation(&context.request_id, limit).await;
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
        work.context = Some(parent::read(&work.record.message, context_options, now));
    }
    let records = work
        .iter()
        .flatten()
        .filter_map(|w| Some((&w.record.message, w.queue.clone(), w.context.as_ref()?)));
    spans::start_batch(telemetry, options, ambient, records)
}

/// The moments before the deadline at which something happens.
struct Clock {
    observe_at: Option<Instant>,
    stop_at: Option<Instant>,
}

impl Clock {
    fn new(options: &Options, deadline: Option<SystemTime>, now: (Instant, SystemTime)) -> Self {
        let left = deadline.map(|deadline| deadline.duration_since(now.1).unwrap_or_default());
        let at = |margin: Duration| left.map(|left| now.0 + left.saturating_sub(margin));
        Self {
            // The extension stops waiting later than this, so what is exported here still leaves.
            observe_at: left
                .filter(|_| options.observe_deadline)
                .and_then(|left| at((left / 5).min(Duration::from_secs(1)))),
            stop_at: options.stop_margin.and_then(at),
        }
    }
}

/// Starts records, collects what became of them, and lets spans leave beside them.
struct Driver<F> {
    invocation: Arc<Invocation<F>>,
    work: Vec<Option<Work>>,
    schedule: Schedule,
    width: usize,
    clock: Clock,
}

impl<F> Driver<F> {
    async fn run<A, Fut, E>(mut self) -> Vec<(Outcome, Option<Failure>)>
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        A: FromMessage + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: 'static,
    {
        let mut ended = vec![(Outcome::NotStarted, None); self.work.len()];
        let mut running = FuturesUnordered::new();
        let mut flushing: Option<Flushing> = None;
        let mut flush_from = FLUSH_SPANS;
        let mut held = Hold::default();
        loop {
            let waiting = self.invocation.telemetry.waiting();
            if flushing.is_none() && waiting >= flush_from {
                let telemetry = self.invocation.telemetry.clone();
                flushing = Some(Box::pin(async move { telemetry.flush_spans().await }));
            }
            if self.clock.stop_at.is_some_and(|at| Instant::now() >= at) {
                self.schedule.stop();
            }
            let hold = held.update(flushing.is_some() && waiting >= HOLD_SPANS);
            while !hold && running.len() < self.width {
                let Some(work) = self.schedule.next().and_then(|i| self.work[i].take()) else {
                    break;
                };
                running.push(process_record(Arc::clone(&self.invocation), work));
            }
            if running.is_empty() && !hold {
                break;
            }
            tokio::select! {
                biased;
                () = at(self.clock.observe_at) => {
                    self.clock.observe_at = None;
                    self.invocation.open.time_out();
                    // From here on nothing waits: the sandbox may be killed any moment.
                    flush_from = 1;
                }
                () = at(self.clock.stop_at) => {
                    self.clock.stop_at = None;
                    self.schedule.stop();
                }
                () = finish(&mut flushing) => flushing = None,
                Some((index, failure)) = running.next() => {
                    self.schedule.on_end(index, failure.is_none());
                    ended[index] = match failure {
                        None => (Outcome::Succeeded, None),
                        Some(failure) => (Outcome::Failed, Some(failure)),
                    };
                }
            }
        }
        if let Some(flushing) = flushing {
            // The answer does not wait for it; the last flush of the invocation does.
            tokio::spawn(flushing);
        }
        ended
    }
}

/// Measures how long records have been held back.
#[derive(Debug, Default)]
struct Hold {
    since: Option<Instant>,
    spent: Duration,
}

impl Hold {
    /// Whether to hold back now, given that there is reason to.
    fn update(&mut self, reason: bool) -> bool {
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.spent += now - since;
        }
        let hold = reason && self.spent < HOLD_MAX;
        if hold {
            self.since = Some(now);
        }
        hold
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn finish(flushing: &mut Option<Flushing>) {
    match flushing {
        Some(flushing) => flushing.await,
        None => std::future::pending().await,
    }
}

/// Processes one record in a span of its own; gives back why it failed, if it did.
async fn process_record<F, A, Fut, E>(
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
    let span = invocation.telemetry.is_enabled().then(|| {
        let now = SystemTime::now();
        let context =
            context.unwrap_or_else(|| parent::read(&message, &invocation.context_options, now));
        let (telemetry, base) = (&invocation.telemetry, &invocation.base);
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
    let span = span.flatten().map(Arc::new);
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
