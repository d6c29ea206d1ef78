//! The producer's half: an interceptor for `aws-sdk-sqs`, and with the crate's feature `sns` for
//! `aws-sdk-sns`, that puts the context of a span into every message it sends.
//!
//! ```no_run
//! # async fn example(sdk_config: &aws_sdk_sqs::config::Builder) {
//! let config = sdk_config.clone().interceptor(throughline::producer::Interceptor::new()).build();
//! let client = aws_sdk_sqs::Client::from_conf(config);
//! # }
//! ```
//!
//! | operation | spans | kind |
//! |---|---|---|
//! | `SendMessage` | `send {queue}` | PRODUCER |
//! | `SendMessageBatch` | `create {queue}` per entry, `send {queue}` linked to each | PRODUCER, CLIENT |
//! | `ReceiveMessage` | `receive {queue}`, linked to each message's context; none for an empty answer | CLIENT |
//! | `DeleteMessage(Batch)`, `ChangeMessageVisibility(Batch)` | `delete {queue}` …, with [`settle_spans`](Interceptor::settle_spans) | CLIENT |
//! | `Publish` (SNS) | `send {topic}` | PRODUCER |
//! | `PublishBatch` (SNS) | `create {topic}` per entry, `send {topic}` linked to each | PRODUCER, CLIENT |
//!
//! A span covers all retries of the SDK. Its parent is the OpenTelemetry context that is current
//! where `.send()` is awaited (with a `tracing-opentelemetry` layer: the current `tracing` span).
//!
//! # What a message gets
//!
//! `traceparent`, then `tracestate`, then `baggage`, as message attributes of type `String`, each
//! only when it has a value. SQS allows ten attributes and 1 MiB a message, and 1 MiB a batch call:
//! ours take the slots and bytes that the caller leaves, in this order, and nothing of the
//! caller's is touched. **A message whose ten slots are all taken gets its context in the system
//! attribute `AWSTraceHeader` instead**, which counts as neither slot nor byte; tracestate and
//! baggage are lost there. With nine attributes of your own, `traceparent` still fits, the rest does not.
//! Whoever wants to keep all of it packs attributes of one's own into one (a JSON object in an
//! attribute `app`, say); filter policies of SNS cannot see into such an attribute.
//!
//! Inside Lambda an `AWSTraceHeader` of ours carries the invocation's `Lineage` on, so that
//! Lambda's protection against recursive loops goes on counting; where the lineage is not known,
//! the header is not written.
//!
//! Of SNS the same is true, with three differences. A message and a batch call are kept within 256 KiB,
//! unless the interceptor is told that its topics take more (`max_topic_message_bytes`).
//! **There is no place for an X-Ray header, so a full message travels without its context.** And
//! messages to phone numbers and devices are left alone, without a span.
//!
//! A `traceparent` that the caller has written is the message's creation context: it stays as it
//! is, the message gets nothing from us and no `create` span, and the `send` span links to it.
//!
//! # What is measured
//!
//! With the crate's feature `metrics`: `messaging.client.operation.duration` of every call, settling
//! included, `messaging.client.sent.messages` and `messaging.client.consumed.messages`, failures by
//! `error.type`. They need a meter provider at the time of the first call;
//! [`throughline::run`](crate::run) has one.
//!
//! # What it never does
//!
//! Fail a call: hooks never return an error, and a panic in one is caught and logged.

mod call;
mod context;
mod error_type;
mod hooks;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod operations;
mod plan;
mod receive;
mod send;
#[cfg(feature = "sns")]
mod sns;
mod span;

use std::fmt;
use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::global::{BoxedTracer, ObjectSafeTracer};
use opentelemetry::trace::{TraceContextExt, TracerProvider};

use crate::lineage::Invocation;
use crate::parent::ContextOptions;

/// When the context is (also) written into the system attribute `AWSTraceHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XrayHeader {
    /// Where `traceparent` finds no place. The default.
    #[default]
    Overflow,
    /// On every message: for consumers that read nothing else, and so that the header which AWS
    /// SDKs send from inside Lambda does not name another trace.
    Always,
    /// Never: a message without a free slot travels without its context.
    Never,
}

/// The interceptor. Cheap to clone; one serves any number of clients.
#[derive(Clone, Debug, Default)]
pub struct Interceptor {
    settings: Arc<Settings>,
}

/// What the interceptor was told.
#[derive(Clone)]
struct Settings {
    tracer: Option<Arc<BoxedTracer>>,
    create_spans: bool,
    settle_spans: bool,
    baggage: bool,
    xray_header: XrayHeader,
    message_bytes_max: usize,
    #[cfg(feature = "sns")]
    topic_message_bytes_max: usize,
    context: ContextOptions,
    /// Made at the first call, when the process's meter provider should be in place.
    #[cfg(feature = "metrics")]
    instruments: std::sync::OnceLock<Option<metrics::Instruments>>,
}

impl Interceptor {
    /// An interceptor that uses the global tracer provider as it is at the time of each call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this provider instead of the global one.
    #[must_use]
    pub fn with_tracer_provider<P>(self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: ObjectSafeTracer + Send + Sync + 'static,
    {
        let tracer = provider.tracer_with_scope(crate::telemetry::scope());
        self.with(|settings| settings.tracer = Some(Arc::new(BoxedTracer::new(Box::new(tracer)))))
    }

    /// Records metrics with this provider's meter instead of the global one's.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_meter_provider(
        self,
        provider: &impl opentelemetry::metrics::MeterProvider,
    ) -> Self {
        let made = metrics::Instruments::new(&provider.meter_with_scope(crate::telemetry::scope()));
        self.with(|settings| settings.instruments = Some(made).into())
    }

    /// Whether each entry of a batch gets a `create` span and a context of its own. Default: true.
    /// Without, every entry carries the context of the one `send` span.
    #[must_use]
    pub fn create_spans(self, on: bool) -> Self {
        self.with(|settings| settings.create_spans = on)
    }

    /// Whether deleting a message and changing its visibility are spans. Default: false.
    #[must_use]
    pub fn settle_spans(self, on: bool) -> Self {
        self.with(|settings| settings.settle_spans = on)
    }

    /// Whether baggage is sent. Default: true. Everybody who may read the queue, or subscribe to the topic, reads it.
    #[must_use]
    pub fn baggage(self, on: bool) -> Self {
        self.with(|settings| settings.baggage = on)
    }

    /// When the context goes into `AWSTraceHeader`, which only SQS has. Default: [`XrayHeader::Overflow`].
    #[must_use]
    pub fn xray_header(self, when: XrayHeader) -> Self {
        self.with(|settings| settings.xray_header = when)
    }

    /// The largest message, in bytes, that the queues take: their `MaximumMessageSize`, which a
    /// client cannot see. Default and upper bound: 1,048,576, SQS's own limit.
    #[must_use]
    pub fn max_message_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.message_bytes_max = bytes.min(plan::MESSAGE_BYTES_MAX))
    }

    /// The largest message, in bytes, that the topics take: their `MaximumMessageSize`, which a
    /// client cannot see, and which bounds the sum of a `PublishBatch` too. Default: 262,144, which
    /// is what a topic takes unless it was told otherwise. Upper bound: 1,048,576.
    ///
    /// Too high a value lets a message grow beyond what its topic takes, so that SNS refuses it.
    #[cfg(feature = "sns")]
    #[must_use]
    pub fn max_topic_message_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.topic_message_bytes_max = bytes.min(plan::MESSAGE_BYTES_MAX))
    }

    /// How the context of received messages is read, for the links of `receive` spans.
    #[must_use]
    pub fn context(self, options: ContextOptions) -> Self {
        self.with(|settings| settings.context = options)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

/// The X-Ray header for the span of `context`: the value of EventBridge's
/// `PutEventsRequestEntry.TraceHeader`, which reaches an SQS target as `AWSTraceHeader`.
///
/// `None` without a valid span, and inside Lambda where the invocation's `Lineage`, in which
/// recursive loops are counted, is not known. A header that EventBridge replays from an archive is lost.
///
/// ```
/// use opentelemetry::Context;
///
/// // .set_trace_header(throughline::producer::trace_header(&Context::current()))
/// assert_eq!(throughline::producer::trace_header(&Context::new()), None);
/// ```
#[must_use]
pub fn trace_header(context: &Context) -> Option<String> {
    let span = context.span();
    let span_context = span.span_context();
    if !span_context.is_valid() {
        return None;
    }
    context::trace_header(span_context, &Invocation::of(context))
}

// === impl Settings ===

#[cfg(feature = "metrics")]
impl Settings {
    fn record(&self, call: &call::Open, end: &call::End) {
        let make = || crate::metrics::meter().map(|meter| metrics::Instruments::new(&meter));
        if let Some(instruments) = self.instruments.get_or_init(make) {
            instruments.record(call, end);
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tracer: None,
            create_spans: true,
            settle_spans: false,
            baggage: true,
            xray_header: XrayHeader::default(),
            message_bytes_max: plan::MESSAGE_BYTES_MAX,
            #[cfg(feature = "sns")]
            topic_message_bytes_max: sns::MESSAGE_BYTES,
            context: ContextOptions::default(),
            #[cfg(feature = "metrics")]
            instruments: std::sync::OnceLock::new(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("create_spans", &self.create_spans)
            .field("settle_spans", &self.settle_spans)
            .field("baggage", &self.baggage)
            .field("xray_header", &self.xray_header)
            .field("message_bytes_max", &self.message_bytes_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
