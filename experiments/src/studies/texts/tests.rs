//! Tests of the runs behind the page: some attacks, in one or two runs each.

use super::*;

fn played(attack: TextAttack, runs: u64) -> Row {
    let scenes = scenes(runs).expect("the trainer's texts");
    let quiet: Vec<Quiet> = scenes.iter().map(Quiet::of).collect();
    row(attack, &scenes, &quiet)
}

#[test]
fn a_fair_owner_has_every_token_of_its_text() {
    let scenes = scenes(1).expect("the trainer's texts");
    let quiet = Quiet::of(&scenes[0]);
    let part = quiet.fair.0 as f64 / scenes[0].own.tokens() as f64;
    assert!((0.95..=1.0).contains(&part), "{part} of its own text");
    for (own, text) in quiet.owners.iter().zip(&scenes[0].owners) {
        let part = *own as f64 / text.tokens() as f64;
        assert!((0.95..=1.0).contains(&part), "{part} of an owner's text");
    }
}

#[test]
fn others_text_gains_nothing_under_any_number_of_names() {
    for attack in [
        TextAttack::Appended(30),
        TextAttack::Alone(10),
        TextAttack::OnePrint,
    ] {
        let row = played(attack, 2);
        // An excerpt behind one's own text is an estimate, exact on average alone: the page says how far single runs go.
        let gain = match attack {
            TextAttack::Appended(_) => row.gain,
            _ => row.most,
        };
        assert!(gain <= AIM, "{row:?}");
        assert!(row.victim >= 0.999 && row.others >= 0.999, "{row:?}");
    }
    for attack in [TextAttack::Repeated, TextAttack::Opened] {
        let row = played(attack, 1);
        assert_eq!((row.names, row.most, row.victim), (65, 1.0, 1.0), "{row:?}");
    }
}

#[test]
fn those_who_commit_to_one_text_at_one_height_share_it() {
    let row = played(TextAttack::Accident, 1);
    assert!((row.gain - 0.5).abs() < 0.01, "{row:?}");
    assert!((row.victim - 0.5).abs() < 0.01, "{row:?}");
}

#[test]
fn what_was_never_anybodys_text_passes_for_new() {
    let row = played(TextAttack::Invented, 1);
    assert!(row.gain > 5.0, "{row:?}");
    assert!(row.victim >= 0.999, "{row:?}");
}
