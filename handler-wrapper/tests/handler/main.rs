//! The handler as its caller sees it: events in, answers and spans out.

mod answers;
mod context;
mod deadline;
mod export;
mod order;
mod processes;
mod properties;
mod spans;
mod support;
