//! Conversations against transformers, and what a hostile template may not do.

use serde::Deserialize;

use super::*;

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
}

/// Made by `tests/chat/make.py`.
fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/chat/golden.json")).unwrap()
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

#[test]
fn conversations_are_written_as_transformers_writes_them() {
    let golden = golden();
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
