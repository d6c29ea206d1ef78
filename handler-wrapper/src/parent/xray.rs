//! The X-Ray trace header: strict about ids, tolerant about everything around them.

use opentelemetry::trace::{SpanContext, TraceState};
use opentelemetry::{SpanId, TraceFlags, TraceId};

/// Longer headers are not read. X-Ray's own have about 100 bytes, with a lineage 256 at most.
const HEADER_BYTES_MAX: usize = 1_024;

/// What a header says about sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    Yes,
    No,
    /// `?`, missing, or a value that X-Ray does not define: the decision is left to the reader.
    Deferred,
}

/// The fields of a valid header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceHeader {
    pub(crate) trace_id: TraceId,
    pub(crate) parent: SpanId,
    pub(crate) sampled: Sampled,
    /// Written by our own producer (`Tl=1`), so that `Sampled=0` is a decision.
    pub(crate) ours: bool,
}

impl TraceHeader {
    /// Reads a header; `None` when it names no parent span, as the headers of load balancers do.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let (mut root, mut parent, mut sampled, mut ours) = (None, None, None, false);
        for (key, value) in fields(header) {
            let slot = if key.eq_ignore_ascii_case("Root") {
                &mut root
            } else if key.eq_ignore_ascii_case("Parent") {
                &mut parent
            } else if key.eq_ignore_ascii_case("Sampled") {
                &mut sampled
            } else {
                ours |= key.eq_ignore_ascii_case("Tl") && value == "1";
                continue; // Self, Lineage and whatever else: not ours to copy
            };
            if slot.replace(value).is_some_and(|before| before != value) {
                return None; // two that contradict each other: neither can be believed
            }
        }
        Some(Self {
            trace_id: trace_id(root?)?,
            parent: span_id(parent?)?,
            sampled: match sampled {
                Some("1") => Sampled::Yes,
                Some("0") => Sampled::No,
                _ => Sampled::Deferred,
            },
            ours,
        })
    }

    pub(crate) fn into_span_context(self) -> SpanContext {
        let flags = if self.sampled == Sampled::Yes {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        };
        SpanContext::new(self.trace_id, self.parent, flags, true, TraceState::NONE)
    }
}

/// The `Lineage` of a header, as it stands there. Lambda counts the hops of recursive loops in it.
#[cfg(feature = "producer")]
pub(crate) fn lineage(header: &str) -> Option<&str> {
    fields(header)
        .find(|(key, _)| key.eq_ignore_ascii_case("Lineage"))
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// Writes `Root`, `Parent` and `Sampled` for a span context.
#[cfg(feature = "producer")]
pub(crate) fn header(context: &SpanContext) -> String {
    let id = context.trace_id().to_string();
    let sampled = u8::from(context.is_sampled());
    format!(
        "Root=1-{}-{};Parent={};Sampled={sampled}",
        &id[..8],
        &id[8..],
        context.span_id()
    )
}

/// The `key=value` tokens between semicolons; others are skipped.
fn fields(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|token| {
        let (key, value) = token.split_once('=')?;
        Some((key.trim_ascii(), value.trim_ascii()))
    })
}

/// `1-{epoch}-{24 digits}`. The epoch may have lost its leading zeros on the way.
fn trace_id(root: &str) -> Option<TraceId> {
    let (epoch, random) = root.strip_prefix("1-")?.split_once('-')?;
    if !(1..=8).contains(&epoch.len()) || random.len() != 24 {
        return None;
    }
    let id = hex(epoch)? << 96 | hex(random)?;
    (id != 0).then(|| TraceId::from(id))
}

fn span_id(parent: &str) -> Option<SpanId> {
    let id = hex(parent).filter(|_| parent.len() == 16)?;
    (id != 0).then(|| SpanId::from(id as u64))
}

/// At most 32 digits, of either case.
fn hex(digits: &str) -> Option<u128> {
    digits.bytes().try_fold(0u128, |number, digit| {
        Some(number << 4 | u128::from(hex_value(digit)?))
    })
}

/// The value of one hexadecimal digit. (The standard parsers also take signs.)
pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
