//! Log lines that lead to traces, and `tracing` spans that join them.
//!
//! [`run`](crate::run) and [`Telemetry::install`] set up a subscriber when the process has none:
//! one line on stdout per event, with the ids of the record it was written for, and `tracing` spans
//! below the record's span. So a function needs no setup of its own:
//!
//! ```text
//! {"timestamp":"2026-11-22T11:28:26.123Z","level":"INFO","order":"o-7","target":"orders",
//!  "trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","trace_flags":"01",
//!  "requestId":"8476a536-e9f4-11e8-9739-2dfe598c3fcd","messageId":"059f36b4-87a3-44ab-83d2-661975830a7d",
//!  "message":"charged"}
//! ```
//!
//! # Which lines
//!
//! `AWS_LAMBDA_LOG_LEVEL` is the lowest level that is written (Lambda itself would drop what is
//! below it), `RUST_LOG` names levels per target within that; without both it is INFO, and WARN
//! for the crates below a function (`opentelemetry`, `lambda_runtime`, `hyper`, the AWS SDK).
//! `AWS_LAMBDA_LOG_FORMAT=Text`, Lambda's default, asks for words and `key=value` pairs, `JSON` for
//! objects; outside Lambda, where it is not set, they are objects.
//!
//! # A subscriber of your own
//!
//! Put the parts together as you like:
//!
//! ```
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let telemetry = throughline::Telemetry::from_env().await;
//! let subscriber = tracing_subscriber::registry()
//!     .with(telemetry.layers())
//!     .with(telemetry.log_layer());
//! // tracing::subscriber::set_global_default(subscriber), before throughline::run
//! # drop(subscriber);
//! # }
//! ```
//!
//! Who has a `tracing-opentelemetry` layer already adds [`Anchor`] and filters that layer with
//! [`is_users_span`]. Its context activation, which is on by default, must stay on: it is what makes
//! `tracing` spans children of OpenTelemetry's.

mod anchor;
mod lines;
mod settings;

use std::sync::Arc;

use opentelemetry::trace::TracerProvider as _;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

pub use anchor::Anchor;
pub(crate) use anchor::span as anchor_span;
pub use lines::{LineFormat, Lines};
pub(crate) use settings::Settings;

use crate::telemetry::Telemetry;

/// What a log line says about the record it was written for.
#[derive(Clone, Debug)]
pub(crate) struct LogFields {
    pub(crate) request_id: Arc<str>,
    pub(crate) message_id: Option<Arc<str>>,
}

/// Whether this is a span of the user's, and not the invocation span of `lambda_runtime` or an
/// [`Anchor`]'s. A filter for an OpenTelemetry layer, and for that layer only:
///
/// `lambda_runtime::run` makes a span around each invocation, which would be a trace of its own,
/// ends after the last export, and would be the parent of what is not in a record.
///
/// ```
/// use throughline::logs::{Anchor, is_users_span};
/// use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt};
///
/// let tracer = opentelemetry::global::tracer("orders");
/// let subscriber = tracing_subscriber::registry()
///     .with(Anchor)
///     .with(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_users_span)));
/// # drop(subscriber);
/// ```
#[must_use]
pub fn is_users_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && metadata.target() != anchor::TARGET
        && !metadata.target().starts_with("lambda_runtime")
}

impl Telemetry {
    /// The layers that make `tracing` spans children of the record's span: [`Anchor`], and an
    /// OpenTelemetry layer over this telemetry's provider.
    ///
    /// Spans of level INFO and above become OpenTelemetry spans, and those that `RUST_LOG` names.
    pub fn layers<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let wanted = filter_fn(is_users_span).and(self.log_settings().spans);
        let spans = self.provider().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("tracing"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                // On this layer only: it must not silence log lines.
                .with_filter(wanted)
        });
        Anchor.and_then(spans)
    }

    /// The layer that writes one line per event to stdout, as `AWS_LAMBDA_LOG_FORMAT`,
    /// `AWS_LAMBDA_LOG_LEVEL` and `RUST_LOG` ask for.
    pub fn log_layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let Settings { format, lines, .. } = self.log_settings();
        fmt::layer()
            .event_format(Lines::new(format))
            .with_filter(lines)
    }

    /// Installs the ready subscriber, unless the process has one.
    pub(crate) fn install_subscriber(&self) {
        if tracing::dispatcher::has_been_set() {
            return;
        }
        let layers = self.layers().and_then(self.log_layer());
        // Somebody may have been quicker; then theirs stays.
        let _ =
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers));
    }
}

#[cfg(test)]
mod tests;
