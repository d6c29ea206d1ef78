//! What an answer means: which statuses are worth another try, and when.
//!
//! Pure: the time and the random number come as arguments.

use std::time::{Duration, SystemTime};

/// The longest that a second try inside one flush may begin after the first one failed.
/// Design rule: one retry within the first 50 ms, then the breaker takes over.
pub const RETRY_WITHIN: Duration = Duration::from_millis(50);

/// The shortest wait before a second try when upstream asks for none.
/// Chosen, because a backend that is changing over needs a moment, and the function waits meanwhile.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// How much jitter may add, so that the sandboxes of one function do not come back together.
const JITTER_MAX: Duration = Duration::from_millis(20);

/// What a status says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Taken.
    Accepted,
    /// Not taken now; the same bytes may be taken later.
    Retryable,
    /// Not taken because of its size.
    TooLarge,
    /// Not taken because of who we are.
    Unauthorized,
    /// The endpoint is elsewhere or behind something that wants more: no statement about the request.
    Misdirected,
    /// Not taken, and the same bytes never will be.
    Refused,
}

/// Reads an HTTP status.
#[must_use]
pub fn http_status(status: u16) -> Class {
    match status {
        200..=299 => Class::Accepted,
        // OTLP/HTTP knows no redirects, and 407 comes from a proxy that never passed the request on.
        300..=399 | 407 => Class::Misdirected,
        401 | 403 => Class::Unauthorized,
        413 => Class::TooLarge,
        // OTLP/HTTP, "Retryable Response Codes": no other 4xx or 5xx is retried.
        429 | 502 | 503 | 504 => Class::Retryable,
        _ => Class::Refused,
    }
}

/// Reads a gRPC status code, with what decides in doubt: whether a `RetryInfo` came along, and the message.
#[must_use]
pub fn grpc_code(code: i32, retry_info: bool, message: &str) -> Class {
    match code {
        0 => Class::Accepted,
        // gRPC has no code for a message beyond the receiver's limit: Go and Java say RESOURCE_EXHAUSTED
        // ("received message larger than max"), tonic says OUT_OF_RANGE ("message length too large").
        8 | 11 if !retry_info && says_too_large(message) => Class::TooLarge,
        // OTLP/gRPC, "Failures": RESOURCE_EXHAUSTED is retried only when the server says so by RetryInfo.
        8 if retry_info => Class::Retryable,
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        1 | 4 | 10 | 11 | 14 | 15 => Class::Retryable,
        // PERMISSION_DENIED, UNAUTHENTICATED.
        7 | 16 => Class::Unauthorized,
        _ => Class::Refused,
    }
}

fn says_too_large(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("too large") || message.contains("larger than")
}

/// The name of a gRPC status code as the gRPC documentation writes it.
#[must_use]
pub fn grpc_code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code).copied())
        .unwrap_or("UNKNOWN")
}

/// Reads a `Retry-After`: whole seconds, or an HTTP date that is compared with `now` (RFC 9110, 10.2.3).
///
/// A date in the past is no wait; anything else is `None`.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds mean a very long wait, not none.
        return Some(Duration::from_secs(
            value.parse().unwrap_or(u64::from(u32::MAX)),
        ));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

/// How long to wait before the one second try, or `None` when there is none in this flush.
///
/// `after` is what upstream asked for, `elapsed` what has passed since the flush began,
/// `left` what the flush may still take, and `random` any number, evenly spread.
#[must_use]
pub fn wait_before_retry(
    after: Option<Duration>,
    elapsed: Duration,
    left: Duration,
    random: u32,
) -> Option<Duration> {
    let jitter = JITTER_MAX.mul_f64(f64::from(random) / (f64::from(u32::MAX) + 1.0));
    let wait = after.unwrap_or(WAIT_MIN).max(WAIT_MIN) + jitter;
    // Jitter alone never spends the chance: what upstream asked for is the least that is waited.
    let wait = if after.is_none() {
        wait.min(RETRY_WITHIN.saturating_sub(elapsed))
    } else {
        wait
    };
    (wait >= WAIT_MIN && elapsed + wait <= RETRY_WITHIN && wait < left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn http_statuses() {
        let table = [
            (200, Class::Accepted),
            (204, Class::Accepted),
            (301, Class::Misdirected),
            (308, Class::Misdirected),
            (400, Class::Refused),
            (401, Class::Unauthorized),
            (403, Class::Unauthorized),
            (404, Class::Refused),
            (407, Class::Misdirected),
            (408, Class::Refused),
            (413, Class::TooLarge),
            (429, Class::Retryable),
            (500, Class::Refused),
            (501, Class::Refused),
            (502, Class::Retryable),
            (503, Class::Retryable),
            (504, Class::Retryable),
            (505, Class::Refused),
            (100, Class::Refused),
        ];
        for (status, class) in table {
            assert_eq!(http_status(status), class, "{status}");
        }
    }

    #[test]
    fn grpc_codes() {
        // OTLP/gRPC, "Failures", the table of retryable codes.
        let retryable = [1, 4, 10, 11, 14, 15];
        for code in 1..=20 {
            let class = match code {
                code if retryable.contains(&code) => Class::Retryable,
                7 | 16 => Class::Unauthorized,
                _ => Class::Refused,
            };
            assert_eq!(grpc_code(code, false, ""), class, "{code}");
        }
        assert_eq!(grpc_code(0, false, ""), Class::Accepted);
        assert_eq!(grpc_code(8, true, ""), Class::Retryable);
        assert_eq!(
            grpc_code(8, false, "grpc: received message larger than max (5 vs. 4)"),
            Class::TooLarge
        );
        assert_eq!(
            grpc_code(
                11,
                false,
                "Error, decoded message length too large: found 5 bytes"
            ),
            Class::TooLarge
        );
        assert_eq!(grpc_code_name(14), "UNAVAILABLE");
        assert_eq!(grpc_code_name(-1), "UNKNOWN");
        assert_eq!(grpc_code_name(99), "UNKNOWN");
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let table = [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (value, seconds) in table {
            assert_eq!(
                retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn one_retry_within_the_first_50_ms() {
        let much = Duration::from_secs(1);
        for random in [0, 1, u32::MAX / 2, u32::MAX] {
            let wait = wait_before_retry(None, MS(1), much, random).unwrap();
            assert!((MS(10)..=MS(30)).contains(&wait), "{wait:?}");
            let asked = wait_before_retry(Some(MS(15)), MS(1), much, random).unwrap();
            assert!(asked >= MS(15), "{asked:?}");
            assert_eq!(wait_before_retry(None, MS(41), much, random), None);
            assert_eq!(wait_before_retry(Some(MS(60)), MS(0), much, random), None);
            assert_eq!(
                wait_before_retry(Some(Duration::MAX / 2), MS(0), much, random),
                None
            );
            assert_eq!(wait_before_retry(None, MS(0), MS(9), random), None);
        }
        assert_eq!(wait_before_retry(None, MS(40), much, 7), Some(MS(10)));
        assert_ne!(
            wait_before_retry(None, MS(0), much, 0),
            wait_before_retry(None, MS(0), much, u32::MAX)
        );
    }
}
