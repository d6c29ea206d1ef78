//! OTLP/gRPC out: a unary call from chunks, an outcome from headers, message and trailers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::connection::Answer;
use super::http::{self as otlp_http, AGENT, Prepared};
use super::retry::{self, Class};
use super::text::percent_decoded;
use super::{Compression, Destination, Outcome};
use crate::otlp::{self, Signal};

/// The bytes before a message: whether it is compressed, and its length (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Prepares a call of the signal's `Export` method. `headers` are the destination's, read and checked.
pub(super) fn prepare(
    signal: Signal,
    destination: &Destination,
    mut headers: HeaderMap,
    chunks: Vec<Bytes>,
) -> Result<Prepared, String> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // gRPC over HTTP2, "Requests": tells proxies in between that trailers matter.
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    headers.insert(GRPC_TIMEOUT, timeout(destination.timeout));
    let compressed = destination.compression == Compression::Gzip;
    let mut body = chunks;
    if compressed {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        body = vec![otlp::gzip(body.iter().map(AsRef::as_ref)).into()];
    }
    let length: usize = body.iter().map(Bytes::len).sum();
    let length =
        u32::try_from(length).map_err(|_| "the request is longer than 4 GiB".to_owned())?;
    let mut prefix = [0; PREFIX_BYTES];
    prefix[0] = u8::from(compressed);
    prefix[1..].copy_from_slice(&length.to_be_bytes());
    body.insert(0, Bytes::copy_from_slice(&prefix));
    let endpoint = &destination.endpoint;
    let scheme = if endpoint.tls { "https" } else { "http" };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(endpoint.authority())
        .path_and_query(signal.grpc_path())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Prepared {
        method: Method::POST,
        uri,
        headers,
        body,
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(timeout: Duration) -> HeaderValue {
    let value = match timeout.as_millis() {
        millis @ 0..=99_999_999 => format!("{}m", millis.max(1)),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    };
    HeaderValue::try_from(value).expect("digits and a letter")
}

/// Reads the answer to a call.
pub(super) fn outcome(signal: Signal, answer: &Answer, now: SystemTime) -> Outcome {
    // Trailers are the place of the status; a call without a message has it in the headers.
    let status = answer.trailers.as_ref().unwrap_or(&answer.headers);
    let Some(code) = text(status, &GRPC_STATUS).and_then(|code| code.parse::<i32>().ok()) else {
        return without_status(signal, answer, now);
    };
    let message = text(status, &GRPC_MESSAGE).map(decoded).unwrap_or_default();
    let details = status
        .get(GRPC_STATUS_DETAILS)
        .and_then(|value| value.to_str().ok());
    let details = details
        .and_then(otlp::base64)
        .and_then(|bytes| otlp::parse_status(&bytes));
    let after = details.and_then(|details| details.retry_delay);
    let name = retry::grpc_code_name(code).to_owned();
    match retry::grpc_code(code, after.is_some(), &message) {
        Class::Accepted => {
            let partial = otlp::partial_success(signal, unframed(answer));
            Outcome::Accepted {
                rejected: partial.rejected,
                message: partial.message,
            }
        }
        Class::Retryable => Outcome::Retryable {
            status: name,
            after,
        },
        Class::TooLarge => Outcome::TooLarge,
        Class::Unauthorized => Outcome::Unauthorized { status: name },
        Class::Misdirected | Class::Refused => Outcome::Refused {
            status: name,
            message,
        },
    }
}

/// An answer that is not gRPC's: from a proxy in between, a plain web server, or a call that broke off.
fn without_status(signal: Signal, answer: &Answer, now: SystemTime) -> Outcome {
    let status = answer.status.as_u16();
    match retry::http_status(status) {
        // gRPC over HTTP2, "Responses": an answer without a status is none.
        Class::Accepted => Outcome::Lost {
            why: "the call ended without a grpc-status".into(),
        },
        // A path that is unknown there: nothing about the request, everything about the endpoint.
        Class::Refused if status == 404 => Outcome::Refused {
            status: "404".into(),
            message: "the endpoint does not speak OTLP/gRPC".into(),
        },
        _ => otlp_http::outcome(signal, answer, now),
    }
}

fn unframed(answer: &Answer) -> &[u8] {
    // We accept no compressed answers, so the flag is 0, and the frame is the only one.
    answer.body.get(PREFIX_BYTES..).unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Decodes a `grpc-message`.
fn decoded(message: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(message)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_have_at_most_eight_digits() {
        assert_eq!(timeout(Duration::from_millis(1500)), "1500m");
        assert_eq!(timeout(Duration::from_micros(1)), "1m");
        assert_eq!(timeout(Duration::from_secs(99_999)), "99999000m");
        assert_eq!(timeout(Duration::from_secs(100_000)), "100000S");
        assert_eq!(timeout(Duration::MAX), "99999999S");
    }

    fn answer(
        status: u16,
        headers: &[(&'static str, &str)],
        body: &[u8],
        trailers: Option<&[(&'static str, &str)]>,
    ) -> Answer {
        let map = |pairs: &[(&'static str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_str(value).unwrap(),
                    )
                })
                .collect()
        };
        Answer {
            status: ::http::StatusCode::from_u16(status).unwrap(),
            headers: map(headers),
            body: body.to_vec(),
            trailers: trailers.map(map),
            whole: true,
        }
    }

    #[test]
    fn answers_become_outcomes() {
        // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 2 s }] }
        let retry_info = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAg";
        let refused = |status: &str, message: &str| Outcome::Refused {
            status: status.into(),
            message: message.into(),
        };
        let retryable = |status: &str, after| Outcome::Retryable {
            status: status.into(),
            after,
        };
        let table = [
            (
                answer(200, &[], b"\0\0\0\0\0", Some(&[("grpc-status", "0")])),
                Outcome::Accepted {
                    rejected: 0,
                    message: String::new(),
                },
            ),
            (
                answer(
                    200,
                    &[],
                    b"\0\0\0\0\x08\x0a\x06\x08\x02\x12\x02no",
                    Some(&[("grpc-status", "0")]),
                ),
                Outcome::Accepted {
                    rejected: 2,
                    message: "no".into(),
                },
            ),
            (
                answer(200, &[("grpc-status", "14")], b"", None),
                retryable("UNAVAILABLE", None),
            ),
            (
                answer(
                    200,
                    &[("grpc-status", "3"), ("grpc-message", "bad%20one")],
                    b"",
                    None,
                ),
                refused("INVALID_ARGUMENT", "bad one"),
            ),
            (
                answer(200, &[("grpc-status", "8")], b"", None),
                refused("RESOURCE_EXHAUSTED", ""),
            ),
            (
                answer(
                    200,
                    &[
                        ("grpc-status", "8"),
                        ("grpc-status-details-bin", retry_info),
                    ],
                    b"",
                    None,
                ),
                retryable("RESOURCE_EXHAUSTED", Some(Duration::from_secs(2))),
            ),
            (
                answer(200, &[("grpc-status", "16")], b"", None),
                Outcome::Unauthorized {
                    status: "UNAUTHENTICATED".into(),
                },
            ),
            (
                answer(
                    200,
                    &[
                        ("grpc-status", "8"),
                        (
                            "grpc-message",
                            "grpc: received message larger than max (9 vs. 4)",
                        ),
                    ],
                    b"",
                    None,
                ),
                Outcome::TooLarge,
            ),
            (answer(503, &[], b"", None), retryable("503", None)),
            (answer(413, &[], b"", None), Outcome::TooLarge),
            (
                answer(404, &[], b"", None),
                refused("404", "the endpoint does not speak OTLP/gRPC"),
            ),
            (
                answer(200, &[], b"", None),
                Outcome::Lost {
                    why: "the call ended without a grpc-status".into(),
                },
            ),
        ];
        for (answer, expected) in table {
            assert_eq!(
                outcome(Signal::Traces, &answer, SystemTime::now()),
                expected
            );
        }
    }
}
