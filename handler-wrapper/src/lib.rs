//! One CONSUMER span per SQS record, in the trace of its producer.
//!
//! A Lambda function that reads from SQS gets messages in batches. This crate takes the batch apart,
//! calls your function for each message in a span that continues the trace in which the message was
//! sent, and puts the answers together again.
//!
//! # A function
//!
//! ```no_run
//! use throughline::{Json, traced_sqs_handler};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     id: String,
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), throughline::Error> {
//!     throughline::run(traced_sqs_handler(process)).await
//! }
//!
//! async fn process(Json(order): Json<Order>) -> Result<(), std::io::Error> {
//!     tracing::info!(order = order.id, "handled");
//!     Ok(())
//! }
//! ```
//!
//! The processor takes an [`SqsMessage`], or its body as [`Json<T>`](Json), or anything that
//! implements [`FromMessage`]. While it runs, the record's span is current for the `tracing` crate,
//! `#[instrument]` included, and for OpenTelemetry's API.
//!
//! # What it answers
//!
//! Unless you ask for more, one failed record fails the invocation, and SQS delivers the whole batch
//! again. This is safe under every event source mapping; a partial answer is not: under a mapping
//! without `ReportBatchItemFailures` it silently deletes the failed messages, and a function cannot
//! see which mapping called it. Where yours has that setting, ask for partial answers with
//! [`partial_batch`](SqsHandler::partial_batch) or `THROUGHLINE_PARTIAL_BATCH=1`.
//!
//! | | standard queue, fair queue | FIFO queue (its name ends in `.fifo`) |
//! |---|---|---|
//! | a record fails | the others are processed | nothing more is started; [only its group](SqsHandler::fifo_skip_group) by choice |
//! | [`concurrency(n)`](SqsHandler::concurrency) | `n` records | `n` message groups, each in order |
//! | partial answer names | the failed records | the failed records, and those not started |
//! | all failed | the invocation fails, unless [`report_all_failed`](SqsHandler::report_all_failed) | the same |
//!
//! A panic, a body that cannot be read and a record that is not an object are failed records like
//! any other. Tracing never changes an answer.
//!
//! # Which trace a record is in
//!
//! For each record by itself: the `traceparent` among its message attributes, else the one in an
//! SNS envelope, else the X-Ray header. [`parent`] has the options; the record's span is the child
//! of that context and linked to it, or with [`Relation::Link`](parent::Relation::Link) only linked,
//! below a span for the batch. A sampling decision of the producer is kept. Messages sent with
#![cfg_attr(feature = "producer", doc = "[`producer`]'s interceptor")]
#![cfg_attr(
    not(feature = "producer"),
    doc = "the interceptor of the feature `producer`"
)]
//! carry what is needed.
//!
//! # Where spans go
//!
//! [`run`] sends them after the response was posted and before the sandbox can freeze: to the
//! Throughline extension if it is there, else to `OTEL_EXPORTER_OTLP_ENDPOINT`. Without either, and
//! with `OTEL_SDK_DISABLED=true`, no spans are made, and the handler is a plain batch processor with
//! the same answers. `lambda_runtime::run` takes the handler too; then the spans are sent before the
//! response, within 250 ms, because nothing of ours runs after it. On Managed Instances use
//! [`run_concurrent`]. [`Telemetry`] is there to join a provider that exists, to flush from a worker,
//! and to build a subscriber of your own; [`logs`] writes lines that carry the ids of the record.
//!
//! # Features
//!
//! All are off by default.
//!
//! - `producer`: the interceptor for `aws-sdk-sqs`, and helpers for workers that poll.
//! - `sns`: the same interceptor for `aws-sdk-sns`; includes `producer`.
//! - `metrics`: the messaging metrics, sent with the spans.
//! - `tls`: straight to an `https` endpoint, without the extension.

mod baggage;
mod consumer_span;
mod event;
mod export;
mod handler;
mod ids;
#[cfg(feature = "producer")]
mod lineage;
pub mod logs;
mod metrics;
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
