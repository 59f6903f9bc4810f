//! Conversations against transformers, and what a hostile template may not do.

use serde::Deserialize;

use super::*;
use crate::data::Document;
use crate::tokenizer::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    days: u32,
    templates: Vec<GoldenTemplate>,
}

#[derive(Deserialize)]
struct GoldenTemplate {
    name: String,
    template: String,
    bos: Option<String>,
    eos: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    error: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    invited: String,
    ids: Option<Vec<u32>>,
    learned: Option<Vec<u8>>,
}

/// Made by `tests/chat/make.py`.
fn golden() -> (Golden, Tokenizer) {
    let golden = serde_json::from_str(include_str!("../../tests/chat/golden.json"));
    let tokenizer = Tokenizer::from_bytes(include_bytes!("../../tests/chat/tokenizer.json"));
    (golden.unwrap(), tokenizer.unwrap())
}

fn template_of(golden: &GoldenTemplate, days: u32) -> ChatTemplate {
    let bos = golden.bos.clone().map(|bos| ("bos_token", bos));
    let specials = bos.into_iter().chain([("eos_token", golden.eos.clone())]);
    let template = ChatTemplate::new(&golden.template, specials).unwrap();
    template.on(Date::from_days(days))
}

fn user(content: &str) -> Message {
    Message::new("user", content)
}

fn assistant(content: &str) -> Message {
    Message::new("assistant", content)
}

fn talk(messages: &[Message]) -> Conversation {
    Conversation {
        messages: messages.to_vec(),
        tools: None,
    }
}

/// What of each document is learned, as text, and what was not used.
fn learned(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    conversation: &Conversation,
) -> (Vec<String>, Vec<String>) {
    let written = template.encode(tokenizer, conversation, &[]).unwrap();
    let said = |document: &Document| {
        let pairs = document
            .tokens
            .iter()
            .zip(document.learned.as_ref().unwrap());
        let ids: Vec<u32> = pairs.filter(|(_, l)| **l).map(|(id, _)| *id).collect();
        tokenizer.decode(&ids).unwrap()
    };
    let texts = written.documents.iter().map(said).collect();
    (texts, written.unused.into_iter().collect())
}

#[test]
fn conversations_are_written_as_transformers_writes_them() {
    let (golden, _) = golden();
    let mut written = 0;
    for template in &golden.templates {
        let ours = template_of(template, golden.days);
        for case in &template.cases {
            let name = &template.name;
            let rendered = ours.render(&case.messages, false);
            if let Some(why) = &case.error {
                let error = rendered.unwrap_err().to_string();
                assert!(error.contains(why), "{name}: {error}");
                continue;
            }
            assert_eq!(rendered.unwrap(), case.text, "{name}");
            let invited = ours.render(&case.messages, true).unwrap();
            assert_eq!(invited, case.invited, "{name}");
            written += 1;
        }
    }
    assert_eq!(written, 28);
}

#[test]
fn the_assistants_tokens_are_those_of_transformers() {
    let (golden, tokenizer) = golden();
    let mut compared = 0;
    for template in &golden.templates {
        let ours = template_of(template, golden.days);
        let ends = [tokenizer.token_to_id(&template.eos).unwrap()];
        for case in &template.cases {
            let (Some(ids), Some(learned)) = (&case.ids, &case.learned) else {
                continue;
            };
            let written = ours
                .encode(&tokenizer, &talk(&case.messages), &ends)
                .unwrap();
            let [document] = &written.documents[..] else {
                panic!("{}", template.name);
            };
            assert_eq!(&document.tokens, ids, "{}", template.name);
            let expected = learned.iter().map(|l| *l == 1).collect();
            assert_eq!(document.learned, Some(expected), "{}", template.name);
            assert!(written.unused.is_empty(), "{}", template.name);
            compared += 1;
        }
    }
    assert_eq!(compared, 18);
}

#[test]
fn where_a_template_rewrites_earlier_answers_each_is_learned_by_itself() {
    let (golden, tokenizer) = golden();
    let template = golden.templates.iter().find(|t| t.name == "rewrites");
    let template = template_of(template.unwrap(), golden.days);
    let think = talk(&[
        user("a"),
        assistant("<think>x</think>\n\nyes"),
        user("b"),
        assistant("no"),
    ]);
    let error = template.turns(&think).unwrap_err();
    assert!(
        matches!(error, ChatError::NotPrefix { message: 2 }),
        "{error}"
    );
    let (said, unused) = learned(&template, &tokenizer, &think);
    assert_eq!(said.len(), 2);
    assert!(
        said[0].contains("x</think>") && said[0].contains("yes"),
        "{said:?}"
    );
    assert!(
        said[1].contains("no") && !said[1].contains("yes"),
        "{said:?}"
    );
    assert!(unused.is_empty(), "{unused:?}");
    let one = talk(&think.messages[..2]);
    assert_eq!(learned(&template, &tokenizer, &one).0.len(), 1);
}

/// Writes an empty thought before the last answer only, as Qwen3 does.
const THINKS_LAST: &str = "{%- for m in messages -%}<{{ m.role }}>\
    {%- if m.role == 'assistant' and loop.last -%}<think>{{ m.reasoning_content or '' }}</think>{%- endif -%}\
    {{ m.content }}</{{ m.role }}>{%- endfor -%}\
    {%- if add_generation_prompt -%}<assistant>{%- endif -%}";

#[test]
fn a_thought_before_the_last_answer_only_costs_no_conversation() {
    let (_, tokenizer) = golden();
    let template = ChatTemplate::new(THINKS_LAST, []).unwrap();
    let two = talk(&[user("a"), assistant("yes"), user("b"), assistant("no")]);
    let (said, unused) = learned(&template, &tokenizer, &two);
    assert_eq!(said.len(), 2);
    assert!(said[0].contains("<think></think>yes"), "{said:?}");
    assert!(said[1].contains("<think></think>no"), "{said:?}");
    assert!(unused.is_empty(), "{unused:?}");
    let mut weighed = two;
    weighed.messages[1].learned = false;
    let (said, _) = learned(&template, &tokenizer, &weighed);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("no"), "{said:?}");
}

#[test]
fn an_invitation_that_opens_a_thought_is_no_reason_to_refuse_finished_answers() {
    let (_, tokenizer) = golden();
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}.{% endfor %}\
        {% if add_generation_prompt %}<assistant><think>\n{% endif %}";
    let template = ChatTemplate::new(source, []).unwrap();
    let (said, unused) = learned(
        &template,
        &tokenizer,
        &talk(&[user("a"), assistant("<b> yes")]),
    );
    assert_eq!(said, ["<b> yes."]);
    assert!(unused.is_empty(), "{unused:?}");
    let thought = talk(&[user("a"), assistant("<think>x</think>yes")]);
    let (said, unused) = learned(&template, &tokenizer, &thought);
    assert_eq!(said, ["yes."]);
    assert!(unused[0].contains("thoughts"), "{unused:?}");
    // Nothing tells the answer from what came before.
    let blind = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}?{% endif %}";
    let blind = ChatTemplate::new(blind, []).unwrap();
    assert!(blind.turns(&talk(&[user("a"), assistant("b")])).is_err());
}

#[test]
fn tools_and_fields_of_messages_are_written_or_named() {
    let (_, tokenizer) = golden();
    let mut conversation = talk(&[user("a"), assistant("yes")]);
    let tools: Json = serde_json::from_str(r#"[{"type": "function", "name": "né"}]"#).unwrap();
    conversation.tools = Some(tools);
    let thought = (
        "reasoning_content".to_owned(),
        Json::String("because".into()),
    );
    conversation.messages[1].more.push(thought);
    let source = "{{ tools | tojson(ensure_ascii=true) }}{% for m in messages %}<{{ m.role }}>\
        {{ m.reasoning_content }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let writes = ChatTemplate::new(source, []).unwrap();
    let (text, _) = writes.turns(&conversation).unwrap();
    // In the order of the row, as Python writes it.
    assert!(
        text.starts_with("[{\"type\": \"function\", \"name\": \"n\\u00e9\"}]"),
        "{text}"
    );
    let (said, unused) = learned(&writes, &tokenizer, &conversation);
    assert_eq!((said, unused), (vec!["becauseyes".to_owned()], vec![]));
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let (_, unused) = learned(
        &ChatTemplate::new(source, []).unwrap(),
        &tokenizer,
        &conversation,
    );
    assert!(
        unused[0].contains("reasoning_content") && unused[1].contains("tools"),
        "{unused:?}"
    );
}

#[test]
fn parts_of_a_content_are_given_as_the_template_takes_them() {
    let part = r#"{"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]}"#;
    let message: Message = serde_json::from_str(part).unwrap();
    let render = |source: &str| {
        let template = ChatTemplate::new(source, []).unwrap();
        template
            .render(std::slice::from_ref(&message), false)
            .unwrap()
    };
    assert_eq!(
        render("{% for m in messages %}{{ m.content }}{% endfor %}"),
        "abc"
    );
    let parts =
        "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
    assert_eq!(render(parts), "[ab][c]");
}

#[test]
fn a_template_that_cannot_be_used_fails_conversations_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ChatTemplate::for_rows(folder.path()).is_none());
    std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let broken = ChatTemplate::for_rows(folder.path()).unwrap();
    let error = broken.render(&[user("a")], false).unwrap_err().to_string();
    assert!(error.contains("does not parse"), "{error}");
}

#[test]
fn templates_of_strangers_run_out_of_fuel_instead_of_memory_or_time() {
    let hostile = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}\
         {% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'a' * 999999999999 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ range(100000000) | list | length }}",
        "{{ messages | tojson(indent=99999999) }}{{ messages.x.y }}",
        "{% include '/etc/passwd' %}",
    ];
    for source in hostile {
        let started = std::time::Instant::now();
        let rendered = ChatTemplate::new(source, []).and_then(|t| t.render(&[user("a")], true));
        let error = rendered.unwrap_err().to_string();
        assert!(error.contains("template"), "{source}: {error}");
        assert!(started.elapsed().as_secs() < 5, "{source}");
    }
    let nested = "{% if true %}".repeat(100_000);
    assert!(matches!(
        ChatTemplate::new(&nested, []),
        Err(ChatError::Template(_))
    ));
}

#[test]
fn templates_come_from_their_own_file_first_and_then_from_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let render = || {
        let template = ChatTemplate::from_dir(folder.path()).unwrap();
        template.map(|t| t.render(&[user("x")], false).unwrap())
    };
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert_eq!(render(), None);
    write("tokenizer_config.json", r#"{"bos_token": "<s>"}"#);
    assert_eq!(render(), None);
    let named = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null,
        "chat_template": [{"name": "tool_use", "template": "tools"},
                          {"name": "default", "template": "{{ bos_token }}default{{ eos_token }}"}]}"#;
    write("tokenizer_config.json", named);
    assert_eq!(render().as_deref(), Some("<s>default"));
    write("chat_template.jinja", "file {{ bos_token }}\n");
    assert_eq!(render().as_deref(), Some("file <s>"));
    write("chat_template.jinja", "{% if %}");
    assert!(matches!(
        ChatTemplate::from_dir(folder.path()),
        Err(ChatError::Template(_))
    ));
    write("tokenizer_config.json", "{");
    let error = ChatTemplate::from_dir(folder.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("tokenizer_config.json"), "{error}");
}
