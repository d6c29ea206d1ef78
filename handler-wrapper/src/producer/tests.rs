//! The interceptor on a real client, against a canned endpoint in the same process.

mod fake;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod receive;
mod spans;
