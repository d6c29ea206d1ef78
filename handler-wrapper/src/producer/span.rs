//! Names and attributes of the spans around calls to SQS (semantic conventions 1.44, "Messaging", "AWS SQS").

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanBuilder, SpanContext, SpanKind, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use super::Settings;
use crate::telemetry::scope;

/// What a call does to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Send,
    Create,
    Receive,
    Delete,
    ChangeVisibility,
}

impl Operation {
    /// `messaging.operation.name`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Create => "create",
            Self::Receive => "receive",
            Self::Delete => "delete",
            Self::ChangeVisibility => "change_visibility",
        }
    }

    /// `messaging.operation.type`.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Create => "create",
            Self::Receive => "receive",
            Self::Delete | Self::ChangeVisibility => "settle",
        }
    }
}

/// The queue that a call is about, as far as the call says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) url: Option<String>,
}

impl Queue {
    pub(crate) fn new(url: Option<&str>) -> Self {
        Self {
            url: url.filter(|url| !url.is_empty()).map(str::to_owned),
        }
    }

    /// The last segment of the URL's path.
    pub(crate) fn name(&self) -> Option<&str> {
        self.url
            .as_deref()?
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
    }
}

/// Attributes that spans and metrics share.
pub(crate) fn common(operation: Operation, queue: &Queue) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "aws_sqs"),
        KeyValue::new("messaging.operation.name", operation.name()),
        KeyValue::new("messaging.operation.type", operation.kind()),
    ];
    attributes.extend(
        queue
            .name()
            .map(|name| KeyValue::new("messaging.destination.name", name.to_owned())),
    );
    attributes
}

/// What a span starts with.
pub(crate) struct Start<'a> {
    pub(crate) operation: Operation,
    pub(crate) kind: SpanKind,
    pub(crate) queue: &'a Queue,
    pub(crate) parent: &'a Context,
    /// When it began, if that was not just now.
    pub(crate) at: Option<SystemTime>,
    pub(crate) links: Vec<SpanContext>,
    /// Beside those that every span has.
    pub(crate) attributes: Vec<KeyValue>,
}

/// Starts a span and returns the context that has it.
pub(crate) fn start(settings: &Settings, start: Start<'_>) -> Context {
    let Start {
        operation,
        queue,
        parent,
        ..
    } = start;
    let mut attributes = common(operation, queue);
    attributes.extend(
        queue
            .url
            .clone()
            .map(|url| KeyValue::new("aws.sqs.queue.url", url)),
    );
    attributes.extend(start.attributes);
    let name: Cow<'static, str> = match queue.name() {
        Some(queue) => format!("{} {queue}", operation.name()).into(),
        None => operation.name().into(),
    };
    let mut builder = SpanBuilder::from_name(name)
        .with_kind(start.kind)
        .with_attributes(attributes)
        .with_links(start.links.into_iter().map(Link::with_context).collect());
    builder.start_time = start.at;
    let span = match &settings.tracer {
        Some(tracer) => tracer.build_with_context(builder, parent),
        None => global::tracer_with_scope(scope()).build_with_context(builder, parent),
    };
    parent.with_span(span)
}
