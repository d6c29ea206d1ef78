//! OTLP as bytes: what a request counts, how it splits, what its answers say.
//!
//! Nothing here does I/O or looks at a clock.
//! A protobuf export request is a list of `ResourceX` messages, so two requests after one another are one request;
//! that is why the buffer keeps the bytes as they came and this module only walks over them.
//! JSON and gRPC become the same bytes.

mod answer;
mod gzip;
mod json;
mod split;
mod walk;
mod wire;

use std::fmt;

pub use answer::{PartialSuccess, RpcStatus, parse_status, partial_success, status, status_json};
pub use gzip::{GunzipError, gunzip_bounded, gzip};
pub use json::{JsonError, base64, json_to_protobuf};
pub use split::split;
pub use walk::{Malformed, count};

/// One of the three kinds of telemetry that OTLP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics, counted in data points.
    Metrics,
    /// Log records.
    Logs,
}

// === impl Signal ===

impl Signal {
    /// Every signal, in the order of [`Signal::index`].
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The path of this signal over HTTP (OTLP, "OTLP/HTTP Request").
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }

    /// The path of this signal's `Export` method over gRPC (the `service` definitions of opentelemetry-proto).
    #[must_use]
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    /// The position of this signal in [`Signal::ALL`], for tables by signal.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Traces => 0,
            Self::Metrics => 1,
            Self::Logs => 2,
        }
    }
}

/// Writes the signal's name as in its path.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        })
    }
}

#[cfg(test)]
mod tests;
