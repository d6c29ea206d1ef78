//! OTLP/JSON to protobuf, in one pass and without a tree in between.
//!
//! The rules are OTLP's "JSON Protobuf Encoding": ids in hexadecimal, other bytes in base64, 64-bit numbers as strings
//! or numbers, enumerations as numbers, unknown fields skipped.
//! More is read than must be: names of enumerations, `null` for an absent field, and text with half a surrogate pair,
//! as JavaScript cuts it, which becomes U+FFFD instead of losing the whole request.

mod schema;
mod text;

use std::fmt;

use self::schema::{Field, Kind, Message};
pub use self::text::base64;
use super::Signal;
use super::wire::{put_bytes, put_header, put_varint};

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

mod de {
    //! The serde half: which JSON goes where.

    use serde::de::{
        DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
    };

    use super::*;

    impl<'de> DeserializeSeed<'de> for Key {
        type Value = Option<&'static Field>;

        fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
            json.deserialize_str(self)
        }
    }

    impl Visitor<'_> for Key {
        type Value = Option<&'static Field>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a field's name")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
            Ok(self.0.0.iter().find(|field| field.name == name))
        }
    }

    impl<'de> DeserializeSeed<'de> for Body<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
            json.deserialize_map(self)
        }
    }

    impl<'de> Visitor<'de> for Body<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
            while let Some(field) = fields.next_key_seed(Key(self.message))? {
                match field {
                    Some(field) => fields.next_value_seed(Slot::of(field, self.out))?,
                    None => drop(fields.next_value::<IgnoredAny>()?),
                }
            }
            Ok(())
        }
    }

    impl<'de> DeserializeSeed<'de> for Slot<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
            if matches!(self.field.kind, Kind::String) && self.element == self.field.repeated {
                // Text is asked for as bytes, which serde_json hands over even when it is no Unicode;
                // the detour by an option lets `null` through.
                json.deserialize_option(self)
            } else {
                json.deserialize_any(self)
            }
        }
    }

    impl<'de> Visitor<'de> for Slot<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Field {
                name,
                kind,
                repeated,
                ..
            } = self.field;
            let kind = kind.name();
            if *repeated && !self.element {
                write!(f, "an array of {kind} in {name}")
            } else {
                write!(f, "{kind} in {name}")
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
            let Kind::Message(message) = self.field.kind else {
                return Err(self.unexpected("an object"));
            };
            if self.field.repeated && !self.element {
                return Err(self.unexpected("an object instead of an array"));
            }
            let number = self.field.number;
            nested(self.out, number, |out| {
                Body { message, out }.visit_map(fields)
            })
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
            let Self {
                field,
                out,
                element,
                ..
            } = self;
            if element || !field.repeated {
                return Err(A::Error::custom(format_args!(
                    "no array belongs into {}",
                    field.name
                )));
            }
            let packed = field.kind.is_number();
            let mut each = |out: &mut Vec<u8>| {
                while elements
                    .next_element_seed(Slot {
                        field,
                        out,
                        element: true,
                        packed,
                    })?
                    .is_some()
                {}
                Ok(())
            };
            if packed {
                nested(out, field.number, each)
            } else {
                each(out)
            }
        }

        fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
            json.deserialize_bytes(self)
        }

        fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
            let text = String::from_utf8_lossy(text);
            put_bytes(self.out, self.field.number, text.as_bytes());
            Ok(())
        }

        fn visit_none<E: Error>(self) -> Result<(), E> {
            self.visit_unit()
        }

        fn visit_unit<E: Error>(self) -> Result<(), E> {
            // An absent field; in an array an empty value keeps the others in their places.
            if self.element && !self.packed {
                put_header(self.out, self.field.number, 0);
            }
            Ok(())
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
            if !matches!(self.field.kind, Kind::Bool) {
                return Err(self.unexpected("a boolean"));
            }
            self.put_number(u64::from(value)).map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
            self.number(Number::Whole(value.into()))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
            self.number(Number::Whole(value.into()))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
            self.number(Number::Real(value))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
            match self.field.kind {
                Kind::Id(bytes) => {
                    let id = text::hex(value).filter(|id| id.is_empty() || id.len() == bytes);
                    let id = id.ok_or_else(|| self.unexpected("another text"))?;
                    put_bytes(self.out, self.field.number, &id);
                    Ok(())
                }
                Kind::Bytes => {
                    let bytes = base64(value).ok_or_else(|| self.unexpected("other text"))?;
                    put_bytes(self.out, self.field.number, &bytes);
                    Ok(())
                }
                _ => {
                    let number = text::number(value, self.field.kind);
                    let number = number.ok_or_else(|| self.unexpected("other text"))?;
                    self.number(number)
                }
            }
        }
    }

    impl Slot<'_> {
        fn unexpected<E: Error>(&self, came: &str) -> E {
            let Field { name, kind, .. } = self.field;
            E::custom(format_args!("{came} in {name}, expected {}", kind.name()))
        }

        fn number<E: Error>(self, number: Number) -> Result<(), E> {
            let bits = number.bits(self.field.kind);
            let bits = bits.ok_or_else(|| self.unexpected::<E>("an unfit number"))?;
            self.put_number(bits).map_err(E::custom)
        }
    }
}

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
