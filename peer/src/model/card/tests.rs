//! What a card says, and that no name breaks out of it.

use std::sync::Arc;

use super::*;
use crate::config::{RunFile, example};

fn card(name: &str) -> Card {
    let facts = crate::model::facts(BROOK).unwrap();
    let file = RunFile::parse(example(), "x").unwrap();
    let mut manifest = file.manifest(PeerId::default(), 1, &facts).unwrap();
    manifest.name = name.to_owned();
    let shape = Arc::new(manifest.model.adapter.clone());
    let adapter = Adapter::init(shape, &manifest.model.base.hash);
    let round = |round: u32, before: f64, after: f64| RoundView {
        round,
        loss_before: Some(before),
        loss_after: Some(after),
        ..RoundView::default()
    };
    let credit = |name: &str, credit: u64, beyond_luck: bool| CreditView {
        peer: name.repeat(8),
        name: name.to_owned(),
        score_nanonats: 2_500_000,
        low_nanonats: -1_000_000,
        high_nanonats: 4_000_000,
        credit,
        beyond_luck,
        ..CreditView::default()
    };
    let known = Known {
        members: vec![MemberView {
            peer: "amy".repeat(8),
            tokens: 900,
            own_tokens: 800,
            ..MemberView::default()
        }],
        rounds: vec![round(1, 5.0, 4.5), round(2, 4.5, 4.25), round(3, 4.25, 4.0)],
        credits: vec![
            credit("amy", 750_000_000, true),
            credit("bob", 250_000_000, false),
        ],
    };
    Card::of(&manifest, &adapter, Round(2), known)
}

#[test]
fn a_card_tells_base_contributors_losses_and_limits() {
    let text = card("poets").markdown();
    for part in [
        "base_model: \"brook\"\nlibrary_name: peft\nlicense: \"unknown\"\n",
        "5.0000 before round 1, 4.2500 after round 2",
        "| amy | amyamyamyamyamyamyamyamy | 900 | 800 | +2.500 (-1.000 to +4.000) | 75.0 % |",
        "| 25.0 % (not beyond luck) |",
        "nothing is known of it here",
        "## What this does not tell",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(
        !text.contains("4.0000"),
        "a later round is not this adapter's:\n{text}"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Card::read(folder.path()), None);
    let card = card("poets").with_licence(&HomePaths::new(folder.path()));
    card.write(folder.path()).unwrap();
    assert_eq!(Card::read(folder.path()), Some(card));
    let text = std::fs::read_to_string(folder.path().join(README)).unwrap();
    assert!(text.contains("license: \"mit or apache-2.0\""), "{text}");
    std::fs::write(folder.path().join(FACTS), "{}").unwrap();
    assert_eq!(Card::read(folder.path()), None);
}

#[test]
fn a_strangers_name_is_neither_markup_nor_settings() {
    let card = card("x | y\n---\nlicense: mit <b> [a](b)");
    let text = card.markdown();
    let settings = text.split("\n---").next().unwrap();
    assert!(!settings.contains("mit"), "{settings}");
    assert!(
        text.contains("# x \\| y --- license: mit \\<b\\> \\[a\\](b)"),
        "{text}"
    );
    assert_eq!(quoted("a\"\n---"), "\"a\\\"\\n---\"");
}
