//! The way of ended spans out of the process, on the invocation's own task.
//!
//! Spans that end are put into a bounded list. A flush takes them out, lets `opentelemetry-otlp`
//! make an export request of them, and puts the request into the outbox; the outbox is then sent,
//! oldest first. What is not acknowledged stays there and is sent again by the next flush, so a
//! flush that is cut off loses nothing. There is no thread, no task and no timer of our own:
//! nothing runs between invocations.

mod client;
mod extension;
mod outbox;
#[cfg(feature = "metrics")]
mod points;
mod route;
mod target;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

pub(crate) use extension::{Extension, Presence};
use outbox::Outbox;
#[cfg(feature = "metrics")]
pub(crate) use points::Points;
pub(crate) use route::Client;
pub(crate) use target::Target;

/// How many ended spans are kept; more are dropped and counted.
const SPANS_MAX: usize = 8_192;

/// How many spans one request carries, and how many start a flush beside the running records.
/// 1,000 take 2.9 µs each to encode and send, 10,000 at once 3.5 (page faults of 5 MB bodies).
pub(crate) const FLUSH_SPANS: usize = 512;

/// The spans that have ended and are not encoded yet. One clone is the provider's span processor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ended: Mutex<Vec<SpanData>>,
    received: AtomicU64,
    overflowed: AtomicU64,
    /// Told when there is a whole request's worth.
    full: tokio::sync::Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is a list of finished things: there is no state that a panic leaves half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Buffer ===

impl Buffer {
    /// The number of spans that wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0.ended).len()
    }

    fn take(&self) -> Vec<SpanData> {
        let mut ended = lock(&self.0.ended);
        let n = ended.len().min(FLUSH_SPANS);
        if n == ended.len() {
            return std::mem::take(&mut *ended);
        }
        let rest = ended.split_off(n);
        std::mem::replace(&mut *ended, rest)
    }
}

impl SpanProcessor for Buffer {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        // A span may be recorded for the processors' sake without being sampled.
        if !span.span_context.is_sampled() {
            return;
        }
        self.0.received.fetch_add(1, Ordering::Relaxed);
        let mut ended = lock(&self.0.ended);
        if ended.len() < SPANS_MAX {
            ended.push(span);
            if ended.len() == FLUSH_SPANS {
                self.0.full.notify_one();
            }
        } else {
            self.0.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(()) // only a flush of ours can wait without blocking the task
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// What became of the spans so far. `received = exported + rejected + dropped + pending`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Sampled spans that ended.
    pub received: u64,
    /// Acknowledged by the extension or the endpoint.
    pub exported: u64,
    /// Refused for good by the endpoint.
    pub rejected: u64,
    /// Dropped because more was waiting than is kept: 8,192 ended spans, and 4 MiB of requests
    /// that were not acknowledged.
    pub dropped: u64,
    /// Waiting to be sent.
    pub pending: u64,
}

/// Everything between the provider and the network.
#[derive(Debug)]
pub(crate) struct Pipeline {
    buffer: Buffer,
    encoder: opentelemetry_otlp::SpanExporter,
    outbox: Outbox,
    client: Client,
    #[cfg(feature = "metrics")]
    points: Option<Points>,
    /// One flush at a time: a flush that found the buffer empty because another one has its spans
    /// in flight must not return before they are acknowledged.
    turn: tokio::sync::Mutex<()>,
}

impl Pipeline {
    /// Connects a buffer to a client. Nothing is sent before the first flush.
    pub(crate) fn new(buffer: Buffer, client: Client, resource: &Resource) -> Option<Self> {
        let outbox = Outbox::default();
        // The exporter only encodes: its client puts the request into the outbox.
        let mut encoder = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(outbox.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(outbox::TRACES)
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .ok()?;
        encoder.set_resource(resource);
        Some(Self {
            buffer,
            encoder,
            outbox,
            client,
            #[cfg(feature = "metrics")]
            points: None,
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Lets data points leave as well.
    #[cfg(feature = "metrics")]
    pub(crate) fn with_points(self, points: Points) -> Self {
        Self {
            points: Some(points),
            ..self
        }
    }

    /// Sends what the instruments have recorded, within `limit`.
    pub(crate) async fn flush_points(&self, limit: Duration) {
        #[cfg(feature = "metrics")]
        if let Some(points) = &self.points {
            points.flush(&self.client, limit).await;
        }
        let _ = limit;
    }

    /// The number of spans that are not encoded yet.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Sends what there is, within `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        // The export itself makes no spans.
        let quiet = Context::current().with_telemetry_suppressed();
        let sending = self.send_all().with_context(quiet);
        let _ = tokio::time::timeout(limit, sending).await;
    }

    async fn send_all(&self) {
        let _turn = self.turn.lock().await;
        // Ends with the turn, also when the flush is cut off.
        let _attempt = self.outbox.attempt();
        loop {
            let spans = self.buffer.take();
            if spans.is_empty() {
                break;
            }
            // Encoding does not wait for anything, so it is not cut off between taking the spans
            // and having them in the outbox.
            self.outbox.expect(spans.len());
            if self.encoder.export(spans).await.is_err() {
                self.outbox.on_encode_error();
            }
            if !self.outbox.send(&self.client).await {
                // No use to go on, but what has ended is kept in its small, encoded form.
                self.encode_rest().await;
                return;
            }
        }
        self.outbox.send(&self.client).await;
    }

    async fn encode_rest(&self) {
        loop {
            let spans = self.buffer.take();
            if spans.is_empty() {
                return;
            }
            self.outbox.expect(spans.len());
            if self.encoder.export(spans).await.is_err() {
                self.outbox.on_encode_error();
            }
        }
    }

    /// Waits until a whole request's worth of spans has ended.
    pub(crate) fn full(&self) -> impl Future<Output = ()> + Send + use<> {
        let buffer = self.buffer.clone();
        async move { buffer.0.full.notified().await }
    }

    pub(crate) fn counts(&self) -> SpanCounts {
        let mut counts = self.outbox.counts();
        counts.received = self.buffer.0.received.load(Ordering::Relaxed);
        counts.dropped += self.buffer.0.overflowed.load(Ordering::Relaxed);
        counts.pending += self.buffer.len() as u64;
        counts
    }
}
