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

mod signals;

use std::collections::VecDeque;
use std::time::Duration;

use self::signals::EndSignals;
use crate::breaker::{Breakers, Failure};
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
    /// [`Lifecycle::wake_at`] has come.
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

/// Bytes that wait from which on they leave while the function still runs.
pub const EARLY_BYTES: usize = 512 << 10;
/// How long a deadline may lie ahead and still be believed: Lambda's longest timeout is 15 min, 90 min on Managed Instances.
const DEADLINE_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// What counts as the limit when the deadline is nonsense: Lambda's longest timeout.
const LIMIT_UNKNOWN: Duration = Duration::from_secs(900);
/// How long a silent subscription may hold the first invocation: ten times the buffering that we ask for.
const GRACE: Duration = Duration::from_millis(250);
/// The longest flush after an invocation that failed: the clock of the reset may be running.
const FLUSH_TIMEOUT_FAILED: Duration = Duration::from_millis(500);
/// Lambda gives 2 s from SHUTDOWN to SIGKILL (Extensions API, "Shutdown phase").
const DRAIN: Duration = Duration::from_millis(1800);
/// The same while upstream is known not to answer.
const DRAIN_OPEN: Duration = Duration::from_millis(500);
/// Kept free before SHUTDOWN's deadline, to write the ledger and exit.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);
/// Quiet time after an arrival before a background export, while we cannot see the function's end.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that arrivals may put off a background export.
const AGE_MAX: Duration = Duration::from_secs(1);
/// A request in flight for longer than this when INVOKE comes was cut off by a freeze.
/// Chosen: shorter freezes leave the connection and the answer as they were.
const RECALL_AFTER: Duration = Duration::from_secs(1);
/// Completes that are kept for an INVOKE to come, and ended requests whose runtimeDone is owed.
const EARLY_MAX: usize = 16;
/// `adaptive`: invocations closer together than this are a burst, from the third on.
const CLOSE: Duration = Duration::from_secs(1);
const CLOSE_TOGETHER_MIN: u32 = 2;
/// `adaptive`: spans older than this are flushed at the end of an invocation even in a burst.
const ADAPTIVE_AGE_MAX: Duration = Duration::from_secs(5);

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
        let cut_off = was_cut_off(facts);
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
        let pending = Signal::ALL.map(|signal| has_pending(facts, signal));
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
        if was_cut_off(facts) || facts.probing != [false; 3] {
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

    fn on_arrival(&mut self, facts: &Facts) -> Vec<Action> {
        let large = facts.waiting_bytes.iter().sum::<usize>() >= EARLY_BYTES;
        match self.state {
            State::Waiting { .. } if large => self.export_in_background(facts, false),
            State::Waiting { .. } if self.settings.managed_instances => {
                let at = self.export_at.map_or(facts.elapsed + AGE_MAX, |(at, _)| at);
                self.export_at = Some((at, facts.elapsed));
                Vec::new()
            }
            State::Waiting { blind: true } => {
                let since = self.export_at.map_or(facts.elapsed, |(_, since)| since);
                self.export_at = Some(((facts.elapsed + QUIET).min(since + AGE_MAX), since));
                Vec::new()
            }
            // In a burst a late span goes with the next invocation.
            State::Waiting { blind: false } if self.in_burst(facts) => Vec::new(),
            State::Waiting { blind: false } => self.export_in_background(facts, false),
            State::Invoking(_) if large => self.export_in_background(facts, false),
            State::Invoking(_) => self.probe(facts),
            // What comes during a flush is not what the function handed over before its end.
            State::Flushing { .. } | State::Draining { .. } | State::Exited => Vec::new(),
        }
    }

    fn on_exported(
        &mut self,
        verdicts: &[Option<Result<(), Failure>>; 3],
        facts: &Facts,
    ) -> Vec<Action> {
        let mut failed = false;
        for signal in Signal::ALL {
            match verdicts[signal.index()] {
                Some(Ok(())) => self.breakers.of_mut(signal).on_success(),
                Some(Err(failure)) => {
                    failed = true;
                    self.breakers.of_mut(signal).on_failure(failure, facts.unix);
                }
                None => {}
            }
        }
        match self.state {
            State::Flushing { .. } => self.ask_next(facts),
            State::Draining { .. } => {
                self.state = State::Exited;
                vec![Action::Exit]
            }
            // A failure that left the breaker closed is not repeated before the next occasion.
            State::Waiting { .. } | State::Invoking(_) if failed => {
                self.wake_for_probe(facts);
                if self.settings.managed_instances && self.export_at.is_none() {
                    self.export_at = Some((facts.elapsed + AGE_MAX, facts.elapsed));
                }
                Vec::new()
            }
            // What has come meanwhile is treated like any arrival.
            State::Waiting { .. } | State::Invoking(_) if facts.waiting_bytes != [0; 3] => {
                self.on_arrival(facts)
            }
            State::Waiting { .. } | State::Invoking(_) | State::Exited => Vec::new(),
        }
    }

    fn on_probed(
        &mut self,
        signal: Signal,
        verdict: Result<(), Failure>,
        facts: &Facts,
    ) -> Vec<Action> {
        match verdict {
            Ok(()) => self.breakers.of_mut(signal).on_success(),
            Err(failure) => {
                self.breakers.of_mut(signal).on_failure(failure, facts.unix);
                self.wake_for_probe(facts);
                return Vec::new();
            }
        }
        match self.state {
            State::Waiting { .. } | State::Invoking(_) => self.export_in_background(facts, false),
            _ => Vec::new(),
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
            .map(|signal| has_pending_job(facts, signal) && !self.breakers.of(signal).is_open());
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

    /// Exports what waits where upstream answers, and probes where it may again.
    /// `recalled`: what was in flight waits again, though `facts` do not say so.
    fn export_in_background(&mut self, facts: &Facts, recalled: bool) -> Vec<Action> {
        self.export_at = None;
        let waits = |signal: Signal| {
            let index = signal.index();
            facts.waiting_bytes[index] > 0
                || recalled && (facts.in_flight[index] || facts.probing[index])
        };
        let closed = Signal::ALL.map(|signal| waits(signal) && !self.breakers.of(signal).is_open());
        let probing = if recalled { [false; 3] } else { facts.probing };
        let due = Signal::ALL.map(|signal| {
            waits(signal)
                && !probing[signal.index()]
                && self.breakers.of(signal).probe_due(facts.unix)
        });
        let mut actions = Vec::new();
        if closed != [false; 3] {
            actions.push(Action::Export(Purpose::Background, closed));
        }
        if due != [false; 3] {
            actions.push(Action::Probe(due));
        }
        if due == [false; 3] {
            self.wake_for_probe(facts);
        }
        actions
    }

    /// Probes where one is due and something waits; the function runs, so it costs nobody anything.
    fn probe(&self, facts: &Facts) -> Vec<Action> {
        let due = Signal::ALL.map(|signal| {
            let index = signal.index();
            let waits = facts.waiting_bytes[index] > 0 && !facts.probing[index];
            waits && self.breakers.of(signal).probe_due(facts.unix)
        });
        if due == [false; 3] {
            Vec::new()
        } else {
            vec![Action::Probe(due)]
        }
    }

    /// Without INVOKE events, the clock is what starts probes.
    fn wake_for_probe(&mut self, facts: &Facts) {
        if !self.settings.managed_instances {
            return;
        }
        let next = Signal::ALL
            .iter()
            .filter(|signal| {
                facts.waiting_bytes[signal.index()] > 0 && !facts.probing[signal.index()]
            })
            .filter_map(|signal| self.breakers.of(*signal).probe_at())
            .map(|at| facts.elapsed + at.saturating_sub(facts.unix))
            .min();
        if let (Some(at), None) = (next, self.export_at) {
            self.export_at = Some((at.max(facts.elapsed + QUIET), facts.elapsed));
        }
    }

    /// The budget of a flush is over: what is in flight has timed out.
    fn give_up(&mut self, facts: &Facts) {
        for signal in Signal::ALL {
            if facts.in_flight[signal.index()] {
                self.breakers
                    .of_mut(signal)
                    .on_failure(Failure::TimedOut, facts.unix);
            }
        }
    }

    fn owe(&mut self, request: &str) {
        remember(&mut self.owing, request);
    }

    fn note_pace(&mut self, unix: Duration) {
        let close = self
            .asked
            .is_some_and(|asked| unix.saturating_sub(asked) < CLOSE);
        self.close_together = if close {
            self.close_together.saturating_add(1)
        } else {
            0
        };
    }

    /// `adaptive`: whether the next invocation is expected soon, so that the export can run beside it.
    fn in_burst(&self, facts: &Facts) -> bool {
        let fresh = facts
            .oldest
            .is_none_or(|oldest| facts.unix.saturating_sub(oldest) < ADAPTIVE_AGE_MAX);
        self.settings.strategy == Strategy::Adaptive
            && self.close_together >= CLOSE_TOGETHER_MIN
            && fresh
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

fn has_pending_job(facts: &Facts, signal: Signal) -> bool {
    facts.waiting_bytes[signal.index()] > 0 || facts.in_flight[signal.index()]
}

fn has_pending(facts: &Facts, signal: Signal) -> bool {
    has_pending_job(facts, signal) || facts.probing[signal.index()]
}

fn was_cut_off(facts: &Facts) -> bool {
    facts
        .flying_since
        .is_some_and(|since| facts.unix.saturating_sub(since) >= RECALL_AFTER)
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
