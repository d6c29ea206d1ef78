//! Log lines that lead to traces, and `tracing` spans that join them.
//!
//! [`Telemetry::install`](crate::Telemetry::install) and [`run`](crate::run) set up a subscriber
//! when the process has none. Put the parts into your own with
//! [`Telemetry::layers`](crate::Telemetry::layers):
//!
//! ```
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let telemetry = throughline::Telemetry::from_env().await;
//! let subscriber = tracing_subscriber::registry()
//!     .with(telemetry.layers())
//!     .with(tracing_subscriber::fmt::layer().event_format(throughline::logs::Lines::from_env()));
//! # drop(subscriber);
//! # }
//! ```

mod anchor;
mod lines;

use std::env;

use opentelemetry::trace::TracerProvider as _;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

pub(crate) use anchor::{Anchor, span as anchor_span};
pub use lines::{LineFormat, Lines};

use crate::telemetry::Telemetry;

/// What a log line says about the record it was written for.
#[derive(Clone, Debug)]
pub(crate) struct LogFields {
    pub(crate) request_id: std::sync::Arc<str>,
    pub(crate) message_id: Option<std::sync::Arc<str>>,
}

impl Telemetry {
    /// The layers that make `tracing` spans children of the record's span, for a subscriber of
    /// your own: one that keeps spawned tasks in the record's context, and the OpenTelemetry layer.
    ///
    /// `lambda_runtime`'s own invocation span is left out, because it would be a trace of its own
    /// that ends after the last export; and so is everything more detailed than INFO, unless
    /// `RUST_LOG` names it.
    pub fn layers<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let detail = rust_log().unwrap_or_default().with_default(LevelFilter::INFO);
        let ours = filter_fn(|m: &Metadata<'_>| {
            m.is_span() && m.target() != anchor::TARGET && !m.target().starts_with("lambda_runtime")
        });
        let spans = self.provider().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("tracing"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                // On this layer only: it must not silence log lines.
                .with_filter(ours.and(detail))
        });
        spans.map_or_else(|| Anchor.and_then(None), |spans| Anchor.and_then(Some(spans)))
    }

    /// Installs the ready subscriber, unless the process has one.
    pub(crate) fn install_subscriber(&self) {
        if tracing::dispatcher::has_been_set() {
            return;
        }
        let lines = fmt::layer().event_format(Lines::from_env()).with_filter(level());
        let subscriber = tracing_subscriber::registry().with(self.layers()).with(lines);
        // Somebody may have been quicker; then theirs stays.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// `RUST_LOG` as far as it names targets and levels.
fn rust_log() -> Option<Targets> {
    env::var("RUST_LOG").ok()?.parse().ok()
}

/// Which events are logged: `AWS_LAMBDA_LOG_LEVEL`, because Lambda itself drops what is below it,
/// else `RUST_LOG`, else INFO.
fn level() -> Targets {
    let lambda = env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|name| lambda_level(&name));
    match lambda {
        Some(level) => Targets::new().with_default(level),
        None => rust_log().unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)),
    }
}

/// Lambda's names of levels; FATAL is above our highest one.
fn lambda_level(name: &str) -> Option<LevelFilter> {
    if name.eq_ignore_ascii_case("fatal") {
        return Some(LevelFilter::ERROR);
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests;
