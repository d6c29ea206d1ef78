//! A Lambda extension that receives OTLP on localhost and flushes it upstream before the freeze.
//!
//! The modules stand in the order a span meets them.

pub mod cli;
pub mod config;
pub mod log;

pub mod receiver;

pub mod otlp;

pub mod buffer;
pub mod ledger;

pub mod breaker;
pub mod lifecycle;

pub mod flush;
pub mod secrets;
pub mod upstream;

pub mod lambda;
pub mod run;
