//! What the log says about a sandbox's life: outages once, drops with the ledger, a hint when nothing comes.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::flush::unix_now;
use crate::ledger::item_name;
use crate::lifecycle::{Event, Lifecycle, SignalSet, State};
use crate::log::{self, Level};
use crate::otlp::Signal;

/// Invocations without any OTLP after which a hint is given.
const HINT_AFTER: u64 = 3;
/// Least time between two ledger lines about drops.
const DROP_LINE_EVERY: Duration = Duration::from_secs(10);

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    was_open: SignalSet,
    invocations: u64,
    wrapper_seen: bool,
    dropped_said: u64,
    dropped_said_at: Option<Instant>,
    ending: Option<Ending>,
}

/// An invocation whose end was seen and whose flush may still run.
#[derive(Debug)]
struct Ending {
    request: String,
    by: &'static str,
    at: Instant,
    telemetry: Option<Duration>,
    exported: u64,
}

// === impl Report ===

impl Report {
    /// A hint when three invocations have brought nothing, once.
    fn count(&mut self, event: &Event, buffer: &Buffer) {
        match event {
            // The wrapper is there; it has nothing to say, as when no trace is sampled.
            Event::Hello | Event::Complete { .. } => self.wrapper_seen = true,
            Event::Invoke { .. } => self.invocations += 1,
            _ => return,
        }
        let nothing = Signal::ALL
            .iter()
            .all(|signal| buffer.ledger().account(*signal).received == 0);
        if nothing && !self.wrapper_seen && self.invocations == HINT_AFTER + 1 {
            let text = "no OTLP has come in three invocations: is the function's SDK pointed at localhost, \
                        and not at the upstream endpoint itself?";
            log::line(Level::Warn, text, &[]);
        }
    }

    /// Says, for those who look for a fault, how each held invocation ended and what its flush took.
    pub(super) fn on_event(
        &mut self,
        before: &State,
        event: &Event,
        after: &State,
        buffer: &Buffer,
    ) {
        self.count(event, buffer);
        if !log::enabled(Level::Debug) {
            return;
        }
        if let (Some((request, by)), false) = (ended(before, event, after), self.ending.is_some()) {
            let telemetry = match event {
                Event::RuntimeDone { time, .. } => time.map(|time| unix_now().saturating_sub(time)),
                _ => None,
            };
            let exported = spans_exported(buffer);
            self.ending = Some(Ending {
                request,
                by,
                at: Instant::now(),
                telemetry,
                exported,
            });
        }
        if matches!(after, State::Flushing { .. }) {
            return;
        }
        if let Some(ending) = self.ending.take() {
            let millis = |time: Duration| Value::from(time.as_micros() as f64 / 1000.0);
            let mut fields = vec![
                ("request_id", ending.request.into()),
                ("ended_by", ending.by.into()),
                ("spans", (spans_exported(buffer) - ending.exported).into()),
                ("held_ms", millis(ending.at.elapsed())),
            ];
            fields.extend(ending.telemetry.map(|time| ("telemetry_ms", millis(time))));
            log::line(Level::Debug, "flushed", &fields);
        }
    }

    /// One line when upstream stops taking a signal, one when it is back.
    pub(super) fn on_breakers<'a>(
        &mut self,
        lifecycle: &Lifecycle,
        failure: impl Fn(Signal) -> &'a str,
    ) {
        for signal in Signal::ALL {
            let open = lifecycle.breakers().of(signal).is_open();
            if std::mem::replace(&mut self.was_open[signal.index()], open) == open {
                continue;
            }
            let name = ("signal", item_name(signal).into());
            if open {
                let text =
                    "upstream does not take telemetry; invocations go on without waiting for it";
                log::line(
                    Level::Warn,
                    text,
                    &[name, ("reason", failure(signal).into())],
                );
            } else {
                log::line(Level::Info, "upstream takes telemetry again", &[name]);
            }
        }
    }

    /// The ledger whenever something was dropped, but not for each request of a flood.
    pub(super) fn on_drops(&mut self, buffer: &Buffer) {
        let dropped = buffer.ledger().dropped();
        let quiet = self
            .dropped_said_at
            .is_none_or(|at| at.elapsed() >= DROP_LINE_EVERY);
        if dropped > self.dropped_said && quiet {
            self.dropped_said = dropped;
            self.dropped_said_at = Some(Instant::now());
            say_ledger(buffer);
        }
    }
}

/// The ledger line: a warning once something was dropped.
pub(super) fn say_ledger(buffer: &Buffer) {
    let level = if buffer.ledger().dropped() > 0 {
        Level::Warn
    } else {
        Level::Info
    };
    log::line(level, "ledger", &[("ledger", buffer.ledger().to_json())]);
}

fn spans_exported(buffer: &Buffer) -> u64 {
    buffer.ledger().account(Signal::Traces).exported
}

/// The invocation that this event has ended, and by what.
fn ended(before: &State, event: &Event, after: &State) -> Option<(String, &'static str)> {
    if matches!(after, State::Invoking(_)) {
        return None;
    }
    match (before, event) {
        (State::Invoking(invocation), Event::Complete { .. }) => {
            Some((invocation.request().into(), "complete"))
        }
        (State::Invoking(invocation), Event::RuntimeDone { .. }) => {
            Some((invocation.request().into(), "runtime_done"))
        }
        (State::Invoking(invocation), Event::Tick) => {
            Some((invocation.request().into(), "deadline"))
        }
        (State::Waiting { .. }, Event::Invoke { request, .. }) => {
            let by = if matches!(after, State::Waiting { blind: true }) {
                "nobody"
            } else {
                "complete"
            };
            Some((request.clone(), by))
        }
        _ => None,
    }
}
