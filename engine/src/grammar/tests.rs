//! Schemas that are kept and refused, walks through them, and what hostile ones cost.

mod bombs;
pub(crate) mod valid;

use std::sync::LazyLock;
use std::time::Instant;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::brook;
use crate::test_utils::sentencepiece_tokenizer;
use crate::tokenizer::{TokenText, Tokenizer};
use valid::valid;

/// A vocabulary and the bytes of its tokens.
pub(crate) struct Tongue {
    pub(crate) vocabulary: Vocabulary,
    texts: Vec<TokenText>,
    end: u32,
}

impl Tongue {
    fn new(tokenizer: &Tokenizer) -> Self {
        let end = tokenizer.eos_ids()[0];
        Self {
            vocabulary: Vocabulary::new(tokenizer, &[end], tokenizer.vocab_size()).unwrap(),
            texts: tokenizer.token_texts().unwrap(),
            end,
        }
    }

    fn bytes(&self, id: u32) -> &[u8] {
        match &self.texts[id as usize] {
            TokenText::Bytes(bytes) => bytes,
            _ => b"",
        }
    }

    /// The text of random allowed tokens; None when it does not end in time. After a while those are preferred that
    /// close something.
    pub(crate) fn walk(&self, held: &mut dyn Constraint, seed: u64) -> Option<String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut out = Vec::new();
        let patience = rng.random_range(1..60);
        for step in 0..3_000 {
            if held.is_finished() {
                return Some(String::from_utf8(out).expect("whole characters"));
            }
            let allowed = ids(&held.allowed().unwrap());
            let hurried = step > patience && rng.random_bool(0.8);
            // The end, or what leads there.
            let closing: [&[u8]; 5] = [b"\"", b"@", b"}", b"]", b"\"}"];
            let closing = closing.map(|close| {
                let mut allowed = allowed.iter().copied();
                allowed.find(|id| self.bytes(*id) == close)
            });
            let end = Some(self.end).filter(|end| allowed.contains(end));
            let closing = end.into_iter().chain(closing.into_iter().flatten()).next();
            let id = match closing.filter(|_| hurried) {
                Some(closing) => closing,
                None => *allowed.choose(&mut rng).expect("something is allowed"),
            };
            held.accept(id).unwrap();
            out.extend_from_slice(self.bytes(id));
        }
        None
    }
}

pub(crate) static BROOK: LazyLock<Tongue> =
    LazyLock::new(|| Tongue::new(&brook::tokenizer().unwrap()));
pub(crate) static PIECES: LazyLock<Tongue> =
    LazyLock::new(|| Tongue::new(&sentencepiece_tokenizer()));

pub(crate) fn ids(words: &[u32]) -> Vec<u32> {
    let bits = words.iter().enumerate().flat_map(|(at, word)| {
        let set = (0..32).filter(move |bit| word >> bit & 1 == 1);
        set.map(move |bit| at as u32 * 32 + bit)
    });
    bits.collect()
}

pub(crate) fn json_of(value: &Value) -> Json {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn schema_format(schema: &Value) -> Result<ResponseFormat, GrammarError> {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    ResponseFormat::read(Some(&json_of(&format)))
}

fn held(tongue: &Tongue, schema: &Value) -> Result<Box<dyn Constraint>, GrammarError> {
    let format = schema_format(schema)?;
    Ok(constraint(&tongue.vocabulary, &format, None)?.expect("a form"))
}

/// Schemas that are kept, each with values that hold and values that do not.
fn kept() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    [objects_and_arrays(), texts_and_numbers(), joined()].concat()
}

fn objects_and_arrays() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    vec![
        (
            json!({"type": "object"}),
            vec!["{}", "{\"a\": [1, null, {\"b\": \"\u{e9}\"}]}"],
            vec![
                "[]",
                "1",
                "{\"a\": }",
                "{\"a\" 1}",
                "{'a': 1}",
                "{\"a\": 01}",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
                   "required": ["a", "b"], "additionalProperties": false}),
            vec![
                "{\"a\": 1, \"b\": \"x\"}",
                "{\"a\":-7,\"b\":\"\"}",
                "{\n  \"a\": 1,\n  \"b\": \"\\n\"\n}",
            ],
            vec![
                "{\"a\": 1}",
                "{\"a\": 1.5, \"b\": \"\"}",
                "{\"a\": 1, \"b\": \"\", \"c\": 1}",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"enum": ["x", 2, null]}, "b": {"const": {"k": [1]}}}}),
            vec!["{\"a\": \"x\"}", "{\"a\": null, \"b\": {\"k\": [1]}}", "{}"],
            vec!["{\"a\": \"y\"}", "{\"b\": {\"k\": [2]}}"],
        ),
        (
            json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}),
            vec!["[true]", "[true, false, true]"],
            vec!["[]", "[true, true, true, true]", "[1]"],
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "null"}, {"type": "integer"}], "items": false,
                   "minItems": 2}),
            vec!["[null, 3]"],
            vec!["[null]", "[null, 3, 4]"],
        ),
    ]
}

fn texts_and_numbers() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    vec![
        (
            json!({"type": "string", "minLength": 2, "maxLength": 4}),
            vec!["\"ab\"", "\"\u{e9}\u{1f30a}xy\""],
            vec!["\"a\"", "\"abcde\""],
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+-[0-9]{2}$"}),
            vec!["\"ab-12\""],
            vec!["\"ab-1\"", "\"x ab-12\""],
        ),
        (
            json!({"type": "string", "format": "date"}),
            vec!["\"2026-11-30\""],
            vec!["\"2026-13-30\""],
        ),
        (
            json!({"type": "string", "format": "uuid"}),
            vec!["\"00000000-0000-4000-8000-000000000000\""],
            vec!["\"0\""],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            vec!["\"127.0.0.1\""],
            vec!["\"127.0.0\""],
        ),
        (
            json!({"type": "string", "format": "email"}),
            vec!["\"a@b.c\""],
            vec!["\"a\""],
        ),
        (
            json!({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}),
            vec!["-3", "0", "11"],
            vec!["-4", "12", "1.5"],
        ),
        (
            json!({"type": "number", "minimum": 0.5, "maximum": 2}),
            vec!["0.5", "1.25", "2"],
            vec!["0.4", "2.1"],
        ),
        (
            json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100}),
            vec!["0", "49"],
            vec!["50"],
        ),
    ]
}

fn joined() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    vec![
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"n": {"$ref": "#"}},
                   "required": ["n"], "additionalProperties": false}]}),
            vec!["1", "{\"n\": {\"n\": 2}}"],
            vec!["{}", "\"\""],
        ),
        (
            json!({"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind"]},
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}]}),
            vec!["{\"kind\": \"a\", \"x\": 1}", "{\"kind\": \"b\"}"],
            vec!["{\"kind\": \"c\"}"],
        ),
        (
            json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                   {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]}]}),
            vec!["{\"a\": 1, \"b\": null}"],
            vec!["{\"a\": 1}"],
        ),
        (
            json!({"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": false,
                   "minProperties": 1, "maxProperties": 2}),
            vec!["{\"x_a\": 1}"],
            vec!["{}", "{\"y\": 1}"],
        ),
        (
            json!({"$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"},
                   {"$ref": "#/$defs/node"}]}}, "required": ["next"], "additionalProperties": false}},
                   "$ref": "#/$defs/node"}),
            vec!["{\"next\": null}", "{\"next\": {\"next\": null}}"],
            vec!["{}"],
        ),
        (
            json!({"type": ["string", "null"], "title": "t", "description": "d", "default": 1, "x-note": {"a": 1}}),
            vec!["null", "\"\""],
            vec!["1"],
        ),
        // Text that the tokenizer would read as a mark.
        (
            json!({"type": "object", "properties": {"a": {"const": "<|endoftext|></s>"}}, "required": ["a"],
                   "additionalProperties": false}),
            vec!["{\"a\": \"<|endoftext|></s>\"}"],
            vec!["{\"a\": \"\"}"],
        ),
    ]
}

/// Whether the grammar takes a text, cut into single bytes or the longest tokens.
fn takes(tongue: &Tongue, schema: &Value, text: &str) -> bool {
    let mut held = held(tongue, schema).unwrap();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let Ok(allowed) = held.allowed() else {
            return false;
        };
        let fits = |id: &u32| !tongue.bytes(*id).is_empty() && rest.starts_with(tongue.bytes(*id));
        let fitting = ids(&allowed).into_iter().filter(fits);
        let Some(id) = fitting.max_by_key(|id| tongue.bytes(*id).len()) else {
            return false;
        };
        held.accept(id).unwrap();
        rest = &rest[tongue.bytes(id).len()..];
    }
    held.is_finished()
        || held
            .allowed()
            .is_ok_and(|words| ids(&words).contains(&tongue.end))
}

#[test]
fn answers_of_a_schema_are_taken_and_others_are_not() {
    for (schema, good, bad) in kept() {
        for text in good {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(valid(&schema, &schema, &value), "{text} {schema}");
            assert!(takes(&BROOK, &schema, text), "{text} {schema}");
            assert!(takes(&PIECES, &schema, text), "{text} {schema}");
        }
        for text in bad {
            let value: Result<Value, _> = serde_json::from_str(text);
            assert!(
                !value.is_ok_and(|v| valid(&schema, &schema, &v)),
                "{text} {schema}"
            );
            assert!(!takes(&BROOK, &schema, text), "{text} {schema}");
            assert!(!takes(&PIECES, &schema, text), "{text} {schema}");
        }
    }
}

#[test]
fn random_walks_through_a_schema_are_json_of_the_schema() {
    for (schema, ..) in kept() {
        for tongue in [&*BROOK, &*PIECES] {
            let mut ended = 0;
            for seed in 0..24 {
                let mut held = held(tongue, &schema).unwrap();
                let Some(text) = tongue.walk(&mut *held, seed) else {
                    continue;
                };
                let value: Value = match serde_json::from_str(&text) {
                    Ok(value) => value,
                    // JSON has no largest number; this parser has.
                    Err(e) if e.to_string().contains("number out of range") => continue,
                    Err(e) => panic!("{e}: {text} {schema}"),
                };
                assert!(
                    valid(&schema, &schema, &value),
                    "seed {seed}: {text} {schema}"
                );
                ended += 1;
            }
            assert!(ended >= 12, "{ended} of 24 walks ended: {schema}");
        }
    }
}

#[test]
fn what_answers_cannot_be_held_to_is_refused_by_name() {
    let at = |inner: Value| json!({"type": "object", "properties": {"a": inner}});
    let cases = [
        (
            at(json!({"not": {}})),
            "unsupported_value",
            "properties.a.not",
        ),
        (
            at(json!({"uniqueItems": true})),
            "unsupported_value",
            "properties.a.uniqueItems",
        ),
        (
            at(json!({"unevaluatedProperties": false})),
            "unsupported_value",
            "properties.a.unevaluatedProperties",
        ),
        (
            at(json!({"format": "iri"})),
            "unsupported_value",
            "properties.a.format",
        ),
        (
            at(json!({"$ref": "https://example.org/x"})),
            "unsupported_value",
            "properties.a.$ref",
        ),
        (
            at(json!({"anyOf": []})),
            "invalid_value",
            "properties.a.anyOf",
        ),
        (
            at(json!({"anyOf": [{}, 1]})),
            "invalid_value",
            "properties.a.anyOf[1]",
        ),
        (at(json!({"type": 1})), "invalid_value", "properties.a.type"),
        (
            at(json!({"minItems": -1})),
            "invalid_value",
            "properties.a.minItems",
        ),
        (
            at(json!({"maxItems": 1_000_000})),
            "schema_too_large",
            "properties.a.maxItems",
        ),
        (
            at(json!({"pattern": "a".repeat(2_000)})),
            "schema_too_large",
            "properties.a.pattern",
        ),
        (at(json!(1)), "invalid_value", "properties.a"),
        (json!([]), "invalid_value", ""),
    ];
    for (schema, code, place) in cases {
        let error = schema_format(&schema).unwrap_err();
        let param = format!("response_format.json_schema.schema.{place}");
        assert_eq!(
            (error.code(), error.param()),
            (code, param.trim_end_matches('.')),
            "{error}"
        );
    }
}

#[test]
fn what_does_not_compile_says_why_in_one_line() {
    let error = held(&BROOK, &json!({"type": "string", "pattern": "(?=a)b"}));
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("schema.pattern") && error.contains("look-around"),
        "{error}"
    );
    let compiled = [
        json!({"type": "strange"}),
        json!({"$ref": "#/$defs/nothing"}),
        json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        json!({"type": "integer", "minimum": 2, "maximum": 1}),
        json!({"allOf": [{"type": "string"}, {"type": "null"}]}),
    ];
    for schema in compiled {
        let error = held(&BROOK, &schema).err();
        let error = error.unwrap_or_else(|| panic!("{schema} compiled"));
        assert_eq!(error.code(), "invalid_schema", "{error}");
        assert_eq!(error.param(), "response_format.json_schema.schema");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn strict_refuses_keywords_that_do_not_exist() {
    let read = |strict: bool| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": strict,
            "schema": {"type": "object", "requird": ["a"], "x-guidance": {"lenient": true}}}});
        ResponseFormat::read(Some(&json_of(&format)))
    };
    let error = read(true).unwrap_err();
    assert_eq!(error.param(), "response_format.json_schema.schema.requird");
    // Without it they say nothing, to the compiler neither.
    let format = read(false).unwrap();
    assert_eq!(format.schema().unwrap().value, json!({"type": "object"}));
}

#[test]
fn response_formats_are_read_or_their_mistake_is_named() {
    let read = |value: Value| ResponseFormat::read(Some(&json_of(&value)));
    assert_eq!(ResponseFormat::read(None).unwrap(), ResponseFormat::Text);
    assert_eq!(read(json!(null)).unwrap(), ResponseFormat::Text);
    assert_eq!(read(json!({"type": "text"})).unwrap(), ResponseFormat::Text);
    assert!(
        read(json!({"type": "json_object"}))
            .unwrap()
            .schema()
            .is_some()
    );
    let cases = [
        (json!("json"), "response_format"),
        (json!({}), "response_format.type"),
        (json!({"type": "xml"}), "response_format.type"),
        (
            json!({"type": "json_schema"}),
            "response_format.json_schema",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"schema": {}}}),
            "response_format.json_schema.name",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}),
            "response_format.json_schema.name",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"name": "a"}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": 1}}),
            "response_format.json_schema.strict",
        ),
        (
            json!({"type": "text", "grammar": "x"}),
            "response_format.grammar",
        ),
    ];
    for (value, param) in cases {
        assert_eq!(read(value).unwrap_err().param(), param);
    }
}

#[test]
fn only_the_end_may_follow_a_whole_answer_and_text_is_not_constrained() {
    assert!(
        constraint(&BROOK.vocabulary, &ResponseFormat::Text, None)
            .unwrap()
            .is_none()
    );
    let mut held = held(&BROOK, &json!({"const": 1})).unwrap();
    let allowed = ids(&held.allowed().unwrap());
    assert!(
        allowed.iter().all(|id| BROOK.bytes(*id) == b"1"),
        "{allowed:?}"
    );
    assert!(!held.is_finished());
    held.accept(allowed[0]).unwrap();
    if !held.is_finished() {
        assert_eq!(ids(&held.allowed().unwrap()), [BROOK.end]);
        held.accept(BROOK.end).unwrap();
    }
    assert!(held.is_finished());
}

#[test]
fn a_token_that_is_not_allowed_is_refused() {
    let mut held = held(&BROOK, &json!({"type": "object"})).unwrap();
    let wrong = (0..).find(|id| BROOK.bytes(*id) == b"x").unwrap();
    let error = held.accept(wrong).unwrap_err();
    assert!(error.contains("not allowed"), "{error}");
    assert!(!held.is_finished());
}

#[test]
fn rows_that_no_token_has_are_never_allowed() {
    let tokenizer = brook::tokenizer().unwrap();
    let rows = tokenizer.vocab_size() + 100;
    let padded = Vocabulary::new(&tokenizer, &[0], rows).unwrap();
    let format = ResponseFormat::read(Some(&json_of(&json!({"type": "json_object"})))).unwrap();
    let mut held = constraint(&padded, &format, None).unwrap().unwrap();
    let words = held.allowed().unwrap();
    assert!(words.len() * 32 >= rows);
    assert!(
        ids(&words)
            .iter()
            .all(|id| (*id as usize) < tokenizer.vocab_size())
    );
}

#[test]
fn a_schema_that_comes_again_is_not_compiled_again() {
    // Many properties, so that compiling shows.
    let properties: serde_json::Map<_, _> = (0..300)
        .map(|i| {
            (
                format!("p{i}"),
                json!({"type": "string", "maxLength": 100 + i}),
            )
        })
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    let time = || {
        let start = Instant::now();
        let mut held = held(&BROOK, &schema).unwrap();
        assert!(!held.allowed().unwrap().is_empty());
        start.elapsed()
    };
    let (first, second) = (time(), time());
    assert!(second * 2 < first, "{first:?} then {second:?}");
}

/// `SMOL=path/to/tokenizer.json cargo test -p tributary-engine masks_of_a_large_vocabulary -- --ignored --nocapture`
#[test]
#[ignore = "needs a tokenizer.json, by the variable SMOL; measures"]
fn masks_of_a_large_vocabulary_take_microseconds() {
    let path = std::env::var("SMOL").expect("SMOL names a tokenizer.json");
    let start = Instant::now();
    let tokenizer = Tokenizer::from_file(path).unwrap();
    // Linux alone tells it; elsewhere zero is printed.
    let resident_mib = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = pages.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
        pages.unwrap_or(0) / 256
    };
    let before = (start.elapsed(), resident_mib());
    let tongue = Tongue::new(&tokenizer);
    let (read, mib) = (before.0, resident_mib() - before.1);
    println!("vocabulary: {:?}, {mib} MiB", start.elapsed() - read);
    let mut all = Vec::new();
    let mut accepts = Vec::new();
    for (schema, ..) in kept() {
        let start = Instant::now();
        let mut first = held(&tongue, &schema).unwrap();
        let compiled = start.elapsed();
        let mut times = Vec::new();
        for seed in 0..20 {
            let mut timed = Timed {
                inner: std::mem::replace(&mut first, held(&tongue, &schema).unwrap()),
                times: Vec::new(),
                accepts: Vec::new(),
            };
            tongue.walk(&mut timed, seed);
            times.extend(timed.times);
            accepts.extend(timed.accepts);
        }
        times.sort_unstable();
        println!(
            "compile {compiled:?}, {} masks: median {} us, p99 {} us, most {} us: {}",
            times.len(),
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
            shown(&schema.to_string())
        );
        all.extend(times);
    }
    all.sort_unstable();
    println!(
        "all {} masks: median {} us, p99 {} us, most {} us",
        all.len(),
        all[all.len() / 2],
        all[all.len() * 99 / 100],
        all[all.len() - 1]
    );
    accepts.sort_unstable();
    println!(
        "tokens taken: median {} us, p99 {} us",
        accepts[accepts.len() / 2],
        accepts[accepts.len() * 99 / 100]
    );
    assert!(all[all.len() * 99 / 100] < 20_000);
}

struct Timed {
    inner: Box<dyn Constraint>,
    times: Vec<u128>,
    accepts: Vec<u128>,
}

impl Constraint for Timed {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let start = Instant::now();
        let words = self.inner.allowed();
        self.times.push(start.elapsed().as_micros());
        words
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        let start = Instant::now();
        let accepted = self.inner.accept(token);
        self.accepts.push(start.elapsed().as_micros());
        accepted
    }

    fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}
