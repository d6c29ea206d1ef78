//! The way of data points out of the process: collected when a flush asks for them.
//!
//! There is no reader with a thread and an interval: nothing runs while the sandbox is frozen, and
//! what an invocation counted leaves with its spans.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use opentelemetry_otlp::{MetricExporter, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};

use super::outbox::Outbox;
use super::route::Client;

/// As for spans, only the path matters.
const METRICS: &str = "http://outbox/v1/metrics";

/// Everything between the meter provider and the network.
#[derive(Debug)]
pub(crate) struct Points {
    reader: Reader,
    encoder: MetricExporter,
    outbox: Outbox,
    /// Where metrics go when they do not go where spans do.
    own: Option<Client>,
    turn: tokio::sync::Mutex<()>,
}

// === impl Points ===

impl Points {
    /// A meter provider, and the way out of it: over `own`, or over the spans' connection.
    pub(crate) fn new(
        resource: Resource,
        temporality: Temporality,
        own: Option<Client>,
    ) -> Option<(Self, SdkMeterProvider)> {
        let outbox = Outbox::default();
        let encoder = MetricExporter::builder()
            .with_temporality(temporality)
            .with_http()
            .with_http_client(outbox.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(METRICS)
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .ok()?;
        let reader = Reader(Arc::new(
            ManualReader::builder()
                .with_temporality(temporality)
                .build(),
        ));
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.clone())
            .with_resource(resource)
            .build();
        let turn = tokio::sync::Mutex::new(());
        Some((
            Self {
                reader,
                encoder,
                outbox,
                own,
                turn,
            },
            provider,
        ))
    }

    /// Sends what was recorded, within `limit`, over `shared` if there is no other way.
    pub(super) async fn flush(&self, shared: &Client, limit: Duration) {
        let quiet = Context::current().with_telemetry_suppressed();
        let sending = self
            .send(self.own.as_ref().unwrap_or(shared))
            .with_context(quiet);
        // What it did not get done by then waits for the next flush.
        let _ = tokio::time::timeout(limit, sending).await;
    }

    async fn send(&self, client: &Client) {
        let _turn = self.turn.lock().await;
        let _attempt = self.outbox.attempt();
        // At most one request waits: while it is not taken, the instruments go on counting, and the
        // next collection has it all.
        if !self.outbox.send(client).await {
            return;
        }
        let mut collected = ResourceMetrics::default();
        let has_points = self.reader.collect(&mut collected).is_ok()
            && collected.scope_metrics().next().is_some();
        if has_points && self.encoder.export(&collected).await.is_ok() {
            self.outbox.send(client).await;
        }
    }
}

/// The provider owns one clone, we collect with the other.
#[derive(Clone, Debug)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(()) // only a flush of ours can wait without blocking the task
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
