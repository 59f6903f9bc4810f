//! What is learned of conversations, against transformers.

use serde::Deserialize;

use super::*;
use crate::chat::Date;
use crate::json::Json;

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
    ids: Option<Vec<u32>>,
    learned: Option<Vec<u8>>,
}

/// Made by `engine/tests/chat/make.py`.
fn golden() -> (Golden, Tokenizer) {
    let golden = serde_json::from_str(include_str!("../../../../engine/tests/chat/golden.json"));
    let tokenizer = Tokenizer::from_bytes(include_bytes!(
        "../../../../engine/tests/chat/tokenizer.json"
    ));
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
    let written = encode(template, tokenizer, conversation, &[]).unwrap();
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
            let written = encode(&ours, &tokenizer, &talk(&case.messages), &ends).unwrap();
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
    let error = turns(&template, &think).unwrap_err();
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
    assert!(turns(&blind, &talk(&[user("a"), assistant("b")])).is_err());
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
    let (text, _) = turns(&writes, &conversation).unwrap();
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
