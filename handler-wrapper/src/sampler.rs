//! Sampling decisions that were left to us.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingResult, ShouldSample};

/// Marks a parent context whose header left the sampling decision open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeferredDecision;

/// A sampler around another one, which decides for parents that have not decided.
///
/// An X-Ray header may leave the decision open (`Sampled=?`, or none at all). To a
/// `ParentBased` sampler such a parent looks unsampled, and it drops the span. This one asks the
/// configured sampler as if the span were a root, with the trace id of its parent, so that a
/// ratio decides alike everywhere and the trace stays connected.
///
/// [`Telemetry::from_env`](crate::Telemetry::from_env) has it around the sampler that
/// `OTEL_TRACES_SAMPLER` names. A provider of your own has to be given it, and
/// [`Telemetry::decides_deferred`](crate::Telemetry::decides_deferred) says that it was:
///
/// ```
/// use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
/// use throughline::{DecideDeferred, Telemetry};
///
/// let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1)));
/// let provider = SdkTracerProvider::builder().with_sampler(DecideDeferred::new(sampler)).build();
/// let telemetry = Telemetry::from_provider(provider).decides_deferred();
/// # drop(telemetry);
/// ```
#[derive(Clone, Debug)]
pub struct DecideDeferred(Box<dyn ShouldSample>);

impl DecideDeferred {
    /// Wraps `sampler`.
    pub fn new(sampler: impl Into<Box<dyn ShouldSample>>) -> Self {
        Self(sampler.into())
    }
}

impl ShouldSample for DecideDeferred {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        // A value of a context is inherited by everything below; only the direct child of the
        // remote span is undecided.
        let undecided = parent.filter(|cx| {
            cx.get::<DeferredDecision>().is_some() && cx.span().span_context().is_remote()
        });
        let Some(cx) = undecided else {
            return self
                .0
                .should_sample(parent, trace_id, name, kind, attributes, links);
        };
        let mut result = self
            .0
            .should_sample(None, trace_id, name, kind, attributes, links);
        result.trace_state = cx.span().span_context().trace_state().clone();
        result
    }
}
