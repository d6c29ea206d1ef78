//! How telemetry is put together.

use std::sync::{Arc, Weak};
use std::time::Duration;

#[cfg(feature = "metrics")]
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Config, SdkTracerProvider};

use super::config::{self, Environment};
#[cfg(feature = "metrics")]
use super::metric_settings;
use super::{HELLO_LIMIT, Inner, Telemetry, Tracing, resource, scope};
#[cfg(feature = "metrics")]
use crate::export::Points;
use crate::export::{Buffer, Client, Extension, Pipeline, Presence};
use crate::ids::Ids;
use crate::metrics::Instruments;
use crate::sampler::DecideDeferred;

/// How long a span waits at most where it is exported in the background; OpenTelemetry's batch
/// processors have the same default.
const BACKGROUND_PERIOD: Duration = Duration::from_secs(5);

impl Telemetry {
    pub(super) async fn from_environment(environment: &Environment) -> Self {
        if environment.disabled {
            return Self(Arc::new(Inner::without_spans(
                environment,
                Extension::absent(),
            )));
        }
        let mut inner = Inner::without_spans(environment, extension(environment));
        inner.extension.greet(HELLO_LIMIT).await;
        let client = match inner.extension.presence() {
            Presence::Absent => environment.target().map(Client::new),
            Presence::Present => Some(Client::to_extension(Arc::clone(&inner.extension), None)),
            Presence::Unknown => {
                let otherwise = environment.target();
                Some(Client::to_extension(
                    Arc::clone(&inner.extension),
                    otherwise,
                ))
            }
        };
        let alone = inner.extension.presence() == Presence::Absent;
        if let Some(client) = client {
            inner.start(client, !alone);
        }
        Self(Arc::new(inner)).in_background(!environment.in_lambda)
    }

    /// Where nobody tells us when the work is done, spans leave every few seconds, and as soon as
    /// there is a whole request's worth.
    pub(super) fn in_background(self, wanted: bool) -> Self {
        if wanted
            && self.0.pipeline.is_some()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(background(Arc::downgrade(&self.0)));
        }
        self
    }
}

/// Flushes until nobody has the telemetry any more.
async fn background(telemetry: Weak<Inner>) {
    while let Some(full) = telemetry
        .upgrade()
        .and_then(|t| Some(t.pipeline.as_ref()?.full()))
    {
        let _ = tokio::time::timeout(BACKGROUND_PERIOD, full).await;
        if let Some(inner) = telemetry.upgrade() {
            Telemetry(inner).flush().await;
        }
    }
}

/// The extension, which can be there only in a sandbox.
pub(super) fn extension(environment: &Environment) -> Extension {
    if environment.in_lambda {
        Extension::on_port(environment.http_port)
    } else {
        Extension::absent()
    }
}

// === impl Inner ===

impl Inner {
    /// What makes no spans, and may be given something that does.
    pub(super) fn without_spans(environment: &Environment, extension: Extension) -> Self {
        Self {
            tracing: None,
            pipeline: None,
            extension: Arc::new(extension),
            flush_limit: environment.flush_limit,
            decides_deferred: true,
            partial_batch: environment.partial_batch,
        }
    }

    /// Makes the provider and the way of its spans. `same_target`: there is one for all signals.
    pub(super) fn start(&mut self, client: Client, same_target: bool) {
        #[cfg(not(feature = "metrics"))]
        let _ = same_target;
        let resource = resource::detect();
        let (buffer, ids) = (Buffer::default(), Ids::new());
        let Some(pipeline) = Pipeline::new(buffer.clone(), client, &resource) else {
            config::say("the exporter could not be made; no spans are sent");
            return;
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(DecideDeferred::new(Config::default().sampler))
            .with_id_generator(ids.clone())
            .with_resource(resource.clone())
            .with_span_processor(buffer)
            .build();
        self.pipeline = Some(pipeline);
        self.tracing = Some(Tracing::new(provider, Some(ids)));
        #[cfg(feature = "metrics")]
        self.start_metrics(resource, same_target);
    }

    #[cfg(feature = "metrics")]
    fn start_metrics(&mut self, resource: opentelemetry_sdk::Resource, same_target: bool) {
        let made = metric_settings::read(same_target).and_then(|settings| {
            Points::new(
                resource,
                settings.temporality,
                settings.own.map(Client::new),
            )
        });
        let (Some(tracing), Some(pipeline)) = (&mut self.tracing, self.pipeline.take()) else {
            return;
        };
        let Some((points, meters)) = made else {
            tracing.instruments = Instruments::default();
            self.pipeline = Some(pipeline);
            return;
        };
        tracing.instruments = Instruments::of(&meters.meter_with_scope(scope()));
        tracing.meters = Some(meters);
        self.pipeline = Some(pipeline.with_points(points));
    }
}

impl Tracing {
    pub(super) fn new(provider: SdkTracerProvider, ids: Option<Ids>) -> Self {
        let tracer = provider.tracer_with_scope(scope());
        Self {
            provider,
            tracer,
            ids,
            instruments: Instruments::of_global(),
            #[cfg(feature = "metrics")]
            meters: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_flush_ends_before_the_deadline() {
        let telemetry = Telemetry::disabled();
        let now = SystemTime::now();
        let limit = |whole_ms: u64, left_ms: u64| {
            let deadline = now + Duration::from_millis(left_ms);
            let started = deadline - Duration::from_millis(whole_ms);
            telemetry.flush_limit(started, Some(deadline))
        };
        assert_eq!(telemetry.flush_limit(now, None), Duration::from_secs(1));
        assert_eq!(limit(900_000, 600_000), Duration::from_secs(1));
        // 3 % of a second are reserved, and never more than 100 ms.
        assert!(limit(1_000, 500) <= Duration::from_millis(470));
        assert!(limit(60_000, 500) <= Duration::from_millis(400));
        assert_eq!(limit(1_000, 0), Duration::ZERO);
    }
}
