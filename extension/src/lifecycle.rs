//! When to ask for the next event, when to export, when to stop waiting.
//!
//! ```text
//!            INVOKE, an end signal is alive          complete, runtimeDone, stop_waiting
//!  Waiting ────────────────────────────────▶ Invoking ───────────────────────────────▶ Flushing
//!   ▲ │ ▲                                        │ nothing to flush                        │
//!   │ │ └────────────────────────────────────────┴──────── done, or the budget is over ◀──┘
//!   │ └─▶ INVOKE without one: ask again at once, export in the background
//!   │
//!   └─ SHUTDOWN ──▶ Draining ── done, or the budget is over ──▶ Exited
//! ```
//!
//! Lambda freezes the sandbox once the function and every extension have asked for their next event, so everything
//! hangs on when we ask (Lambda Runtime Environment, "Invoke phase").
//! Pure: events and [`Facts`] go in, [`Action`]s come out, and [`Lifecycle::wake_at`] says when to come back.

mod background;
mod bounds;
mod event;
mod signals;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::bounds::EARLY_BYTES;
use self::bounds::{
    DEADLINE_MAX, DRAIN, DRAIN_MARGIN, DRAIN_OPEN, EARLY_MAX, FLUSH_TIMEOUT_FAILED, GRACE,
    LIMIT_UNKNOWN,
};
pub use self::event::{Action, Event, Facts, Purpose, SignalSet};
use self::signals::EndSignals;
use crate::breaker::Breakers;
use crate::config::Strategy;
use crate::otlp::Signal;

/// What the lifecycle is told once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest that a flush may hold an invocation.
    pub flush_timeout: Duration,
    /// When spans leave.
    pub strategy: Strategy,
    /// Lambda Managed Instances: SHUTDOWN is the only event, and nothing is ever frozen.
    pub managed_instances: bool,
}

/// Where the lifecycle is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// `/next` is being asked.
    Waiting {
        /// The function may be running: its end will not be seen.
        blind: bool,
    },
    /// The function runs and `/next` is held until its end is seen.
    Invoking(Invocation),
    /// The function has ended and `/next` is held for the flush.
    Flushing {
        /// When the budget is over.
        by: Duration,
    },
    /// The sandbox ends.
    Draining {
        /// When the budget is over.
        by: Duration,
    },
    /// Nothing more is done.
    Exited,
}

/// One invocation that is held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invocation {
    request: String,
    invoked_unix: Duration,
    /// When `/next` is asked without an end signal.
    until: Duration,
    stop_waiting: Duration,
    /// When a flush must be over.
    hard_stop: Duration,
    /// An end signal is proven alive; otherwise `until` gives the subscription its chance to speak.
    proven: bool,
    /// An earlier run of the same request id still owes its runtimeDone.
    owed: bool,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Complete,
    RuntimeDone { success: bool },
    Deadline,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    state: State,
    signals: EndSignals,
    breakers: Breakers,
    /// Completes that came before their INVOKE.
    early: VecDeque<String>,
    /// Requests that ended without their runtimeDone having been seen.
    owing: VecDeque<String>,
    /// The request of the last INVOKE.
    last_request: Option<String>,
    /// When to export in the background, and since when that has been wanted.
    export_at: Option<(Duration, Duration)>,
    /// Unix time at which `/next` was asked last.
    asked: Option<Duration>,
    /// Invocations in a row that came close after the one before.
    close_together: u32,
}

// === impl Invocation ===

impl Invocation {
    /// The request's id.
    pub fn request(&self) -> &str {
        &self.request
    }
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Begins in [`State::Waiting`]: the caller registers, subscribes and asks `/next` for the first time by itself.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Waiting { blind: false },
            signals: EndSignals::default(),
            breakers: Breakers::default(),
            early: VecDeque::new(),
            owing: VecDeque::new(),
            last_request: None,
            export_at: None,
            asked: None,
            close_together: 0,
        }
    }

    /// Where the lifecycle is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether upstream is worth waiting for.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Whether an end signal is proven alive, so that the next invocation will be held for it.
    pub fn holds(&self) -> bool {
        self.signals.alive()
    }

    /// When [`Event::Tick`] is due, in monotonic time; `None`: not at all.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.state {
            State::Waiting { .. } => self.export_at.map(|(at, _)| at),
            State::Invoking(invocation) => Some(invocation.until),
            State::Flushing { by } | State::Draining { by } => Some(*by),
            State::Exited => None,
        }
    }

    /// Takes one event and says what to do about it.
    pub fn on(&mut self, event: &Event, facts: &Facts) -> Vec<Action> {
        if self.state == State::Exited {
            return Vec::new();
        }
        match event {
            Event::Invoke {
                request,
                deadline_ms,
            } => self.on_invoke(request, *deadline_ms, facts),
            Event::Shutdown { deadline_ms } => self.on_shutdown(*deadline_ms, facts),
            Event::Unknown => self.on_unknown(),
            Event::Subscribed { accepted } => {
                self.signals.on_subscribed(*accepted);
                Vec::new()
            }
            Event::Hello => {
                self.signals.on_hello();
                self.prove()
            }
            Event::Complete { request } => self.on_complete(request, facts),
            Event::RuntimeDone {
                request,
                success,
                time,
            } => self.on_runtime_done(request, *success, *time, facts),
            Event::Telemetry => {
                self.signals.on_telemetry();
                self.prove()
            }
            Event::Arrival => self.on_arrival(facts),
            Event::Exported(verdicts) => self.on_exported(verdicts, facts),
            Event::Probed(signal, verdict) => self.on_probed(*signal, *verdict, facts),
            Event::Tick => self.on_tick(facts),
        }
    }

    fn on_invoke(&mut self, request: &str, deadline_ms: u64, facts: &Facts) -> Vec<Action> {
        let came_early = self.early.iter().any(|early| early == request);
        self.early.clear();
        self.export_at = None;
        self.note_pace(facts.unix);
        self.last_request = Some(request.to_owned());

        let mut actions = Vec::new();
        let cut_off = facts.was_cut_off();
        if cut_off {
            actions.push(Action::Recall);
        }
        actions.push(Action::Warm);
        actions.extend(self.export_in_background(facts, cut_off));

        let deadline = believable(deadline_ms, facts.unix);
        let hold = self.signals.hold(deadline.is_some());
        let invocation = self.invocation(request, deadline, hold == signals::Hold::UntilEnd, facts);
        if came_early {
            // The end came first: Lambda answers both long polls at the same time.
            self.owe(request);
            actions.extend(self.end(invocation, End::Complete, facts));
        } else if hold == signals::Hold::No {
            self.state = State::Waiting { blind: true };
            actions.push(self.next(facts));
        } else {
            self.state = State::Invoking(invocation);
        }
        actions
    }

    fn invocation(
        &self,
        request: &str,
        deadline: Option<Duration>,
        proven: bool,
        facts: &Facts,
    ) -> Invocation {
        let limit = deadline.unwrap_or(LIMIT_UNKNOWN);
        let stop_waiting = facts.elapsed + limit - Duration::from_millis(500).min(limit / 10);
        let until = if proven {
            stop_waiting
        } else {
            stop_waiting.min(facts.elapsed + GRACE)
        };
        Invocation {
            request: request.to_owned(),
            invoked_unix: facts.unix,
            until,
            stop_waiting,
            hard_stop: facts.elapsed + limit - Duration::from_millis(100).min(limit * 3 / 100),
            proven,
            owed: self.owing.iter().any(|owing| owing == request),
        }
    }

    fn on_shutdown(&mut self, deadline_ms: u64, facts: &Facts) -> Vec<Action> {
        let left = believable(deadline_ms, facts.unix)
            .map_or(DRAIN, |left| left.saturating_sub(DRAIN_MARGIN));
        let pending = Signal::ALL.map(|signal| facts.pending(signal));
        let hopeful = Signal::ALL
            .iter()
            .any(|signal| pending[signal.index()] && !self.breakers.of(*signal).is_open());
        let budget = left.min(if hopeful { DRAIN } else { DRAIN_OPEN });
        if pending == [false; 3] || budget.is_zero() {
            self.state = State::Exited;
            return vec![Action::Exit];
        }
        self.state = State::Draining {
            by: facts.elapsed + budget,
        };
        let mut actions = Vec::new();
        if facts.was_cut_off() || facts.probing != [false; 3] {
            actions.push(Action::Recall);
        }
        // One last try, whatever the breakers say.
        actions.push(Action::Export(Purpose::Drain, [true; 3]));
        actions
    }

    /// An event type that we have never heard of says nothing; whatever it was, the next one is asked for.
    fn on_unknown(&mut self) -> Vec<Action> {
        match self.state {
            State::Waiting { .. } => vec![Action::Next],
            _ => Vec::new(),
        }
    }

    /// The subscription has spoken, or the wrapper: the first invocation may be held to its end.
    fn prove(&mut self) -> Vec<Action> {
        if let State::Invoking(invocation) = &mut self.state {
            invocation.proven = true;
            invocation.until = invocation.stop_waiting;
        }
        Vec::new()
    }

    fn on_complete(&mut self, request: &str, facts: &Facts) -> Vec<Action> {
        self.signals.on_end_signal_of_wrapper();
        match &self.state {
            State::Invoking(invocation) if invocation.request == request => {
                let invocation = invocation.clone();
                self.owe(request);
                self.end(invocation, End::Complete, facts)
            }
            State::Invoking(_) => self.prove(),
            State::Waiting { .. } if self.last_request.as_deref() == Some(request) => {
                self.state = State::Waiting { blind: false };
                self.owe(request);
                self.export_in_background(facts, false)
            }
            State::Waiting { .. } => {
                remember(&mut self.early, request);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_runtime_done(
        &mut self,
        request: &str,
        success: bool,
        time: Option<Duration>,
        facts: &Facts,
    ) -> Vec<Action> {
        self.signals.on_end_signal_of_telemetry();
        self.owing.retain(|owing| owing != request);
        match &mut self.state {
            State::Invoking(invocation) if invocation.request == request => {
                // An asynchronous retry reuses the request id, and the runtimeDone of the first try may be late:
                // a fast complete leaves it to arrive in a later invocation.
                let stale =
                    invocation.owed && time.is_none_or(|time| time < invocation.invoked_unix);
                invocation.owed = false;
                if stale {
                    return self.prove();
                }
                let invocation = invocation.clone();
                self.end(invocation, End::RuntimeDone { success }, facts)
            }
            State::Waiting { .. } if self.last_request.as_deref() == Some(request) => {
                self.state = State::Waiting { blind: false };
                self.export_in_background(facts, false)
            }
            _ => self.prove(),
        }
    }

    fn on_tick(&mut self, facts: &Facts) -> Vec<Action> {
        if self.wake_at().is_none_or(|at| facts.elapsed < at) {
            return Vec::new();
        }
        match &self.state {
            State::Waiting { .. } => {
                self.export_at = None;
                self.export_in_background(facts, false)
            }
            State::Invoking(invocation) if !invocation.proven => {
                // The subscription has had its chance and stayed silent.
                self.state = State::Waiting { blind: true };
                let mut actions = vec![self.next(facts)];
                actions.extend(self.export_in_background(facts, false));
                actions
            }
            State::Invoking(invocation) => {
                let invocation = invocation.clone();
                self.signals.on_lost();
                self.owe(&invocation.request);
                self.end(invocation, End::Deadline, facts)
            }
            State::Flushing { .. } => {
                self.give_up(facts);
                self.state = State::Waiting { blind: false };
                vec![Action::Cancel, self.next(facts)]
            }
            State::Draining { .. } => {
                self.state = State::Exited;
                vec![Action::Cancel, Action::Exit]
            }
            State::Exited => Vec::new(),
        }
    }

    /// The invocation has ended: flush, or ask for the next event at once.
    fn end(&mut self, invocation: Invocation, end: End, facts: &Facts) -> Vec<Action> {
        self.signals.on_held_to(end != End::Deadline);
        let most = match end {
            End::RuntimeDone { success: false } => {
                self.settings.flush_timeout.min(FLUSH_TIMEOUT_FAILED)
            }
            _ => self.settings.flush_timeout,
        };
        let budget = most.min(invocation.hard_stop.saturating_sub(facts.elapsed));
        let worth = Signal::ALL
            .map(|signal| facts.pending_but_probes(signal) && !self.breakers.of(signal).is_open());
        if worth == [false; 3] || budget.is_zero() || self.in_burst(facts) {
            // The end by deadline is a guess: the function may be running still.
            self.state = State::Waiting {
                blind: end == End::Deadline,
            };
            return vec![self.next(facts)];
        }
        self.state = State::Flushing {
            by: facts.elapsed + budget,
        };
        vec![Action::Export(Purpose::End, worth)]
    }

    /// After a flush.
    fn ask_next(&mut self, facts: &Facts) -> Vec<Action> {
        self.state = State::Waiting { blind: false };
        let mut actions = vec![self.next(facts)];
        actions.extend(self.export_in_background(facts, false));
        actions
    }

    fn next(&mut self, facts: &Facts) -> Action {
        self.asked = Some(facts.unix);
        Action::Next
    }

    fn owe(&mut self, request: &str) {
        remember(&mut self.owing, request);
    }
}

fn remember(requests: &mut VecDeque<String>, request: &str) {
    if requests.iter().any(|known| known == request) {
        return;
    }
    if requests.len() == EARLY_MAX {
        requests.pop_front();
    }
    requests.push_back(request.to_owned());
}

/// How far ahead a deadline lies, if it makes sense: emulators send 0, 1970 and next year.
fn believable(deadline_ms: u64, unix: Duration) -> Option<Duration> {
    let ahead = Duration::from_millis(deadline_ms).checked_sub(unix)?;
    (!ahead.is_zero() && ahead <= DEADLINE_MAX).then_some(ahead)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
