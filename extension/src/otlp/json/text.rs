//! What OTLP/JSON writes as text: ids, bytes and 64-bit numbers.

use super::Number;
use super::schema::Kind;

/// Reads hexadecimal digits of either case.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

/// Reads base64 in the standard or the URL-safe alphabet, padded or not (ProtoJSON accepts all of them).
///
/// `None` when another character is in it, or a length that no bytes have.
#[must_use]
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // A single digit left over holds no byte.
    (held < 6).then_some(out)
}

/// Reads a number that was written as a string, or the name of an enumeration's value.
pub(super) fn number(text: &str, kind: Kind) -> Option<Number> {
    match kind {
        Kind::Enum(names) => {
            let named = names.iter().position(|name| *name == text);
            let number = named
                .and_then(|at| i128::try_from(at).ok())
                .or_else(|| text.parse().ok());
            number.map(Number::Whole)
        }
        Kind::Double => match text {
            "NaN" => Some(Number::Real(f64::NAN)),
            "Infinity" => Some(Number::Real(f64::INFINITY)),
            "-Infinity" => Some(Number::Real(f64::NEG_INFINITY)),
            // Rust reads words such as `inf` as well, JSON does not.
            _ if text.bytes().any(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().map(Number::Real)
            }
            _ => None,
        },
        _ if kind.is_number() && !matches!(kind, Kind::Bool) => {
            text.parse().ok().map(Number::Whole)
        }
        _ => None,
    }
}
