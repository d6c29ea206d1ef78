//! What waits for upstream: the bytes as they came, bounded, oldest first.
//!
//! An [`Entry`] is one client's request (or a part of one); a [`Batch`] is what one request upstream carries.
//! Entries that are in flight stay inside the bound, because they may have to come back.
//! Pure: time is an argument, and every move is also a move in the [`Ledger`].

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::ledger::{Cause, Ledger};
use crate::otlp::{self, Signal};

/// What an entry costs beside its bytes: the struct, the allocation and its share of the queue, rounded up.
/// Without it a flood of tiny requests would need many times the bound.
const ENTRY_BYTES: usize = 128;

/// Entries that are merged into one request at most: a request is written with one `writev` of about this many parts.
const ENTRIES_MAX: u32 = 512;

/// The smallest limit that [`Buffer::shrink`] goes down to.
/// Chosen: no server takes less than gRPC's and nginx's smallest common default, and a span is smaller still.
const REQUEST_BYTES_MIN: usize = 16 << 10;

/// One client's request, or a part of one.
#[derive(Clone, Debug)]
pub struct Entry {
    sequence: u64,
    items: u64,
    body: Bytes,
    /// Unix time of arrival.
    arrived: Duration,
    /// How many entries may go into the same request as this one; halved when such a request was refused.
    together_max: u32,
}

/// Entries of one signal that go upstream in one request.
#[derive(Debug)]
#[must_use = "a batch that is neither settled nor put back breaks the ledger"]
pub struct Batch {
    signal: Signal,
    entries: Vec<Entry>,
}

/// What became of a request that upstream refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// It was one client's request: its items are rejected.
    Culprit,
    /// It was several: they are back in the buffer and will be sent in halves.
    Halved,
}

/// The entries of all signals and the ledger over them.
#[derive(Debug)]
pub struct Buffer {
    queues: [VecDeque<Entry>; 3],
    waiting_bytes: [usize; 3],
    in_flight_bytes: usize,
    bytes_max: usize,
    request_bytes_max: [usize; 3],
    next_sequence: u64,
    ledger: Ledger,
}

// === impl Batch ===

impl Batch {
    /// The signal of every entry.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The parts of one OTLP request, in order. Cheap: the bytes are shared.
    pub fn chunks(&self) -> Vec<Bytes> {
        self.entries
            .iter()
            .map(|entry| entry.body.clone())
            .collect()
    }

    /// Clients' requests inside.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing inside, which [`Buffer::take`] never returns.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Spans, data points or log records.
    pub fn items(&self) -> u64 {
        self.entries.iter().map(|entry| entry.items).sum()
    }

    /// Bytes of the request.
    pub fn body_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.body.len()).sum()
    }

    fn cost(&self) -> usize {
        self.entries.iter().map(Entry::cost).sum()
    }
}

// === impl Entry ===

impl Entry {
    fn cost(&self) -> usize {
        self.body.len() + ENTRY_BYTES
    }
}

// === impl Buffer ===

impl Buffer {
    /// An empty buffer that holds `bytes_max` bytes and makes requests of `request_bytes_max` bytes at most.
    pub fn new(bytes_max: usize, request_bytes_max: usize) -> Self {
        Self {
            queues: Default::default(),
            waiting_bytes: [0; 3],
            in_flight_bytes: 0,
            bytes_max,
            request_bytes_max: [request_bytes_max; 3],
            next_sequence: 0,
            ledger: Ledger::default(),
        }
    }

    /// The accounts.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Bytes of one signal that wait and are not in flight.
    pub fn waiting_bytes(&self, signal: Signal) -> usize {
        self.waiting_bytes[signal.index()]
    }

    /// Bytes of everything, what is in flight included; never more than the bound.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes.iter().sum::<usize>() + self.in_flight_bytes
    }

    /// Unix time of arrival of the oldest entry that waits.
    pub fn oldest(&self) -> Option<Duration> {
        self.queues
            .iter()
            .filter_map(|queue| queue.front())
            .map(|entry| entry.arrived)
            .min()
    }

    /// A mark: what comes from now on is at or after it.
    pub fn mark(&self) -> u64 {
        self.next_sequence
    }

    /// Whether a request of this many bytes can be kept at all.
    pub fn fits(&self, body_bytes: usize) -> bool {
        body_bytes + ENTRY_BYTES <= self.bytes_max
    }

    /// Keeps one client's request of `items` items; the oldest that wait make room for it.
    /// Returns how many items were dropped, which may be its own when everything else is in flight.
    ///
    /// `body` must be a copy of its own size: a slice of a receive buffer would pin the whole of it.
    pub fn push(&mut self, signal: Signal, items: u64, body: Bytes, unix: Duration) -> u64 {
        self.ledger.received(signal, items);
        if !self.fits(body.len()) {
            self.ledger
                .dropped_from_buffer(signal, items, Cause::TooLarge);
            return items;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.insert(
            signal,
            Entry {
                sequence,
                items,
                body,
                arrived: unix,
                together_max: ENTRIES_MAX,
            },
        );
        self.make_room()
    }

    /// Takes the oldest entries of this signal that came before `mark`, as many as fit into one request.
    /// An entry that is larger than a request is split.
    pub fn take(&mut self, signal: Signal, mark: u64) -> Option<Batch> {
        let limit = self.request_bytes_max[signal.index()];
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut together = ENTRIES_MAX;
        while let Some(entry) = self.queues[signal.index()].front() {
            together = together.min(entry.together_max);
            if entry.sequence >= mark || entries.len() >= together as usize {
                break;
            }
            if bytes + entry.body.len() > limit {
                if !entries.is_empty() {
                    break;
                }
                if self.split_front(signal) {
                    continue;
                }
            }
            let entry = self
                .remove_front(signal)
                .expect("the front was seen a line above");
            bytes += entry.body.len();
            entries.push(entry);
        }
        if entries.is_empty() {
            return None;
        }
        let batch = Batch { signal, entries };
        self.in_flight_bytes += batch.cost();
        self.ledger.sent(signal, batch.items());
        // The parts of a split entry repeat what encloses them, so that together they are larger.
        self.make_room();
        Some(batch)
    }

    /// Whether something of this signal that came before `mark` waits.
    pub fn waits(&self, signal: Signal, mark: u64) -> bool {
        self.queues[signal.index()]
            .front()
            .is_some_and(|entry| entry.sequence < mark)
    }

    /// Puts a batch back in its place, because it was not acknowledged.
    pub fn put_back(&mut self, batch: Batch) {
        self.in_flight_bytes -= batch.cost();
        self.ledger.put_back(batch.signal, batch.items());
        for entry in batch.entries {
            self.insert(batch.signal, entry);
        }
    }

    /// Upstream acknowledged the batch but for `rejected` of its items.
    pub fn acknowledged(&mut self, batch: Batch, rejected: u64) {
        self.in_flight_bytes -= batch.cost();
        self.ledger
            .acknowledged(batch.signal, batch.items(), rejected);
    }

    /// Upstream refused the batch for good, whatever is in it: its items are rejected.
    pub fn rejected(&mut self, batch: Batch) {
        let items = batch.items();
        self.acknowledged(batch, items);
    }

    /// Upstream refused the batch for good, perhaps because of one client's request in it.
    pub fn refused(&mut self, mut batch: Batch) -> Refused {
        if batch.len() == 1 {
            self.rejected(batch);
            return Refused::Culprit;
        }
        halve(&mut batch);
        self.put_back(batch);
        Refused::Halved
    }

    /// Upstream says that the batch is too large: by request, then inside the request.
    /// Returns how many items had to be dropped because one alone is too large.
    pub fn too_large(&mut self, mut batch: Batch) -> u64 {
        self.shrink(batch.signal, batch.body_bytes());
        if batch.len() > 1 {
            halve(&mut batch);
            self.put_back(batch);
            return 0;
        }
        let cost = batch.cost();
        let signal = batch.signal;
        let entry = batch.entries.pop().expect("a batch has at least one entry");
        self.in_flight_bytes -= cost;
        self.ledger.put_back(signal, entry.items);
        let Some(parts) = split_entry(signal, &entry) else {
            self.ledger
                .dropped_from_buffer(signal, entry.items, Cause::TooLarge);
            return entry.items;
        };
        for part in parts {
            self.insert(signal, part);
        }
        // The parts repeat what encloses them, so that together they are larger.
        self.make_room()
    }

    /// Drops whatever still waits, because the sandbox ends. Returns how many items.
    pub fn drop_all(&mut self) -> u64 {
        let mut dropped = 0;
        for signal in Signal::ALL {
            while let Some(entry) = self.remove_front(signal) {
                dropped += entry.items;
                self.ledger
                    .dropped_from_buffer(signal, entry.items, Cause::Shutdown);
            }
        }
        dropped
    }

    /// Remembers that upstream did not take a request of this size.
    fn shrink(&mut self, signal: Signal, body_bytes: usize) {
        let limit = &mut self.request_bytes_max[signal.index()];
        *limit = (*limit).min(body_bytes / 2).max(REQUEST_BYTES_MIN);
    }

    /// Splits the entry in front, if it can be.
    fn split_front(&mut self, signal: Signal) -> bool {
        let Some(parts) = self.queues[signal.index()]
            .front()
            .and_then(|entry| split_entry(signal, entry))
        else {
            return false;
        };
        self.remove_front(signal);
        for part in parts.into_iter().rev() {
            self.waiting_bytes[signal.index()] += part.cost();
            self.queues[signal.index()].push_front(part);
        }
        true
    }

    fn insert(&mut self, signal: Signal, entry: Entry) {
        self.waiting_bytes[signal.index()] += entry.cost();
        let at = self.position(signal, entry.sequence + 1);
        self.queues[signal.index()].insert(at, entry);
    }

    /// Where the first entry with this sequence number or a later one is.
    fn position(&self, signal: Signal, sequence: u64) -> usize {
        self.queues[signal.index()].partition_point(|entry| entry.sequence < sequence)
    }

    fn remove_front(&mut self, signal: Signal) -> Option<Entry> {
        let entry = self.queues[signal.index()].pop_front()?;
        self.waiting_bytes[signal.index()] -= entry.cost();
        Some(entry)
    }

    fn make_room(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes() > self.bytes_max {
            let oldest = Signal::ALL
                .into_iter()
                .filter_map(|signal| Some((self.queues[signal.index()].front()?.sequence, signal)))
                .min_by_key(|(sequence, _)| *sequence);
            let Some((_, signal)) = oldest else { break };
            let entry = self
                .remove_front(signal)
                .expect("the front was seen a line above");
            self.ledger
                .dropped_from_buffer(signal, entry.items, Cause::Overflow);
            dropped += entry.items;
        }
        dropped
    }
}

fn halve(batch: &mut Batch) {
    let half = u32::try_from(batch.len().div_ceil(2)).unwrap_or(ENTRIES_MAX);
    for entry in &mut batch.entries {
        entry.together_max = half;
    }
}

/// The two parts of an entry, or `None` when it is one item.
fn split_entry(signal: Signal, entry: &Entry) -> Option<[Entry; 2]> {
    let (first, second) = otlp::split(signal, &entry.body)?;
    // The parts hold the items of the whole between them; counting one of them is enough to keep the ledger exact.
    let first_items = otlp::count(signal, &first).unwrap_or(0).min(entry.items);
    let part = |body: Vec<u8>, items| Entry {
        body: Bytes::from(body),
        items,
        ..entry.clone()
    };
    Some([
        part(first, first_items),
        part(second, entry.items - first_items),
    ])
}

#[cfg(test)]
mod tests;
