//! What is counted about calls to SQS and SNS (semantic conventions 1.44, "Messaging metrics"), also where
//! the span is not sampled. Without the crate's feature `metrics` nothing here does anything.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::call::{End, EntryResult, Open};
use super::span::{self, Operation};
use crate::metrics::DURATION_BOUNDS;

/// The instruments of an interceptor.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    duration: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            duration: meter
                .f64_histogram("messaging.client.operation.duration")
                .with_unit("s")
                .with_description("Duration of a call to send, receive or settle messages.")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            sent: meter
                .u64_counter("messaging.client.sent.messages")
                .with_unit("{message}")
                .with_description("Number of messages that were attempted to be sent.")
                .build(),
            consumed: meter
                .u64_counter("messaging.client.consumed.messages")
                .with_unit("{message}")
                .with_description("Number of messages that were delivered to the application.")
                .build(),
        }
    }

    /// Records a call that has ended.
    pub(crate) fn record(&self, call: &Open, end: &End) {
        let attributes = span::common(call.operation, &call.destination);
        let took = call.started.0.elapsed().as_secs_f64();
        let mut of_duration = attributes.clone();
        of_duration.extend(call.server.iter().cloned());
        self.duration
            .record(took, &with_error(of_duration, end.error_type()));
        // The type of the operation says nothing that its name does not say to a counter.
        let counted = attributes
            .into_iter()
            .filter(|a| a.key.as_str() != "messaging.operation.type")
            .collect();
        match call.operation {
            Operation::Send | Operation::Create => self.count_sent(call, end, counted),
            Operation::Receive => {
                if let End::Received(messages) = end
                    && !messages.is_empty()
                {
                    self.consumed.add(messages.len() as u64, &counted);
                }
            }
            Operation::Delete | Operation::ChangeVisibility => {}
        }
    }

    /// Counts the messages of a call, those that failed under their own codes.
    fn count_sent(&self, call: &Open, end: &End, attributes: Vec<KeyValue>) {
        let End::Entries(results) = end else {
            return self.sent.add(
                call.messages as u64,
                &with_error(attributes, end.error_type()),
            );
        };
        for result in results.values() {
            self.sent.add(
                1,
                &with_error(attributes.clone(), EntryResult::code(result)),
            );
        }
    }
}

fn with_error(mut attributes: Vec<KeyValue>, error_type: Option<&str>) -> Vec<KeyValue> {
    attributes.extend(error_type.map(|error| KeyValue::new("error.type", error.to_owned())));
    attributes
}
