//! A Lambda sandbox, an SQS endpoint and an OTLP sink on loopback, for tests and the demo.
//!
//! It is a second, independent reading of AWS's documents: it depends on neither the wrapper nor the extension,
//! so that a misreading in one of them shows here. Everything listens on 127.0.0.1, on ports of its own,
//! and several of each kind live beside each other in one process.
//!
//! # What it emulates
//!
//! - [`Sandbox`]: the Runtime API (2018-06-01), the Extensions API (2020-01-01) and the Telemetry API (2022-07-01,
//!   schemas 2022-07-01, 2022-12-13 and 2025-01-29) around real processes, each the leader of a process group.
//!   Extensions start first, the runtime when all have registered. When everybody has asked for the next event the
//!   groups get SIGSTOP, and the freeze is written down when the operating system says that every thread is stopped;
//!   the next invocation or the shutdown sends SIGCONT.
//!   A function's timeout, a crash or an error report resets the environment, and the next invocation starts it anew.
//!   A shutdown sends SIGTERM to the runtime (when there is an extension), waits 30 % of the two seconds,
//!   tells the extensions, and kills who is left at their end.
//! - The Telemetry API buffers by `timeoutMs`, `maxItems` and `maxBytes`, delivers while the sandbox is not frozen,
//!   retries what was not answered with 2xx, and has scripted faults ([`TelemetryFaults`]).
//! - Managed Instances ([`Builder::managed_instances`]): invocations beside each other, SHUTDOWN only, no freeze,
//!   no `platform.runtimeDone`, no second chance after a crash.
//! - [`OtlpSink`]: OTLP over HTTP and gRPC, plain or with TLS and client certificates ([`Certificates`]),
//!   which decodes for itself and answers by script ([`SinkAnswer`]). [`ConnectProxy`] counts tunnels to it.
//! - [`SqsServer`]: the JSON protocol of the AWS SDKs; visibility timeouts, dead-letter queues and redrives,
//!   FIFO groups and deduplication, fair queues, long polls, digests, and SQS's own refusals.
//! - [`EventSourceMapping`]: from such a queue, or one of any other server of that protocol, to a sandbox and back.
//! - [`Timeline`]: what all of them did, in the order of causes. An answer of the sink is written down in the same step
//!   as its last byte, a delivery before it is made, a freeze after it was seen.
//!
//! # What it cannot show
//!
//! - Lambda's real telemetry latency, and how its buffering timers behave across a freeze: here they go on,
//!   and what became due is delivered at the thaw.
//! - Clocks across a real freeze: SIGSTOP stops processes, not the machine, so monotonic clocks go on and
//!   connections to the outside are not cut by anybody's idle timeout (the sink can close them by script).
//! - SnapStart: its telemetry events can be sent, but no memory is copied and no random state is duplicated.
//! - Billing, memory limits, throttling, scaling, IAM, payload limits of asynchronous calls, response streaming.
//! - Whether `AWSTraceHeader` survives a move to a dead-letter queue or a redrive: AWS does not say,
//!   so [`SqsServer::keep_trace_header`] has both. That the receive count goes on in a dead-letter queue is a choice too.
//! - `/tmp` and `/opt` are the machine's own; an extension is known by the name of the file it is started from.
//!   Without `/proc` (not Linux) a freeze is taken for done once its signals were sent.
//!
//! # A test from beginning to end
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use lambda_emulator::{Completion, OtlpSink, Sandbox, Timeline};
//!
//! let timeline = Timeline::new();
//! let sink = OtlpSink::start_on(&timeline).await?;
//! let sandbox = Sandbox::builder("orders")
//!     .bootstrap("target/debug/example-consumer")
//!     .extension("target/debug/throughline-extension")
//!     .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
//!     .timeline(&timeline)
//!     .start()
//!     .await?;
//! let invocation = sandbox.invoke(r#"{"Records":[]}"#).await;
//! assert_eq!(sandbox.wait_frozen(&invocation.request_id).await, Completion::Done);
//! let end = sandbox.shutdown("spindown").await;
//! println!("{:?}\n{}", end.processes, timeline.to_text());
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
