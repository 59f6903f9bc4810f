//! The fields of a request, taken one by one: null means absent, a wrong one is named, what is left over is refused.
//!
//! Not serde's structs: clients are told which field is wrong, and a field that nobody knows must not be passed over,
//! because it might have changed the answer.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tributary_engine::json::{Fields as Pairs, Json};
use tributary_protocol::hash::{self, Digest, Domain};

use super::Refusal;
use super::refusal::shown;

/// What a request's body is named by.
pub(crate) fn request_hash(body: &str) -> Digest {
    hash::digest(Domain::Repeat, body.as_bytes())
}

/// An object of a request.
#[derive(Debug)]
pub(super) struct Fields {
    pairs: Pairs,
    /// What stands before a field's name in messages: empty, or ends with a dot.
    within: String,
    /// The whole body; nothing within it.
    pub(super) body: Arc<str>,
    /// Its hash.
    pub(super) digest: Digest,
}

impl Fields {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let wrong = |why: String| {
            let status = axum::http::StatusCode::BAD_REQUEST;
            Refusal::new(
                status,
                "invalid_json",
                format!("the body is not the JSON of an object: {why}"),
            )
        };
        let body = std::str::from_utf8(body).map_err(|_| wrong("it is not UTF-8".into()))?;
        match serde_json::from_str(body).map_err(|e| wrong(e.to_string()))? {
            Json::Object(pairs) => Ok(Self {
                digest: request_hash(body),
                body: body.into(),
                ..Self::of(pairs, String::new())?
            }),
            other => Err(wrong(format!("it is {}", other.kind()))),
        }
    }

    /// An object within a request, at `path`.
    pub(super) fn within(value: Json, path: &str) -> Result<Self, Refusal> {
        match value {
            Json::Object(pairs) => Self::of(pairs, format!("{path}.")),
            other => Err(wrong_kind(path, "an object", &other)),
        }
    }

    fn of(mut pairs: Pairs, within: String) -> Result<Self, Refusal> {
        let mut seen = BTreeSet::new();
        for (name, _) in &pairs {
            if !seen.insert(name.as_str()) {
                let param = format!("{within}{}", shown(name));
                let message = format!("`{param}` is given twice; give it once");
                return Err(Refusal::field("duplicate_parameter", param, message));
            }
        }
        pairs.retain(|(_, value)| *value != Json::Null);
        Ok(Self {
            pairs,
            within,
            body: Arc::default(),
            digest: Digest::default(),
        })
    }

    /// Whether there is such a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// The name of a field in messages.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.within)
    }

    /// Takes whatever a field holds.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.pairs.iter().position(|(key, _)| key == name)?;
        Some(self.pairs.remove(at).1)
    }

    /// Takes a string.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_kind(&self.path(name), "a string", &other)),
        }
    }

    /// Takes a string that must be there.
    pub(super) fn needed_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// The refusal of a request without a field.
    pub(super) fn missing(&self, name: &str) -> Refusal {
        let path = self.path(name);
        let message = format!("`{path}` is missing");
        Refusal::field("missing_parameter", path, message)
    }

    /// Takes true or false.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_kind(&self.path(name), "true or false", &other)),
        }
    }

    /// Takes a number.
    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let path = self.path(name);
        let Json::Number(number) = &value else {
            return Err(wrong_kind(&path, "a number", &value));
        };
        let number = number.as_f64().filter(|number| range.contains(number));
        let number = number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Refusal::value(&path, format!("`{path}` must be from {least} to {most}"))
        })?;
        Ok(Some(number as f32))
    }

    /// Takes a whole number.
    pub(super) fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let path = self.path(name);
        let Json::Number(number) = &value else {
            return Err(wrong_kind(&path, "a whole number", &value));
        };
        // Seeds may be anything of 64 bits.
        let number = number.as_i64().or(number
            .as_u64()
            .map(|n| n as i64)
            .filter(|_| *range.start() == i64::MIN));
        let number = number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                Refusal::value(
                    &path,
                    format!("`{path}` must be a whole number from {least} to {most}"),
                )
            })?;
        Ok(Some(number))
    }

    /// Takes a count.
    pub(super) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Refusal> {
        let range = *range.start() as i64..=*range.end() as i64;
        Ok(self.whole(name, range)?.map(|count| count as usize))
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        let path = self.path(name);
        (self.take(name))
            .map(|value| Self::within(value, &path))
            .transpose()
    }

    /// A field that may only have values which change nothing.
    pub(super) fn only(
        &mut self,
        name: &str,
        changes_nothing: impl FnOnce(&Json) -> bool,
        why: &str,
    ) -> Result<(), Refusal> {
        match self.take(name) {
            Some(value) if !changes_nothing(&value) => {
                let path = self.path(name);
                let message = format!("`{path}` is not served: {why}");
                Err(Refusal::unsupported(path, message))
            }
            _ => Ok(()),
        }
    }

    /// All that is left; for fields that are handed on.
    pub(super) fn rest(self) -> Pairs {
        self.pairs
    }

    /// Ends with the first field that nobody took and that is not `harmless`.
    pub(super) fn done(self, harmless: &[&str]) -> Result<(), Refusal> {
        let left = self.pairs.iter().map(|(name, _)| name);
        let unknown = left
            .into_iter()
            .find(|name| !harmless.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            let path = self.path(&shown(name));
            let message =
                format!("`{path}` is not known here and might change the answer; leave it out");
            Err(Refusal::field("unknown_parameter", path, message))
        })
    }
}

/// The refusal of a field of another kind.
pub(super) fn wrong_kind(path: &str, expected: &str, found: &Json) -> Refusal {
    let message = format!("`{path}` must be {expected} and is {}", found.kind());
    Refusal::field("invalid_type", path, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<impl Sized, Refusal>) -> (&'static str, Option<String>) {
        let refusal = result.err().expect("refused");
        (refusal.code, refusal.param)
    }

    #[test]
    fn null_is_absent_and_what_is_left_over_is_refused() {
        let mut fields = Fields::read(br#"{"a": null, "b": 2, "user": "x", "c": 1}"#).unwrap();
        assert_eq!(fields.number("a", 0.0..=1.0).unwrap(), None);
        assert_eq!(fields.count("b", 1..=2).unwrap(), Some(2));
        assert_eq!(
            code(fields.done(&["user"])),
            ("unknown_parameter", Some("c".into()))
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        let read = |text: &str| Fields::read(text.as_bytes()).unwrap();
        let a = || Some("a".to_owned());
        assert_eq!(
            code(read(r#"{"a": "x"}"#).number("a", 0.0..=1.0)),
            ("invalid_type", a())
        );
        assert_eq!(
            code(read(r#"{"a": 1.5}"#).number("a", 0.0..=1.0)),
            ("invalid_value", a())
        );
        assert_eq!(
            code(read(r#"{"a": -1}"#).count("a", 1..=9)),
            ("invalid_value", a())
        );
        assert_eq!(
            code(read(r#"{"a": 1.5}"#).count("a", 1..=9)),
            ("invalid_value", a())
        );
        assert_eq!(
            code(Fields::read(br#"{"a": 1, "a": 2}"#)),
            ("duplicate_parameter", a())
        );
        let mut outer = read(r#"{"o": {"a": 3}}"#);
        let mut inner = outer.object("o").unwrap().unwrap();
        assert_eq!(code(inner.text("a")), ("invalid_type", Some("o.a".into())));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "1",
            "[]",
            "{\"a\":",
            "{\"a\":1}x",
            "{\"a\": 1e999}",
            &deep,
        ] {
            assert_eq!(
                code(Fields::read(text.as_bytes())).0,
                "invalid_json",
                "{text:.20}"
            );
        }
        assert_eq!(code(Fields::read(b"{\"a\": \"\xff\"}")).0, "invalid_json");
    }
}
