//! Names and attributes of the spans around calls to SQS and SNS (semantic conventions 1.44, "Messaging",
//! "AWS SQS", "AWS SNS").

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

/// The service that a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Sqs,
    #[cfg(feature = "sns")]
    Sns,
}

impl System {
    /// `messaging.system`.
    const fn name(self) -> &'static str {
        match self {
            Self::Sqs => "aws_sqs",
            #[cfg(feature = "sns")]
            Self::Sns => "aws.sns",
        }
    }

    /// The attribute that holds the whole address of a destination.
    const fn address_key(self) -> &'static str {
        match self {
            Self::Sqs => "aws.sqs.queue.url",
            #[cfg(feature = "sns")]
            Self::Sns => "aws.sns.topic.arn",
        }
    }

    /// What stands before the name at the end of an address.
    const fn separator(self) -> char {
        match self {
            Self::Sqs => '/',
            #[cfg(feature = "sns")]
            Self::Sns => ':',
        }
    }
}

/// The queue or topic that a call is about, as far as the call says.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) system: System,
    /// A queue's URL, a topic's ARN.
    address: Option<String>,
}

impl Destination {
    pub(crate) fn queue(url: Option<&str>) -> Self {
        Self::new(System::Sqs, url)
    }

    #[cfg(feature = "sns")]
    pub(crate) fn topic(arn: Option<&str>) -> Self {
        Self::new(System::Sns, arn)
    }

    fn new(system: System, address: Option<&str>) -> Self {
        Self {
            system,
            address: address
                .filter(|address| !address.is_empty())
                .map(str::to_owned),
        }
    }

    /// The last segment of a URL's path, the last field of an ARN.
    fn name(&self) -> Option<&str> {
        let separator = self.system.separator();
        self.address
            .as_deref()?
            .trim_end_matches(separator)
            .rsplit(separator)
            .next()
            .filter(|name| !name.is_empty())
    }
}

/// Attributes that spans and metrics share.
pub(crate) fn common(operation: Operation, destination: &Destination) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", destination.system.name()),
        KeyValue::new("messaging.operation.name", operation.name()),
        KeyValue::new("messaging.operation.type", operation.kind()),
    ];
    attributes.extend(
        destination
            .name()
            .map(|name| KeyValue::new("messaging.destination.name", name.to_owned())),
    );
    attributes
}

/// What a span starts with.
pub(crate) struct Start<'a> {
    pub(crate) operation: Operation,
    pub(crate) kind: SpanKind,
    pub(crate) destination: &'a Destination,
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
        destination,
        parent,
        ..
    } = start;
    let mut attributes = common(operation, destination);
    attributes.extend(
        destination
            .address
            .clone()
            .map(|address| KeyValue::new(destination.system.address_key(), address)),
    );
    attributes.extend(start.attributes);
    let name: Cow<'static, str> = match destination.name() {
        Some(name) => format!("{} {name}", operation.name()).into(),
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
