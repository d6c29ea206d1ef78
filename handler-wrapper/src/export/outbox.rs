//! Encoded requests that have not been acknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderValue};
use http::{Request, Response, StatusCode};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::time::Instant;

use super::route::Client;
use super::{SpanCounts, lock};

/// The endpoint the encoder is given; only its path matters, the client knows where to send.
pub(super) const TRACES: &str = "http://outbox/v1/traces";

/// How many bytes of requests are kept for the next flush. The oldest go first.
const BYTES_MAX: usize = 4 << 20;

/// After a timeout nothing is tried for this long, then twice as long, up to the maximum, so that
/// an upstream that does not answer does not hold every invocation.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The requests that wait to be acknowledged. It stands where the exporter expects an HTTP client,
/// and answers at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// Spans in the request that is being encoded; zero for metrics.
    expected: usize,
    exported: u64,
    rejected: u64,
    dropped: u64,
    pause: Option<Pause>,
    /// A request is on its way.
    sending: bool,
    /// The endpoint has answered during this flush, with whatever.
    answered: bool,
}

/// A flush that is under way.
pub(super) struct Attempt<'a>(&'a Outbox);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        if !std::mem::take(&mut state.sending) || state.answered {
            return;
        }
        let length = match state.pause {
            Some(pause) => (pause.length * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        state.pause = Some(Pause {
            until: Instant::now() + length,
            length,
        });
    }
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

/// One export request.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) path: String,
    /// `gzip` or the like, where the application has the exporter's compression switched on.
    pub(super) encoding: Option<HeaderValue>,
    pub(super) body: Bytes,
    spans: u64,
}

impl Outbox {
    /// Announces how many spans the next encoded request holds.
    pub(super) fn expect(&self, spans: usize) {
        lock(&self.0).expected = spans;
    }

    /// The encoder gave nothing for the spans that were announced.
    pub(super) fn on_encode_error(&self) {
        let mut state = lock(&self.0);
        state.dropped += std::mem::take(&mut state.expected) as u64;
    }

    /// Begins a flush. Dropped while a request waits for its answer, and none was answered before,
    /// it begins a pause.
    pub(super) fn attempt(&self) -> Attempt<'_> {
        lock(&self.0).answered = false;
        Attempt(self)
    }

    /// Sends everything, oldest first. False when the endpoint does not take anything for now.
    ///
    /// Cancel-safe: a request leaves the outbox when its acknowledgement was read.
    pub(super) async fn send(&self, client: &Client) -> bool {
        loop {
            let parcel = {
                let mut state = lock(&self.0);
                if state
                    .pause
                    .is_some_and(|pause| Instant::now() < pause.until)
                {
                    return false;
                }
                let Some(parcel) = state.parcels.front().cloned() else {
                    return true;
                };
                state.sending = true;
                parcel
            };
            let result = client.export(&parcel).await;
            let mut state = lock(&self.0);
            state.sending = false;
            state.answered |= result.is_ok();
            match result {
                Ok((status, answer)) if status.is_success() => {
                    let refused = rejected_items(&answer).min(parcel.spans);
                    state.exported += parcel.spans - refused;
                    state.rejected += refused;
                    state.pause = None;
                    state.pop();
                }
                // OTLP/HTTP, "Retryable Response Codes": these four, and no other.
                Ok((status, _)) if is_retryable(status) => return false,
                Ok(_) => {
                    state.rejected += parcel.spans;
                    state.pop();
                }
                Err(_) => return false,
            }
        }
    }

    /// All counts but `received`, for what has come this far.
    pub(super) fn counts(&self) -> SpanCounts {
        let state = lock(&self.0);
        SpanCounts {
            received: 0,
            exported: state.exported,
            rejected: state.rejected,
            dropped: state.dropped,
            pending: state.parcels.iter().map(|parcel| parcel.spans).sum(),
        }
    }
}

fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

impl State {
    fn push(&mut self, parcel: Parcel) {
        self.bytes += parcel.body.len();
        self.parcels.push_back(parcel);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.pop() else { return };
            self.dropped += oldest.spans;
        }
    }

    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        self.bytes -= parcel.body.len();
        Some(parcel)
    }
}

#[async_trait::async_trait]
impl HttpClient for Outbox {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut state = lock(&self.0);
        let spans = std::mem::take(&mut state.expected) as u64;
        state.push(Parcel {
            path: parts.uri.path().to_owned(),
            encoding: parts.headers.get(CONTENT_ENCODING).cloned(),
            body,
            spans,
        });
        Ok(Response::new(Bytes::new()))
    }
}

/// `partial_success.rejected_*` of an OTLP answer: field 1, in it field 1, a varint.
///
/// The answer is read by hand because these two fields are all of it that we need.
fn rejected_items(answer: &[u8]) -> u64 {
    let partial = field(answer, 0x0A).and_then(|rest| {
        let (length, rest) = varint(rest)?;
        rest.get(..usize::try_from(length).ok()?)
    });
    partial
        .and_then(|message| field(message, 0x08))
        .and_then(varint)
        .map_or(0, |(rejected, _)| rejected)
}

/// What follows `tag`, if it is the first thing in `message`. Senders write fields in order.
fn field(message: &[u8], tag: u8) -> Option<&[u8]> {
    message.strip_prefix(&[tag])
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * u32::try_from(i).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_spans_of_a_partial_success_are_read() {
        assert_eq!(rejected_items(&[]), 0);
        assert_eq!(rejected_items(&[0x0A, 0x02, 0x08, 0x03]), 3);
        assert_eq!(rejected_items(&[0x0A, 0x03, 0x08, 0x80, 0x02]), 256);
        // Only a message, which is a warning.
        assert_eq!(rejected_items(&[0x0A, 0x04, 0x12, 0x02, b'h', b'i']), 0);
        for bad in [
            &[0x0A][..],
            &[0x0A, 0x7F, 0x08],
            &[0x0A, 0x01, 0x08],
            &[0xFF; 12],
        ] {
            assert_eq!(rejected_items(bad), 0, "{bad:?}");
        }
    }
}
