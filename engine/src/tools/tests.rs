//! Lists of tools, prompts with them, and calls in answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::{Conversation, Message};
use crate::grammar::tests::valid::valid;
use crate::grammar::tests::{BROOK, PIECES, json_of};
use crate::grammar::{ResponseFormat, constraint};

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place"], "additionalProperties": false}, "strict": true}})
}

fn two() -> Value {
    json!([weather(), {"type": "function", "function": {"name": "now"}}])
}

fn read(tools: &Value, choice: &Value, parallel: bool) -> Result<Option<Tools>, GrammarError> {
    Tools::read(
        Some(&json_of(tools)),
        Some(&json_of(choice)),
        Some(parallel),
    )
}

fn tools(choice: Value, parallel: bool) -> Tools {
    read(&two(), &choice, parallel).unwrap().unwrap()
}

#[test]
fn tools_are_read_or_their_mistake_is_named() {
    assert_eq!(read(&json!(null), &json!(null), true).unwrap(), None);
    assert_eq!(read(&json!([]), &json!("auto"), true).unwrap(), None);
    assert_eq!(*tools(json!(null), true).choice(), Choice::Auto);
    let named = json!({"type": "function", "function": {"name": "now"}});
    assert_eq!(*tools(named, true).choice(), Choice::Named("now".into()));
    let function = |inner: Value| json!([{"type": "function", "function": inner}]);
    let cases = [
        (json!({}), json!(null), "tools"),
        (json!([]), json!("required"), "tool_choice"),
        (
            json!([{"type": "web_search"}]),
            json!(null),
            "tools[0].type",
        ),
        (
            json!([{"type": "function"}]),
            json!(null),
            "tools[0].function",
        ),
        (function(json!({})), json!(null), "tools[0].function.name"),
        (
            function(json!({"name": "a.b"})),
            json!(null),
            "tools[0].function.name",
        ),
        (
            function(json!({"name": "a\" @s0 \""})),
            json!(null),
            "tools[0].function.name",
        ),
        (
            function(json!({"name": "a", "parameters": {"type": "array"}})),
            json!(null),
            "tools[0].function.parameters.type",
        ),
        (
            function(json!({"name": "a", "parameters": {"type": "object", "not": {}}})),
            json!(null),
            "tools[0].function.parameters.not",
        ),
        (
            function(json!({"name": "a", "code": 1})),
            json!(null),
            "tools[0].function.code",
        ),
        (
            json!([weather(), weather()]),
            json!(null),
            "tools[1].function.name",
        ),
        (two(), json!("any"), "tool_choice"),
        (
            two(),
            json!({"type": "function", "function": {"name": "then"}}),
            "tool_choice.function.name",
        ),
        (Value::Array(vec![weather(); 129]), json!(null), "tools"),
        (
            function(json!({"name": "a", "description": "x".repeat(300_000)})),
            json!(null),
            "tools[0]",
        ),
    ];
    for (list, choice, param) in cases {
        let error = read(&list, &choice, true).unwrap_err();
        assert_eq!(error.param(), param, "{error}");
    }
}

#[test]
fn tools_stand_in_the_prompt_as_the_request_wrote_them() {
    let template = "{% for t in tools %}{{ t | tojson }}\n{% endfor %}";
    let template = ChatTemplate::new(template, []).unwrap();
    let write = |tools: &Tools| {
        let conversation = Conversation {
            messages: Vec::new(),
            tools: tools.for_prompt(&template).unwrap(),
        };
        template.write(&conversation, 0, false).unwrap()
    };
    let text = write(&tools(json!("auto"), true));
    let first = "{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"Tells the weather\", \"parameters\": {\"type\": \"object\", ";
    assert!(
        text.starts_with(first) && !text.contains("strict"),
        "{text}"
    );
    assert_eq!(write(&tools(json!("none"), true)), "");
    let without = ChatTemplate::new("{{ messages }}", []).unwrap();
    let error = tools(json!("auto"), true).for_prompt(&without).unwrap_err();
    assert_eq!(
        (error.code(), error.param()),
        ("tools_not_supported", "tools")
    );
}

#[test]
fn messages_of_calls_and_results_become_what_templates_expect() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"place\": \"Delft\", \"days\": 2}"}}]});
    let call = message(&json_of(&call), 1).unwrap();
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]});
    let result = message(&json_of(&result), 2).unwrap();
    let template = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}\
                    {{ c.function.name }} {{ c.function.arguments.days + 1 }} {{ c.function.arguments | tojson }}{% endfor %};{% endfor %}";
    let template = ChatTemplate::new(template, []).unwrap();
    let text = template.render(&[call, result], false).unwrap();
    assert_eq!(
        text,
        "assistant:weather 3 {\"place\": \"Delft\", \"days\": 2};tool:rain;"
    );
    let plain = message(&json_of(&json!({"role": "developer", "content": "x"})), 0).unwrap();
    assert_eq!(plain, Message::new("system", "x"));
}

#[test]
fn messages_that_cannot_be_read_name_their_mistake() {
    let called = |function: Value| json!({"role": "assistant", "tool_calls": [{"id": "a", "function": function}]});
    let cases = [
        (json!("hello"), "messages[3]"),
        (json!({"content": "x"}), "messages[3].role"),
        (json!({"role": "robot", "content": "x"}), "messages[3].role"),
        (json!({"role": "user"}), "messages[3].content"),
        (json!({"role": "user", "content": 1}), "messages[3].content"),
        (
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            "messages[3].content[0].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "text"}]}),
            "messages[3].content[0].text",
        ),
        (
            json!({"role": "tool", "content": "x"}),
            "messages[3].tool_call_id",
        ),
        (
            json!({"role": "user", "content": "x", "tool_calls": []}),
            "messages[3].tool_calls",
        ),
        (
            called(json!({"name": "a", "arguments": "{"})),
            "messages[3].tool_calls[0].function.arguments",
        ),
        (
            called(json!({"name": "a", "arguments": "[]"})),
            "messages[3].tool_calls[0].function.arguments",
        ),
        (
            called(json!({"arguments": "{}"})),
            "messages[3].tool_calls[0].function.name",
        ),
    ];
    for (json, param) in cases {
        assert_eq!(message(&json_of(&json), 3).unwrap_err().param(), param);
    }
}

/// Text and calls of a whole answer, pieces of text joined.
fn parse(tools: &Tools, pieces: &[&str]) -> (String, Vec<(String, String)>) {
    let mut parser = tools.parser(7, &[1, 2]);
    let mut deltas: Vec<Delta> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    deltas.extend(parser.finish());
    let mut text = String::new();
    let mut calls = Vec::new();
    for delta in deltas {
        match delta {
            Delta::Text(more) => text += &more,
            Delta::Call {
                index,
                id,
                name,
                arguments,
            } => {
                assert_eq!(index, calls.len());
                assert!(id.starts_with("call_") && id.len() == 29, "{id}");
                text += &format!("[{index}]");
                calls.push((name, arguments));
            }
        }
    }
    (text, calls)
}

const CALL: &str =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Delft\"}}\n</tool_call>";

#[test]
fn calls_are_found_and_what_is_none_stays_text() {
    let both = tools(json!("auto"), true);
    let one = |text: &str| parse(&both, &[text]);
    let arguments = "{\"place\": \"Delft\"}";
    let call = || vec![("weather".to_owned(), arguments.to_owned())];
    assert_eq!(one(CALL), ("[0]".into(), call()));
    assert_eq!(
        one(&format!("Let me see.\n{CALL}\n")),
        ("Let me see.[0]".into(), call())
    );
    assert_eq!(one(&format!("{CALL}\n{CALL}")).0, "[0][1]");
    assert_eq!(one(&format!("{CALL}\n\n Then.  ")).0, "[0]Then.  ");
    let within = CALL.replace("Delft", "</tool_call> <tool_call>");
    assert_eq!(
        one(&within).1[0].1,
        "{\"place\": \"</tool_call> <tool_call>\"}"
    );
    let as_text = CALL.replace(arguments, "\"{\\\"place\\\": \\\"Delft\\\"}\"");
    assert_eq!(one(&as_text), ("[0]".into(), call()));
    let texts = [
        "plain",
        "  a < b \n ",
        "<tool_call",
        "<tool_call>",
        "a <tool_call> b",
        "</tool_call>",
        "<tool_call></tool_call>",
        "<tool_call>\n{\"name\": \"weather\"}\n</tool_call>",
        "<tool_call>\n{\"name\": \"then\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}\n</tool_call>",
        &CALL[..60],
    ];
    for text in texts {
        assert_eq!(one(text), (text.to_owned(), Vec::new()));
    }
    // What breaks off hides no call that follows.
    assert_eq!(one(&format!("<tool_call>{{x {CALL}")).0, "<tool_call>{x[0]");
}

#[test]
fn text_never_shows_a_part_of_a_tag_and_comes_as_soon_as_it_is_none() {
    let both = tools(json!("auto"), true);
    let mut parser = both.parser(0, &[]);
    let text = |text: &str| vec![Delta::Text(text.into())];
    assert_eq!(parser.push("Hello <"), text("Hello"));
    assert_eq!(parser.push("tool"), []);
    assert_eq!(parser.push("s> x"), text(" <tools> x"));
    assert_eq!(parser.push("<tool_call>\n{\"name\""), []);
    assert_eq!(parser.finish(), text("<tool_call>\n{\"name\""));
}

#[test]
fn one_call_ends_an_answer_that_may_hold_no_more() {
    let single = tools(json!("auto"), false);
    let mut parser = single.parser(0, &[]);
    assert_eq!(parser.push(CALL).len(), 1);
    assert!(parser.is_finished());
    assert_eq!(parser.push(CALL), []);
    assert_eq!((parser.calls(), parser.finish()), (1, vec![]));
}

#[test]
fn ids_follow_from_seed_prompt_and_place() {
    let both = tools(json!("auto"), true);
    let ids = |seed, prompt: &[u32]| {
        let deltas = both.parser(seed, prompt).push(&format!("{CALL}{CALL}"));
        let ids = deltas.into_iter().filter_map(|delta| match delta {
            Delta::Call { id, .. } => Some(id),
            Delta::Text(_) => None,
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(1, &[2]), ids(1, &[2]));
    let mut all = [ids(1, &[2]), ids(2, &[2]), ids(1, &[3])].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

/// The calls of a forced answer.
fn forced(choice: &Value, parallel: bool, seed: u64) -> Option<Vec<(String, String)>> {
    let demanded = tools(choice.clone(), parallel);
    let tongue = if seed.is_multiple_of(2) {
        &*BROOK
    } else {
        &*PIECES
    };
    let held = constraint(&tongue.vocabulary, &ResponseFormat::Text, Some(&demanded));
    let text = tongue.walk(&mut *held.unwrap().expect("calls are forced"), seed)?;
    let (rest, calls) = parse(&demanded, &[&text]);
    assert!(rest.starts_with("[0]") && !calls.is_empty(), "{text}");
    assert_eq!(
        rest,
        (0..calls.len())
            .map(|i| format!("[{i}]"))
            .collect::<String>(),
        "{text}"
    );
    Some(calls)
}

#[test]
fn a_forced_answer_is_calls_of_the_tools_with_their_arguments() {
    let schema = &weather()["function"]["parameters"];
    let named = json!({"type": "function", "function": {"name": "weather"}});
    let mut ended = 0;
    let mut several = 0;
    for seed in 0..24 {
        for (choice, parallel) in [
            (json!("required"), true),
            (json!("required"), false),
            (named.clone(), true),
        ] {
            let Some(calls) = forced(&choice, parallel, seed) else {
                continue;
            };
            ended += 1;
            several += usize::from(calls.len() > 1);
            assert!(parallel || calls.len() == 1);
            for (name, arguments) in calls {
                let arguments: Value = serde_json::from_str(&arguments).unwrap();
                match name.as_str() {
                    "weather" => assert!(valid(schema, schema, &arguments), "{arguments}"),
                    "now" => assert!(choice != named && arguments == json!({})),
                    other => panic!("{other} is no tool"),
                }
            }
        }
    }
    assert!(
        ended > 36 && several > 0,
        "{ended} ended, {several} with several calls"
    );
}

#[test]
fn tools_that_may_be_called_are_an_alternative_to_the_form() {
    let free = tools(json!("auto"), true);
    assert!(
        constraint(&BROOK.vocabulary, &ResponseFormat::Text, Some(&free))
            .unwrap()
            .is_none()
    );
    let format = ResponseFormat::read(Some(&json_of(&json!({"type": "json_object"})))).unwrap();
    let mut calls = 0;
    for seed in 0..32 {
        let mut held = constraint(&BROOK.vocabulary, &format, Some(&free))
            .unwrap()
            .unwrap();
        let Some(text) = BROOK.walk(&mut *held, seed) else {
            continue;
        };
        match parse(&free, &[&text]) {
            (_, found) if !found.is_empty() => calls += 1,
            _ => {
                let value: Result<Value, _> = serde_json::from_str(&text);
                let too_large = |e: &serde_json::Error| e.to_string().contains("out of range");
                assert!(
                    value.map_or_else(|e| too_large(&e), |v| v.is_object()),
                    "{text}"
                );
            }
        }
    }
    assert!((1..32).contains(&calls), "{calls}");
}

proptest! {
    #[test]
    fn a_stream_gives_what_the_whole_gives_wherever_it_is_cut(
        parts in proptest::collection::vec(prop_oneof![
            Just(CALL.to_owned()),
            Just(CALL.replace("Delft", "</tool_call>\u{e9}\u{1f30a}")),
            Just(CALL.replace("weather", "then")),
            Just("<tool_call>".to_owned()),
            Just("</tool_call>".to_owned()),
            Just("<tool_call>\n{\"name\": \"".to_owned()),
            Just("<tool".to_owned()),
            "[ \n<a\u{e9}\"{}]{0,6}",
        ], 0..8),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        parallel: bool,
    ) {
        let text = parts.concat();
        let tools = tools(json!("auto"), parallel);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.retain(|at| text.is_char_boundary(*at));
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(parse(&tools, &pieces), parse(&tools, &[&text]));
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        prop_assert_eq!(parse(&tools, &letters), parse(&tools, &[&text]));
    }
}
