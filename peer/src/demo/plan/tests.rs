//! Plans: what fixes a demo, and what is noticed when it changed.

use super::*;

impl Plan {
    /// Of two contributors.
    pub(in crate::demo) fn for_tests() -> Self {
        let text = |name: &str| Text {
            name: name.to_owned(),
            train: vec![format!("{name} trains")],
            holdout: (0..7).map(|i| format!("{name} {i}")).collect(),
        };
        let texts = vec![text("amy"), text("bo")];
        Plan {
            seed: 1,
            rounds: 2,
            steps: 3,
            base: "brook".to_owned(),
            base_hash: "00".to_owned(),
            text_hash: hash_of(&texts, None),
            contributors: vec!["amy".to_owned(), "bo".to_owned()],
            measured: BTreeMap::new(),
            texts,
            holdout: None,
            is_own: false,
        }
    }
}

fn plan() -> Plan {
    Plan::for_tests()
}

#[test]
fn every_flipped_bit_of_the_plans_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan();
    plan.write(dir.path()).unwrap();
    assert_eq!(
        Plan::read(dir.path()).unwrap().contributors,
        plan.contributors
    );
    let path = dir.path().join("demo.json");
    let good = std::fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bad).unwrap();
        assert!(Plan::read(dir.path()).is_err(), "bit {bit} was accepted");
    }
}

#[test]
fn another_seed_text_or_length_is_another_demo() {
    let here = plan();
    assert_eq!(here.differs(&plan()), None);
    let other = Plan { seed: 2, ..plan() };
    assert_eq!(here.differs(&other).unwrap(), "--seed 2 there, 1 now");
    let other = Plan {
        text_hash: String::new(),
        ..plan()
    };
    assert_eq!(here.differs(&other).unwrap(), "the texts have changed");
}

#[test]
fn hold_outs_are_dealt_out_so_that_each_evaluator_sees_every_domain() {
    let plan = plan();
    let mut dealt = Vec::new();
    for which in 0..3 {
        let text = plan.evaluator_text(which);
        for name in ["amy", "bo"] {
            assert!(
                text.iter().any(|p| p.starts_with(name)),
                "{which} lacks {name}"
            );
        }
        dealt.extend(text);
    }
    dealt.sort();
    let mut all: Vec<String> = plan.texts.iter().flat_map(|t| t.holdout.clone()).collect();
    all.sort();
    assert_eq!(dealt, all);
}

#[test]
fn actors_have_keys_of_their_own_that_follow_from_the_seed() {
    let actors = plan().actors();
    assert_eq!(actors.len(), 5);
    assert_eq!(actors, plan().actors());
    let other = Plan { seed: 2, ..plan() }.actors();
    assert!(actors.iter().zip(&other).all(|(a, b)| a.peer != b.peer));
    assert_eq!(actors.iter().filter(|a| a.trains).count(), 2);
}

#[test]
fn own_texts_have_both_parts_and_too_many_peers_are_refused() {
    let texts = own_texts(None).unwrap();
    assert_eq!(texts.len(), 6);
    for text in texts {
        let bytes = |parts: &[String]| parts.iter().map(String::len).sum::<usize>();
        let (train, holdout) = (bytes(&text.train), bytes(&text.holdout));
        assert!(
            holdout > 600 && holdout * 3 < train,
            "{}: {holdout} of {train}",
            text.name
        );
    }
    let error = own_texts(Some(7)).unwrap_err();
    assert!(error.to_string().contains("--data"), "{error}");
}

#[test]
fn a_data_folder_gives_a_contributor_a_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["zoe.txt", "a b.txt"] {
        std::fs::write(dir.path().join(name), "Some words here. ".repeat(400)).unwrap();
    }
    std::fs::write(dir.path().join(".hidden"), "x").unwrap();
    let texts = texts_of(dir.path(), None).unwrap();
    let names: Vec<&str> = texts.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a-b", "zoe"]);
    let error = texts_of(dir.path(), Some(3)).unwrap_err();
    assert!(error.to_string().contains("holds 2 files"), "{error}");
}
