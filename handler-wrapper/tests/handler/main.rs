//! The handler as its caller sees it: events in, answers and spans out.

#![allow(clippy::unwrap_used)] // tests: helpers outside of test functions may unwrap as well

mod answers;
mod context;
mod deadline;
mod export;
mod order;
mod processes;
mod properties;
mod spans;
mod support;
