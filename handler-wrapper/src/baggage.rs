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

/// Writes a `baggage` value, its members in the order of their names; `None` when there is nothing
/// to write. Members that would cross the limits are left out.
#[cfg(any(test, feature = "producer"))]
pub(crate) fn write(baggage: &Baggage) -> Option<String> {
    let mut members: Vec<String> = baggage
        .iter()
        .filter(|(key, _)| is_token(key.as_str()))
        .map(|(key, (value, metadata))| {
            let properties = properties(metadata.as_str());
            format!("{key}={}{properties}", encode(value.as_str()))
        })
        .collect();
    members.sort_unstable();
    let mut text = String::new();
    for member in members.into_iter().take(MEMBERS_MAX) {
        let comma = usize::from(!text.is_empty());
        if text.len() + comma + member.len() <= BYTES_MAX {
            text.extend((comma == 1).then_some(','));
            text.push_str(&member);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Properties as they came; left out if they could be taken for another member or break the line.
#[cfg(any(test, feature = "producer"))]
fn properties(metadata: &str) -> String {
    let metadata = metadata.trim_ascii();
    let is_safe = |byte: u8| is_octet(byte) || b"; \t".contains(&byte);
    if metadata.is_empty() || !metadata.bytes().all(is_safe) {
        return String::new();
    }
    format!(";{metadata}")
}

/// Percent-encodes what may not stand in a value, and `%` itself.
#[cfg(any(test, feature = "producer"))]
fn encode(value: &str) -> String {
    use std::fmt::Write as _;
    value
        .bytes()
        .fold(String::with_capacity(value.len()), |mut text, byte| {
            if is_octet(byte) && byte != b'%' {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}"); // writing to a string cannot fail
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use proptest::prelude::*;

    use super::*;

    fn value_of(text: &str, key: &str) -> Option<String> {
        parse(text).get(key).map(|value| value.as_str().to_owned())
    }

    #[test]
    fn values_that_the_sdk_reads_differently() {
        assert_eq!(value_of("k=a=b", "k").as_deref(), Some("a=b"));
        assert_eq!(value_of("k=%ff", "k").as_deref(), Some("\u{fffd}"));
        assert_eq!(value_of("k=100%25", "k").as_deref(), Some("100%"));
        assert_eq!(value_of("k=%4", "k").as_deref(), Some("%4"));
        assert_eq!(value_of(" k = v ; p = 1 ,x=y", "k").as_deref(), Some("v"));
        assert_eq!(value_of("k=", "k").as_deref(), Some(""));
    }

    #[test]
    fn bad_members_do_not_take_good_ones_with_them() {
        let baggage = parse("a b=1,=2,c,\u{e9}=1,d=\"x\",good=1");
        assert_eq!(baggage.len(), 1);
        assert_eq!(baggage.get("good").unwrap().as_str(), "1");
    }

    #[test]
    fn what_is_over_8192_bytes_is_dropped_and_what_is_at_it_kept() {
        let at = format!("a={},b=2", "x".repeat(BYTES_MAX - 6));
        assert_eq!(at.len(), BYTES_MAX);
        assert_eq!(value_of(&at, "b").as_deref(), Some("2"));
        let over = format!("a={},b=2", "x".repeat(BYTES_MAX - 5));
        assert_eq!(value_of(&over, "b"), None);
        assert_eq!(parse(&over).len(), 1);
    }

    #[test]
    fn the_64th_member_is_kept_and_the_65th_is_not() {
        let text = (0..65)
            .map(|n| format!("k{n:02}=1"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(parse(&text).len(), 64);
        assert!(parse(&text).get("k64").is_none());
    }

    #[test]
    fn the_writer_keeps_within_the_limit_where_encoding_makes_values_longer() {
        let baggage: Baggage = (0..64)
            .map(|n| KeyValue::new(format!("k{n}"), "\u{e9}".repeat(60)))
            .collect();
        let text = write(&baggage).unwrap();
        assert!(
            text.len() <= BYTES_MAX && text.len() > BYTES_MAX - 400,
            "{}",
            text.len()
        );
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        assert_eq!(write(&Baggage::new()), None);
    }

    #[test]
    fn properties_that_would_become_members_are_left_out() {
        let mut baggage = Baggage::new();
        baggage.insert_with_metadata("a", "1", "p=1;q");
        baggage.insert_with_metadata("b", "2", "p,evil=1");
        assert_eq!(write(&baggage).unwrap(), "a=1;p=1;q,b=2");
    }

    proptest! {
        #[test]
        fn any_text_parses(text in any::<String>()) {
            parse(&text);
        }

        #[test]
        fn what_is_written_is_read_again(members in prop::collection::btree_map("[a-z0-9_-]{1,8}", any::<String>(), 0..6)) {
            let baggage: Baggage = members.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
            let text = write(&baggage).unwrap_or_default();
            prop_assume!(text.len() < BYTES_MAX - 1000);
            let read = parse(&text);
            // White space around a value is not part of it; ours is encoded, so it stays.
            for (key, value) in &members {
                prop_assert_eq!(read.get(key).map(|value| value.as_str().to_owned()), Some(value.clone()));
            }
            prop_assert_eq!(read.len(), members.len());
        }
    }
}
