//! What upstream and we answer: `ExportXServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use super::Signal;
use super::wire::{Field, Fields, Value, put_bytes, put_varint};

/// What an accepted export says about items that were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Spans, log records or data points that upstream refused.
    pub rejected: u64,
    /// Why, or a warning when nothing was refused; empty when upstream has nothing to say.
    pub message: String,
}

/// A `google.rpc.Status` as far as OTLP uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcStatus {
    /// The gRPC code; 0 when absent.
    pub code: i32,
    /// The message for a developer.
    pub message: String,
    /// The delay of a `google.rpc.RetryInfo` among the details.
    pub retry_delay: Option<Duration>,
}

/// Reads the `partial_success` of an `ExportXServiceResponse` in protobuf.
///
/// An answer that cannot be read, as of a backend that answers with JSON or text, says nothing was rejected:
/// its HTTP status has already said that the request was accepted.
#[must_use]
pub fn partial_success(_signal: Signal, response: &[u8]) -> PartialSuccess {
    // The three responses differ in names only: `partial_success` = 1 { rejected_… = 1, error_message = 2 }.
    read_partial_success(response).unwrap_or_default()
}

fn read_partial_success(response: &[u8]) -> Option<PartialSuccess> {
    let mut result = PartialSuccess::default();
    for field in Fields::of(response) {
        let field = field.ok()?;
        if field.number != 1 {
            continue;
        }
        for inner in Fields::of(field.bytes().ok()?) {
            let inner = inner.ok()?;
            match (inner.number, inner.value) {
                // A signed field: a negative number of rejected items is nonsense and counts as none.
                (1, Value::Varint(rejected)) => {
                    result.rejected = u64::try_from(rejected as i64).unwrap_or(0);
                }
                (2, Value::Bytes(text)) => result.message = lossy(text),
                _ => {}
            }
        }
    }
    Some(result)
}

/// Writes a `google.rpc.Status`, the body of every OTLP/HTTP error answer in protobuf (OTLP, "Failures").
#[must_use]
pub fn status(code: i32, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    if code != 0 {
        out.push(1 << 3);
        put_varint(&mut out, code as u64);
    }
    if !message.is_empty() {
        put_bytes(&mut out, 2, message.as_bytes());
    }
    out
}

/// The JSON form of [`status`], for requests that came as JSON.
#[must_use]
pub fn status_json(code: i32, message: &str) -> Vec<u8> {
    serde_json::json!({ "code": code, "message": message })
        .to_string()
        .into_bytes()
}

/// Reads a `google.rpc.Status`, the body of an HTTP error or the value of `grpc-status-details-bin`.
///
/// `None` when the bytes are no such message.
#[must_use]
pub fn parse_status(bytes: &[u8]) -> Option<RpcStatus> {
    let mut result = RpcStatus::default();
    for field in Fields::of(bytes) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, Value::Varint(code)) => result.code = code as i32,
            (2, Value::Bytes(text)) => result.message = String::from_utf8(text.to_vec()).ok()?,
            (3, Value::Bytes(detail)) => {
                if let Some(delay) = retry_delay(detail) {
                    result.retry_delay = Some(delay);
                }
            }
            // A number or string of the wrong type means that this was no status at all.
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some(result)
}

/// The `retry_delay` of a `google.protobuf.Any` that holds a `google.rpc.RetryInfo`.
fn retry_delay(any: &[u8]) -> Option<Duration> {
    let fields = || Fields::of(any).filter_map(Result::ok);
    let find = |number: u32| {
        fields()
            .filter(|field| field.number == number)
            .find_map(|field| field.bytes().ok())
    };
    if !find(1)?.ends_with(b"/google.rpc.RetryInfo") {
        return None;
    }
    let is_delay = |field: &Field<'_>| field.number == 1;
    let info = find(2).unwrap_or_default();
    let delay = Fields::of(info)
        .filter_map(Result::ok)
        .find(is_delay)?
        .bytes()
        .ok()?;
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for field in Fields::of(delay) {
        match field.ok()? {
            Field {
                number: 1,
                value: Value::Varint(value),
                ..
            } => seconds = value as i64,
            Field {
                number: 2,
                value: Value::Varint(value),
                ..
            } => nanos = value as i32,
            _ => {}
        }
    }
    let nanos = u32::try_from(nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
