//! Which of a message's contexts is continued, and which are linked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::SpanContext;

use super::w3c::Traceparent;
use super::xray::{Sampled, TraceHeader};
use super::{
    CarriedTraceState, CarrierFamily, ContextOptions, ContextSource, Deferred, LinkSecondary,
    MessageView, Parent, RecordContext, Relation, embedded,
};
use crate::baggage;

/// One valid context of a message.
struct Candidate {
    source: ContextSource,
    span_context: SpanContext,
    tracestate: Option<CarriedTraceState>,
    decision: Decision,
}

/// What the carrier says about sampling.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Somebody decided: the flags of the span context hold.
    Made,
    /// Left to the reader.
    Deferred,
    /// X-Ray's `Sampled=0`, which inside Lambda usually means that X-Ray is off.
    XrayUnsampled,
}

/// What the options make of a candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Parent,
    Link,
    Unused,
}

pub(super) fn read(
    message: &MessageView<'_>,
    options: &ContextOptions,
    now: SystemTime,
) -> RecordContext {
    let mut candidates = Vec::new();
    let mut baggage_text = None;
    for family in &options.order {
        match family {
            CarrierFamily::W3c => {
                w3c_candidates(message, options, &mut candidates, &mut baggage_text);
            }
            CarrierFamily::Xray => xray_candidates(message, &mut candidates),
        }
    }
    let mut context = choose(candidates, options);
    if too_old(message, options, now) {
        context.parent = None;
    }
    // W3C Baggage stands on its own: it needs no valid traceparent beside it.
    let own = message
        .attribute("baggage")
        .filter(|_| options.trust_baggage);
    context.baggage = own
        .map(std::borrow::Cow::into_owned)
        .or(baggage_text)
        .map(|text| baggage::parse(&text))
        .filter(|baggage| !baggage.is_empty());
    context
}

/// Reads the carriers that hold a `traceparent`, best first.
fn w3c_candidates(
    message: &MessageView<'_>,
    options: &ContextOptions,
    candidates: &mut Vec<Candidate>,
    baggage_text: &mut Option<String>,
) {
    if let Some(traceparent) = message.attribute("traceparent") {
        let tracestate = message.attribute("tracestate");
        candidates.extend(Candidate::w3c(
            ContextSource::W3c,
            &traceparent,
            tracestate.as_deref(),
        ));
    }
    let mut add = |source, fields: super::Fields| {
        let candidate = Candidate::w3c(source, &fields.traceparent, fields.tracestate.as_deref());
        if candidate.is_some() && options.trust_envelope_baggage && baggage_text.is_none() {
            *baggage_text = fields.baggage;
        }
        candidates.extend(candidate);
    };
    if options.sns_envelope
        && let Some(fields) = message.body().and_then(super::envelope::sns)
    {
        add(ContextSource::Sns, fields);
    }
    if options.datadog
        && let Some(fields) = message
            .attribute("_datadog")
            .and_then(|text| embedded::datadog(&text))
    {
        add(ContextSource::W3c, fields);
    }
    if options.eventbridge_detail
        && let Some(fields) = message.body().and_then(super::envelope::eventbridge)
    {
        add(ContextSource::Sns, fields);
    }
    if let Some(fields) = options
        .carrier
        .as_ref()
        .and_then(|carrier| carrier(message))
    {
        add(ContextSource::W3c, fields);
    }
}

/// Reads the X-Ray headers: what a producer's propagator wrote itself before what AWS wrote.
fn xray_candidates(message: &MessageView<'_>, candidates: &mut Vec<Candidate>) {
    let user = message.attribute("x-amzn-trace-id");
    let system = message.system_attribute("AWSTraceHeader");
    candidates.extend(user.as_deref().and_then(Candidate::xray));
    candidates.extend(system.and_then(Candidate::xray));
}

fn choose(candidates: Vec<Candidate>, options: &ContextOptions) -> RecordContext {
    let roles: Vec<Role> = candidates
        .iter()
        .map(|candidate| candidate.role(options))
        .collect();
    let first = |role| roles.iter().position(|of_candidate| *of_candidate == role);
    // A context that may only be linked gives way to a later one that can be continued.
    let Some(chosen) = first(Role::Parent).or_else(|| first(Role::Link)) else {
        let source = if candidates.is_empty() {
            ContextSource::None
        } else {
            ContextSource::XrayUnsampled
        };
        return RecordContext {
            source,
            ..RecordContext::default()
        };
    };
    let secondary: Vec<SpanContext> = candidates
        .iter()
        .zip(&roles)
        .filter(|(candidate, role)| {
            candidate.is_linked_beside(&candidates[chosen], **role, options)
        })
        .map(|(candidate, _)| candidate.span_context.clone())
        .collect();
    let Candidate {
        source,
        span_context,
        tracestate,
        decision,
    } = candidates
        .into_iter()
        .nth(chosen)
        .expect("the position was found in this list");
    let is_parent = roles[chosen] == Role::Parent && options.relation == Relation::Parent;
    let mut links = vec![span_context.clone()];
    for link in secondary {
        if !links.contains(&link) {
            links.push(link);
        }
    }
    RecordContext {
        source,
        parent: is_parent.then(|| Parent {
            span_context: span_context.clone(),
            deferred: decision == Decision::Deferred,
        }),
        creation: Some(span_context),
        links,
        baggage: None,
        tracestate,
    }
}

/// Whether the message was sent longer ago than the options allow a parent to be.
fn too_old(message: &MessageView<'_>, options: &ContextOptions, now: SystemTime) -> bool {
    let Some(max_age) = options.max_parent_age else {
        return false;
    };
    let sent = message
        .system_attribute("SentTimestamp")
        .and_then(|text| text.trim().parse::<u64>().ok())
        .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
    // A time that cannot be read, or that lies ahead of our clock, is no proof of age.
    sent.and_then(|sent| now.duration_since(sent).ok())
        .is_some_and(|age| age > max_age)
}

// === impl Candidate ===

impl Candidate {
    fn w3c(source: ContextSource, traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let traceparent = Traceparent::parse(traceparent)?;
        let (span_context, carried) = traceparent.into_span_context(tracestate);
        let tracestate = carried.map(|text| CarriedTraceState {
            trace_id: span_context.trace_id(),
            text,
        });
        Some(Self {
            source,
            span_context,
            tracestate,
            decision: Decision::Made,
        })
    }

    fn xray(header: &str) -> Option<Self> {
        let header = TraceHeader::parse(header)?;
        let decision = match header.sampled {
            Sampled::Yes => Decision::Made,
            Sampled::No if header.ours => Decision::Made,
            Sampled::No => Decision::XrayUnsampled,
            Sampled::Deferred => Decision::Deferred,
        };
        let span_context = header.into_span_context();
        Some(Self {
            source: ContextSource::Xray,
            span_context,
            tracestate: None,
            decision,
        })
    }

    fn role(&self, options: &ContextOptions) -> Role {
        match self.decision {
            Decision::Made => Role::Parent,
            Decision::Deferred if options.deferred == Deferred::Parent => Role::Parent,
            Decision::Deferred => Role::Link,
            Decision::XrayUnsampled if options.respect_xray_unsampled => Role::Parent,
            Decision::XrayUnsampled if options.link_unsampled => Role::Link,
            Decision::XrayUnsampled => Role::Unused,
        }
    }

    /// Two carriers often name the same trace (X-Ray's parent is then the HTTP client span below
    /// the send span): only a different trace is worth a link.
    fn is_linked_beside(&self, chosen: &Self, role: Role, options: &ContextOptions) -> bool {
        if self.span_context.trace_id() == chosen.span_context.trace_id() {
            return false;
        }
        match options.link_secondary {
            LinkSecondary::Always => true,
            LinkSecondary::Sampled => {
                self.span_context.is_sampled()
                    || self.decision == Decision::Deferred
                    || role == Role::Link
            }
            LinkSecondary::Never => false,
        }
    }
}
