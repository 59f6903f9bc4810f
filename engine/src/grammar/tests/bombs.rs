//! Schemas that are meant to cost: each ends with an error, soon, or is no harm.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{BROOK, held};

/// What a bomb may take, in a debug build beside other tests.
const SOON: Duration = Duration::from_secs(1);
/// Masks that are asked for of a schema that compiles.
const MASKS: usize = 40;

fn nested(depth: usize, wrap: fn(Value) -> Value) -> Value {
    (0..depth).fold(json!({"type": "null"}), |inner, _| wrap(inner))
}

fn many(count: usize, make: fn(usize) -> Value) -> Value {
    (0..count).map(make).collect()
}

fn named(count: usize, make: impl Fn(usize) -> Value) -> Value {
    Value::Object(
        (0..count)
            .map(|i| (format!("d{i}"), make(i)))
            .collect::<Map<_, _>>(),
    )
}

/// Each ends with an error.
fn bombs() -> Vec<(&'static str, Value)> {
    [deep_and_wide(), costly()].concat()
}

fn deep_and_wide() -> Vec<(&'static str, Value)> {
    vec![
        (
            "items in items",
            nested(100, |inner| json!({"items": inner})),
        ),
        (
            "objects in objects",
            nested(40, |inner| json!({"properties": {"a": inner}})),
        ),
        (
            "unions in unions",
            nested(40, |inner| json!({"anyOf": [inner, {}]})),
        ),
        (
            "a value in values",
            json!({"const": nested(100, |inner| json!([inner]))}),
        ),
        ("a long word", json!({"const": "x".repeat(200_000)})),
        (
            "many properties",
            json!({"properties": named(3_000, |_| json!({}))}),
        ),
        ("many values", json!({"enum": many(3_000, |i| json!(i))})),
        (
            "many members",
            json!({"anyOf": many(3_000, |_| json!({"type": "object"}))}),
        ),
        (
            "many references",
            json!({"anyOf": many(10, |_| json!({"properties": named(100, |i| json!({"$ref": format!("#/{i}")}))}))}),
        ),
        (
            "a chain of references",
            json!({"$ref": "#/$defs/d0", "$defs": named(900, |i| json!({"$ref": format!("#/$defs/d{}", i + 1)}))}),
        ),
        ("a reference to itself", json!({"$ref": "#"})),
        (
            "references in a circle",
            json!({"$ref": "#/$defs/d0", "$defs": named(2, |i| json!({"$ref": format!("#/$defs/d{}", 1 - i)}))}),
        ),
    ]
}

fn costly() -> Vec<(&'static str, Value)> {
    let wide = |i: usize| json!({"properties": {"a": {"minimum": i}, format!("b{i}"): {"type": "object"}}});
    vec![
        (
            "repeats of repeats",
            json!({"type": "string", "pattern": "^((((a{1000}){1000}){1000}){1000})$"}),
        ),
        (
            "repeats of unions",
            json!({"type": "string", "pattern": "^(([a-z]|[\\w]){0,900}[\\d\\w]{0,900}){900}$"}),
        ),
        (
            "every letter, many times",
            json!({"type": "string", "pattern": "^(\\p{L}{500}\\p{N}{500}){500}$"}),
        ),
        (
            "deep groups",
            json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(500), ")".repeat(500))}),
        ),
        (
            "many items",
            json!({"type": "array", "minItems": 1_000_000_000}),
        ),
        (
            "a long text",
            json!({"type": "string", "minLength": 4_000_000_000u64}),
        ),
        (
            "unions times unions",
            json!({"allOf": many(8, |_| json!({"anyOf": many(30, |i| json!({"properties": {"a": {"minimum": i}}}))}))}),
        ),
        (
            "wide unions times unions",
            json!({"allOf": [{"anyOf": (0..100).map(wide).collect::<Value>()}, {"anyOf": (0..100).map(wide).collect::<Value>()}]}),
        ),
        (
            "patterns of names",
            json!({"patternProperties": named(100, |i| json!({"const": i}))}),
        ),
        (
            "overlapping patterns",
            json!({"type": "object", "patternProperties": {"a.*b": {"type": "null"}, "b.*a": {"type": "string"}}}),
        ),
        (
            "letters that are cut",
            json!({"type": {"\u{1f30a}": "\u{e9}".repeat(300)}}),
        ),
        (
            "a large multiple",
            json!({"type": "integer", "multipleOf": 1_000_003}),
        ),
        (
            "multiples times multiples",
            json!({"allOf": [{"multipleOf": 97}, {"multipleOf": 89}, {"multipleOf": 83}]}),
        ),
        (
            "another document",
            json!({"$ref": "http://169.254.169.254/latest/meta-data"}),
        ),
        ("a file", json!({"$ref": "file:///etc/passwd"})),
    ]
}

/// Each is large, within the bounds, and served.
fn heavy() -> Vec<(&'static str, Value)> {
    [large_unions_and_patterns(), large_counts()].concat()
}

fn large_unions_and_patterns() -> Vec<(&'static str, Value)> {
    vec![
        (
            "an infinite object",
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        ),
        (
            "members times properties",
            json!({"allOf": [
            {"anyOf": many(250, |_| json!({"type": "object"}))},
            {"properties": named(900, |_| json!({"type": "string", "maxLength": 9}))}]}),
        ),
        (
            "values times values",
            json!({"allOf": [{"enum": many(490, |i| json!(i.to_string()))}, {"enum": many(490, |i| json!(i.to_string()))}]}),
        ),
        (
            "an exponential automaton",
            json!({"type": "string", "pattern": "^(a|b)*a(a|b){200}$"}),
        ),
        (
            "exponential automata at once",
            json!({"allOf": many(12, |i| json!({"type": "string", "pattern": format!("^(a|b)*a(a|b){{{}}}$", 50 + i)}))}),
        ),
        (
            "names of exponential automata",
            json!({"type": "object", "patternProperties":
            (0..60).map(|i| (format!("^(a|b)*a(a|b){{{}}}c{i}$", 50 + i), json!({}))).collect::<Map<_, _>>()}),
        ),
        (
            "alternatives that begin alike",
            json!({"anyOf": many(250, |i| json!({"type": "array", "items":
            {"type": "array", "items": {"type": "string", "maxLength": i}}}))}),
        ),
    ]
}

fn large_counts() -> Vec<(&'static str, Value)> {
    vec![
        (
            "arrays of counted arrays",
            json!({"type": "array", "minItems": 900, "maxItems": 1_000, "items":
            {"type": "array", "minItems": 900, "maxItems": 1_000, "items": {"type": "integer"}}}),
        ),
        (
            "a counted text",
            json!({"type": "string", "minLength": 90_000, "maxLength": 100_000}),
        ),
        (
            "a thousand properties",
            json!({"type": "object", "properties": named(1_000, |i| json!({"type": "string", "maxLength": i}))}),
        ),
        (
            "a chain of references",
            json!({"$ref": "#/$defs/d0", "$defs": named(200, |i| match i {
                199 => json!({"type": "null"}),
                i => json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", i + 1)}}),
            })}),
        ),
        (
            "a multiple",
            json!({"type": "integer", "multipleOf": 9_973}),
        ),
        (
            "multiples",
            json!({"properties": {"a": {"multipleOf": 0.01}, "b": {"multipleOf": 25}}, "required": ["a", "b"]}),
        ),
        (
            "a small multiple",
            json!({"type": "number", "multipleOf": 0.000_001}),
        ),
        (
            "large numbers",
            json!({"type": "number", "minimum": -1e300, "maximum": 1.234_567_89e300}),
        ),
        (
            "many counted properties",
            json!({"type": "object", "minProperties": 900, "maxProperties": 1_000}),
        ),
        (
            "optional properties",
            json!({"type": "object", "properties": named(300, |_| json!({})), "additionalProperties": false}),
        ),
        (
            "backtracking",
            json!({"type": "string", "pattern": "^(a|a|aa)*(a*)*(a|b)*c$"}),
        ),
    ]
}

/// A compile and some masks.
fn spend(schema: &Value) -> Result<(), String> {
    let mut held = held(&BROOK, schema).map_err(|e| e.to_string())?;
    for _ in 0..MASKS {
        let words = held.allowed()?;
        let id = super::ids(&words)[0];
        held.accept(id)?;
        if held.is_finished() {
            break;
        }
    }
    Ok(())
}

#[test]
fn a_schema_that_is_meant_to_cost_is_refused_within_a_second() {
    held(&BROOK, &json!({})).expect("the vocabulary is made before time is taken");
    for (name, schema) in bombs() {
        let start = Instant::now();
        let refused = spend(&schema);
        let took = start.elapsed();
        println!("{name}: {took:?} {refused:?}");
        let why = refused.expect_err(name);
        assert!(took < SOON, "{name}: {took:?}");
        assert!(why.len() < 600 && !why.contains('\n'), "{name}: {why}");
    }
}

#[test]
fn large_schemas_within_the_bounds_are_served_or_refused_within_a_second() {
    held(&BROOK, &json!({})).expect("the vocabulary is made before time is taken");
    for (name, schema) in heavy() {
        let start = Instant::now();
        let served = spend(&schema);
        let took = start.elapsed();
        println!("{name}: {took:?} {served:?}");
        assert!(took < SOON, "{name}: {took:?}");
    }
}
