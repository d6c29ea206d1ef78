//! The spans of a batch while they are open.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lambda_events::sqs::SqsMessage;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use super::failure::Failure;
use super::options::Options;
use crate::consumer_span::{self, Queue};
use crate::metrics::Processing;
use crate::parent::RecordContext;
use crate::runtime::Driven;
use crate::sampler::DeferredDecision;
use crate::telemetry::Telemetry;

/// The caller's context, without the span that `lambda_runtime`'s own `TracingLayer` makes.
///
/// That one is no SERVER span: it is INTERNAL, a trace of its own, and ends after the last flush
/// of its invocation. As a parent or link it would point at nothing.
pub(super) fn ambient() -> Context {
    let current = Context::current();
    let stray = tracing::Span::current()
        .metadata()
        .is_some_and(|m| m.target().starts_with("lambda_runtime"));
    if !(stray && current.has_active_span()) {
        return current;
    }
    let mut without = Context::new().with_baggage(crate::baggage::copy(current.baggage()));
    if let Some(driven) = current.get::<Driven>() {
        without = without.with_value(driven.clone());
    }
    without
}

/// A span that has been started, and its context. It is ended once, by whoever comes first.
#[derive(Debug)]
pub(super) struct OpenSpan {
    pub(super) cx: Context,
    ended: AtomicBool,
    /// Of a record's span: when it began, and the metric that is as long as it.
    measured: Option<(SystemTime, Processing)>,
}

impl OpenSpan {
    fn new(cx: Context) -> Self {
        Self {
            cx,
            ended: AtomicBool::new(false),
            measured: None,
        }
    }

    /// Ends the span, unless it has been ended.
    pub(super) fn end(&self, failure: Option<&Failure>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let span = self.cx.span();
        // Trace API, "Set Status": success stays unset.
        if let Some(Failure { error_type, detail }) = failure {
            span.set_attribute(KeyValue::new("error.type", error_type.clone()));
            let description = detail.clone().unwrap_or_else(|| error_type.clone());
            span.set_status(Status::error(description));
        }
        let now = SystemTime::now();
        span.end_with_timestamp(now);
        if let Some((started, processing)) = &self.measured {
            let took = now.duration_since(*started).unwrap_or_default();
            processing.ended(took, failure.map(|failure| &failure.error_type));
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.end(Some(&Failure::CANCELLED));
    }
}

/// The spans that are open, so that they can be ended from outside when the deadline is near.
#[derive(Debug, Default)]
pub(super) struct OpenSpans(Mutex<HashMap<usize, Arc<OpenSpan>>>);

impl OpenSpans {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Arc<OpenSpan>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, index: usize, span: &Arc<OpenSpan>) {
        self.lock().insert(index, Arc::clone(span));
    }

    pub(super) fn remove(&self, index: usize) {
        self.lock().remove(&index);
    }

    /// Ends all of them as timed out.
    pub(super) fn time_out(&self) {
        for span in self.lock().values() {
            span.end(Some(&Failure::TIMEOUT));
        }
    }
}

/// Does something that calls hooks of the user's, for the sake of a span. Should one of them panic,
/// there is no span, and the record is processed all the same.
pub(super) fn without_panics<T>(make: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
        tracing::error!(target: "throughline", "a hook for spans panicked; the span is left out");
        None
    })
}

/// Starts the span of a record; gives it together with the context that the record is processed in.
pub(super) fn start_record(
    telemetry: &Telemetry,
    options: &Options,
    base: &Context,
    message: &SqsMessage,
    queue: Option<&Queue>,
    record: &RecordContext,
    now: SystemTime,
) -> Option<OpenSpan> {
    let tracer = telemetry.tracer()?;
    let named = options.span_name.as_ref().and_then(|name| name(message));
    let name = named.unwrap_or_else(|| consumer_span::name(&options.attributes.operation, queue));
    let source = record.source.as_str();
    let mut attributes =
        consumer_span::record_attributes(&options.attributes, queue, message, source, now);
    if let Some(extra) = &options.span_attributes {
        attributes.extend(extra(message));
    }
    let mut links: Vec<Link> = record
        .links
        .iter()
        .map(|sc| link(sc.clone(), Vec::new()))
        .collect();
    let around = base.span().span_context().clone();
    let parent = match &record.parent {
        Some(parent) => {
            if around.is_valid() {
                links.push(link(around, Vec::new()));
            }
            let cx = base.with_remote_span_context(parent.span_context.clone());
            if parent.deferred {
                cx.with_value(DeferredDecision)
            } else {
                cx
            }
        }
        None => base.clone(),
    };
    let span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Consumer)
        .with_start_time(now)
        .with_attributes(attributes)
        .with_links(links)
        .start_with_context(tracer, &parent);
    // On top of what was current, not of the parent: the mark of a deferred decision must not be
    // inherited, and the baggage is the record's own.
    let mut open = OpenSpan::new(record.processing_context(&base.with_span(span)));
    let operation = &options.attributes.operation;
    let processing = telemetry
        .metrics()
        .and_then(|metrics| metrics.processing(operation, queue));
    open.measured = processing.map(|processing| (now, processing));
    Some(open)
}

/// Starts the span of the batch.
pub(super) fn start_batch<'a>(
    telemetry: &Telemetry,
    options: &Options,
    ambient: &Context,
    records: impl Iterator<
        Item = (
            &'a SqsMessage,
            Option<Arc<Queue>>,
            Option<&'a RecordContext>,
        ),
    >,
) -> Option<OpenSpan> {
    let tracer = telemetry.tracer()?;
    let (mut links, mut queues, mut count) = (Vec::new(), Vec::<Option<Arc<Queue>>>::new(), 0);
    for (message, queue, record) in records {
        count += 1;
        if let Some(creation) = record.and_then(|record| record.creation.as_ref()) {
            let id = message.message_id.clone();
            links.push((creation.clone(), id, queue.clone()));
        }
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    let limit = telemetry.links_max();
    if links.len() > limit {
        // A producer that makes no span per message gives all of them one context.
        let mut seen = HashSet::new();
        links.retain(|(sc, ..)| seen.insert((sc.trace_id(), sc.span_id())));
    }
    let several = queues.len() > 1;
    let links = links
        .into_iter()
        .map(|(sc, id, queue)| {
            let id = id.map(|id| KeyValue::new("messaging.message.id", id));
            let queue = queue
                .filter(|_| several)
                .map(|queue| KeyValue::new("messaging.destination.name", queue.name.clone()));
            link(sc, id.into_iter().chain(queue).collect())
        })
        .collect();
    let queue = queues.first().cloned().flatten().filter(|_| !several);
    let operation: &Cow<'static, str> = &options.attributes.operation;
    let span = tracer
        .span_builder(consumer_span::name(operation, queue.as_deref()))
        .with_kind(SpanKind::Consumer)
        .with_attributes(consumer_span::batch_attributes(
            &options.attributes,
            queue.as_deref(),
            count,
        ))
        // What is over the limit is cut off there, and counted.
        .with_links(links)
        .start_with_context(tracer, ambient);
    Some(OpenSpan::new(ambient.with_span(span)))
}

fn link(span_context: opentelemetry::trace::SpanContext, attributes: Vec<KeyValue>) -> Link {
    Link::new(span_context, attributes, 0)
}
