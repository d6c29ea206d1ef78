//! Takes from the buffer, sends upstream, and settles or puts back what was sent.
//!
//! One export runs at a time, for one [`Purpose`]; probes run beside it and are not waited for.
//! Every request is a task of its own, so that a panic costs that request and nothing else.
//! What is in flight is kept here as well, and returns to the buffer unless upstream has acknowledged it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::breaker::Failure;
use crate::buffer::{Batch, Buffer};
use crate::lifecycle::{Event, Facts, Purpose, SignalSet};
use crate::log::{self, Level};
use crate::otlp::Signal;
use crate::upstream::{Outcome, Upstream, retry};

/// What an export needs of upstream; a trait so that tests can script it.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request, which is what the chunks hold together.
    fn send(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Outcome> + Send;
    /// Makes a connection that is not stale.
    fn warm(&self, signal: Signal) -> impl Future<Output = ()> + Send;
}

/// Requests in flight at once. Chosen: three signals and one more megabyte of the busiest.
const FLIGHTS_MAX: usize = 4;

/// Bytes of one request before compression.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The longest text of upstream that is repeated in a log line.
const MESSAGE_CHARS_MAX: usize = 200;

/// Statuses that say nothing about one client's request: every other one would be refused as well.
const REFUSED_ALL: &[&str] = &[
    "404",
    "405",
    "406",
    "410",
    "415",
    "501",
    "505",
    "UNIMPLEMENTED",
];

/// Exports from a buffer to upstream.
#[derive(Debug)]
pub struct Exporter<T> {
    buffer: Arc<Mutex<Buffer>>,
    upstream: Arc<T>,
    requests: JoinSet<Outcome>,
    warming: JoinSet<()>,
    flights: HashMap<Id, Flight>,
    export: Option<Export>,
    /// Why the last request of each signal failed, for the log.
    failures: [String; 3],
}

#[derive(Debug)]
struct Flight {
    batch: Batch,
    probe: bool,
    sent_unix: Duration,
    task: AbortHandle,
}

#[derive(Debug)]
struct Export {
    purpose: Purpose,
    signals: SignalSet,
    mark: u64,
    begun: Instant,
    retried: SignalSet,
    verdicts: [Option<Result<(), Failure>>; 3],
}

// === impl Transport ===

impl Transport for Upstream {
    fn send(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Outcome> + Send {
        Upstream::send(self, signal, chunks)
    }

    fn warm(&self, signal: Signal) -> impl Future<Output = ()> + Send {
        Upstream::warm(self, signal)
    }
}

// === impl Exporter ===

impl<T: Transport> Exporter<T> {
    /// An exporter that does nothing yet.
    pub fn new(buffer: Arc<Mutex<Buffer>>, upstream: T) -> Self {
        Self {
            buffer,
            upstream: Arc::new(upstream),
            requests: JoinSet::new(),
            warming: JoinSet::new(),
            flights: HashMap::new(),
            export: None,
            failures: Default::default(),
        }
    }

    /// Starts an export of these signals, or widens the one that runs.
    pub fn export(&mut self, purpose: Purpose, signals: SignalSet) {
        let mark = match purpose {
            // What comes during the flush was not handed over before the function's end.
            Purpose::End => self.buffer().mark(),
            Purpose::Background | Purpose::Drain => u64::MAX,
        };
        match &mut self.export {
            Some(export) => {
                for signal in Signal::ALL {
                    export.signals[signal.index()] |= signals[signal.index()];
                }
                if export.purpose != purpose {
                    (export.purpose, export.mark, export.begun) = (purpose, mark, Instant::now());
                    export.retried = [false; 3];
                }
            }
            None => {
                self.export = Some(Export {
                    purpose,
                    signals,
                    mark,
                    begun: Instant::now(),
                    retried: [false; 3],
                    verdicts: [None; 3],
                });
            }
        }
    }

    /// Sends one request of each of these signals, beside everything else.
    pub fn probe(&mut self, signals: SignalSet) {
        for signal in Signal::ALL
            .into_iter()
            .filter(|signal| signals[signal.index()])
        {
            let batch = self.buffer().take(signal, u64::MAX);
            if let Some(batch) = batch {
                self.launch(batch, true, Duration::ZERO);
            }
        }
    }

    /// Opens connections for signals that have been in use, beside the function.
    pub fn warm(&mut self, signals: SignalSet) {
        self.warming.abort_all();
        while self.warming.try_join_next().is_some() {}
        for signal in Signal::ALL
            .into_iter()
            .filter(|signal| signals[signal.index()])
        {
            let upstream = Arc::clone(&self.upstream);
            self.warming
                .spawn(async move { upstream.warm(signal).await });
        }
    }

    /// Ends the export: what it has in flight goes back to the buffer.
    pub fn cancel(&mut self) {
        self.export = None;
        self.abort(|flight| !flight.probe);
    }

    /// Ends everything in flight, probes too.
    pub fn recall(&mut self) {
        self.export = None;
        self.abort(|_| true);
    }

    /// Completes `facts` with what is in flight.
    pub fn fill_facts(&self, facts: &mut Facts) {
        facts.exporting = self.export.as_ref().map(|export| export.purpose);
        for flight in self.flights.values() {
            let set = if flight.probe {
                &mut facts.probing
            } else {
                &mut facts.in_flight
            };
            set[flight.batch.signal().index()] = true;
        }
        facts.flying_since = self.flights.values().map(|flight| flight.sent_unix).min();
    }

    /// Why the last request of this signal failed.
    pub fn failure(&self, signal: Signal) -> &str {
        &self.failures[signal.index()]
    }

    /// Drives requests until an export or a probe is over. Waits for ever when there is none.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn step(&mut self) -> Event {
        loop {
            self.fill();
            if let Some(event) = self.finished() {
                return event;
            }
            let settled = match self.requests.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((id, outcome))) => self.settle(id, outcome),
                Some(Err(error)) => self.on_panic(&error),
            };
            if let Some(event) = settled {
                return event;
            }
        }
    }

    /// Keeps enough requests in flight.
    fn fill(&mut self) {
        while self.exporting_flights() < FLIGHTS_MAX {
            let Some(batch) = self.next_batch() else {
                return;
            };
            self.launch(batch, false, Duration::ZERO);
        }
    }

    /// The next request of the signal that has the fewest in flight, so that none waits for another's backlog.
    fn next_batch(&mut self) -> Option<Batch> {
        let export = self.export.as_ref()?;
        let mut signals: Vec<Signal> = Signal::ALL
            .into_iter()
            .filter(|signal| export.takes(*signal))
            .collect();
        signals.sort_by_key(|signal| self.flights_of(*signal));
        let mut buffer = self.buffer();
        signals
            .into_iter()
            .find_map(|signal| buffer.take(signal, export.mark))
    }

    fn launch(&mut self, batch: Batch, probe: bool, wait: Duration) {
        let upstream = Arc::clone(&self.upstream);
        let (signal, chunks) = (batch.signal(), batch.chunks());
        let task = self.requests.spawn(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            upstream.send(signal, chunks).await
        });
        self.flights.insert(
            task.id(),
            Flight {
                batch,
                probe,
                sent_unix: unix_now(),
                task,
            },
        );
    }

    /// The export's result, once nothing of it is in flight and nothing that it takes waits.
    fn finished(&mut self) -> Option<Event> {
        let export = self.export.as_ref()?;
        if self.exporting_flights() > 0 {
            return None;
        }
        let buffer = self.buffer();
        let waits = Signal::ALL
            .iter()
            .any(|signal| export.takes(*signal) && buffer.waits(*signal, export.mark));
        drop(buffer);
        if waits {
            return None;
        }
        self.export
            .take()
            .map(|export| Event::Exported(export.verdicts))
    }

    /// Settles one request. A probe's result is an event of its own.
    fn settle(&mut self, id: Id, outcome: Outcome) -> Option<Event> {
        // What was cancelled is back in the buffer already.
        let Flight { batch, probe, .. } = self.flights.remove(&id)?;
        let signal = batch.signal();
        if let (Outcome::Retryable { after, .. }, false) = (&outcome, probe)
            && let Some(wait) = self.wait_before_retry(signal, *after)
        {
            self.launch(batch, false, wait);
            return None;
        }
        let verdict = self.book(batch, outcome);
        if probe {
            return Some(Event::Probed(signal, verdict));
        }
        self.note(signal, verdict);
        None
    }

    fn on_panic(&mut self, error: &JoinError) -> Option<Event> {
        let Flight { batch, probe, .. } = self.flights.remove(&error.id())?;
        let signal = batch.signal();
        self.buffer().put_back(batch);
        self.failures[signal.index()] = "sending failed inside of the extension".into();
        let verdict = Err(Failure::Answered { after: None });
        if probe {
            return Some(Event::Probed(signal, verdict));
        }
        self.note(signal, verdict);
        None
    }

    /// A failure of one request is a failure of the whole export; a success counts when there is no failure.
    fn note(&mut self, signal: Signal, verdict: Result<(), Failure>) {
        if let Some(export) = &mut self.export {
            let known = &mut export.verdicts[signal.index()];
            if !matches!(
                known,
                Some(Err(Failure::Answered { .. } | Failure::Unreachable))
            ) {
                *known = if matches!(known, Some(Err(_))) && verdict.is_ok() {
                    *known
                } else {
                    Some(verdict)
                };
            }
        }
    }

    /// Once for each signal and export; see [`retry::wait_before_retry`] for when.
    fn wait_before_retry(&mut self, signal: Signal, after: Option<Duration>) -> Option<Duration> {
        let export = self.export.as_mut()?;
        if std::mem::replace(&mut export.retried[signal.index()], true) {
            return None;
        }
        // The budget needs no look: it ends every request that is in flight, one that sleeps too.
        retry::wait_before_retry(after, export.begun.elapsed(), Duration::MAX, random())
    }

    /// Moves the batch to where it belongs, and tells whether upstream is well.
    fn book(&mut self, batch: Batch, outcome: Outcome) -> Result<(), Failure> {
        let signal = batch.signal();
        let (why, failure) = match outcome {
            Outcome::Accepted { rejected, message } => {
                self.buffer().acknowledged(batch, rejected);
                if rejected > 0 {
                    log_rejected(signal, rejected, "200", &message);
                } else if !message.is_empty() {
                    log::once(
                        "upstream-warning",
                        Level::Warn,
                        "upstream warns",
                        &[("text", clip(&message).into())],
                    );
                }
                return Ok(());
            }
            Outcome::TooLarge => {
                self.buffer().too_large(batch);
                return Ok(());
            }
            Outcome::Refused { status, message } => {
                self.on_refused(batch, &status, &message);
                return Ok(());
            }
            Outcome::Retryable { status, after } => (status, Failure::Answered { after }),
            Outcome::Unauthorized { status } => (
                format!("{status}: credentials are missing, wrong or expired"),
                Failure::Answered { after: None },
            ),
            Outcome::Unreachable { why } => (why, Failure::Unreachable),
            Outcome::Lost { why } => (why, Failure::TimedOut),
        };
        self.buffer().put_back(batch);
        self.failures[signal.index()] = clip(&why).to_owned();
        Err(failure)
    }

    fn on_refused(&mut self, batch: Batch, status: &str, message: &str) {
        let (signal, items, requests) = (batch.signal(), batch.items(), batch.len());
        let all = REFUSED_ALL.iter().any(|all| status.starts_with(all));
        if all {
            self.buffer().rejected(batch);
        } else {
            self.buffer().refused(batch);
        }
        if all || requests == 1 {
            log_rejected(signal, items, status, message);
        }
    }

    fn abort(&mut self, which: impl Fn(&Flight) -> bool) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, flight) in self.flights.extract_if(|_, flight| which(flight)) {
            flight.task.abort();
            buffer.put_back(flight.batch);
        }
    }

    fn exporting_flights(&self) -> usize {
        self.flights.values().filter(|flight| !flight.probe).count()
    }

    fn flights_of(&self, signal: Signal) -> usize {
        self.flights
            .values()
            .filter(|flight| flight.batch.signal() == signal)
            .count()
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Export ===

impl Export {
    /// Whether requests of this signal are still sent: the first failure of a signal ends it.
    fn takes(&self, signal: Signal) -> bool {
        self.signals[signal.index()] && !matches!(self.verdicts[signal.index()], Some(Err(_)))
    }
}

fn log_rejected(signal: Signal, items: u64, status: &str, message: &str) {
    let fields = [
        ("signal", crate::ledger::item_name(signal).into()),
        ("rejected", items.into()),
        ("status", status.into()),
        ("text", clip(message).into()),
    ];
    log::line(Level::Warn, "upstream rejected telemetry", &fields);
}

fn clip(text: &str) -> &str {
    text.char_indices()
        .nth(MESSAGE_CHARS_MAX)
        .map_or(text, |(end, _)| &text[..end])
}

/// The wall clock.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Enough for jitter: the standard library's hash keys come from the operating system.
fn random() -> u32 {
    let hash = RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests;
