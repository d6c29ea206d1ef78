//! What is counted and measured: Messaging semantic conventions 1.44, "Messaging metrics".
//!
//! Recorded through OpenTelemetry's meter API, also where the span is not sampled. The feature
//! `metrics` switches it on; without it nothing here does anything.
#![expect(
    clippy::ptr_arg,
    reason = "cloned into attributes, which copies nothing when the name is static"
)]

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::consumer_span::{Queue, SYSTEM};
use crate::telemetry::scope;

/// The buckets that the conventions advise for durations, in seconds.
pub(crate) const DURATION_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The meter of this crate, from the process's meter provider; `None` without the feature.
///
/// The provider must be in place before: a meter keeps the one it was made by.
pub(crate) fn meter() -> Option<Meter> {
    cfg!(feature = "metrics").then(|| opentelemetry::global::meter_with_scope(scope()))
}

/// The consumer's instruments. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instruments(Option<Arc<OnceLock<Made>>>);

#[derive(Debug)]
struct Made {
    process_duration: Histogram<f64>,
    consumed_messages: Counter<u64>,
}

/// The measurement of one record that is being processed.
#[derive(Debug)]
pub(crate) struct Processing {
    made: Arc<OnceLock<Made>>,
    attributes: Vec<KeyValue>,
}

// === impl Instruments ===

impl Instruments {
    /// Instruments of this meter.
    #[cfg(feature = "metrics")]
    pub(crate) fn of(meter: &Meter) -> Self {
        Self(Some(Arc::new(OnceLock::from(Made::new(meter)))))
    }

    /// Instruments of the meter provider that is the process's own when the first batch comes.
    pub(crate) fn of_global() -> Self {
        Self(cfg!(feature = "metrics").then(Arc::default))
    }

    fn made(&self) -> Option<&Made> {
        self.0.as_ref().and_then(|lock| made(lock))
    }

    /// Counts the records of a batch, once per delivery and before anything is known of their fate.
    pub(crate) fn consumed<'a>(
        &self,
        operation: &Cow<'static, str>,
        queues: impl Iterator<Item = Option<&'a Queue>>,
    ) {
        let Some(made) = self.made() else { return };
        let mut counts: Vec<(Option<&Queue>, u64)> = Vec::new();
        for queue in queues {
            match counts.iter_mut().find(|(known, _)| *known == queue) {
                Some((_, count)) => *count += 1,
                None => counts.push((queue, 1)),
            }
        }
        for (queue, count) in counts {
            made.consumed_messages
                .add(count, &attributes(operation, queue));
        }
    }

    /// Begins the measurement of a record.
    pub(crate) fn processing(
        &self,
        operation: &Cow<'static, str>,
        queue: Option<&Queue>,
    ) -> Option<Processing> {
        let made = self.0.as_ref()?;
        Some(Processing {
            made: Arc::clone(made),
            attributes: attributes(operation, queue),
        })
    }
}

fn made(lock: &OnceLock<Made>) -> Option<&Made> {
    if lock.get().is_none() {
        let _ = lock.set(Made::new(&meter()?));
    }
    lock.get()
}

impl Made {
    fn new(meter: &Meter) -> Self {
        Self {
            process_duration: meter
                .f64_histogram("messaging.process.duration")
                .with_unit("s")
                .with_description("Duration of processing operation.")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            consumed_messages: meter
                .u64_counter("messaging.client.consumed.messages")
                .with_unit("{message}")
                .with_description("Number of messages that were delivered to the application.")
                .build(),
        }
    }
}

impl Processing {
    /// Records how long the record took, which is how long its span is.
    pub(crate) fn ended(&self, took: Duration, error_type: Option<&Cow<'static, str>>) {
        let Some(made) = made(&self.made) else { return };
        let duration = took.as_secs_f64();
        match error_type {
            None => made.process_duration.record(duration, &self.attributes),
            Some(error_type) => {
                let mut attributes = self.attributes.clone();
                attributes.push(KeyValue::new("error.type", error_type.clone()));
                made.process_duration.record(duration, &attributes);
            }
        }
    }
}

/// What all consumer metrics say. Never the message's id: each would be a time series of its own.
fn attributes(operation: &Cow<'static, str>, queue: Option<&Queue>) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(4);
    attributes.push(KeyValue::new("messaging.operation.name", operation.clone()));
    attributes.push(KeyValue::new("messaging.system", SYSTEM));
    if let Some(queue) = queue {
        attributes.push(KeyValue::new(
            "messaging.destination.name",
            queue.name.clone(),
        ));
    }
    attributes
}
