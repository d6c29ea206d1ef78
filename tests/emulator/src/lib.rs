//! A Lambda sandbox, an SQS endpoint and an OTLP sink on loopback, for tests and the demo.
//!
//! A second, independent reading of AWS's documents: it depends on neither the wrapper nor the extension.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use lambda_emulator::{OtlpSink, Sandbox};
//! use std::time::Duration;
//!
//! let sink = OtlpSink::start().await?;
//! let sandbox = Sandbox::builder("orders")
//!     .bootstrap("target/debug/example-consumer")
//!     .extension("target/debug/throughline-extension")
//!     .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
//!     .timeline(sink.timeline())
//!     .start()
//!     .await?;
//! let invocation = sandbox.invoke(r#"{"Records":[]}"#).await;
//! let frozen = sandbox.wait_frozen(&invocation.request_id).await;
//! sandbox.shutdown("spindown").await;
//! # Ok(())
//! # }
//! ```

mod certificates;
mod client;
mod clock;
mod http;
mod ids;
mod mapping;
mod proxy;
mod sandbox;
mod sink;
mod sqs;
mod timeline;

pub use certificates::Certificates;
pub use clock::{Moment, iso8601};
pub use mapping::{Batch, EventSourceMapping, MappingSpec, Verdict, sqs_event};
pub use proxy::{ConnectProxy, Tunnel};
pub use sandbox::{
    Builder, Call, Completion, Delivery, ExitReason, Invocation, LogLine, LogStream, Outcome,
    Sandbox, Shutdown, TelemetryFault, TelemetryFaults,
};
pub use sink::{
    Attributes, OtlpSink, ReceivedRequest, ReceivedSpan, Signal, SinkAnswer, SpanEvent, SpanLink,
    Value,
};
pub use sqs::{Message, MessageAttribute, QueueSpec, SqsServer};
pub use timeline::{Entry, Event, Timeline, Who};
