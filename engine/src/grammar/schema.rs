//! Which JSON schemas answers can be held to.
//!
//! A schema comes from a stranger and goes to a compiler that trusts it. What arrives there holds only keywords that
//! the compiler keeps, in bounds within which its work is small; annotations are left out, and every keyword of JSON
//! Schema that answers cannot be held to is refused by name, because an answer that ignores it would be wrong.
//!
//! Kept: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `patternProperties`,
//! `minProperties`, `maxProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `minLength`, `maxLength`,
//! `pattern`, `format`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `anyOf`, `oneOf`
//! (of members of which at most one can hold), `allOf`, and `$ref` into the schema itself.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Value, json};

use super::{GrammarError, object, shown};
use crate::json::{Fields, Json};

/// Largest schema, in bytes of compact JSON without its annotations; generated ones for large types have ten thousand.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Deepest nesting of values in a schema: thirty objects within objects. Bounds the stack of the compiler.
const MAX_DEPTH: usize = 64;
/// Most properties of all objects of a schema together.
const MAX_PROPERTIES: usize = 1_000;
/// Most values of all `enum`s of a schema together.
const MAX_ENUM: usize = 1_000;
/// Most members of all `anyOf`, `oneOf` and `allOf` of a schema together: the compiler multiplies them with each other.
const MAX_MEMBERS: usize = 256;
/// Most `$ref`s of a schema; each may nest another one in the compiler.
const MAX_REFS: usize = 256;
/// Longest `pattern`, in bytes.
const MAX_PATTERN_BYTES: usize = 1_024;
/// Largest pattern once its counted repetitions are written out, in letters and classes; those of Unicode count more.
const MAX_PATTERN_SIZE: u64 = 32_768;
/// Most patterns of a schema: each pair of `patternProperties` is intersected.
const MAX_PATTERNS: usize = 64;
/// Largest `minItems`, `maxItems`, `minProperties`, `maxProperties`: the grammar has a rule for each step of them.
const MAX_COUNT: u64 = 1_000;
/// Largest `minLength` and `maxLength`, in characters: far more than an answer holds.
const MAX_LENGTH: u64 = 100_000;

/// Largest number of which all `multipleOf`s of a schema are parts, in the smallest decimal of any: the compiler counts
/// remainders one by one.
const MAX_MULTIPLE: u64 = 10_000;
/// Most decimals of a `multipleOf`.
const MAX_DECIMALS: usize = 9;

/// Formats that strings can be held to.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Keywords that say nothing about what is valid.
const ANNOTATIONS: [&str; 16] = [
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$comment",
    "$vocabulary",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "discriminator",
];

/// Keywords of JSON Schema that answers cannot be held to.
const REFUSED: [&str; 20] = [
    "not",
    "if",
    "then",
    "else",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "additionalItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "contentSchema",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// A schema within bounds, of kept keywords alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Without its annotations.
    pub(super) value: Value,
    /// Its place in the request.
    pub(super) param: String,
}

impl Schema {
    /// Checks a schema that stands at `param` in a request.
    ///
    /// # Errors
    /// See [`GrammarError`].
    pub fn check(json: &Json, param: &str, strict: bool) -> Result<Self, GrammarError> {
        let mut check = Check {
            strict,
            ..Check::default()
        };
        let fields = object(json, param)?;
        let value = check.fields(fields, param, 1)?;
        let bytes = value.to_string().len();
        if bytes > MAX_SCHEMA_BYTES {
            return Err(GrammarError::TooLarge {
                param: param.into(),
                why: format!("it has {bytes} bytes and {MAX_SCHEMA_BYTES} are allowed; split it"),
            });
        }
        Ok(Self {
            value,
            param: param.into(),
        })
    }

    /// As [`Schema::check`], for the arguments of a function, which are an object.
    pub(crate) fn check_arguments(
        json: &Json,
        param: &str,
        strict: bool,
    ) -> Result<Self, GrammarError> {
        let mut schema = Self::check(json, param, strict)?;
        let fields = schema.value.as_object_mut().expect("a schema is an object");
        match fields.get("type") {
            Some(Value::String(kind)) if kind == "object" => Ok(schema),
            None if fields.is_empty() || fields.contains_key("properties") => {
                fields.insert("type".into(), "object".into());
                Ok(schema)
            }
            _ => Err(GrammarError::invalid(
                format!("{param}.type"),
                "must be \"object\": arguments have names",
            )),
        }
    }

    /// That of any JSON object.
    pub(crate) fn any_object(param: &str) -> Self {
        Self {
            value: json!({"type": "object"}),
            param: param.into(),
        }
    }

    /// That of the arguments of a function that has none.
    pub(crate) fn no_arguments(param: &str) -> Self {
        Self {
            value: json!({"type": "object", "properties": {}, "additionalProperties": false}),
            param: param.into(),
        }
    }
}

/// What was counted so far.
#[derive(Default)]
struct Check {
    strict: bool,
    properties: usize,
    values: usize,
    members: usize,
    refs: usize,
    patterns: usize,
    pattern_size: u64,
    /// What all multiples so far are parts of, in units of the last of `decimals`; 0 for none.
    multiple: u64,
    decimals: usize,
}

impl Check {
    fn schema(&mut self, json: &Json, param: &str, depth: usize) -> Result<Value, GrammarError> {
        match json {
            Json::Bool(any) => Ok(Value::Bool(*any)),
            Json::Object(fields) => self.fields(fields, param, depth),
            other => Err(GrammarError::invalid(
                param,
                format!("must be a schema, which is an object, not {}", other.kind()),
            )),
        }
    }

    fn fields(
        &mut self,
        fields: &Fields,
        param: &str,
        depth: usize,
    ) -> Result<Value, GrammarError> {
        deep_enough(param, depth)?;
        let mut out = Map::new();
        for (key, json) in fields {
            let at = format!("{param}.{}", shown(key));
            if let Some(value) = self.keyword(key, json, &at, depth + 1)? {
                out.insert(key.clone(), value);
            }
        }
        Ok(Value::Object(out))
    }

    /// What is kept of a keyword: None of annotations and unknown ones.
    fn keyword(
        &mut self,
        key: &str,
        json: &Json,
        at: &str,
        depth: usize,
    ) -> Result<Option<Value>, GrammarError> {
        let kept = match key {
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                self.map(key, json, at, depth)?
            }
            "items" | "additionalProperties" => self.schema(json, at, depth)?,
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => self.list(json, at, depth)?,
            "enum" => {
                let Json::Array(values) = json else {
                    return Err(expected(at, "a list", json));
                };
                count(&mut self.values, values.len(), MAX_ENUM, at, "values")?;
                plain(json, at, depth)?
            }
            "const" => plain(json, at, depth)?,
            "type" | "required" => strings(json, at)?,
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => number(json, at)?,
            "multipleOf" => self.multiple(json, at)?,
            "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                whole(json, at, MAX_COUNT)?
            }
            "minLength" | "maxLength" => whole(json, at, MAX_LENGTH)?,
            "pattern" | "format" | "$ref" => Value::from(self.word(key, json, at)?),
            _ if ANNOTATIONS.contains(&key) => return Ok(None),
            "uniqueItems" if *json == Json::Bool(false) => return Ok(None),
            _ if REFUSED.contains(&key) => {
                return Err(GrammarError::Unsupported {
                    param: at.into(),
                    why: "answers cannot be held to this keyword; leave it out, or say it in the \
                          prompt"
                        .into(),
                });
            }
            _ if self.strict => {
                return Err(GrammarError::Unsupported {
                    param: at.into(),
                    why:
                        "JSON Schema knows no such keyword; leave it out, or do not ask for strict"
                            .into(),
                });
            }
            _ => return Ok(None),
        };
        Ok(Some(kept))
    }

    /// Schemas by name.
    fn map(
        &mut self,
        key: &str,
        json: &Json,
        at: &str,
        depth: usize,
    ) -> Result<Value, GrammarError> {
        let fields = object(json, at)?;
        deep_enough(at, depth)?;
        count(
            &mut self.properties,
            fields.len(),
            MAX_PROPERTIES,
            at,
            "properties",
        )?;
        let mut out = Map::new();
        for (name, json) in fields {
            if key == "patternProperties" {
                self.pattern(name, at)?;
            }
            let at = format!("{at}.{}", shown(name));
            out.insert(name.clone(), self.schema(json, &at, depth + 1)?);
        }
        Ok(Value::Object(out))
    }

    fn list(&mut self, json: &Json, at: &str, depth: usize) -> Result<Value, GrammarError> {
        let Json::Array(members) = json else {
            return Err(expected(at, "a list of schemas", json));
        };
        deep_enough(at, depth)?;
        if members.is_empty() {
            return Err(GrammarError::invalid(
                at,
                "is empty; name at least one schema",
            ));
        }
        count(&mut self.members, members.len(), MAX_MEMBERS, at, "schemas")?;
        let members = members.iter().enumerate();
        members
            .map(|(i, json)| self.schema(json, &format!("{at}[{i}]"), depth + 1))
            .collect()
    }

    fn word<'j>(&mut self, key: &str, json: &'j Json, at: &str) -> Result<&'j str, GrammarError> {
        let Json::String(word) = json else {
            return Err(expected(at, "a string", json));
        };
        match key {
            "pattern" => self.pattern(word, at)?,
            "$ref" => {
                count(&mut self.refs, 1, MAX_REFS, at, "references")?;
                if word != "#" && !word.starts_with("#/") {
                    return Err(GrammarError::Unsupported {
                        param: at.into(),
                        why: "references lead into the schema itself, as #/$defs/name does; no \
                              other document is read"
                            .into(),
                    });
                }
            }
            _ if !FORMATS.contains(&word.as_str()) => {
                return Err(GrammarError::Unsupported {
                    param: at.into(),
                    why: format!("the formats are {}; use a pattern", FORMATS.join(", ")),
                });
            }
            _ => {}
        }
        Ok(word)
    }

    fn multiple(&mut self, json: &Json, at: &str) -> Result<Value, GrammarError> {
        let value = number(json, at)?;
        let invalid = || {
            let why = format!("must be a number above zero with at most {MAX_DECIMALS} decimals");
            GrammarError::invalid(at, why)
        };
        let (whole, decimals) = decimal(&value.to_string()).ok_or_else(invalid)?;
        let scale = self.decimals.max(decimals);
        let scaled =
            |value: u64, decimals: usize| value.checked_mul(10u64.pow((scale - decimals) as u32));
        let both = scaled(self.multiple.max(1), self.decimals).zip(scaled(whole, decimals));
        let both = match self.multiple {
            // Nothing came before it.
            0 => Some((1, whole)),
            _ => both,
        };
        let common = both.and_then(|(a, b)| (a / common_divisor(a, b)).checked_mul(b));
        match common.filter(|common| *common <= MAX_MULTIPLE) {
            Some(common) => {
                (self.multiple, self.decimals) = (common, scale);
                Ok(value)
            }
            None => Err(GrammarError::TooLarge {
                param: at.into(),
                why: format!(
                    "the multiples of the schema, taken together, exceed {MAX_MULTIPLE} of their \
                     smallest decimal; use fewer or rounder ones"
                ),
            }),
        }
    }

    fn pattern(&mut self, pattern: &str, at: &str) -> Result<(), GrammarError> {
        count(&mut self.patterns, 1, MAX_PATTERNS, at, "patterns")?;
        let bytes = pattern.len();
        if bytes > MAX_PATTERN_BYTES {
            return Err(GrammarError::TooLarge {
                param: at.into(),
                why: format!("the pattern has {bytes} bytes and {MAX_PATTERN_BYTES} are allowed"),
            });
        }
        let parsed = regex_syntax::parse(pattern).map_err(|error| {
            let why = match error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                _ => "it does not parse".into(),
            };
            GrammarError::invalid(at, format!("is not a usable pattern: {why}"))
        })?;
        self.pattern_size = self.pattern_size.saturating_add(size(&parsed));
        match self.pattern_size <= MAX_PATTERN_SIZE {
            true => Ok(()),
            false => Err(GrammarError::TooLarge {
                param: at.into(),
                why: "the schema's patterns repeat too much; use smaller counts, or * and +".into(),
            }),
        }
    }
}

fn deep_enough(param: &str, depth: usize) -> Result<(), GrammarError> {
    match depth <= MAX_DEPTH {
        true => Ok(()),
        false => Err(GrammarError::TooLarge {
            // Its own place would be longer than the message.
            param: param.split('.').take(3).collect::<Vec<_>>().join("."),
            why: format!("it is nested deeper than {MAX_DEPTH} values; make it flatter"),
        }),
    }
}

fn count(
    so_far: &mut usize,
    more: usize,
    most: usize,
    at: &str,
    what: &str,
) -> Result<(), GrammarError> {
    *so_far += more;
    match *so_far <= most {
        true => Ok(()),
        false => Err(GrammarError::TooLarge {
            param: at.into(),
            why: format!("the schema has more than the {most} {what} that are allowed; split it"),
        }),
    }
}

fn expected(at: &str, what: &str, found: &Json) -> GrammarError {
    GrammarError::invalid(at, format!("must be {what}, not {}", found.kind()))
}

/// A value that stands for itself.
fn plain(json: &Json, at: &str, depth: usize) -> Result<Value, GrammarError> {
    deep_enough(at, depth)?;
    match json {
        Json::Array(items) => items
            .iter()
            .try_for_each(|i| plain(i, at, depth + 1).map(drop))?,
        Json::Object(fields) => {
            (fields.iter()).try_for_each(|(_, i)| plain(i, at, depth + 1).map(drop))?;
        }
        _ => {}
    }
    Ok(json.into())
}

fn strings(json: &Json, at: &str) -> Result<Value, GrammarError> {
    let string = |json: &Json| matches!(json, Json::String(_));
    match json {
        Json::String(_) => Ok(json.into()),
        Json::Array(items) if items.iter().all(string) => Ok(json.into()),
        other => Err(expected(at, "a string or a list of strings", other)),
    }
}

fn number(json: &Json, at: &str) -> Result<Value, GrammarError> {
    match json {
        Json::Number(_) => Ok(json.into()),
        other => Err(expected(at, "a number", other)),
    }
}

/// Letters and classes of a pattern, counted repetitions written out.
fn size(pattern: &Hir) -> u64 {
    /// So many ranges of a class count as one letter.
    const RANGES: u64 = 8;
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len() as u64 / RANGES,
        HirKind::Repetition(repeat) => {
            let times = repeat.max.unwrap_or(repeat.min).max(1);
            size(&repeat.sub).saturating_mul(times.into())
        }
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(size).fold(0, u64::saturating_add)
        }
    }
}

/// A number above zero as a whole number and how many of its digits are decimals.
fn decimal(text: &str) -> Option<(u64, usize)> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (front, back) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = format!("{front}{back}").parse().ok()?;
    let decimals = back.len() as i64 - exponent.parse::<i64>().ok()?;
    let decimals = usize::try_from(decimals).ok()?;
    (whole > 0 && decimals <= MAX_DECIMALS).then_some((whole, decimals))
}

fn common_divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        _ => common_divisor(b, a % b),
    }
}

fn whole(json: &Json, at: &str, most: u64) -> Result<Value, GrammarError> {
    let number = match json {
        Json::Number(number) => number.as_u64(),
        _ => None,
    };
    match number {
        Some(number) if number <= most => Ok(number.into()),
        Some(number) => Err(GrammarError::TooLarge {
            param: at.into(),
            why: format!("it is {number} and at most {most} is allowed"),
        }),
        None => Err(GrammarError::invalid(
            at,
            "must be a whole number, zero or more",
        )),
    }
}
