//! Whether upstream is worth waiting for.
//!
//! ```text
//! Closed ── one failed answer, or two timeouts ──▶ Open ── pause over ──▶ a probe is due
//!   ▲                                                ▲                        │
//!   └────────────── the probe was taken ─────────────┼── the probe failed ◀───┘
//! ```
//!
//! Pure: time is an argument, by the wall clock, because the monotonic one may stand still in a frozen sandbox.

use std::time::Duration;

use crate::otlp::Signal;

/// Why a flush failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Upstream answered that it cannot, with the pause it asks for.
    Answered {
        /// `Retry-After` or `RetryInfo`.
        after: Option<Duration>,
    },
    /// No connection: refused, no such name, TLS.
    Unreachable,
    /// No answer in time, or the connection broke.
    TimedOut,
}

/// The pause before the first probe.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Pauses double up to this one.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Flushes in a row that may time out before the breaker opens.
/// Chosen: one slow answer is common, and a second budget lost is what the promise allows.
const TIMEOUTS_MAX: u8 = 2;

/// The breaker of one signal's upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Breaker {
    timeouts: u8,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Open {
    pause: Duration,
    /// Unix time at which the next probe may start.
    probe_at: Duration,
}

/// The breakers of all signals, which may have different upstreams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Breakers([Breaker; 3]);

// === impl Breaker ===

impl Breaker {
    /// Whether invocations do not wait for upstream.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a probe may start.
    pub fn probe_due(&self, unix: Duration) -> bool {
        // A wall clock that was set back must not keep the breaker open for longer than the longest pause.
        self.open
            .is_some_and(|open| unix >= open.probe_at || unix + PAUSE_MAX < open.probe_at)
    }

    /// When the next probe is due.
    pub fn probe_at(&self) -> Option<Duration> {
        self.open.map(|open| open.probe_at)
    }

    /// Upstream took something, or refused it for a reason of its own.
    pub fn on_success(&mut self) {
        *self = Self::default();
    }

    /// A flush or a probe failed.
    pub fn on_failure(&mut self, failure: Failure, unix: Duration) {
        if failure == Failure::TimedOut && self.open.is_none() {
            self.timeouts += 1;
            if self.timeouts < TIMEOUTS_MAX {
                return;
            }
        }
        let asked = match failure {
            Failure::Answered { after } => after.unwrap_or_default().min(PAUSE_MAX),
            Failure::Unreachable | Failure::TimedOut => Duration::ZERO,
        };
        let pause = self
            .open
            .map_or(PAUSE_MIN, |open| (open.pause * 2).min(PAUSE_MAX));
        self.open = Some(Open {
            pause,
            probe_at: unix + pause.max(asked),
        });
    }
}

// === impl Breakers ===

impl Breakers {
    /// The breaker of one signal.
    pub fn of(&self, signal: Signal) -> &Breaker {
        &self.0[signal.index()]
    }

    /// The breaker of one signal, to tell it what happened.
    pub fn of_mut(&mut self, signal: Signal) -> &mut Breaker {
        &mut self.0[signal.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Failure = Failure::Answered { after: None };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_failed_answer_opens() {
        for failure in [ANSWERED, Failure::Unreachable] {
            let mut breaker = Breaker::default();
            breaker.on_failure(failure, seconds(100));
            assert!(breaker.is_open(), "{failure:?}");
            assert!(!breaker.probe_due(Duration::from_millis(100_999)));
            assert!(breaker.probe_due(seconds(101)));
        }
    }

    #[test]
    fn two_timeouts_in_a_row_open() {
        let mut breaker = Breaker::default();
        breaker.on_failure(Failure::TimedOut, seconds(1));
        assert!(!breaker.is_open());
        breaker.on_success();
        breaker.on_failure(Failure::TimedOut, seconds(2));
        assert!(!breaker.is_open());
        breaker.on_failure(Failure::TimedOut, seconds(3));
        assert!(breaker.is_open());
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut breaker = Breaker::default();
        let mut now = seconds(1000);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            breaker.on_failure(ANSWERED, now);
            let at = breaker.probe_at().unwrap();
            pauses.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        breaker.on_success();
        assert!(!breaker.is_open());
        breaker.on_failure(Failure::Unreachable, now);
        assert_eq!(breaker.probe_at(), Some(now + seconds(1)));
    }

    #[test]
    fn upstream_may_ask_for_a_longer_pause_but_not_for_ever() {
        let mut breaker = Breaker::default();
        breaker.on_failure(
            Failure::Answered {
                after: Some(seconds(7)),
            },
            seconds(0),
        );
        assert_eq!(breaker.probe_at(), Some(seconds(7)));
        breaker.on_failure(
            Failure::Answered {
                after: Some(seconds(86_400)),
            },
            seconds(7),
        );
        assert_eq!(breaker.probe_at(), Some(seconds(67)));
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let mut breaker = Breaker::default();
        breaker.on_failure(ANSWERED, seconds(10_000));
        assert!(breaker.probe_due(seconds(5)));
    }
}
