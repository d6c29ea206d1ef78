//! One CONSUMER span per SQS record, in the trace of its producer.

#[allow(dead_code)]
mod baggage;
mod consumer_span;
mod event;
mod export;
mod handler;
mod ids;
#[cfg(feature = "producer")]
mod lineage;
pub mod logs;
mod outcome;
pub mod parent;
#[cfg(feature = "producer")]
pub mod poller;
#[cfg(feature = "producer")]
pub mod producer;
mod runtime;
mod sampler;
mod schedule;
mod telemetry;

pub use aws_lambda_events::sqs::{SqsBatchResponse, SqsMessage};
pub use lambda_runtime::Error;

pub use event::Batch;
pub use export::SpanCounts;
pub use handler::{BatchSpan, FromMessage, Json, SqsHandler, traced_sqs_handler};
pub use ids::Ids;
pub use outcome::BatchError;
pub use runtime::{run, run_concurrent, run_with};
pub use sampler::DecideDeferred;
pub use telemetry::Telemetry;
