//! Where the spans of this process come from and go to.
//!
//! Of this crate only this module reads the environment.

mod config;
mod log_settings;
mod make;
#[cfg(feature = "metrics")]
mod metric_settings;
mod resource;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::Error;
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::{Config, SdkTracer, SdkTracerProvider};
use tokio::sync::OnceCell;

use crate::consumer_span::SCHEMA_URL;
use crate::export::{Client, Extension, Pipeline, Presence, SpanCounts, Target};
use crate::ids::Ids;
use crate::metrics::Instruments;
use config::Environment;

/// How long somebody waits for the extension's answer to a call; it answers at once or is not
/// there, unless the sandbox has next to no processor.
const HELLO_LIMIT: Duration = Duration::from_millis(50);

/// How long the answer may take where nobody waits for it.
const HELLO_LIMIT_BESIDE: Duration = Duration::from_secs(1);

static GLOBAL: OnceCell<Telemetry> = OnceCell::const_new();

/// The instrumentation scope of every span and metric this crate makes.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("throughline")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build()
}

/// A handle to the process's telemetry: the provider whose spans are exported, and the way out.
///
/// [`throughline::run`](crate::run) makes one from the environment, so most functions never see it.
/// Make one yourself to join a provider that already exists, to flush at moments that `run` does
/// not know of, or to put its layers into a subscriber of your own.
///
/// Cloning is cheap, and all clones are the same telemetry.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    /// `None`: no spans are made at all.
    tracing: Option<Tracing>,
    pipeline: Option<Pipeline>,
    extension: Arc<Extension>,
    flush_limit: Duration,
    decides_deferred: bool,
    partial_batch: bool,
}

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// Our generator, if the provider has it.
    ids: Option<Ids>,
    instruments: Instruments,
    #[cfg(feature = "metrics")]
    meters: Option<opentelemetry_sdk::metrics::SdkMeterProvider>,
}

// === impl Telemetry ===

impl Telemetry {
    /// Makes the telemetry that the environment asks for. Never fails: what is wrong is said in
    /// one line on stderr each, and done without.
    ///
    /// The spans go to the Throughline extension when it answers on
    /// `127.0.0.1:$THROUGHLINE_HTTP_PORT` (4318), else to `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` with their headers, as OTLP/HTTP protobuf. Without either, and
    /// with `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`, no span is ever made.
    ///
    /// Read besides: `OTEL_TRACES_SAMPLER` and its argument, `OTEL_SERVICE_NAME`,
    /// `OTEL_RESOURCE_ATTRIBUTES`, the span limits, and what Lambda says about the function.
    pub async fn from_env() -> Self {
        Self::from_environment(&Environment::read()).await
    }

    /// Exports to this OTLP/HTTP endpoint, whatever the environment says about endpoints:
    /// `/v1/traces` is put after its path.
    ///
    /// # Errors
    ///
    /// When `url` is not one that can be used; `https` needs the feature `tls`.
    ///
    /// ```
    /// use throughline::Telemetry;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), throughline::Error> {
    /// let telemetry = Telemetry::to_endpoint("http://127.0.0.1:4318")?;
    /// assert!(Telemetry::to_endpoint("127.0.0.1:4318").is_err());
    /// # drop(telemetry);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_endpoint(url: &str) -> Result<Self, Error> {
        let environment = Environment::read();
        let mut inner = Inner::without_spans(&environment, Extension::absent());
        let target = Target::endpoint(url).map_err(|error| error.to_string())?;
        inner.start(Client::new(target), true);
        Ok(Self(Arc::new(inner)).in_background(!environment.in_lambda))
    }

    /// Joins a provider that already exists: its spans are exported the way it was set up, and
    /// [`flush`](Self::flush) is its `force_flush`, away from the task.
    ///
    /// A record whose header left the sampling decision open is only linked, unless the provider's
    /// sampler is a [`DecideDeferred`](crate::DecideDeferred) and [`decides_deferred`](Self::decides_deferred) says so.
    #[must_use]
    pub fn from_provider(provider: SdkTracerProvider) -> Self {
        let environment = Environment::read();
        Self(Arc::new(Inner {
            tracing: Some(Tracing::new(provider, None)),
            decides_deferred: false,
            ..Inner::without_spans(&environment, make::extension(&environment))
        }))
    }

    /// Telemetry that makes no spans; handlers answer as they do with it.
    #[must_use]
    pub fn disabled() -> Self {
        let environment = Environment::read();
        Self(Arc::new(Inner::without_spans(
            &environment,
            Extension::absent(),
        )))
    }

    /// Says that the provider's sampler is a [`DecideDeferred`](crate::DecideDeferred).
    #[must_use]
    pub fn decides_deferred(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.decides_deferred = true;
        }
        self
    }

    /// The process's telemetry: what was [installed](Self::install), else what the environment
    /// asks for, which is installed then.
    pub async fn global() -> Self {
        GLOBAL
            .get_or_init(|| async {
                let telemetry = Self::from_env().await;
                telemetry.set_globals();
                telemetry
            })
            .await
            .clone()
    }

    /// Makes this the process's telemetry, and its provider OpenTelemetry's global one.
    ///
    /// Returns false, and changes nothing, if there is one already.
    pub fn install(&self) -> bool {
        let installed = GLOBAL.set(self.clone()).is_ok();
        if installed {
            self.set_globals();
        }
        installed
    }

    fn set_globals(&self) {
        self.install_subscriber();
        if let Some(tracing) = &self.0.tracing {
            opentelemetry::global::set_tracer_provider(tracing.provider.clone());
            #[cfg(feature = "metrics")]
            if let Some(meters) = &tracing.meters {
                opentelemetry::global::set_meter_provider(meters.clone());
            }
        }
    }

    /// Whether spans are made at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.tracing.is_some()
    }

    /// The provider, if spans are made at all.
    #[must_use]
    pub fn provider(&self) -> Option<&SdkTracerProvider> {
        self.0.tracing.as_ref().map(|tracing| &tracing.provider)
    }

    /// Sends everything that has ended, for one second at most, or for as long as
    /// `OTEL_EXPORTER_OTLP_TIMEOUT` says. What was not acknowledged by then is kept for the next
    /// flush.
    ///
    /// [`throughline::run`](crate::run) does this after every invocation; call it in a worker
    /// outside Lambda, or after work in the initialisation of a function.
    pub async fn flush(&self) {
        self.flush_within(self.0.flush_limit).await;
    }

    /// What became of the spans so far; `None` when this telemetry does not export them itself.
    #[must_use]
    pub fn counts(&self) -> Option<SpanCounts> {
        self.0.pipeline.as_ref().map(Pipeline::counts)
    }

    pub(crate) async fn flush_within(&self, limit: Duration) {
        if let Some(pipeline) = &self.0.pipeline {
            let started = Instant::now();
            pipeline.flush(limit).await;
            pipeline
                .flush_points(limit.saturating_sub(started.elapsed()))
                .await;
        } else if let Some(tracing) = &self.0.tracing {
            // `force_flush` blocks its thread; it would block the exporter's own task as well.
            let provider = tracing.provider.clone();
            let flushing = tokio::task::spawn_blocking(move || provider.force_flush());
            let _ = tokio::time::timeout(limit, flushing).await;
        }
    }

    /// What a flush may take now: its usual limit, but no longer than until 100 ms, or 3 % of the
    /// invocation's limit, before the deadline, if there is a sensible one.
    pub(crate) fn flush_limit(
        &self,
        started: SystemTime,
        deadline: Option<SystemTime>,
    ) -> Duration {
        let Some(deadline) = deadline else {
            return self.0.flush_limit;
        };
        let whole = deadline.duration_since(started).unwrap_or_default();
        let reserve = (whole * 3 / 100).min(Duration::from_millis(100));
        let left = deadline
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        self.0.flush_limit.min(left.saturating_sub(reserve))
    }

    /// Sends spans that have ended, beside the records that are still running.
    pub(crate) async fn flush_spans(&self) {
        match &self.0.pipeline {
            Some(pipeline) => pipeline.flush(self.0.flush_limit).await,
            None => self.flush().await,
        }
    }

    /// The instruments of handlers; `None` when there is nothing to make.
    pub(crate) fn metrics(&self) -> Option<&Instruments> {
        self.0.tracing.as_ref().map(|tracing| &tracing.instruments)
    }

    /// The last thing of an invocation: sends its spans within what `deadline` leaves, then tells
    /// the extension that no more will come.
    pub(crate) async fn end_invocation(&self, request_id: &str, limit: Duration) {
        self.flush_within(limit).await;
        // Nobody waits for the answer any more, so there is time to ask once more.
        self.0.extension.greet(HELLO_LIMIT).await;
        self.0.extension.complete(request_id, HELLO_LIMIT).await;
    }

    /// The first thing of an invocation: seeds the ids anew, and asks for the extension again,
    /// beside the processor, if it has not answered so far.
    pub(crate) fn begin_invocation(&self) {
        if let Some(ids) = self.0.tracing.as_ref().and_then(|t| t.ids.as_ref()) {
            ids.reseed();
        }
        if self.0.extension.presence() == Presence::Unknown {
            let extension = Arc::clone(&self.0.extension);
            tokio::spawn(async move { extension.greet(HELLO_LIMIT_BESIDE).await });
        }
    }

    /// Asks for the extension, if that was not done yet.
    pub(crate) async fn find_extension(&self) {
        self.0.extension.greet(HELLO_LIMIT).await;
    }

    /// The tracer of this crate's spans.
    pub(crate) fn tracer(&self) -> Option<&SdkTracer> {
        self.0.tracing.as_ref().map(|tracing| &tracing.tracer)
    }

    /// Ended spans that only a flush takes away; nothing where an SDK processor does that.
    pub(crate) fn waiting(&self) -> usize {
        self.0.pipeline.as_ref().map_or(0, Pipeline::waiting)
    }

    /// How many spans an endpoint has answered for, one way or the other.
    pub(crate) fn settled(&self) -> u64 {
        self.counts()
            .map_or(0, |counts| counts.exported + counts.rejected)
    }

    /// How many links a span keeps.
    pub(crate) fn links_max(&self) -> usize {
        // Reading the defaults makes a whole resource, which is thrown away.
        static LINKS_MAX: OnceLock<usize> = OnceLock::new();
        *LINKS_MAX.get_or_init(|| Config::default().span_limits.max_links_per_span as usize)
    }

    pub(crate) fn knows_deferred(&self) -> bool {
        self.0.decides_deferred
    }

    /// What the environment says about logs.
    pub(crate) fn log_settings(&self) -> crate::logs::Settings {
        log_settings::read()
    }

    pub(crate) fn partial_batch(&self) -> bool {
        self.0.partial_batch
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("enabled", &self.is_enabled())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
