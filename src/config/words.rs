//! Values that may be written in more than one way, and how they stand in a written file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A text or a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loose(pub(super) String);

/// One [`Loose`] value or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<String>);

/// The same, but a list of one is written as that one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OneOrList(pub(super) Vec<String>);

impl Serialize for Loose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What reads as a number was one, or might as well have been; `0022` is none.
        match self.0.parse::<i64>() {
            Ok(number) if number.to_string() == self.0 => serializer.serialize_i64(number),
            Ok(_) | Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|word| Loose(word.clone())))
    }
}

impl Serialize for OneOrList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => Loose(one.clone()).serialize(serializer),
            list => List(list.to_vec()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = deserializer.deserialize_any(Words { many: false })?;
        Ok(Self(words.into_iter().next().unwrap_or_default()))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words { many: true }).map(Self)
    }
}

impl<'de> Deserialize<'de> for OneOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words { many: true }).map(Self)
    }
}

struct Words {
    many: bool,
}

impl<'de> Visitor<'de> for Words {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.many {
            "a string, a number, or an array of those"
        } else {
            "a string or a number"
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_u64<E>(self, number: u64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_i64<E>(self, number: i64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
        if !self.many {
            return Err(serde::de::Error::invalid_type(
                serde::de::Unexpected::Seq,
                &self,
            ));
        }
        let mut words = Vec::new();
        while let Some(Loose(word)) = sequence.next_element()? {
            words.push(word);
        }
        Ok(words)
    }
}
