//! JSON objects from strangers: in their order, and without a key that comes twice.
//!
//! A map would silently keep one of two equal keys, and which one differs between programs. [`Json`] is for rows of
//! data, whose tools are written into prompts in the order in which they stand: of two equal keys the last counts.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Any JSON, objects in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// An object.
    Object(Fields),
}

/// The pairs of an object.
pub type Fields = Vec<(String, Json)>;

impl Json {
    /// What kind of thing it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Whether it says nothing: null, or a list or an object of nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Array(items) => items.is_empty(),
            Self::Object(fields) => fields.is_empty(),
            _ => false,
        }
    }
}

impl From<&Json> for serde_json::Value {
    /// Objects keep their order; of two equal keys the last counts.
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(yes) => Self::Bool(*yes),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::String(text.clone()),
            Json::Array(items) => items.iter().map(Self::from).collect(),
            Json::Object(fields) => {
                let pairs = fields.iter();
                pairs
                    .map(|(key, item)| (key.clone(), Self::from(item)))
                    .collect()
            }
        }
    }
}

/// The last field of a name, unless it is null: null means absent.
pub fn field<'j>(fields: &'j Fields, name: &str) -> Option<&'j Json> {
    let found = fields.iter().rev().find(|(key, _)| key == name);
    found
        .map(|(_, json)| json)
        .filter(|json| **json != Json::Null)
}

/// Takes the last field of a name out.
pub fn take(fields: &mut Fields, name: &str) -> Option<Json> {
    let at = fields.iter().rposition(|(key, _)| key == name)?;
    Some(fields.remove(at).1)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Json, E> {
        Ok(Json::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element()? {
            out.push(item);
        }
        Ok(Json::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(pair) = map.next_entry()? {
            out.push(pair);
        }
        Ok(Json::Object(out))
    }
}

/// The pairs of an object in their order, except those whose key `skip` names.
pub fn pairs<'de, D, V>(
    deserializer: D,
    skip: fn(&str) -> bool,
) -> Result<Vec<(String, V)>, D::Error>
where
    D: serde::Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Pairs<V>(fn(&str) -> bool, PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
        type Value = Vec<(String, V)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = BTreeSet::new();
            let mut out = Vec::new();
            while let Some(key) = map.next_key::<String>()? {
                if (self.0)(&key) {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                if !seen.insert(key.clone()) {
                    return Err(A::Error::custom(format!("{key:?} is listed twice")));
                }
                out.push((key, map.next_value()?));
            }
            Ok(out)
        }
    }
    deserializer.deserialize_map(Pairs(skip, PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, u32)>, serde_json::Error> {
        pairs(&mut serde_json::Deserializer::from_str(text), |key| {
            key == "skip"
        })
    }

    #[test]
    fn order_is_kept_and_a_key_that_comes_twice_is_an_error() {
        let kept = read(r#"{"b": 1, "skip": {"any": []}, "a": 2}"#).unwrap();
        assert_eq!(kept, [("b".into(), 1), ("a".into(), 2)]);
        let error = read(r#"{"b": 1, "a": 2, "b": 1}"#).unwrap_err().to_string();
        assert!(error.contains("\"b\" is listed twice"), "{error}");
    }
}
