//! What happens to the lifecycle, what it is told, and what it answers.

use std::time::Duration;

use super::bounds::RECALL_AFTER;
use crate::breaker::Failure;
use crate::otlp::Signal;

/// One bit for each signal, by [`Signal::index`].
pub type SignalSet = [bool; 3];

/// What is true at the time of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Monotonic time since the process began.
    pub elapsed: Duration,
    /// Wall clock.
    pub unix: Duration,
    /// Bytes that wait in the buffer.
    pub waiting_bytes: [usize; 3],
    /// Unix time of arrival of the oldest entry that waits.
    pub oldest: Option<Duration>,
    /// What is being exported for, if anything is.
    pub exporting: Option<Purpose>,
    /// Signals with requests of that export in flight.
    pub in_flight: SignalSet,
    /// Signals with a probe in flight.
    pub probing: SignalSet,
    /// Unix time at which the oldest request in flight was sent.
    pub flying_since: Option<Duration>,
}

/// Why an export runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Nobody waits for it.
    Background,
    /// `/next` waits for it, at most until the budget is over; only what is there now counts.
    End,
    /// The sandbox ends.
    Drain,
}

/// What happens to the lifecycle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// `/next` answered INVOKE.
    Invoke {
        /// The request's id.
        request: String,
        /// Unix milliseconds; nonsense under some emulators.
        deadline_ms: u64,
    },
    /// `/next` answered SHUTDOWN, for whatever reason.
    Shutdown {
        /// Unix milliseconds.
        deadline_ms: u64,
    },
    /// `/next` answered something else.
    Unknown,
    /// Whether the Telemetry API took our subscription.
    Subscribed {
        /// With 200; a local emulator says 202 and never sends anything.
        accepted: bool,
    },
    /// The wrapper is there and will say complete.
    Hello,
    /// The wrapper has exported everything of this invocation.
    Complete {
        /// The request's id.
        request: String,
    },
    /// The Telemetry API says that the function has ended.
    RuntimeDone {
        /// The request's id.
        request: String,
        /// Whether `status` was success.
        success: bool,
        /// The event's own time, as Unix time.
        time: Option<Duration>,
    },
    /// The Telemetry API says anything else.
    Telemetry,
    /// The buffer has got something.
    Arrival,
    /// An export is over: for each of its signals, whether upstream took everything.
    Exported([Option<Result<(), Failure>>; 3]),
    /// A probe is over.
    Probed(Signal, Result<(), Failure>),
    /// [`wake_at`](super::Lifecycle::wake_at) has come.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Ask for the next event.
    Next,
    /// Make connections that are not stale, beside the function.
    Warm,
    /// Put back everything in flight, probes too: a freeze has cut it off.
    Recall,
    /// Put back what the export has in flight; its time is over.
    Cancel,
    /// Start to export, or widen the export that runs.
    Export(Purpose, SignalSet),
    /// Send one request of each of these signals and see.
    Probe(SignalSet),
    /// Count what is left as dropped, write the ledger, exit with 0.
    Exit,
}

// === impl Facts ===

impl Facts {
    /// Whether something of this signal waits or is in flight, probes aside.
    pub(super) fn pending_but_probes(&self, signal: Signal) -> bool {
        self.waiting_bytes[signal.index()] > 0 || self.in_flight[signal.index()]
    }

    /// Whether something of this signal waits or is in flight.
    pub(super) fn pending(&self, signal: Signal) -> bool {
        self.pending_but_probes(signal) || self.probing[signal.index()]
    }

    /// Whether a freeze has cut off what is in flight.
    pub(super) fn was_cut_off(&self) -> bool {
        let since = self.flying_since;
        since.is_some_and(|since| self.unix.saturating_sub(since) >= RECALL_AFTER)
    }
}
