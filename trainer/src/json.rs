//! JSON objects from strangers: in their order, and without a key that comes twice.
//!
//! A map would silently keep one of two equal keys, and which one differs between programs.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

/// The pairs of an object in their order, except those whose key `skip` names.
pub(crate) fn pairs<'de, D, V>(
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
