//! Whether somebody will tell us that the function has ended.

/// Each loss in a row multiplies the end signals that must be seen before an invocation is held again by 2³ …
const DOUBLINGS: u32 = 3;
/// … up to this many times. Chosen: one lost event is forgotten at once, a signal that is always late costs four of
/// a hundred invocations at first and one of five hundred in the end.
const LOSSES_MAX: u32 = 3;

/// What is known about the two end signals: the wrapper's complete and the Telemetry API's runtimeDone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct EndSignals {
    /// The wrapper said hello, or complete.
    hello: bool,
    /// The subscription was accepted.
    subscribed: bool,
    /// An event has come since.
    heard: bool,
    /// The first invocation has waited for a silent subscription.
    grace_given: bool,
    /// Invocations in a row whose end signal never came.
    losses: u32,
    /// End signals that must be seen before an invocation is held again.
    owed: u32,
}

/// Whether to hold `/next`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hold {
    /// Ask for the next event at once.
    No,
    /// Only for as long as a silent subscription may need to speak.
    ForProof,
    /// Until the end of the invocation is seen.
    UntilEnd,
}

// === impl EndSignals ===

impl EndSignals {
    /// Whether an end signal is proven alive.
    pub(super) fn alive(&self) -> bool {
        (self.hello || self.heard) && self.owed == 0
    }

    /// Decides about an invocation that begins.
    pub(super) fn hold(&mut self, deadline_known: bool) -> Hold {
        let first = !std::mem::replace(&mut self.grace_given, true);
        // Without a deadline a lost runtimeDone would hold for ever; the wrapper is in the same sandbox.
        if self.alive() && (deadline_known || self.hello) {
            Hold::UntilEnd
        } else if first && self.subscribed && !self.heard && deadline_known && self.owed == 0 {
            Hold::ForProof
        } else {
            Hold::No
        }
    }

    pub(super) fn on_subscribed(&mut self, accepted: bool) {
        self.subscribed = accepted;
    }

    /// A function process has started that has the wrapper.
    pub(super) fn on_hello(&mut self) {
        self.hello = true;
        (self.losses, self.owed) = (0, 0);
    }

    pub(super) fn on_telemetry(&mut self) {
        self.heard = true;
    }

    pub(super) fn on_end_signal_of_wrapper(&mut self) {
        self.hello = true;
        self.owed = self.owed.saturating_sub(1);
    }

    pub(super) fn on_end_signal_of_telemetry(&mut self) {
        self.heard = true;
        self.owed = self.owed.saturating_sub(1);
    }

    /// An invocation was held to the end of its time. Each such loss in a row makes us slower to believe again:
    /// a signal that is always late would otherwise cost every second invocation.
    pub(super) fn on_lost(&mut self) {
        self.owed = 1 << (DOUBLINGS * self.losses.min(LOSSES_MAX));
        self.losses += 1;
    }

    /// An invocation that was held has ended, with or without its signal.
    pub(super) fn on_held_to(&mut self, signal: bool) {
        if signal {
            self.losses = 0;
        }
    }
}
