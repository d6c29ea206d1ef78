//! The interceptor on a real client, against a canned endpoint in the same process.

mod fake;
mod limits;
mod receive;
mod spans;
