//! Lambda's own APIs, as far as an extension meets them.

pub mod extensions_api;
pub mod telemetry_api;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer of these APIs at most; the longest known is an INVOKE event of about 1 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where Lambda's APIs are: `host:port`, or a URL with a path under `cargo lambda watch`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuntimeApi {
    authority: String,
    base_path: String,
}

/// One kept-alive connection to it.
#[derive(Debug, Default)]
pub struct Connection(Option<SendRequest<Full<Bytes>>>);

/// A call that got no answer.
#[derive(Debug)]
pub struct CallError(String);

/// What an API answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, cut off at a bound.
    pub body: Bytes,
}

// === impl RuntimeApi ===

impl RuntimeApi {
    /// Reads the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn parse(text: &str) -> Self {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let port = if authority.contains(':') { "" } else { ":80" };
        Self {
            authority: format!("{authority}{port}"),
            base_path: path.trim_end_matches('/').to_owned(),
        }
    }

    /// Makes one call on this connection, which is opened when it is not open.
    ///
    /// # Errors
    /// When there is no answer; the connection is closed then.
    pub async fn call(
        &self,
        connection: &mut Connection,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, CallError> {
        let mut sender = match connection.0.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        sender.ready().await?;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base_path)
            .parse()
            .map_err(CallError::from_display)?;
        let host = [("host", self.authority.as_str())];
        for (name, value) in headers.iter().chain(&host) {
            let name =
                http::HeaderName::from_bytes(name.as_bytes()).map_err(CallError::from_display)?;
            request
                .headers_mut()
                .insert(name, value.parse().map_err(CallError::from_display)?);
        }
        let answer = sender.send_request(request).await?;
        let (parts, body) = answer.into_parts();
        let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        let body = body
            .collect()
            .await
            .map_err(CallError::from_display)?
            .to_bytes();
        connection.0 = Some(sender);
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(CallError::from_display)?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

// === impl CallError ===

impl CallError {
    fn from_display(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl From<hyper::Error> for CallError {
    fn from(error: hyper::Error) -> Self {
        Self::from_display(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_address() {
        for (text, authority, base_path) in [
            ("127.0.0.1:9001", "127.0.0.1:9001", ""),
            ("http://127.0.0.1:9000/.rt", "127.0.0.1:9000", "/.rt"),
            ("http://localhost:9000/.rt/", "localhost:9000", "/.rt"),
            ("169.254.100.1", "169.254.100.1:80", ""),
        ] {
            let api = RuntimeApi::parse(text);
            assert_eq!(
                (api.authority.as_str(), api.base_path.as_str()),
                (authority, base_path),
                "{text}"
            );
        }
    }
}
