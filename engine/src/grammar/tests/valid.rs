//! A slow and obvious check of values against schemas, for what answers are held to.

use fancy_regex::Regex;
use serde_json::{Map, Value};

/// Whether a value is one of a schema, whose references lead into `root`.
pub(crate) fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let fields = match schema {
        Value::Bool(any) => return *any,
        other => other.as_object().expect("a schema is an object"),
    };
    fields.iter().all(|(key, rule)| match key.as_str() {
        "$ref" => {
            let path = rule.as_str().unwrap().trim_start_matches('#');
            valid(root, root.pointer(path).unwrap(), value)
        }
        "type" => match rule {
            Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
            kind => is(kind, value),
        },
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "anyOf" => members(rule).any(|member| valid(root, member, value)),
        "oneOf" => members(rule).filter(|m| valid(root, m, value)).count() == 1,
        "allOf" => members(rule).all(|member| valid(root, member, value)),
        _ => match value {
            Value::Object(object) => of_object(root, fields, key, rule, object),
            Value::Array(items) => of_array(root, fields, key, rule, items),
            Value::String(text) => of_string(key, rule, text),
            Value::Number(number) => of_number(key, rule, number.as_f64().unwrap()),
            _ => true,
        },
    })
}

fn members(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.as_array().unwrap().iter()
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_match(text).unwrap()
}

fn of_object(
    root: &Value,
    fields: &Map<String, Value>,
    key: &str,
    rule: &Value,
    object: &Map<String, Value>,
) -> bool {
    let known = |name: &str| {
        fields
            .get("properties")
            .is_some_and(|p| p.get(name).is_some())
    };
    let patterns = fields.get("patternProperties").and_then(Value::as_object);
    let patterned =
        |name: &str| patterns.is_some_and(|p| p.keys().any(|pattern| matches(pattern, name)));
    match key {
        "properties" => (rule.as_object().unwrap().iter())
            .all(|(name, rule)| object.get(name).is_none_or(|v| valid(root, rule, v))),
        "patternProperties" => (rule.as_object().unwrap().iter()).all(|(pattern, rule)| {
            let mut named = object.iter().filter(|(name, _)| matches(pattern, name));
            named.all(|(_, value)| valid(root, rule, value))
        }),
        "additionalProperties" => {
            let mut more = object.iter().filter(|(n, _)| !known(n) && !patterned(n));
            more.all(|(_, value)| valid(root, rule, value))
        }
        "required" => members(rule).all(|name| object.contains_key(name.as_str().unwrap())),
        "minProperties" => object.len() as u64 >= rule.as_u64().unwrap(),
        "maxProperties" => object.len() as u64 <= rule.as_u64().unwrap(),
        _ => true,
    }
}

fn of_array(
    root: &Value,
    fields: &Map<String, Value>,
    key: &str,
    rule: &Value,
    items: &[Value],
) -> bool {
    let prefix = fields.get("prefixItems").and_then(Value::as_array);
    let prefix = prefix.map_or(0, Vec::len);
    match key {
        "prefixItems" => members(rule)
            .zip(items)
            .all(|(rule, item)| valid(root, rule, item)),
        "items" => items
            .iter()
            .skip(prefix)
            .all(|item| valid(root, rule, item)),
        "minItems" => items.len() as u64 >= rule.as_u64().unwrap(),
        "maxItems" => items.len() as u64 <= rule.as_u64().unwrap(),
        _ => true,
    }
}

fn of_string(key: &str, rule: &Value, text: &str) -> bool {
    match key {
        "minLength" => text.chars().count() as u64 >= rule.as_u64().unwrap(),
        "maxLength" => text.chars().count() as u64 <= rule.as_u64().unwrap(),
        "pattern" => matches(rule.as_str().unwrap(), text),
        "format" => match rule.as_str().unwrap() {
            "date" => matches(r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", text),
            "uuid" => matches(
                r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
                text,
            ),
            "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
            "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
            "email" => text.contains('@'),
            other => panic!("no check of {other}"),
        },
        _ => true,
    }
}

fn of_number(key: &str, rule: &Value, number: f64) -> bool {
    let Some(bound) = rule.as_f64() else {
        return true;
    };
    match key {
        "minimum" => number >= bound,
        "maximum" => number <= bound,
        "exclusiveMinimum" => number > bound,
        "exclusiveMaximum" => number < bound,
        "multipleOf" => {
            let times = number / bound;
            (times - times.round()).abs() < 1e-6 * times.abs().max(1.0)
        }
        _ => true,
    }
}
