//! OTLP/gRPC in: the three `Export` methods on HTTP/2, without a gRPC library.
//!
//! A unary call is one frame each way: a byte that says whether the message is compressed, its length in four bytes,
//! the message; the status comes in trailers (gRPC, "gRPC over HTTP2").
//! The message of an OTLP request is kept as it came, so there is nothing to decode.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{BODY_BYTES_MAX, Intake, Reservation, Slot, Verdict};
use crate::otlp::{self, GunzipError, Signal};

/// Calls that a client may have open at once on one connection.
/// Chosen, because SDKs send one export per signal at a time.
const CALLS_MAX: u32 = 16;

/// What a client may send ahead of our reading, per call and per connection.
const WINDOW_BYTES: u32 = 256 * 1024;

/// The largest set of request headers.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// The bytes before a message: flag and length.
const PREFIX_BYTES: usize = 5;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Serves one connection until the client closes it or breaks the protocol.
///
/// No timer runs here, so a pause of the sandbox ends nothing.
/// Dropping the future closes the connection and every call on it.
pub async fn serve(stream: TcpStream, slot: Slot, intake: Intake) {
    let connection = Arc::new(Connection {
        intake,
        slot,
        calls: AtomicUsize::new(0),
    });
    let service = service_fn(move |request| {
        let call = Call::begin(&connection);
        async move { Ok::<_, Infallible>(answer(&call.0, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(CALLS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off, or speaks something else, is its own problem: what it completed is counted.
    drop(connection.await);
}

/// What the calls of one connection share.
struct Connection {
    intake: Intake,
    slot: Slot,
    calls: AtomicUsize,
}

/// A call that is open; when the last one ends, the connection is idle.
struct Call(Arc<Connection>);

// === impl Call ===

impl Call {
    fn begin(connection: &Arc<Connection>) -> Self {
        connection.calls.fetch_add(1, Ordering::Relaxed);
        connection.slot.moved();
        Self(connection.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.slot.answered();
        }
    }
}

/// A call that ends without success.
struct Failure {
    code: Code,
    message: String,
}

/// The codes that we answer with (gRPC, "Status codes and their use in gRPC").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

async fn answer(connection: &Connection, request: Request<Incoming>) -> Response<Reply> {
    if !speaks_grpc(request.headers()) {
        // gRPC over HTTP2, "Requests": any other content type is answered with 415.
        let mut response = Response::new(Reply::default());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match export(connection, request).await {
        Ok(()) => success(),
        Err(failure) => trailers_only(&failure),
    }
}

fn speaks_grpc(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

async fn export(connection: &Connection, request: Request<Incoming>) -> Result<(), Failure> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let signal = Signal::ALL
        .into_iter()
        .find(|signal| signal.grpc_path() == path);
    let signal = signal
        .filter(|_| head.method == Method::POST)
        .ok_or_else(|| {
            Failure::new(
                Code::Unimplemented,
                format!("no method {path}: this is an OTLP receiver"),
            )
        })?;
    let gzip = head
        .headers
        .get(GRPC_ENCODING)
        .map(|value| value.as_bytes() == b"gzip");
    // hyper keeps its read buffer alive for as long as a header value is held.
    drop(head);
    let (frame, _reservation) = read(connection, body).await?;
    let message = unframe(frame, gzip)?;
    match connection.intake.accept(signal, message) {
        Verdict::Accepted => Ok(()),
        Verdict::Malformed(why) => Err(Failure::new(Code::InvalidArgument, why)),
        Verdict::TooLarge(why) => Err(Failure::new(Code::ResourceExhausted, why)),
        Verdict::Busy => Err(busy()),
    }
}

/// Reads a call's body, which is one frame, into memory that the intake has granted.
async fn read(
    connection: &Connection,
    mut body: Incoming,
) -> Result<(Vec<u8>, Reservation), Failure> {
    let Connection { intake, slot, .. } = connection;
    let mut whole = Vec::new();
    let mut reservation = intake.reserve(0).ok_or_else(busy)?;
    while let Some(frame) = body.frame().await {
        slot.moved();
        let broken = |_| Failure::new(Code::InvalidArgument, "the request broke off".into());
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > PREFIX_BYTES + BODY_BYTES_MAX {
            return Err(too_large());
        }
        if !reservation.grow(data.len()) {
            // Whoever has stalled for longest makes room; this client is told to come again.
            slot.close_stalled();
            return Err(busy());
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole, reservation))
}

/// Takes the message out of its frame. `gzip` is what `grpc-encoding` says, if there is one.
fn unframe(mut frame: Vec<u8>, gzip: Option<bool>) -> Result<Vec<u8>, Failure> {
    let Some((&[compressed, ref length @ ..], message)) = frame.split_first_chunk::<PREFIX_BYTES>()
    else {
        return Err(Failure::new(
            Code::InvalidArgument,
            "the call has no message".into(),
        ));
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > BODY_BYTES_MAX {
        return Err(too_large());
    }
    if message.len() != length {
        let why = format!("the message says {length} bytes and {} came", message.len());
        return Err(Failure::new(Code::InvalidArgument, why));
    }
    match (compressed, gzip) {
        (0, _) => {
            frame.drain(..PREFIX_BYTES);
            Ok(frame)
        }
        (1, Some(true)) => match otlp::gunzip_bounded(message, BODY_BYTES_MAX) {
            Ok(message) => Ok(message),
            Err(GunzipError::TooLarge) => Err(too_large()),
            Err(error) => Err(Failure::new(Code::InvalidArgument, error.to_string())),
        },
        // gRPC, "Compression": an encoding that is not supported is UNIMPLEMENTED, and ours are told.
        (1, _) => {
            let why = "the message is compressed with something other than gzip";
            Err(Failure::new(Code::Unimplemented, why.into()))
        }
        _ => Err(Failure::new(
            Code::InvalidArgument,
            "the message's flag is neither 0 nor 1".into(),
        )),
    }
}

fn busy() -> Failure {
    // OTLP/gRPC, "Throttling": UNAVAILABLE asks the client to come again.
    Failure::new(Code::Unavailable, "the receiver is busy".into())
}

fn too_large() -> Failure {
    let why = format!("the request is larger than {BODY_BYTES_MAX} bytes");
    Failure::new(Code::ResourceExhausted, why)
}

fn success() -> Response<Reply> {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    // An `ExportXServiceResponse` without a partial success is empty: a frame of no bytes.
    let message = Some(Bytes::from_static(&[0; PREFIX_BYTES]));
    let mut response = Response::new(Reply {
        message,
        trailers: Some(trailers),
    });
    grpc_headers(response.headers_mut());
    response
}

/// A failed call has no message, so its trailers stand where headers do (gRPC over HTTP2, "Trailers-Only").
fn trailers_only(failure: &Failure) -> Response<Reply> {
    let mut response = Response::new(Reply::default());
    let headers = response.headers_mut();
    grpc_headers(headers);
    headers.insert(GRPC_STATUS, HeaderValue::from(failure.code as u16));
    let message = HeaderValue::try_from(percent_encoded(&failure.message));
    headers.insert(
        GRPC_MESSAGE,
        message.expect("percent-encoding leaves visible ASCII"),
    );
    response
}

fn grpc_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        GRPC_ACCEPT_ENCODING,
        HeaderValue::from_static("identity,gzip"),
    );
}

/// Encodes a message for `grpc-message`: visible ASCII but `%` stands for itself.
fn percent_encoded(message: &str) -> String {
    message
        .bytes()
        .fold(String::with_capacity(message.len()), |mut out, byte| {
            match byte {
                b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

// === impl Failure ===

impl Failure {
    fn new(code: Code, message: String) -> Self {
        Self { code, message }
    }
}

/// The body of an answer: a framed message, then trailers.
#[derive(Default)]
struct Reply {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

// === impl Reply ===

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = self.message.take().map(Frame::data);
        let frame = message.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests;
