//! What is exported without anybody waiting for it, and what its results change.

use std::time::Duration;

use super::bounds::{ADAPTIVE_AGE_MAX, AGE_MAX, CLOSE, CLOSE_TOGETHER_MIN, EARLY_BYTES, QUIET};
use super::{Action, Facts, Lifecycle, Purpose, State};
use crate::breaker::Failure;
use crate::config::Strategy;
use crate::otlp::Signal;

// === impl Lifecycle ===

impl Lifecycle {
    pub(super) fn on_arrival(&mut self, facts: &Facts) -> Vec<Action> {
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

    pub(super) fn on_exported(
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

    pub(super) fn on_probed(
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

    /// Exports what waits where upstream answers, and probes where it may again.
    /// `recalled`: what was in flight waits again, though `facts` do not say so.
    pub(super) fn export_in_background(&mut self, facts: &Facts, recalled: bool) -> Vec<Action> {
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
    pub(super) fn probe(&self, facts: &Facts) -> Vec<Action> {
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
    pub(super) fn wake_for_probe(&mut self, facts: &Facts) {
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
    pub(super) fn give_up(&mut self, facts: &Facts) {
        for signal in Signal::ALL {
            if facts.in_flight[signal.index()] {
                self.breakers
                    .of_mut(signal)
                    .on_failure(Failure::TimedOut, facts.unix);
            }
        }
    }

    pub(super) fn note_pace(&mut self, unix: Duration) {
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
    pub(super) fn in_burst(&self, facts: &Facts) -> bool {
        let fresh = facts
            .oldest
            .is_none_or(|oldest| facts.unix.saturating_sub(oldest) < ADAPTIVE_AGE_MAX);
        self.settings.strategy == Strategy::Adaptive
            && self.close_together >= CLOSE_TOGETHER_MIN
            && fresh
    }
}
