//! Scripted answers.

use super::decode::Decoded;
use std::time::Duration;

/// How the sink answers one request.
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
        let (status, rejected, message, retry_after, end) = match answer {
            Self::Hang | Self::StopReading => {
                return Reply {
                    wait,
                    written: None,
                    end: End::Hang,
                };
            }
            Self::CloseInstead => {
                return Reply {
                    wait,
                    written: None,
                    end: End::Close,
                };
            }
            Self::Ok | Self::SlowThen(..) => (200, 0, String::new(), None, End::Keep),
            Self::CloseAfter => (200, 0, String::new(), None, End::Close),
            Self::PartialSuccess { rejected, message } => (200, rejected, message, None, End::Keep),
            Self::Status {
                status,
                retry_after,
            } => (status, 0, String::new(), retry_after, End::Keep),
            Self::TooLargeAbove(limit) => {
                let status = if body_bytes > limit { 413 } else { 200 };
                (
                    status,
                    0,
                    format!("the body of {body_bytes} bytes is above {limit}"),
                    None,
                    End::Keep,
                )
            }
            Self::Poison(name) => {
                let status = if decoded.spans.iter().any(|span| span.name == name) {
                    400
                } else {
                    200
                };
                (
                    status,
                    0,
                    format!("span {name} is refused"),
                    None,
                    End::Keep,
                )
            }
        };
        Reply {
            wait,
            written: Some(Written {
                status,
                rejected,
                message,
                retry_after,
            }),
            end,
        }
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
#[derive(Debug)]
pub(super) struct Written {
    pub(super) status: u16,
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
