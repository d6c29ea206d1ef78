//! The loop of one batch: starts records, collects what became of them, watches the clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::FromMessage;
use super::failure::Failure;
use super::options::Options;
use super::record::{Invocation, Work, process_record};
use crate::export::FLUSH_SPANS;
use crate::outcome::Outcome;
use crate::schedule::Schedule;

/// From this many ended spans on, no record is started before a flush has taken some away, so that
/// a processor that never waits for anything cannot fill the 8,192 that are kept.
const HOLD_SPANS: usize = 4 * FLUSH_SPANS;

/// How long records may be held back while no span is acknowledged.
const STALL_MAX: Duration = Duration::from_secs(1);

/// How long records may be held back in one invocation, and never for more than a fifth of the time
/// it has: spans are worth less than the records.
const HOLD_MAX: Duration = Duration::from_secs(10);

type Flushing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The moments before the deadline at which something happens.
pub(super) struct Clock {
    pub(super) observe_at: Option<Instant>,
    pub(super) stop_at: Option<Instant>,
    pub(super) hold_max: Duration,
}

impl Clock {
    pub(super) fn new(
        options: &Options,
        deadline: Option<SystemTime>,
        now: (Instant, SystemTime),
    ) -> Self {
        let left = deadline.map(|deadline| deadline.duration_since(now.1).unwrap_or_default());
        let at = |margin: Duration| left.map(|left| now.0 + left.saturating_sub(margin));
        Self {
            // The extension stops waiting later than this, so what is exported here still leaves.
            observe_at: left
                .filter(|_| options.observe_deadline)
                .and_then(|left| at((left / 5).min(Duration::from_secs(1)))),
            stop_at: options.stop_margin.and_then(at),
            hold_max: left.map_or(HOLD_MAX, |left| HOLD_MAX.min(left / 5)),
        }
    }
}

/// Starts records, collects what became of them, and lets spans leave beside them.
pub(super) struct Driver<F> {
    pub(super) invocation: Arc<Invocation<F>>,
    pub(super) work: Vec<Option<Work>>,
    pub(super) schedule: Schedule,
    pub(super) width: usize,
    pub(super) clock: Clock,
}

impl<F> Driver<F> {
    pub(super) async fn run<A, Fut, E>(mut self) -> Vec<(Outcome, Option<Failure>)>
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        A: FromMessage + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: 'static,
    {
        let mut ended = vec![(Outcome::NotStarted, None); self.work.len()];
        let mut running = FuturesUnordered::new();
        let mut flushing: Option<Flushing> = None;
        let mut flush_from = FLUSH_SPANS;
        let mut held = Hold::new(self.clock.hold_max);
        loop {
            let waiting = self.invocation.telemetry.waiting();
            if flushing.is_none() && waiting >= flush_from {
                let telemetry = self.invocation.telemetry.clone();
                flushing = Some(Box::pin(async move { telemetry.flush_spans().await }));
            }
            if self.clock.stop_at.is_some_and(|at| Instant::now() >= at) {
                self.schedule.stop();
            }
            let reason = flushing.is_some() && waiting >= HOLD_SPANS;
            let hold = held.update(reason, || self.invocation.telemetry.settled());
            while !hold && running.len() < self.width {
                let Some(work) = self.schedule.next().and_then(|i| self.work[i].take()) else {
                    break;
                };
                running.push(process_record(Arc::clone(&self.invocation), work));
            }
            if running.is_empty() && !hold {
                break;
            }
            tokio::select! {
                biased;
                () = at(self.clock.observe_at) => {
                    self.clock.observe_at = None;
                    self.invocation.open.time_out();
                    // From here on nothing waits: the sandbox may be killed any moment.
                    flush_from = 1;
                }
                () = at(self.clock.stop_at) => {
                    self.clock.stop_at = None;
                    self.schedule.stop();
                }
                () = finish(&mut flushing) => flushing = None,
                Some((index, failure)) = running.next() => {
                    self.schedule.on_end(index, failure.is_none());
                    ended[index] = match failure {
                        None => (Outcome::Succeeded, None),
                        Some(failure) => (Outcome::Failed, Some(failure)),
                    };
                }
            }
        }
        if let Some(flushing) = flushing {
            // The answer does not wait for it; the last flush of the invocation does.
            tokio::spawn(flushing);
        }
        ended
    }
}

/// Measures how long records have been held back.
#[derive(Debug)]
struct Hold {
    since: Option<Instant>,
    /// In the whole invocation.
    left: Duration,
    /// Since the last span that was acknowledged.
    stalled: Duration,
    settled: u64,
}

impl Hold {
    fn new(limit: Duration) -> Self {
        Self {
            since: None,
            left: limit,
            stalled: Duration::ZERO,
            settled: 0,
        }
    }

    /// Whether to hold back now, given that there is reason to, and how many spans are done with.
    fn update(&mut self, reason: bool, settled: impl FnOnce() -> u64) -> bool {
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now - since);
            self.stalled += now - since;
        }
        if !reason {
            return false;
        }
        let settled = settled();
        if settled != self.settled {
            self.settled = settled;
            self.stalled = Duration::ZERO;
        }
        let hold = self.stalled < STALL_MAX && !self.left.is_zero();
        if hold {
            self.since = Some(now);
        }
        hold
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn finish(flushing: &mut Option<Flushing>) {
    match flushing {
        Some(flushing) => flushing.await,
        None => std::future::pending().await,
    }
}
