//! Starts the spans of a send and puts their contexts into its messages.

use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use super::Settings;
use super::call::{Create, Spans, count};
use super::context::{Texts, trace_header};
use super::message::{Attribute, Outgoing};
use super::plan::{self, Limits};
use super::span::{self, Destination, Operation, Start, System};
use crate::lineage::Invocation;

/// One message and the context that goes into it.
struct Planned<'a, A> {
    message: Outgoing<'a, A>,
    /// The creation context; for a message whose caller wrote one, that one.
    creation: SpanContext,
    texts: Option<Texts>,
}

/// `SendMessage`, `Publish`: one span, whose context goes into the message.
pub(crate) fn single<A: Attribute>(
    settings: &Settings,
    message: Outgoing<'_, A>,
    destination: &Destination,
    parent: &Context,
) -> Spans {
    let callers = message.callers_own();
    // "Span kind": PRODUCER when the span's own context is what the message carries, else CLIENT.
    let kind = if callers.is_some() {
        SpanKind::Client
    } else {
        SpanKind::Producer
    };
    let links = callers.iter().cloned().collect();
    let start = Start {
        operation: Operation::Send,
        kind,
        destination,
        parent,
        at: None,
        links,
        attributes: Vec::new(),
    };
    let context = span::start(settings, start);
    let planned = Planned {
        message,
        creation: callers.unwrap_or_else(|| context.span().span_context().clone()),
        texts: Texts::of(&context, settings.baggage),
    };
    inject(settings, destination.system, vec![planned], parent);
    Spans {
        context: Some(context),
        ..Spans::default()
    }
}

/// `SendMessageBatch`, `PublishBatch`: a span for each entry and one for the call, or the latter alone.
pub(crate) fn batch<A: Attribute>(
    settings: &Settings,
    messages: Vec<Outgoing<'_, A>>,
    destination: &Destination,
    parent: &Context,
) -> Spans {
    let start = |operation, kind, attributes| {
        span::start(
            settings,
            Start {
                operation,
                kind,
                destination,
                parent,
                at: None,
                links: Vec::new(),
                attributes,
            },
        )
    };
    let count = KeyValue::new("messaging.batch.message_count", count(messages.len()));
    let kind = if settings.create_spans {
        SpanKind::Client
    } else {
        SpanKind::Producer
    };
    let context = start(Operation::Send, kind, vec![count]);
    let (mut creates, mut linked, mut planned) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        let entry_id = message.id.clone().unwrap_or_default();
        if let Some(creation) = message.callers_own() {
            linked.push((entry_id, creation.clone()));
            planned.push(Planned {
                message,
                creation,
                texts: None,
            });
            continue;
        }
        let carried = if settings.create_spans {
            start(Operation::Create, SpanKind::Producer, Vec::new())
        } else {
            context.clone()
        };
        let creation = carried.span().span_context().clone();
        planned.push(Planned {
            message,
            creation,
            texts: Texts::of(&carried, settings.baggage),
        });
        if settings.create_spans {
            creates.push(Create {
                entry_id,
                context: carried,
            });
        }
    }
    inject(settings, destination.system, planned, parent);
    Spans {
        context: Some(context),
        creates,
        linked,
    }
}

/// Plans the whole call, then writes. Nothing is written before everything is decided.
fn inject<A: Attribute>(
    settings: &Settings,
    system: System,
    mut messages: Vec<Planned<'_, A>>,
    parent: &Context,
) {
    let limits = limits(settings, system);
    let facts: Vec<_> = messages
        .iter()
        .map(|planned| planned.message.facts(planned.texts.as_ref()))
        .collect();
    let plans = plan::plan(&facts, &limits);
    let invocation = plans
        .iter()
        .any(|plan| plan.xray)
        .then(|| Invocation::of(parent));
    for (planned, plan) in messages.iter_mut().zip(plans) {
        let header = invocation
            .as_ref()
            .filter(|_| plan.xray && planned.creation.is_valid())
            .and_then(|invocation| trace_header(&planned.creation, invocation));
        if plan.overflows && header.is_none() {
            tracing::debug!("a message has no place left for its trace context");
        }
        planned.message.apply(plan, planned.texts.as_ref(), header);
    }
}

const fn limits(settings: &Settings, system: System) -> Limits {
    match system {
        System::Sqs => Limits {
            message_bytes: settings.message_bytes_max,
            call_bytes: plan::MESSAGE_BYTES_MAX,
            xray: settings.xray_header,
        },
        // SNS, "PublishBatch": what the topic takes bounds a message and the sum of a call alike.
        // Its API has no place for an X-Ray header.
        #[cfg(feature = "sns")]
        System::Sns => Limits {
            message_bytes: settings.topic_message_bytes_max,
            call_bytes: settings.topic_message_bytes_max,
            xray: super::XrayHeader::Never,
        },
    }
}
