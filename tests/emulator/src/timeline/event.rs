//! What can stand in a timeline.

use serde::{Serialize, Serializer};
use std::fmt;

/// A process of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The function's process.
    Runtime,
    /// An extension, by its file name.
    Extension(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Runtime => f.write_str("runtime"),
            Who::Extension(name) => f.write_str(name),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A process was started.
    ProcessSpawned {
        /// Which.
        who: Who,
        /// Process id, also its process group.
        pid: u32,
    },
    /// A process ended.
    ProcessExited {
        /// Which.
        who: Who,
        /// Process id.
        pid: u32,
        /// As the operating system words it, such as `exit status: 0`.
        status: String,
    },
    /// We sent a signal to a process group (freezing and thawing are events of their own).
    SignalSent {
        /// Which process group.
        who: Who,
        /// `SIGTERM` or `SIGKILL`.
        signal: &'static str,
    },
    /// Init began.
    InitBegan {
        /// `init`, or `invoke` for the suppressed init after a reset.
        phase: &'static str,
    },
    /// Init ended: the runtime and every extension asked for their first event, or one of them failed.
    InitEnded {
        /// `init` or `invoke`.
        phase: &'static str,
        /// `None` when it worked.
        error: Option<String>,
    },
    /// An extension registered.
    Registered {
        /// Its name.
        extension: String,
        /// Events it asked for.
        events: Vec<String>,
    },
    /// An extension subscribed to telemetry.
    TelemetrySubscribed {
        /// Its name.
        extension: String,
        /// Schema version it asked for.
        schema: String,
        /// Status we answered.
        status: u16,
    },
    /// A process asked for its next event.
    NextAsked {
        /// Which.
        who: Who,
    },
    /// An invocation began: its events are about to be delivered.
    InvocationBegan {
        /// Request id.
        request_id: String,
    },
    /// An INVOKE event was handed to a process.
    InvokeDelivered {
        /// To which.
        who: Who,
        /// Request id.
        request_id: String,
    },
    /// The runtime posted its answer; the caller has it from this moment on.
    ResponsePosted {
        /// Request id.
        request_id: String,
        /// Whether it was a response rather than an error.
        ok: bool,
    },
    /// An invocation ended: everybody asked for the next event, or it was cut off.
    InvocationEnded {
        /// Request id.
        request_id: String,
        /// How.
        completion: String,
    },
    /// Every process was seen stopped by the operating system.
    FreezeBegan {
        /// The invocation before it, `None` after init.
        request_id: Option<String>,
    },
    /// The processes are about to be continued.
    FreezeEnded,
    /// A reset or a shutdown began.
    ShutdownBegan {
        /// Reason as the extensions are told.
        reason: String,
    },
    /// A SHUTDOWN event was handed to an extension.
    ShutdownDelivered {
        /// To which.
        extension: String,
        /// Reason.
        reason: String,
    },
    /// A reset or a shutdown ended: no process is left.
    ShutdownEnded,
    /// A telemetry event is about to be sent to a subscriber: what it causes comes after this.
    TelemetrySent {
        /// To which extension.
        extension: String,
        /// Type, such as `platform.runtimeDone`.
        kind: String,
        /// Request id in its record.
        request_id: Option<String>,
    },
    /// A telemetry event was delivered and the subscriber answered; it may have acted on it before.
    TelemetryDelivered {
        /// To which extension.
        extension: String,
        /// Type, such as `platform.runtimeDone`.
        kind: String,
        /// Request id in its record.
        request_id: Option<String>,
        /// Status the subscriber answered, 0 when it could not be reached.
        status: u16,
    },
    /// A telemetry event was thrown away by a scripted fault.
    TelemetryLost {
        /// For which extension.
        extension: String,
        /// Type.
        kind: String,
        /// Request id in its record.
        request_id: Option<String>,
    },
    /// A request's body was read whole by the sink.
    SinkRequestArrived {
        /// Number of the request, from 0.
        number: usize,
        /// `traces`, `metrics`, `logs`.
        signal: &'static str,
        /// Spans, data points or log records in it.
        items: usize,
    },
    /// The sink's answer was written whole.
    SinkRequestAnswered {
        /// Number of the request.
        number: usize,
        /// HTTP status, or gRPC status for gRPC.
        status: u16,
    },
    /// A message was put into a queue.
    MessageSent {
        /// Queue name.
        queue: String,
        /// Message id.
        message_id: String,
    },
    /// A message was handed to a consumer.
    MessageReceived {
        /// Queue name.
        queue: String,
        /// Message id.
        message_id: String,
        /// How many times it was received, this one included.
        receive_count: u32,
    },
    /// A message was deleted.
    MessageDeleted {
        /// Queue name.
        queue: String,
        /// Message id.
        message_id: String,
    },
    /// A message was moved to the dead-letter queue.
    MessageMoved {
        /// From which queue.
        queue: String,
        /// To which queue.
        to: String,
        /// Message id.
        message_id: String,
    },
    /// Something a test wants to see in its place.
    Note {
        /// Free text.
        text: String,
    },
}
