//! The interceptor on a real client, against a canned endpoint in the same process.

mod fake;
mod lambda;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "sns")]
mod query;
mod receive;
mod spans;
#[cfg(feature = "sns")]
mod topics;
