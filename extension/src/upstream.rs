//! Where telemetry goes: one OTLP request out, one [`Outcome`] back.
//!
//! Built without I/O and without TLS work; connections are opened by [`Upstream::warm`] while the function runs,
//! or by [`Upstream::send`].
//! Nothing is spawned: a connection moves only while the request that uses it is being polled,
//! so it cannot outlive that request, and dropping the future closes the socket.

mod connect;
mod connection;
pub mod endpoint;
mod grpc;
mod headers;
mod http;
pub mod proxy;
pub mod retry;
mod route;
mod text;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ::http::header::HOST;
use ::http::{HeaderMap, HeaderValue, Method, Uri};
use bytes::Bytes;

use crate::config::AwsSettings;
use crate::otlp::Signal;
pub use endpoint::{Endpoint, EndpointError, Protocol};
use headers::Headers;
pub use proxy::ProxySettings;
use route::Route;

/// Everything that says where and how to send; plain data, filled by `config`.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSettings {
    /// Where each signal goes, by [`Signal::index`]; `None` when it goes nowhere.
    pub destinations: [Option<Destination>; 3],
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxy: ProxySettings,
    /// `THROUGHLINE_HEADERS_FILE`: a file with further headers, `name=value`, one a line.
    pub headers_file: Option<PathBuf>,
    /// What a signed request to AWS needs, for headers that name a secret.
    pub aws: AwsSettings,
}

/// Where one signal goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Scheme, host, port and, over HTTP, the whole path with the signal in it.
    pub endpoint: Endpoint,
    /// The encoding on the wire.
    pub protocol: Protocol,
    /// Names and values, percent-decoded already; names in any case.
    pub headers: Vec<(String, HeaderSource)>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// The longest that one attempt may take (`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s unless set).
    pub timeout: Duration,
    /// Files for TLS.
    pub tls: TlsFiles,
}

/// A header's value, or where it is kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum HeaderSource {
    /// The value itself.
    Literal(String),
    /// A reference that is read when the first request needs it: `arn:…:secretsmanager:…#key` or `ssm:/path`.
    Secret(String),
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// PEM files for TLS; read when the first connection needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`: the authorities to trust in place of the public ones.
    pub ca: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`: our certificate with its chain.
    pub client_certificate: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_CLIENT_KEY`: its private key.
    pub client_key: Option<PathBuf>,
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream has it.
    Accepted {
        /// Items it refused all the same (`partial_success`).
        rejected: u64,
        /// Why, or a warning; empty when it had nothing to say.
        message: String,
    },
    /// Not taken, and worth sending again.
    Retryable {
        /// The status, as `503` or `UNAVAILABLE`.
        status: String,
        /// How long upstream asks to wait (`Retry-After`, `RetryInfo`).
        after: Option<Duration>,
    },
    /// Too large for upstream: worth sending in parts.
    TooLarge,
    /// Not taken, and the same bytes never will be.
    Refused {
        /// The status, as `400` or `INVALID_ARGUMENT`.
        status: String,
        /// What upstream says about it; empty when nothing.
        message: String,
    },
    /// The credentials are missing, wrong or expired.
    Unauthorized {
        /// The status, as `401` or `UNAUTHENTICATED`.
        status: String,
    },
    /// Upstream was never reached, so it has nothing of the request: refused, no such name, TLS, proxy, secret.
    Unreachable {
        /// The reason for a human, naming the variable that would change it where there is one.
        why: String,
    },
    /// The request may or may not have arrived: the connection broke or time ran out.
    Lost {
        /// The reason for a human.
        why: String,
    },
}

/// The way to every signal's destination, with the connections that are open to them.
pub struct Upstream {
    settings: UpstreamSettings,
    /// One for each place that some signal goes to; signals that go to the same place share it.
    routes: Vec<Route>,
    /// The index into `routes`, by signal.
    route_of: [usize; 3],
    headers: Headers,
}

// === impl Upstream ===

impl Upstream {
    /// Makes an upstream that has not done anything yet: no I/O, no TLS.
    #[must_use]
    pub fn new(settings: UpstreamSettings) -> Self {
        let mut routes: Vec<Route> = Vec::new();
        let mut route_of = [0; 3];
        for signal in Signal::ALL {
            let Some(destination) = &settings.destinations[signal.index()] else {
                continue;
            };
            let known = routes.iter().position(|route| route.leads_to(destination));
            route_of[signal.index()] = known.unwrap_or_else(|| {
                routes.push(Route::to(destination, &settings.proxy));
                routes.len() - 1
            });
        }
        Self {
            settings,
            routes,
            route_of,
            headers: Headers::default(),
        }
    }

    /// Makes sure that `signal` finds a usable connection: opens one when none is idle,
    /// or when the idle one was last used longer ago than upstreams keep them, by the wall clock.
    ///
    /// Called on INVOKE, beside the function. Says nothing on failure: the send that follows will.
    pub async fn warm(&self, signal: Signal) {
        let Some(destination) = &self.settings.destinations[signal.index()] else {
            return;
        };
        let warm = async {
            self.headers.of(signal, destination, &self.settings).await?;
            self.routes[self.route_of[signal.index()]].warm().await
        };
        // A failure is met again, and told, by the send that needs the connection.
        let _ = tokio::time::timeout(destination.timeout, warm).await;
    }

    /// Sends one OTLP request, which is what the chunks hold together.
    ///
    /// Takes at most the destination's timeout. Never waits to try again: that is the caller's to decide.
    /// Dropping the future means that the acknowledgement is unknown, which counts as not sent;
    /// its connection is closed.
    /// Headers that cannot be read mean that nothing is sent, which is [`Outcome::Unreachable`]:
    /// without its credentials the request would only be refused.
    /// A request that fails on a connection that was idle, without an answer,
    /// is sent once more on a new one.
    pub async fn send(&self, signal: Signal, chunks: Vec<Bytes>) -> Outcome {
        let Some(destination) = &self.settings.destinations[signal.index()] else {
            return Outcome::Unreachable {
                why: format!("no endpoint is set for {signal}"),
            };
        };
        let attempt = self.attempt(signal, destination, chunks);
        match tokio::time::timeout(destination.timeout, attempt).await {
            Ok(outcome) => {
                let outcome = outcome.unwrap_or_else(|why| Outcome::Unreachable { why });
                if matches!(outcome, Outcome::Unauthorized { .. }) {
                    self.headers.refused(signal).await;
                }
                outcome
            }
            Err(_) => Outcome::Lost {
                why: format!(
                    "{}: no answer within {:?}",
                    destination.endpoint.host_and_port(),
                    destination.timeout
                ),
            },
        }
    }

    async fn attempt(
        &self,
        signal: Signal,
        destination: &Destination,
        chunks: Vec<Bytes>,
    ) -> Result<Outcome, String> {
        let headers = self.headers.of(signal, destination, &self.settings).await?;
        let mut prepared = match destination.protocol {
            Protocol::HttpProtobuf => http::prepare(destination, headers, chunks),
            Protocol::Grpc => grpc::prepare(signal, destination, headers, chunks),
        }?;
        let route = &self.routes[self.route_of[signal.index()]];
        route.address(&mut prepared)?;
        match route.exchange(&prepared).await? {
            Ok(answer) => Ok(match destination.protocol {
                Protocol::HttpProtobuf => http::outcome(signal, &answer, SystemTime::now()),
                Protocol::Grpc => grpc::outcome(signal, &answer, SystemTime::now()),
            }),
            Err(why) => Ok(Outcome::Lost { why }),
        }
    }
}

/// Makes one request that is not OTLP, on a connection of its own, and returns its status and body.
///
/// Waits as long as it takes: the caller bounds it.
///
/// # Errors
/// When no whole answer came.
pub(crate) async fn fetch(
    endpoint: &Endpoint,
    proxy: &ProxySettings,
    method: Method,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<(u16, Vec<u8>), String> {
    let destination = Destination {
        endpoint: endpoint.clone(),
        protocol: Protocol::HttpProtobuf,
        headers: Vec::new(),
        compression: Compression::None,
        timeout: Duration::MAX,
        tls: TlsFiles::default(),
    };
    let host = endpoint.authority();
    headers.insert(
        HOST,
        HeaderValue::try_from(host).map_err(|error| error.to_string())?,
    );
    let uri = Uri::try_from(endpoint.path.as_str()).map_err(|error| error.to_string())?;
    let mut prepared = http::Prepared {
        method,
        uri,
        headers,
        body: vec![body],
    };
    let route = Route::to(&destination, proxy);
    route.address(&mut prepared)?;
    let answer = route.exchange(&prepared).await??;
    if answer.whole {
        Ok((answer.status.as_u16(), answer.body))
    } else {
        Err(format!(
            "{} broke off its answer, or it is too long",
            endpoint.host_and_port()
        ))
    }
}

/// Shows where it leads; connections have nothing to show.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

// === impl HeaderSource ===

/// Shows which kind it is, never the value: settings are logged, secrets are not.
impl fmt::Debug for HeaderSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(…)"),
            Self::Secret(reference) => f.debug_tuple("Secret").field(reference).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
