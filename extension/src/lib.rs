//! A Lambda extension that receives OTLP on localhost and flushes it upstream before the freeze.

pub mod otlp;
pub mod upstream;
