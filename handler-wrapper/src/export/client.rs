//! One HTTP/1.1 connection, kept alive, that needs no task of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::outbox::Parcel;
use super::target::Target;

/// An answer of more than this is somebody else's server.
const ANSWER_BYTES_MAX: usize = 64 << 10;

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
