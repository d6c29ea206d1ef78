//! The smallest pieces of an event: texts, lists and maps that tolerate what is not there.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use aws_lambda_events::encodings::Base64Data;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value where a text is expected.
#[derive(Debug, PartialEq)]
pub(super) enum Leaf {
    Text(String),
    /// A number or a boolean, as it is written.
    Scalar(String),
    /// `null`, a list or an object.
    Odd,
}

impl Leaf {
    /// The text, also of a number or boolean.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Scalar(text) => Some(text),
            Self::Odd => None,
        }
    }
}

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor)
    }
}

struct LeafVisitor;

impl<'de> Visitor<'de> for LeafVisitor {
    type Value = Leaf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
        Ok(Leaf::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Leaf, E> {
        Ok(Leaf::Text(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Leaf, E> {
        Ok(Leaf::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Leaf, E> {
        Ok(Leaf::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Leaf, E> {
        Ok(Leaf::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Leaf, E> {
        Ok(Leaf::Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Leaf, E> {
        Ok(Leaf::Odd)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Leaf, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Leaf::Odd)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Odd)
    }
}

/// A value that may turn out to be nothing usable.
pub(super) trait Lenient: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error>;
}

impl Lenient for String {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Leaf::deserialize(deserializer).map(Leaf::into_text)
    }
}

/// Padding is optional here: published sample events leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Lenient for Base64Data {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let Leaf::Text(text) = Leaf::deserialize(deserializer)? else {
            return Ok(None);
        };
        Ok(BASE64.decode(text).ok().map(|bytes| {
            let mut data = Self::default();
            *data = bytes;
            data
        }))
    }
}

/// One value of a list or map, read leniently.
pub(super) struct Item<T>(pub(super) Option<T>);

impl<'de, T: Lenient> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Item)
    }
}

/// A JSON object; anything else is an empty one, and values that cannot be read are left out.
pub(super) struct Map<T>(pub(super) HashMap<String, T>);

impl<'de, T: Lenient> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(CollectVisitor(PhantomData))
            .map(|collected: Collected<T>| match collected {
                Collected::Map(map) => Map(map),
                Collected::List(_) => Map(HashMap::new()),
            })
    }
}

/// A JSON list; anything else is an empty one, and elements that cannot be read are left out.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Lenient> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(CollectVisitor(PhantomData))
            .map(|collected: Collected<T>| match collected {
                Collected::List(list) => List(list),
                Collected::Map(_) => List(Vec::new()),
            })
    }
}

enum Collected<T> {
    List(Vec<T>),
    Map(HashMap<String, T>),
}

struct CollectVisitor<T>(PhantomData<T>);

impl<T> CollectVisitor<T> {
    fn nothing<E>() -> Result<Collected<T>, E> {
        Ok(Collected::List(Vec::new()))
    }
}

impl<'de, T: Lenient> Visitor<'de> for CollectVisitor<T> {
    type Value = Collected<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Item(item)) = seq.next_element()? {
            list.extend(item);
        }
        Ok(Collected::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = HashMap::with_capacity(entries.size_hint().unwrap_or(0));
        while let Some((key, Item(value))) = entries.next_entry::<String, Item<T>>()? {
            if let Some(value) = value {
                map.insert(key, value);
            }
        }
        Ok(Collected::Map(map))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Self::nothing()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Self::nothing()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Self::nothing()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Self::nothing()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Self::nothing()
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Self::nothing()
    }
}
