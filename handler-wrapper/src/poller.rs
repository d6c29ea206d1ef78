//! Workers outside Lambda: one span per message that was received by polling.
//!
//! ```no_run
//! use throughline::poller::Poller;
//! # async fn example(client: aws_sdk_sqs::Client, queue_url: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let poller = Poller::new(queue_url);
//! let received = client.receive_message().queue_url(queue_url).wait_time_seconds(20).send().await?;
//! for message in poller.trace_messages(received.messages.unwrap_or_default()) {
//!     // Deleted when `Ok`, left to SQS's visibility timeout when not.
//!     if let Err(error) = message.process_and_delete(&client, handle).await {
//!         eprintln!("{error}");
//!     }
//! }
//! # Ok(())
//! # }
//! # async fn handle(message: aws_sdk_sqs::types::Message) -> Result<(), std::io::Error> { Ok(()) }
//! ```
//!
//! The client should have the [`Interceptor`](crate::producer::Interceptor): it asks SQS for the
//! attributes that the context is read from, makes the `receive` span with a link to every message
//! and, with `settle_spans(true)`, a `delete` span below the message's `process` span.
//! Ask for the system attributes too (`message_system_attribute_names(All)`), if the spans should
//! say how often a message was received and how long it waited.
//!
//! With the feature `metrics` every processed message is in `messaging.process.duration`.
//!
//! Which context is continued is decided as in Lambda: see [`crate::parent`].

mod attributes;
mod message;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_sqs::types::Message;
use opentelemetry::global::{self, BoxedTracer, ObjectSafeTracer};
use opentelemetry::trace::{Link, SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};

pub use message::{DeleteError, TracedMessage};

use crate::consumer_span::Queue;
use crate::metrics::{Instruments, Processing};
use crate::parent::{self, ContextOptions, Deferred};
use crate::sampler::DeferredDecision;
use crate::telemetry::{Telemetry, scope};

/// Makes spans for the messages of one queue. Cheap to clone.
#[derive(Clone)]
pub struct Poller {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    queue_url: Arc<str>,
    queue: Option<Queue>,
    instruments: Instruments,
    context: ContextOptions,
    /// `None`: the global provider's.
    tracer: Option<Arc<BoxedTracer>>,
    /// The sampler knows contexts whose decision was left open.
    decides_deferred: bool,
    own_attributes: bool,
}

/// Traces messages of the queue with this URL, with the global tracer provider and the defaults.
///
/// The same as [`Poller::new`] and [`Poller::trace_messages`].
pub fn trace_messages<M>(
    queue_url: &str,
    messages: M,
) -> impl Iterator<Item = TracedMessage> + use<M>
where
    M: IntoIterator<Item = Message>,
{
    Poller::new(queue_url).trace_messages(messages)
}

// === impl Poller ===

impl Poller {
    /// A poller of the queue with this URL, which uses the global tracer provider.
    #[must_use]
    pub fn new(queue_url: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue_url: queue_url.into(),
                queue: attributes::queue_of(queue_url),
                instruments: Instruments::of_global(),
                context: ContextOptions::default(),
                tracer: None,
                decides_deferred: false,
                own_attributes: true,
            }),
        }
    }

    /// Uses this telemetry's provider. With [`Telemetry::from_env`] contexts whose sampling
    /// decision was left open are continued; with another provider they are only linked.
    #[must_use]
    pub fn telemetry(self, telemetry: &Telemetry) -> Self {
        let decides = telemetry.knows_deferred();
        let poller = match telemetry.provider() {
            Some(provider) => self.with_tracer_provider(provider),
            None => {
                self.with_tracer_provider(&opentelemetry::trace::noop::NoopTracerProvider::new())
            }
        };
        poller.with(|shared| shared.decides_deferred = decides)
    }

    /// Uses this provider instead of the global one.
    #[must_use]
    pub fn with_tracer_provider<P>(self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: ObjectSafeTracer + Send + Sync + 'static,
    {
        let tracer = provider.tracer_with_scope(scope());
        self.with(|shared| shared.tracer = Some(Arc::new(BoxedTracer::new(Box::new(tracer)))))
    }

    /// Which contexts are used, and how. Default: [`ContextOptions::default`].
    #[must_use]
    pub fn context(self, options: ContextOptions) -> Self {
        self.with(|shared| shared.context = options)
    }

    /// Whether spans have the `throughline.*` attributes. Default: true.
    #[must_use]
    pub fn throughline_attributes(self, on: bool) -> Self {
        self.with(|shared| shared.own_attributes = on)
    }

    /// Prepares messages for processing. No span is started before a message is processed.
    pub fn trace_messages<M>(&self, messages: M) -> impl Iterator<Item = TracedMessage> + use<M>
    where
        M: IntoIterator<Item = Message>,
    {
        let poller = self.clone();
        messages
            .into_iter()
            .map(move |message| TracedMessage::new(poller.clone(), message))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }

    fn queue_url(&self) -> &str {
        &self.shared.queue_url
    }

    /// Starts the span of a message, below its creation context, and returns what to process it in.
    fn start(&self, message: &Message, current: &Context) -> Context {
        let mut options = self.shared.context.clone();
        if !self.shared.decides_deferred {
            // A sampler that does not know the mark would take such a parent for an unsampled one.
            options.deferred = Deferred::Link;
        }
        let now = SystemTime::now();
        let record = parent::read_received(message, &options, now);
        let mut links: Vec<Link> = record
            .links
            .iter()
            .cloned()
            .map(Link::with_context)
            .collect();
        let parent = match &record.parent {
            Some(parent) => {
                let around = current.span().span_context().clone();
                links.extend(around.is_valid().then(|| Link::with_context(around)));
                let remote = current.with_remote_span_context(parent.span_context.clone());
                if parent.deferred {
                    remote.with_value(DeferredDecision)
                } else {
                    remote
                }
            }
            None => current.clone(),
        };
        let source = self.shared.own_attributes.then(|| record.source.as_str());
        let mut builder = SpanBuilder::from_name(self.span_name())
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes::of(
                message,
                self.queue_url(),
                self.shared.queue.as_ref(),
                source,
                now,
            ))
            .with_links(links);
        builder.start_time = Some(now);
        let span = match &self.shared.tracer {
            Some(tracer) => tracer.build_with_context(builder, &parent),
            None => global::tracer_with_scope(scope()).build_with_context(builder, &parent),
        };
        // On top of what was current: the mark of an open decision is not for the children.
        record.processing_context(&current.with_span(span))
    }

    fn span_name(&self) -> Cow<'static, str> {
        match &self.shared.queue {
            Some(queue) => format!("process {}", queue.name).into(),
            None => "process".into(),
        }
    }

    /// Begins to measure a message that is being processed.
    fn measure(&self) -> Option<Processing> {
        let queue = self.shared.queue.as_ref();
        self.shared.instruments.processing(&"process".into(), queue)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("queue_url", &self.shared.queue_url)
            .field("context", &self.shared.context)
            .finish_non_exhaustive()
    }
}

/// Fails the span of a context.
fn fail(context: &Context, error_type: &str) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", error_type.to_owned()));
    span.set_status(opentelemetry::trace::Status::error(error_type.to_owned()));
}

#[cfg(test)]
mod tests;
