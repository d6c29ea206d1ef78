//! A Lambda extension that receives OTLP on localhost and flushes it upstream before the freeze.
//!
//! The modules stand in the order a span meets them.

pub mod config;
pub mod log;

pub mod otlp;

pub mod upstream;
