//! The interceptor on a real client, against a canned endpoint in the same process.

mod fake;
mod lambda;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod receive;
mod spans;
