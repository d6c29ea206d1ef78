//! OTLP/HTTP with protobuf: a request from chunks, an outcome from an answer.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use super::connection::{Answer, Chunks};
use super::retry::{self, Class};
use super::{Compression, Destination, Outcome};
use crate::otlp::{self, Signal};

/// What we call ourselves (OTLP exporter, "User Agent").
pub(super) const AGENT: &str = concat!("throughline-extension/", env!("CARGO_PKG_VERSION"));

/// A request that can be sent twice.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<Bytes>,
}

// === impl Prepared ===

impl Prepared {
    /// The request to hand to a connection; the chunks are shared, not copied.
    pub(super) fn request(&self) -> Request<Chunks> {
        let mut request = Request::new(Chunks::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Prepares an OTLP/HTTP request. `headers` are the destination's, read and checked.
pub(super) fn prepare(
    destination: &Destination,
    mut headers: HeaderMap,
    chunks: Vec<Bytes>,
) -> Result<Prepared, String> {
    let endpoint = &destination.endpoint;
    let host = HeaderValue::try_from(endpoint.authority()).map_err(|error| error.to_string())?;
    headers.insert(HOST, host);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    let body = match destination.compression {
        Compression::None => chunks,
        Compression::Gzip => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            vec![otlp::gzip(chunks.iter().map(AsRef::as_ref)).into()]
        }
    };
    let uri = Uri::try_from(endpoint.path.as_str()).map_err(|error| error.to_string())?;
    Ok(Prepared {
        method: Method::POST,
        uri,
        headers,
        body,
    })
}

/// Reads the answer to an OTLP/HTTP request.
pub(super) fn outcome(signal: Signal, answer: &Answer, now: SystemTime) -> Outcome {
    let status = answer.status.as_u16().to_string();
    match retry::http_status(answer.status.as_u16()) {
        Class::Accepted => {
            let partial = otlp::partial_success(signal, &answer.body);
            Outcome::Accepted {
                rejected: partial.rejected,
                message: partial.message,
            }
        }
        Class::Retryable => {
            let header = answer
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            let asked = header.and_then(|value| retry::retry_after(value, now));
            let info = || otlp::parse_status(&answer.body)?.retry_delay;
            Outcome::Retryable {
                status,
                after: asked.or_else(info),
            }
        }
        Class::TooLarge => Outcome::TooLarge,
        Class::Unauthorized => Outcome::Unauthorized { status },
        Class::Misdirected => Outcome::Unreachable {
            why: misdirected(answer),
        },
        Class::Refused => Outcome::Refused {
            status,
            message: message(answer),
        },
    }
}

fn misdirected(answer: &Answer) -> String {
    if answer.status.as_u16() == 407 {
        return "the proxy answered 407: it wants credentials, in HTTPS_PROXY or HTTP_PROXY".into();
    }
    let location = answer
        .headers
        .get(http::header::LOCATION)
        .and_then(|value| value.to_str().ok());
    format!(
        "the endpoint answered {} to {}: OTLP does not follow redirects, set the endpoint to where it points",
        answer.status.as_u16(),
        location.unwrap_or("nowhere"),
    )
}

/// What upstream says about a refusal: a `Status` in protobuf, or the start of its text.
fn message(answer: &Answer) -> String {
    let content_type = answer
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let protobuf = content_type.is_none_or(|value| value.starts_with("application/x-protobuf"));
    let status = if protobuf {
        otlp::parse_status(&answer.body)
    } else {
        None
    };
    match status {
        Some(status) => status.message,
        None => text(&answer.body),
    }
}

/// The first 200 characters of what may be text, on one line.
fn text(body: &[u8]) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(body)
        .chars()
        .take(200)
        .map(printable)
        .collect::<String>()
        .trim()
        .into()
}
