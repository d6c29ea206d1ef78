//! Reads which trace a record continues: from its message attributes, an SNS envelope in its body, or its X-Ray header.
//!
//! Pure: no clock, no environment, no global propagator; the time is an argument.
//! Every value in a message is written by somebody else, so nothing here panics, and a value that
//! is not exactly right counts as absent: the next carrier is asked.
//!
//! The readers are our own because the SDK's propagators take headers that the specifications
//! forbid (ids that are too short, signs, wrong lengths), lose the random flag of W3C Trace
//! Context Level 2, and let a broken X-Ray header wipe out a good `traceparent`.

mod carriers;
#[cfg(test)]
mod corners;
mod embedded;
mod envelope;
mod options;
mod select;
pub(crate) mod w3c;
pub(crate) mod xray;

use std::time::SystemTime;

use aws_lambda_events::sqs::SqsMessage;
use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};
use opentelemetry::trace::SpanContext;

use crate::baggage;

pub use carriers::{Fields, MessageView};
pub use options::{CarrierFamily, ContextOptions, Deferred, LinkSecondary, Relation};

/// Where a record's context was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContextSource {
    /// A `traceparent` message attribute, or a carrier that holds one (Datadog's attribute, the
    /// user's own carrier).
    W3c,
    /// A `traceparent` inside an envelope in the body: SNS, or EventBridge when asked for.
    Sns,
    /// An X-Ray header: the user attribute `x-amzn-trace-id` or the system attribute `AWSTraceHeader`.
    Xray,
    /// Only an X-Ray header that says `Sampled=0`, and the options do not use such contexts.
    XrayUnsampled,
    /// No carrier held a valid context.
    #[default]
    None,
}

impl ContextSource {
    /// The value of the span attribute `throughline.context.source`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::W3c => "w3c",
            Self::Sns => "sns",
            Self::Xray => "xray",
            Self::XrayUnsampled => "xray_unsampled",
            Self::None => "none",
        }
    }
}

/// The remote span that a record's span is a child of.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// Trace id, span id, flags and tracestate of the remote span; `is_remote` is set.
    pub span_context: SpanContext,
    /// The header left the sampling decision to whoever reads it (X-Ray without `Sampled=0|1`):
    /// the local root sampler decides. The flags in `span_context` are then 00.
    pub deferred: bool,
}

/// What one record says about the trace it belongs to.
#[derive(Debug, Default)]
pub struct RecordContext {
    /// Which carrier [`creation`](Self::creation) was read from.
    pub source: ContextSource,
    /// The span context that was active when the message was made, if the options use it at all,
    /// be it as parent or as link.
    pub creation: Option<SpanContext>,
    /// The parent of the record's span. `None`: the record's span is a child of whatever is
    /// current, and the creation context, if any, is only linked.
    pub parent: Option<Parent>,
    /// The links of the record's span: the creation context first (also when it is the parent),
    /// then the contexts of other carriers with other trace ids.
    pub links: Vec<SpanContext>,
    /// The record's baggage, if it holds any member.
    pub baggage: Option<Baggage>,
    /// The whole `tracestate` text, when the SDK's type cannot hold all of it.
    tracestate: Option<CarriedTraceState>,
}

impl RecordContext {
    /// The context to process the record in, on top of `current` (which has the record's span):
    /// adds the record's baggage, or removes the baggage of whatever ran before, so that nothing
    /// leaks from record to record.
    #[must_use]
    pub fn processing_context(&self, current: &Context) -> Context {
        let own = self.baggage.as_ref().map(baggage::copy).unwrap_or_default();
        let context = current.with_baggage(own);
        match &self.tracestate {
            Some(text) => context.with_value(text.clone()),
            None => context,
        }
    }

    /// The `tracestate` of the creation context as one line of text, normalised, if it had any.
    #[must_use]
    pub fn tracestate(&self) -> Option<String> {
        if let Some(carried) = &self.tracestate {
            return Some(carried.text.clone());
        }
        let text = self.creation.as_ref()?.trace_state().header();
        (!text.is_empty()).then_some(text)
    }
}

/// A `tracestate` that the SDK's type refuses (it does not know the key grammar of June 2026),
/// kept beside the span context so that the producer can pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CarriedTraceState {
    pub(crate) trace_id: opentelemetry::TraceId,
    pub(crate) text: String,
}

/// Reads the trace context of one record of a Lambda event, at the time `now`.
#[must_use]
pub fn read(record: &SqsMessage, options: &ContextOptions, now: SystemTime) -> RecordContext {
    select::read(&MessageView::new(record), options, now)
}

/// Reads the trace context of a message received by polling, at the time `now`.
///
/// The same rules as [`read`]. The message has its attributes only if the receive call asked for
/// them; the interceptor of [`producer`](crate::producer) adds them to the request.
#[cfg(feature = "producer")]
#[must_use]
pub fn read_received(
    message: &aws_sdk_sqs::types::Message,
    options: &ContextOptions,
    now: SystemTime,
) -> RecordContext {
    select::read(&MessageView::new(message), options, now)
}
