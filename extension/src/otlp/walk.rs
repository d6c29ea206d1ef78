//! Counting the items of an export request in a shallow walk.

use std::fmt;

use super::Signal;
use super::wire::Fields;

/// The bytes are not an export request of this signal.
///
/// A walk sees the framing down to the single item (span, log record, data point), not what is inside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

// === impl Malformed ===

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a protobuf export request")
    }
}

impl std::error::Error for Malformed {}

/// The field that leads from a request to its items, in every message down to the scope:
/// `resource_spans`, `scope_spans` and `spans`, and the same numbers for the other signals.
pub(super) const TO_ITEM: [u32; 3] = [1, 2, 2];

/// The alternatives of `Metric.data`: gauge, sum, histogram, exponential histogram, summary.
pub(super) const METRIC_DATA: [u32; 5] = [5, 7, 9, 10, 11];

/// `data_points` of every one of them.
pub(super) const DATA_POINTS: u32 = 1;

/// Counts the spans, log records or data points of a protobuf export request.
///
/// # Errors
/// [`Malformed`] when a field is cut off, or is no message where the definition has one.
pub fn count(signal: Signal, request: &[u8]) -> Result<u64, Malformed> {
    count_below(signal, request, &TO_ITEM)
}

/// Counts the items of the message that `path` leads down from.
pub(super) fn count_below(signal: Signal, message: &[u8], path: &[u32]) -> Result<u64, Malformed> {
    let Some((&child, below)) = path.split_first() else {
        return if signal == Signal::Metrics {
            count_points(message)
        } else {
            Ok(1)
        };
    };
    let mut items = 0;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == child {
            items += count_below(signal, field.bytes()?, below)?;
        } else if path.len() < TO_ITEM.len() && (field.number == 1 || field.number == 3) {
            // The resource or scope, and the schema's URL: what is there must at least be bytes.
            field.bytes()?;
        }
    }
    Ok(items)
}

fn count_points(metric: &[u8]) -> Result<u64, Malformed> {
    let (mut points, mut kind) = (0, 0);
    for field in Fields::of(metric) {
        let field = field?;
        if !METRIC_DATA.contains(&field.number) {
            continue;
        }
        // Protocol Buffers, "Oneof": of several alternatives on the wire the last one counts; one that comes twice is merged.
        if kind != field.number {
            (points, kind) = (0, field.number);
        }
        for inner in Fields::of(field.bytes()?) {
            let inner = inner?;
            if inner.number == DATA_POINTS {
                inner.bytes()?;
                points += 1;
            }
        }
    }
    Ok(points)
}
