//! Trace and span ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::trace::IdGenerator;

/// Makes ids from two counters, seeded by the operating system's random source at every invocation.
///
/// A sandbox that Lambda restores from a snapshot would go on with the snapshot's ids, the same in
/// every copy; seeding anew at each invocation prevents that. Asking the operating system for every
/// single id would be the largest cost of a span (350 ns and more a call, against 3 ns).
#[derive(Clone, Debug)]
pub struct Ids(Arc<[AtomicU64; 2]>);

impl Ids {
    /// A generator with a fresh seed.
    #[must_use]
    pub fn new() -> Self {
        let ids = Self(Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        ids.reseed();
        ids
    }

    /// Takes a new seed from the operating system.
    ///
    /// Should the operating system have none, the counters go on from where they are.
    pub fn reseed(&self) {
        for counter in self.0.iter() {
            let mut bytes = [0; 8];
            if getrandom::fill(&mut bytes).is_ok() {
                counter.fetch_xor(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            }
        }
    }

    fn draw(&self, counter: usize) -> u64 {
        // splitmix64: the step is the odd number next to 2^64 divided by the golden ratio.
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let mut z = self.0[counter]
            .fetch_add(step, Ordering::Relaxed)
            .wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let id = (u128::from(self.draw(0)) << 64) | u128::from(self.draw(1));
        TraceId::from(id.max(1)) // zero is the invalid id
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.draw(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let ids = Ids::new();
        let spans: HashSet<_> = (0..100_000).map(|_| ids.new_span_id()).collect();
        let traces: HashSet<_> = (0..100_000).map(|_| ids.new_trace_id()).collect();
        assert_eq!((spans.len(), traces.len()), (100_000, 100_000));
    }

    #[test]
    fn a_restored_copy_makes_other_ids_after_it_was_seeded_anew() {
        let original = Ids::new();
        let counters = original.0.each_ref().map(|c| c.load(Ordering::Relaxed));
        let copy = Ids(Arc::new(counters.map(AtomicU64::new)));
        assert_eq!(
            original.new_trace_id(),
            copy.new_trace_id(),
            "a snapshot repeats its ids"
        );
        copy.reseed();
        original.reseed();
        assert_ne!(original.new_trace_id(), copy.new_trace_id());
        assert_ne!(original.new_span_id(), copy.new_span_id());
    }
}
