//! `traceparent` and `tracestate`, read strictly (W3C Trace Context Level 2).

use opentelemetry::trace::{SpanContext, TraceState};
use opentelemetry::{SpanId, TraceFlags, TraceId};

use super::xray::hex_value;

/// Longer values are not read. A `traceparent` of version 00 has 55 bytes; later versions may
/// append to it. Chosen, because nothing sensible is near it.
const TRACEPARENT_BYTES_MAX: usize = 512;
/// Length of the four fields that every version starts with.
const TRACEPARENT_BYTES: usize = 55;
/// Trace Context Level 2, "tracestate Limits": at most 32 list-members.
const MEMBERS_MAX: usize = 32;
/// Level 2, flag "random-trace-id": passed on as it came.
const RANDOM: u8 = 0x02;
const SAMPLED: u8 = 0x01;

/// The fields of a valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) flags: TraceFlags,
}

impl Traceparent {
    /// Reads a `traceparent`; `None` when it is not exactly as the specification says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim_matches([' ', '\t']).as_bytes();
        if bytes.len() < TRACEPARENT_BYTES
            || bytes.len() > TRACEPARENT_BYTES_MAX
            || !bytes.is_ascii()
        {
            return None;
        }
        if bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = lower_hex(&bytes[..2])? as u8;
        let length_fits = match version {
            0xff => false, // "Version": ff is invalid
            0 => bytes.len() == TRACEPARENT_BYTES,
            // "Versioning of traceparent": what follows the known fields starts with a dash.
            _ => bytes.len() == TRACEPARENT_BYTES || bytes[TRACEPARENT_BYTES] == b'-',
        };
        let trace_id = lower_hex(&bytes[3..35])?;
        let span_id = lower_hex(&bytes[36..52])? as u64;
        let flags = lower_hex(&bytes[53..55])? as u8;
        if !length_fits || trace_id == 0 || span_id == 0 {
            return None;
        }
        // A version we do not know may have given the other bits another meaning.
        let known = if version == 0 {
            SAMPLED | RANDOM
        } else {
            SAMPLED
        };
        Some(Self {
            trace_id: TraceId::from(trace_id),
            span_id: SpanId::from(span_id),
            flags: TraceFlags::new(flags & known),
        })
    }

    /// The remote span context, and the whole `tracestate` text in the case that the SDK's type
    /// cannot hold it.
    pub(crate) fn into_span_context(
        self,
        tracestate: Option<&str>,
    ) -> (SpanContext, Option<String>) {
        let members = tracestate.and_then(members).unwrap_or_default();
        let (state, carried) = match TraceState::from_key_value(members.iter().copied()) {
            Ok(state) => (state, None),
            // The SDK knows the key grammar of Level 1 only (one `@`, 14 characters after it).
            Err(_) => {
                let text = members.iter().map(|(key, value)| format!("{key}={value}"));
                let text = text.collect::<Vec<_>>().join(",");
                let held = members
                    .iter()
                    .filter(|(key, value)| TraceState::from_key_value([(key, value)]).is_ok());
                (
                    TraceState::from_key_value(held.copied()).unwrap_or_default(),
                    Some(text),
                )
            }
        };
        (
            SpanContext::new(self.trace_id, self.span_id, self.flags, true, state),
            carried,
        )
    }
}

/// Writes a `traceparent` of version 00, the random flag included (the SDK's propagator clears it).
#[cfg(any(test, feature = "producer"))]
pub(crate) fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8() & (SAMPLED | RANDOM);
    format!(
        "00-{}-{}-{flags:02x}",
        context.trace_id(),
        context.span_id()
    )
}

/// The members of a valid `tracestate`. One bad member makes the whole of it invalid, as more than
/// 32 do; it is then dropped and the `traceparent` kept.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut members = Vec::new();
    for member in text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
    {
        if member.is_empty() {
            continue; // "list": empty members are allowed
        }
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push((key, value));
    }
    Some(members)
}

/// The `tracestate` as it is written out: `None` when empty or invalid.
#[cfg(any(test, feature = "producer"))]
pub(crate) fn normalised_tracestate(text: &str) -> Option<String> {
    let members = members(text)?;
    let text = members.iter().map(|(key, value)| format!("{key}={value}"));
    Some(text.collect::<Vec<_>>().join(",")).filter(|text| !text.is_empty())
}

/// Level 2 of June 2026, "key": `@` may stand anywhere but first. (Level 1 allowed one of them.)
fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && bytes.next().is_some_and(alphanumeric)
        && bytes.all(|byte| alphanumeric(byte) || b"_-*/@".contains(&byte))
}

/// "value": 1 to 256 printable ASCII characters without `,` and `=`, the last of them no space.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && !value.ends_with(' ')
        && value
            .bytes()
            .all(|byte| (0x20..=0x7e).contains(&byte) && byte != b',' && byte != b'=')
}

/// The number that lower-case hexadecimal digits write, at most 32 of them.
fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let value = hex_value(*digit).filter(|_| !digit.is_ascii_uppercase())?;
        Some(number << 4 | u128::from(value))
    })
}
