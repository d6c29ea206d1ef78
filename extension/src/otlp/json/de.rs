//! The serde half: which JSON goes where.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{Field, Kind};
use super::text::{self, base64};
use super::{Body, Key, Number, Slot, nested};
use crate::otlp::wire::{put_bytes, put_header};

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
