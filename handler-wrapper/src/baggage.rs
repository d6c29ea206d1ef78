//! W3C Baggage, read and written within its limits.
//!
//! Our own reader and writer, because the SDK's propagator does not escape `%`, cuts values at a
//! second `=`, drops entries that are not UTF-8, writes members in random order and does not look
//! at the size of what it writes.

use opentelemetry::baggage::{Baggage, BaggageMetadata};

/// W3C Baggage, "Limits": at least this many bytes must be passed on; more is not read or written.
const BYTES_MAX: usize = 8_192;
/// "Limits": 64 members.
const MEMBERS_MAX: usize = 64;

/// Reads a `baggage` value. Members that are not valid are skipped, what is over the limits is dropped.
pub(crate) fn parse(text: &str) -> Baggage {
    let mut baggage = Baggage::new();
    let mut bytes = 0;
    for member in text.split(',').take(MEMBERS_MAX * 4) {
        bytes += member.len() + 1;
        // The limit is on the whole text; the comma after the last member does not count.
        if bytes > BYTES_MAX + 1 {
            break;
        }
        if let Some((key, value, properties)) = member_of(member) {
            baggage.insert_with_metadata(key.to_owned(), value, BaggageMetadata::from(properties));
        }
    }
    baggage
}

/// `key = value *( ; property )`, optional white space around each.
fn member_of(member: &str) -> Option<(&str, String, &str)> {
    let (pair, properties) = member.split_once(';').unwrap_or((member, ""));
    let (key, value) = pair.split_once('=')?;
    let (key, value) = (key.trim_ascii(), value.trim_ascii());
    (is_token(key) && value.bytes().all(is_octet))
        .then(|| (key, decode(value), properties.trim_ascii()))
}

/// RFC 9110, "Tokens".
fn is_token(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// "baggage-octet": printable ASCII without space, `"`, `,`, `;` and `\`.
fn is_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

/// Percent-decoding; what is not UTF-8 becomes U+FFFD, and a `%` without two digits stays as it is.
fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A copy: the SDK's type has no `Clone`.
pub(crate) fn copy(baggage: &Baggage) -> Baggage {
    baggage
        .iter()
        .map(|(key, (value, metadata))| (key.clone(), (value.clone(), metadata.clone())))
        .collect()
}
