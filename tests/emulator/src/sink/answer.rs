//! Scripted answers.

use super::decode::Decoded;
use std::time::Duration;

/// How the sink answers one request.
///
/// Over gRPC a status is answered as the code that usually stands for it, `Retry-After` as a `RetryInfo`,
/// and what breaks or blocks connections is an answer that never comes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SinkAnswer {
    /// Takes everything: 200 with an empty export response.
    Ok,
    /// 200, but the last `rejected` items were not taken.
    PartialSuccess {
        /// How many, of the signal's items.
        rejected: usize,
        /// For people.
        message: String,
    },
    /// Takes nothing and answers a status.
    Status {
        /// HTTP status.
        status: u16,
        /// Value of the `Retry-After` header.
        retry_after: Option<String>,
    },
    /// Takes nothing and answers a gRPC code, with a `RetryInfo` if that is given; over HTTP it is a 500.
    Grpc {
        /// Such as 14, unavailable.
        code: i32,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Reads the request, waits, then answers as the other says.
    SlowThen(Duration, Box<SinkAnswer>),
    /// Reads the request and never answers; the connection stays open.
    Hang,
    /// Takes everything, answers 200, then closes the connection without having said so.
    CloseAfter,
    /// Reads the request and closes the connection without an answer.
    CloseInstead,
    /// Takes the connection and reads no more than the head of the request.
    StopReading,
    /// 413 for a body above so many bytes (decompressed), else [`SinkAnswer::Ok`].
    TooLargeAbove(usize),
    /// 400 for a request that holds a span of that name, else [`SinkAnswer::Ok`].
    Poison(String),
}

impl SinkAnswer {
    /// A status without `Retry-After`.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
        }
    }

    /// A status with `Retry-After: {seconds}`.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Status {
            status,
            retry_after: Some(seconds.to_string()),
        }
    }

    /// [`SinkAnswer::Ok`] after a while.
    pub fn slow(after: Duration) -> Self {
        Self::SlowThen(after, Box::new(Self::Ok))
    }

    /// What is done with a request that was read, nothing depending on the request any more.
    pub(super) fn resolve(self, body_bytes: usize, decoded: &Decoded) -> Reply {
        let mut wait = Duration::ZERO;
        let mut answer = self;
        while let Self::SlowThen(after, then) = answer {
            wait += after;
            answer = *then;
        }
        let ok = Written {
            status: 200,
            ..Written::default()
        };
        let (written, end) = match answer {
            Self::Hang | Self::StopReading => (None, End::Hang),
            Self::CloseInstead => (None, End::Close),
            Self::Ok | Self::SlowThen(..) => (Some(ok), End::Keep),
            Self::CloseAfter => (Some(ok), End::Close),
            Self::PartialSuccess { rejected, message } => (
                Some(Written {
                    rejected,
                    message,
                    ..ok
                }),
                End::Keep,
            ),
            Self::Status {
                status,
                retry_after,
            } => (
                Some(Written {
                    status,
                    retry_after,
                    ..ok
                }),
                End::Keep,
            ),
            Self::Grpc { code, retry_after } => {
                let retry_after = retry_after.map(|after| after.as_secs_f64().to_string());
                (
                    Some(Written {
                        status: 500,
                        grpc: Some(code),
                        retry_after,
                        ..ok
                    }),
                    End::Keep,
                )
            }
            Self::TooLargeAbove(limit) if body_bytes > limit => {
                let message = format!("the body of {body_bytes} bytes is above {limit}");
                (
                    Some(Written {
                        status: 413,
                        message,
                        ..ok
                    }),
                    End::Keep,
                )
            }
            Self::Poison(name) if decoded.spans.iter().any(|span| span.name == name) => {
                let message = format!("span {name} is refused");
                (
                    Some(Written {
                        status: 400,
                        message,
                        ..ok
                    }),
                    End::Keep,
                )
            }
            Self::TooLargeAbove(_) | Self::Poison(_) => (Some(ok), End::Keep),
        };
        Reply { wait, written, end }
    }
}

/// What to do with a request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) wait: Duration,
    pub(super) written: Option<Written>,
    pub(super) end: End,
}

/// What to write.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// HTTP status.
    pub(super) status: u16,
    /// gRPC code where it is not the usual one for the status.
    pub(super) grpc: Option<i32>,
    pub(super) rejected: usize,
    pub(super) message: String,
    pub(super) retry_after: Option<String>,
}

/// What becomes of the connection.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    Keep,
    Close,
    Hang,
}
