//! One HTTP/1.1 connection, kept alive, that needs no task of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::outbox::Parcel;

/// An answer of more than this is somebody else's server.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where to send, and with which headers.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// What the configured endpoint has before `/v1/…`, without a slash at its end.
    base: String,
    /// The whole path for traces, when the signal's own variable named it.
    traces: Option<String>,
    tls: bool,
    headers: HeaderMap,
    /// Certificates that are trusted instead of the public ones.
    #[cfg(feature = "tls")]
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// An endpoint that cannot be used, and why.
#[derive(Debug)]
pub(crate) struct TargetError(pub(crate) String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// No answer was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// Nobody listens there.
    Unreachable,
    /// The connection ended, or what came was not HTTP.
    Broken,
    /// The time for it was over.
    Elapsed,
}

// === impl Target ===

impl Target {
    /// The extension's receiver in this sandbox.
    pub(crate) fn loopback(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            base: String::new(),
            traces: None,
            tls: false,
            headers: HeaderMap::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        }
    }

    /// An OTLP/HTTP endpoint; `/v1/traces` is put after its path.
    pub(crate) fn endpoint(url: &str) -> Result<Self, TargetError> {
        let bad = |what: &str| TargetError(format!("`{url}` {what}"));
        let uri: Uri = url.trim().parse().map_err(|_| bad("is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => {
                return Err(bad(
                    "is https, which needs the feature `tls` of the crate `throughline`, or the extension",
                ));
            }
            _ => return Err(bad("does not begin with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| bad("has no host"))?;
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').to_owned(),
            traces: None,
            tls,
            headers: HeaderMap::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        })
    }

    /// A signal's own endpoint, which is used as it is.
    pub(crate) fn signal_endpoint(url: &str) -> Result<Self, TargetError> {
        let mut target = Self::endpoint(url)?;
        let path = if target.base.is_empty() {
            "/"
        } else {
            &target.base
        };
        target.traces = Some(path.to_owned());
        target.base = String::new();
        Ok(target)
    }

    /// Adds `key=value,key=value` as `OTEL_EXPORTER_OTLP_HEADERS` has it, percent-encoded.
    ///
    /// Returns how many entries could not be used; they are not quoted, since they may be secrets.
    pub(crate) fn add_headers(&mut self, list: &str) -> usize {
        let mut bad = 0;
        for entry in list
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let header = entry.split_once('=').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                let mut value = HeaderValue::from_bytes(&percent_decode(value.trim())).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            match header {
                Some((name, value)) => {
                    self.headers.insert(name, value);
                }
                None => bad += 1,
            }
        }
        bad
    }

    /// Trusts the certificates of a PEM file, as `OTEL_EXPORTER_OTLP_CERTIFICATE` names one.
    ///
    /// Returns how many there are.
    #[cfg(feature = "tls")]
    pub(crate) fn trust(&mut self, pem: &[u8]) -> usize {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        self.roots = CertificateDer::pem_slice_iter(pem)
            .filter_map(Result::ok)
            .collect();
        self.roots.len()
    }

    #[cfg(feature = "tls")]
    fn tls_config(&self) -> std::sync::Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        if self.roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots.add_parsable_certificates(self.roots.iter().cloned());
        // Named here, and not the process's default: another crate may bring a second provider,
        // and then there is no default.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers of the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        std::sync::Arc::new(config)
    }

    /// Host, port and the path that requests of this signal go to.
    #[cfg(all(test, feature = "metrics"))]
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}:{}{}", self.host, self.port, self.path(path))
    }

    fn path(&self, path: &str) -> String {
        match &self.traces {
            Some(whole) => whole.clone(),
            None => format!("{}{path}", self.base),
        }
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                decoded.push(byte);
                i += 3;
            }
            None => {
                decoded.push(bytes[i]);
                i += 1;
            }
        }
    }
    decoded
}

type Body = Full<Bytes>;
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection and the future that moves its bytes; it is polled only during a call.
struct Connection {
    sender: http1::SendRequest<Body>,
    driver: Driver,
}

/// Sends requests over one connection, which is opened when it is needed.
pub(crate) struct Peer {
    target: Target,
    idle: Mutex<Option<Connection>>,
    /// Made at the first connection: a function that never exports does not pay for it.
    #[cfg(feature = "tls")]
    tls: std::sync::OnceLock<std::sync::Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the headers: they hold API keys.
        f.debug_struct("Peer")
            .field("host", &self.target.host)
            .field("port", &self.target.port)
            .finish_non_exhaustive()
    }
}

// === impl Peer ===

impl Peer {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            idle: Mutex::new(None),
            #[cfg(feature = "tls")]
            tls: std::sync::OnceLock::new(),
        }
    }

    /// Posts an export request.
    pub(super) async fn export(&self, parcel: &Parcel) -> Result<(StatusCode, Bytes), SendError> {
        let mut headers = self.target.headers.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        if let Some(encoding) = &parcel.encoding {
            headers.insert(CONTENT_ENCODING, encoding.clone());
        }
        let path = self.target.path(&parcel.path);
        self.post(&path, headers, parcel.body.clone()).await
    }

    /// Posts to the extension's own routes, within `limit`.
    pub(crate) async fn call(
        &self,
        path: &str,
        body: &'static str,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), SendError> {
        let mut headers = HeaderMap::new();
        headers.insert("throughline", HeaderValue::from_static("1"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let posting = self.post(path, headers, Bytes::from_static(body.as_bytes()));
        tokio::time::timeout(limit, posting)
            .await
            .map_err(|_| SendError::Elapsed)?
    }

    async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), SendError> {
        let request = |body: Bytes| {
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = path.parse().map_err(|_| SendError::Broken)?;
            *request.headers_mut() = headers.clone();
            let host = HeaderValue::from_str(&self.authority()).map_err(|_| SendError::Broken)?;
            request.headers_mut().insert(HOST, host);
            let agent = concat!("throughline/", env!("CARGO_PKG_VERSION"));
            request
                .headers_mut()
                .insert(USER_AGENT, HeaderValue::from_static(agent));
            Ok(request)
        };
        // Taken out for the call: one that is cancelled leaves none, never a half-read one.
        let reused = self.idle.lock().await.take();
        if let Some(mut connection) = reused
            && !connection.sender.is_closed()
            && let Ok(answer) = exchange(&mut connection, request(body.clone())?).await
        {
            return self.finish(connection, answer).await;
        }
        // A connection that was idle over a freeze may be dead without a sign; what failed on it
        // is sent once more. At worst the same spans arrive twice, with the same ids.
        let mut connection = self.connect().await?;
        let answer = exchange(&mut connection, request(body)?).await?;
        self.finish(connection, answer).await
    }

    async fn finish(
        &self,
        connection: Connection,
        answer: Response<Bytes>,
    ) -> Result<(StatusCode, Bytes), SendError> {
        *self.idle.lock().await = Some(connection);
        Ok((answer.status(), answer.into_body()))
    }

    fn authority(&self) -> String {
        let Target {
            host, port, tls, ..
        } = &self.target;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        match (tls, port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{port}"),
        }
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        let Target {
            host, port, tls, ..
        } = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|_| SendError::Unreachable)?;
        let _ = stream.set_nodelay(true);
        if *tls {
            return self.connect_tls(stream).await;
        }
        handshake(stream).await
    }

    #[cfg(feature = "tls")]
    async fn connect_tls(&self, stream: TcpStream) -> Result<Connection, SendError> {
        let name = rustls::pki_types::ServerName::try_from(self.target.host.clone())
            .map_err(|_| SendError::Broken)?;
        let config = self.tls.get_or_init(|| self.target.tls_config());
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        handshake(
            connector
                .connect(name, stream)
                .await
                .map_err(|_| SendError::Broken)?,
        )
        .await
    }

    // An https target is refused when it is configured.
    #[cfg(not(feature = "tls"))]
    async fn connect_tls(&self, _stream: TcpStream) -> Result<Connection, SendError> {
        Err(SendError::Unreachable)
    }
}

async fn handshake<T>(stream: T) -> Result<Connection, SendError>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| SendError::Broken)?;
    Ok(Connection {
        sender,
        driver: Box::pin(connection.map(|_| ())),
    })
}

/// Sends one request and reads its whole answer, moving the connection along.
async fn exchange(
    connection: &mut Connection,
    request: Request<Body>,
) -> Result<Response<Bytes>, SendError> {
    let Connection { sender, driver } = connection;
    let call = std::pin::pin!(async move {
        sender.ready().await.map_err(|_| SendError::Broken)?;
        let (parts, body) = sender
            .send_request(request)
            .await
            .map_err(|_| SendError::Broken)?
            .into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| SendError::Broken)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    });
    match select(call, driver).await {
        Either::Left((answer, _)) => answer,
        // The connection ended; the answer may have been read before that.
        Either::Right(((), call)) => call.now_or_never().unwrap_or(Err(SendError::Broken)),
    }
}
