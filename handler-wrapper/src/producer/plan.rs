//! Decides which of our attributes a message gets, within the limits of SQS and SNS. Pure.
//!
//! Nothing that the caller wrote is ever moved, replaced or counted away: ours take what is left,
//! and what finds no place goes into the X-Ray header, which costs neither a slot nor a byte.

use super::XrayHeader;

/// SQS, "Message metadata": ten attributes a message, those of the caller included. SNS takes more
/// but discards such a message for queues with raw delivery (SNS, "Message attributes"), which a
/// publisher cannot see.
pub(crate) const ATTRIBUTES_MAX: usize = 10;
/// SQS, "Message quotas": 1 MiB a message, and the same for the sum of a batch call.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1_048_576;
/// Our attributes are plain text.
pub(crate) const DATA_TYPE: &str = "String";

/// The attributes that carry a context, in the order in which they get a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Traceparent,
    Tracestate,
    Baggage,
}

impl Field {
    pub(crate) const ALL: [Self; 3] = [Self::Traceparent, Self::Tracestate, Self::Baggage];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traceparent => "traceparent",
            Self::Tracestate => "tracestate",
            Self::Baggage => "baggage",
        }
    }

    /// What SQS counts for this attribute: its name, its type, its value.
    pub(crate) const fn bytes(self, value: &str) -> usize {
        self.name().len() + DATA_TYPE.len() + value.len()
    }
}

/// A set of [`Field`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields([bool; 3]);

impl Fields {
    pub(crate) const fn has(self, field: Field) -> bool {
        self.0[field as usize]
    }

    pub(crate) const fn set(&mut self, field: Field, to: bool) {
        self.0[field as usize] = to;
    }
}

/// What is known of one message before anything is added to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The caller's attributes, by number.
    pub(crate) attributes: usize,
    /// The caller's body and attributes, as SQS counts them.
    pub(crate) bytes: usize,
    /// Which of our names the caller has used, in any case.
    pub(crate) taken: Fields,
    /// What each field would add; 0 where there is nothing to write (both refuse empty values).
    pub(crate) offered: [usize; 3],
    /// The caller's own valid `traceparent` is the creation context: theirs stays alone.
    pub(crate) callers_own: bool,
    /// The caller has set `AWSTraceHeader`.
    pub(crate) xray_taken: bool,
}

/// What one message gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) fields: Fields,
    /// Write the context into the system attribute `AWSTraceHeader`.
    pub(crate) xray: bool,
    /// `traceparent` found no place.
    pub(crate) overflows: bool,
}

/// The bounds of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of one message. A queue may allow less than SQS does, which its client cannot see.
    pub(crate) message_bytes: usize,
    /// Of all messages of the call together.
    pub(crate) call_bytes: usize,
    pub(crate) xray: XrayHeader,
}

/// Plans one call: a single message or the entries of a batch.
pub(crate) fn plan(entries: &[Entry], limits: &Limits) -> Vec<Plan> {
    let mut fields: Vec<Fields> = entries
        .iter()
        .map(|entry| entry.fit(limits.message_bytes))
        .collect();
    fit_call(entries, &mut fields, limits.call_bytes);
    entries
        .iter()
        .zip(fields)
        .map(|(entry, fields)| entry.plan(fields, limits.xray))
        .collect()
}

/// Takes fields away until the whole call fits: baggage from every entry, then tracestate from
/// every entry, then traceparent from the last entries. So what is lost first is what a trace
/// needs least, and entries of one call are treated alike for as long as possible.
fn fit_call(entries: &[Entry], fields: &mut [Fields], bytes_max: usize) {
    let total = |fields: &[Fields]| -> usize {
        entries
            .iter()
            .zip(fields)
            .map(|(entry, fields)| entry.bytes + entry.added(*fields))
            .sum()
    };
    for field in [Field::Baggage, Field::Tracestate] {
        if total(fields) <= bytes_max {
            return;
        }
        fields
            .iter_mut()
            .for_each(|fields| fields.set(field, false));
    }
    for last in (0..fields.len()).rev() {
        if total(fields) <= bytes_max {
            return;
        }
        fields[last].set(Field::Traceparent, false);
    }
}

// === impl Entry ===

impl Entry {
    /// What fits into this message's free slots and bytes.
    fn fit(&self, bytes_max: usize) -> Fields {
        let mut fields = Fields::default();
        if self.callers_own {
            return fields;
        }
        let mut free = ATTRIBUTES_MAX.saturating_sub(self.attributes);
        for field in Field::ALL {
            let offered = self.offered[field as usize] > 0 && !self.taken.has(field);
            // A tracestate belongs to its traceparent (W3C, "tracestate Header").
            let alone = field == Field::Tracestate && !fields.has(Field::Traceparent);
            if offered && !alone && free > 0 {
                fields.set(field, true);
                free -= 1;
            }
        }
        for field in [Field::Baggage, Field::Tracestate, Field::Traceparent] {
            if self.bytes + self.added(fields) <= bytes_max {
                break;
            }
            fields.set(field, false);
        }
        fields
    }

    fn added(&self, fields: Fields) -> usize {
        Field::ALL
            .into_iter()
            .filter(|field| fields.has(*field))
            .map(|field| self.offered[field as usize])
            .sum()
    }

    fn plan(&self, fields: Fields, policy: XrayHeader) -> Plan {
        let overflows = !fields.has(Field::Traceparent) && !self.callers_own;
        let asked = match policy {
            XrayHeader::Overflow => overflows,
            XrayHeader::Always => true,
            XrayHeader::Never => false,
        };
        Plan {
            fields,
            xray: asked && !self.xray_taken,
            overflows,
        }
    }
}

#[cfg(test)]
mod tests;
