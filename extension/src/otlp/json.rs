//! OTLP/JSON to protobuf, in one pass and without a tree in between.
//!
//! The rules are OTLP's "JSON Protobuf Encoding": ids in hexadecimal, other bytes in base64, 64-bit numbers as strings
//! or numbers, enumerations as numbers, unknown fields skipped.
//! More is read than must be: names of enumerations, `null` for an absent field, and text with half a surrogate pair,
//! as JavaScript cuts it, which becomes U+FFFD instead of losing the whole request.

mod de;
mod schema;
mod text;

use std::fmt;

use self::schema::{Field, Kind, Message};
pub use self::text::base64;
use super::Signal;
use super::wire::{put_header, put_varint};

/// A body is no OTLP/JSON of this signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(String);

/// Writes an OTLP/JSON export request as the protobuf request it stands for.
///
/// The result is shorter than the JSON, but for arrays of small numbers, which may take four times the bytes.
///
/// # Errors
/// [`JsonError`] when it is no JSON, or a field holds another type than OTLP says; it names the field and the place.
pub fn json_to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let message = match signal {
        Signal::Traces => &schema::TRACES,
        Signal::Metrics => &schema::METRICS,
        Signal::Logs => &schema::LOGS,
    };
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut json = serde_json::Deserializer::from_slice(json);
    let read = serde::de::DeserializeSeed::deserialize(
        Body {
            message,
            out: &mut out,
        },
        &mut json,
    );
    read.and_then(|()| json.end())
        .map_err(|error| JsonError(error.to_string()))?;
    Ok(out)
}

// === impl JsonError ===

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonError {}

/// An object whose fields are appended.
struct Body<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

/// A field's value, appended with its tag.
struct Slot<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    /// Inside the array of a repeated field.
    element: bool,
    /// Inside a packed array, where numbers stand without tags.
    packed: bool,
}

/// An object's key.
struct Key(&'static Message);

/// A number as JSON has it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(i128),
    Real(f64),
}

// === impl Number ===

impl Number {
    /// The number's bits for the wire, when it fits the field.
    fn bits(self, kind: Kind) -> Option<u64> {
        if matches!(kind, Kind::Double) {
            return Some(match self {
                Self::Whole(value) => (value as f64).to_bits(),
                Self::Real(value) => value.to_bits(),
            });
        }
        let whole = match self {
            Self::Whole(value) => value,
            // JavaScript writes large whole numbers as 1.7e18.
            Self::Real(value) if value.fract() == 0.0 && value.abs() < 2e19 => value as i128,
            Self::Real(_) => return None,
        };
        match kind {
            Kind::Uint32 | Kind::Fixed32 => u32::try_from(whole).ok().map(u64::from),
            Kind::Uint64 | Kind::Fixed64 => u64::try_from(whole).ok(),
            Kind::Int64 | Kind::Sfixed64 => i64::try_from(whole).ok().map(|value| value as u64),
            Kind::Enum(_) => i32::try_from(whole)
                .ok()
                .map(|value| i64::from(value) as u64),
            Kind::Sint32 => {
                let value = i32::try_from(whole).ok()?;
                Some(u64::from(((value << 1) ^ (value >> 31)) as u32))
            }
            _ => None,
        }
    }
}

// === impl Slot ===

impl<'o> Slot<'o> {
    fn of(field: &'static Field, out: &'o mut Vec<u8>) -> Self {
        Self {
            field,
            out,
            element: false,
            packed: false,
        }
    }

    /// Appends a number in the field's wire type.
    fn put_number(self, bits: u64) -> Result<(), &'static str> {
        if self.field.repeated && !self.element {
            return Err("a number where an array belongs");
        }
        let wire_type = match self.field.kind {
            Kind::Fixed32 => 5,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
            _ => 0,
        };
        if !self.packed {
            put_varint(self.out, u64::from(self.field.number << 3 | wire_type));
        }
        match wire_type {
            0 => put_varint(self.out, bits),
            1 => self.out.extend_from_slice(&bits.to_le_bytes()),
            _ => self.out.extend_from_slice(&(bits as u32).to_le_bytes()),
        }
        Ok(())
    }
}

// === impl Kind ===

impl Kind {
    fn is_number(self) -> bool {
        !matches!(
            self,
            Self::Message(_) | Self::String | Self::Bytes | Self::Id(_)
        )
    }

    /// What a user would call it.
    fn name(self) -> &'static str {
        match self {
            Self::Message(_) => "an object",
            Self::String => "a string",
            Self::Bytes => "base64",
            Self::Id(16) => "32 hexadecimal digits",
            Self::Id(_) => "16 hexadecimal digits",
            Self::Bool => "a boolean",
            Self::Double => "a number",
            Self::Uint32 | Self::Fixed32 => "a whole number below 2^32",
            Self::Sint32 => "a whole number of 32 bits",
            Self::Uint64 | Self::Fixed64 => "a whole number from 0 of 64 bits",
            Self::Int64 | Self::Sfixed64 => "a whole number of 64 bits",
            Self::Enum(_) => "the number of an enumeration",
        }
    }
}

/// Appends a length-delimited field whose value `write` appends.
fn nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    write(out)?;
    // The length is known only now: the header is appended, then turned to the front.
    let end = out.len();
    put_header(out, number, end - start);
    out[start..].rotate_left(end - start);
    Ok(())
}

#[cfg(test)]
mod tests;
