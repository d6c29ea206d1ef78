//! OTLP/HTTP, and the two routes of the wrapper.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{BODY_BYTES_MAX, Intake, Slot, Verdict};
use crate::lifecycle::Event;
use crate::otlp::{self, GunzipError, Signal};

/// Version of the wire between wrapper and extension.
const WIRE_VERSION: u32 = 1;
/// The header that no browser form and no forged request can set.
const WRAPPER_HEADER: &str = "throughline";
/// Longest body of hello and complete.
const WRAPPER_BYTES_MAX: usize = 1 << 10;
/// Longest request id. Lambda's are 36 characters.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Head of a request at most, and the largest piece of a body that is read at once.
const READ_BYTES_MAX: usize = 64 << 10;

type Answer = Response<Full<Bytes>>;

/// How a body is encoded, which its answer follows (OTLP, "OTLP/HTTP Response").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    Protobuf,
    Json,
}

/// Why a request is answered with an error.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    /// `google.rpc.Code`.
    code: i32,
    message: String,
}

/// Serves one connection until the client closes it.
pub async fn serve(stream: TcpStream, slot: Slot, intake: Intake) {
    let service = service_fn(|request| {
        let (intake, slot) = (intake.clone(), slot.clone());
        async move {
            slot.moved();
            let answer = route(request, &intake, &slot).await;
            slot.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    // No timer is given to hyper: see the module's page.
    let connection = http1::Builder::new()
        .max_buf_size(READ_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is its own affair.
    let _ = connection.await;
}

async fn route(request: Request<Incoming>, intake: &Intake, slot: &Slot) -> Answer {
    let path = request.uri().path();
    if let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.path() == path) {
        return export(signal, request, intake, slot).await;
    }
    if let Some(rest) = path.strip_prefix("/throughline/v1/") {
        let rest = rest.to_owned();
        return wrapper(&rest, request, intake, slot).await;
    }
    let encoding = Encoding::of(request.headers()).unwrap_or(Encoding::Json);
    let message = "this path is none of /v1/traces, /v1/metrics, /v1/logs";
    refuse(encoding, &Refusal::new(StatusCode::NOT_FOUND, 5, message))
}

/// One OTLP request.
async fn export(
    signal: Signal,
    request: Request<Incoming>,
    intake: &Intake,
    slot: &Slot,
) -> Answer {
    let encoding = Encoding::of(request.headers());
    let result = match encoding {
        _ if request.method() != Method::POST => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            12,
            "only POST is taken here",
        )),
        None => {
            let message = "the content type is none of application/x-protobuf, application/json";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, 3, message))
        }
        Some(encoding) => take(signal, encoding, request, intake, slot).await,
    };
    let encoding = encoding.unwrap_or(Encoding::Json);
    match result {
        // An empty message of the answer's type (OTLP, "Full Success").
        Ok(()) => {
            let empty: &[u8] = if encoding == Encoding::Json {
                b"{}"
            } else {
                b""
            };
            encoding.answer(StatusCode::OK, empty.to_vec())
        }
        Err(refusal) => refuse(encoding, &refusal),
    }
}

/// Reads, decodes and hands over one request.
async fn take(
    signal: Signal,
    encoding: Encoding,
    request: Request<Incoming>,
    intake: &Intake,
    slot: &Slot,
) -> Result<(), Refusal> {
    let gzip = match request
        .headers()
        .get(CONTENT_ENCODING)
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"" | b"identity") => false,
        Some(b"gzip") => true,
        Some(_) => {
            let message = "the content encoding is none of gzip, identity";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, 3, message));
        }
    };
    let mut body = read(request, BODY_BYTES_MAX, intake, slot).await?;
    if gzip {
        body = otlp::gunzip_bounded(&body, BODY_BYTES_MAX).map_err(|error| match error {
            GunzipError::TooLarge => Refusal::too_large(),
            GunzipError::Malformed => Refusal::malformed("the body is not gzip"),
        })?;
    }
    if encoding == Encoding::Json {
        body = otlp::json_to_protobuf(signal, &body)
            .map_err(|error| Refusal::malformed(error.to_string()))?;
    }
    match intake.accept(signal, body) {
        Verdict::Accepted => Ok(()),
        Verdict::Malformed(message) => Err(Refusal::malformed(message)),
        Verdict::TooLarge(message) => Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, 8, message)),
        Verdict::Busy => Err(Refusal::busy()),
    }
}

/// Reads a body into a buffer of its own: hyper's would pin far more memory than the bytes themselves.
async fn read(
    request: Request<Incoming>,
    bytes_max: usize,
    intake: &Intake,
    slot: &Slot,
) -> Result<Vec<u8>, Refusal> {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > bytes_max) {
        return Err(Refusal::too_large());
    }
    // The head is a slice of the read buffer too, and would keep it from being used again.
    let mut body = request.into_body();
    let busy = || {
        slot.close_stalled();
        Refusal::busy()
    };
    // What was only announced takes no room: a client may announce and never send.
    let mut reservation = intake.reserve(0).ok_or_else(busy)?;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        slot.moved();
        let frame = frame.map_err(|_| Refusal::malformed("the body ended early"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(Refusal::too_large());
        }
        if !reservation.grow(data.len()) {
            return Err(busy());
        }
        if bytes.is_empty() {
            // The first piece proves that somebody sends; from here on one allocation does.
            bytes.reserve_exact(announced.unwrap_or(data.len()));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// `hello` and `invocations/{requestId}/complete`; answered at once, never after waiting for a flush.
async fn wrapper(rest: &str, request: Request<Incoming>, intake: &Intake, slot: &Slot) -> Answer {
    let plain = |status: StatusCode| {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = status;
        answer
    };
    let request_id = rest
        .strip_prefix("invocations/")
        .and_then(|rest| rest.strip_suffix("/complete"));
    let known = request_id
        .is_some_and(|id| !id.is_empty() && !id.contains('/') && id.len() <= REQUEST_ID_BYTES_MAX);
    if !known && rest != "hello" {
        return plain(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED);
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    if request
        .headers()
        .get(WRAPPER_HEADER)
        .map(HeaderValue::as_bytes)
        != Some(b"1")
    {
        return plain(StatusCode::FORBIDDEN);
    }
    // The body says which version the caller speaks; there is one only, so it is read and not looked at.
    if read(request, WRAPPER_BYTES_MAX, intake, slot)
        .await
        .is_err()
    {
        return plain(StatusCode::BAD_REQUEST);
    }
    match request_id {
        Some(id) => {
            intake.tell(Event::Complete {
                request: id.to_owned(),
            });
            plain(StatusCode::NO_CONTENT)
        }
        None => {
            intake.tell(Event::Hello);
            let version = env!("CARGO_PKG_VERSION");
            let body = serde_json::json!({ "v": WIRE_VERSION, "extension": version }).to_string();
            Encoding::Json.answer(StatusCode::OK, body.into_bytes())
        }
    }
}

fn refuse(encoding: Encoding, refusal: &Refusal) -> Answer {
    // OTLP, "Failures": the body of every error is a google.rpc.Status in the encoding of the request.
    let body = match encoding {
        Encoding::Protobuf => otlp::status(refusal.code, &refusal.message),
        Encoding::Json => otlp::status_json(refusal.code, &refusal.message),
    };
    let mut answer = encoding.answer(refusal.status, body);
    let headers = answer.headers_mut();
    match refusal.status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // The rest of the body is not read.
        StatusCode::PAYLOAD_TOO_LARGE => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    answer
}

// === impl Encoding ===

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        match content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn answer(self, status: StatusCode, body: Vec<u8>) -> Answer {
        let mut answer = Response::new(Full::from(body));
        *answer.status_mut() = status;
        let content_type = match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        };
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer
    }
}

// === impl Refusal ===

impl Refusal {
    fn new(status: StatusCode, code: i32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// `INVALID_ARGUMENT`; OTLP, "Bad Data".
    fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 3, message)
    }

    /// `RESOURCE_EXHAUSTED`, for good.
    fn too_large() -> Self {
        let message =
            format!("the request is larger than {BODY_BYTES_MAX} bytes after decompression");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 8, message)
    }

    /// `UNAVAILABLE`, which clients try again.
    fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            14,
            "too many requests are being received",
        )
    }
}
