//! What the environment asks for.

use std::env;
use std::time::Duration;

use crate::export::Target;

/// The port of the extension's OTLP/HTTP receiver, unless `THROUGHLINE_HTTP_PORT` says otherwise.
const HTTP_PORT: u16 = 4318;

/// The variables this crate reads, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pub(super) disabled: bool,
    /// Whether this process is a Lambda function; elsewhere nobody looks for the extension.
    pub(super) in_lambda: bool,
    pub(super) http_port: u16,
    pub(super) partial_batch: bool,
    /// What a flush may take.
    pub(super) flush_limit: Duration,
    traces_endpoint: Option<String>,
    endpoint: Option<String>,
    traces_headers: Option<String>,
    headers: Option<String>,
    #[cfg(feature = "tls")]
    certificate: Option<String>,
}

/// An empty value counts as absent, as the OpenTelemetry specification says.
pub(super) fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn is_true(name: &str) -> bool {
    var(name).is_some_and(|value| {
        matches!(value.trim(), "1") || value.trim().eq_ignore_ascii_case("true")
    })
}

/// `OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds, or one second: the specification's ten would hold
/// an invocation for longer than most functions run.
fn flush_limit() -> Duration {
    let name = "OTEL_EXPORTER_OTLP_TIMEOUT";
    let given = var("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| var(name));
    let millis = given.map_or(Ok(FLUSH_MILLIS), |text| {
        text.trim().parse().map_err(|_| {
            say(&format!(
                "{name}={text:?} is not a number of milliseconds; {FLUSH_MILLIS} is used"
            ));
        })
    });
    Duration::from_millis(millis.unwrap_or(FLUSH_MILLIS))
}

const FLUSH_MILLIS: u64 = 1_000;

/// A line for the function's log about a setting that cannot be used.
pub(super) fn say(what: &str) {
    eprintln!("throughline: {what}");
}

impl Environment {
    pub(super) fn read() -> Self {
        let http_port = var("THROUGHLINE_HTTP_PORT").map_or(HTTP_PORT, |text| {
            text.trim().parse().unwrap_or_else(|_| {
                say(&format!(
                    "THROUGHLINE_HTTP_PORT={text:?} is not a port; {HTTP_PORT} is used"
                ));
                HTTP_PORT
            })
        });
        Self {
            disabled: is_true("OTEL_SDK_DISABLED")
                || var("OTEL_TRACES_EXPORTER").is_some_and(|name| name.trim() == "none"),
            in_lambda: var("AWS_LAMBDA_RUNTIME_API").is_some(),
            http_port,
            partial_batch: is_true("THROUGHLINE_PARTIAL_BATCH"),
            flush_limit: flush_limit(),
            traces_endpoint: var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            endpoint: var("OTEL_EXPORTER_OTLP_ENDPOINT"),
            traces_headers: var("OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
            headers: var("OTEL_EXPORTER_OTLP_HEADERS"),
            #[cfg(feature = "tls")]
            certificate: var("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
                .or_else(|| var("OTEL_EXPORTER_OTLP_CERTIFICATE")),
        }
    }

    /// Where spans go without the extension.
    pub(super) fn target(&self) -> Option<Target> {
        let (name, target) = match (&self.traces_endpoint, &self.endpoint) {
            (Some(url), _) => (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                Target::signal_endpoint(url),
            ),
            (None, Some(url)) => ("OTEL_EXPORTER_OTLP_ENDPOINT", Target::endpoint(url)),
            (None, None) => return None,
        };
        let mut target = target
            .map_err(|error| say(&format!("{name}={error}; no spans are sent")))
            .ok()?;
        if let Some(list) = self.traces_headers.as_ref().or(self.headers.as_ref()) {
            let bad = target.add_headers(list);
            if bad > 0 {
                say(&format!(
                    "{bad} entries of OTEL_EXPORTER_OTLP_HEADERS are not `name=value`"
                ));
            }
        }
        #[cfg(feature = "tls")]
        if let Some(path) = &self.certificate {
            let trusted = std::fs::read(path).map_or(0, |pem| target.trust(&pem));
            if trusted == 0 {
                say(&format!(
                    "OTEL_EXPORTER_OTLP_CERTIFICATE={path:?} holds no certificate; the public ones are trusted"
                ));
            }
        }
        Some(target)
    }
}
