//! The texts that carry a span's context.

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanContext, TraceContextExt};

use super::plan::Field;
use crate::baggage;
use crate::lineage::Invocation;
use crate::parent::{CarriedTraceState, w3c, xray};

/// Longest `AWSTraceHeader` that we write: X-Ray's own limit for the header.
const TRACE_HEADER_BYTES_MAX: usize = 256;

/// What the attributes of a message would hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    traceparent: Option<String>,
    tracestate: Option<String>,
    baggage: Option<String>,
}

impl Texts {
    /// The texts for the span of `context`; none for a span without valid ids.
    pub(crate) fn of(context: &Context, with_baggage: bool) -> Option<Self> {
        let span = context.span();
        let span_context = span.span_context();
        if !span_context.is_valid() {
            return None;
        }
        let carried = context
            .get::<CarriedTraceState>()
            .filter(|carried| carried.trace_id == span_context.trace_id());
        let tracestate = carried.map_or_else(
            || span_context.trace_state().header(),
            |carried| carried.text.clone(),
        );
        Some(Self {
            traceparent: Some(w3c::traceparent(span_context)),
            // The SDK's TraceState also holds members that the specification forbids.
            tracestate: w3c::normalised_tracestate(&tracestate),
            baggage: with_baggage
                .then(|| baggage::write(context.baggage()))
                .flatten(),
        })
    }

    pub(crate) fn get(&self, field: Field) -> Option<&str> {
        match field {
            Field::Traceparent => self.traceparent.as_deref(),
            Field::Tracestate => self.tracestate.as_deref(),
            Field::Baggage => self.baggage.as_deref(),
        }
    }
}

/// The X-Ray header for a span context, with our key `Tl=1` at its end, which tells our consumer
/// that `Sampled=0` in it is a decision.
///
/// Inside Lambda the invocation's lineage goes with it, because Lambda's protection against
/// recursive loops counts hops there and our header replaces the one that AWS would write.
/// `None` where that lineage cannot be known or kept whole: the trace may break, the protection must not.
pub(crate) fn trace_header(context: &SpanContext, invocation: &Invocation) -> Option<String> {
    let base = xray::header(context);
    let header = match invocation {
        Invocation::Outside => format!("{base};Tl=1"),
        Invocation::Inside { trace_header: None } => return None,
        Invocation::Inside {
            trace_header: Some(of_invocation),
        } => match xray::lineage(of_invocation) {
            Some(lineage) => format!("{base};Lineage={lineage};Tl=1"),
            None => format!("{base};Tl=1"),
        },
    };
    let is_plain = header.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain && header.len() <= TRACE_HEADER_BYTES_MAX).then_some(header)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceState;
    use opentelemetry::{SpanId, TraceFlags, TraceId};

    use super::*;

    fn context(flags: TraceFlags) -> SpanContext {
        let trace = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
        SpanContext::new(
            trace,
            SpanId::from_hex("b7ad6b7169203331").unwrap(),
            flags,
            false,
            TraceState::NONE,
        )
    }

    fn inside(header: Option<&str>) -> Invocation {
        Invocation::Inside {
            trace_header: header.map(Into::into),
        }
    }

    #[test]
    fn outside_lambda_the_header_is_ours_alone() {
        assert_eq!(
            trace_header(&context(TraceFlags::SAMPLED), &Invocation::Outside).unwrap(),
            "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1;Tl=1"
        );
    }

    #[test]
    fn inside_lambda_the_lineage_is_kept_as_it_is() {
        let of_invocation = "Root=1-66ca4895-3f6cef844dab67fb6f6461a4;Parent=27c4bbf84acc163c;Sampled=0;Lineage=1:d4d48d4d:0";
        assert_eq!(
            trace_header(
                &context(TraceFlags::NOT_SAMPLED),
                &inside(Some(of_invocation))
            )
            .unwrap(),
            "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=0;Lineage=1:d4d48d4d:0;Tl=1"
        );
    }

    #[test]
    fn inside_lambda_without_a_known_header_nothing_is_written() {
        assert_eq!(
            trace_header(&context(TraceFlags::SAMPLED), &inside(None)),
            None
        );
    }

    #[test]
    fn a_lineage_that_does_not_fit_is_not_cut() {
        let base = trace_header(&context(TraceFlags::SAMPLED), &Invocation::Outside)
            .unwrap()
            .len()
            + ";Lineage=".len();
        let lineage = |bytes: usize| {
            format!(
                "Root=1-66ca4895-3f6cef844dab67fb6f6461a4;Lineage={}",
                "a".repeat(bytes)
            )
        };
        let at = trace_header(
            &context(TraceFlags::SAMPLED),
            &inside(Some(&lineage(256 - base))),
        );
        assert_eq!(at.unwrap().len(), 256);
        assert_eq!(
            trace_header(
                &context(TraceFlags::SAMPLED),
                &inside(Some(&lineage(257 - base)))
            ),
            None
        );
        assert_eq!(
            trace_header(
                &context(TraceFlags::SAMPLED),
                &inside(Some("Lineage=a\u{e9}b"))
            ),
            None
        );
    }
}
