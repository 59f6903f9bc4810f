//! An attribution method of one's own: how many numbers of an update point where the round went.
//!
//! This program is `tributary-lab` with that method added, which `attribution` holds against retrained coalitions:
//!
//!     cargo run -p tributary-experiments --example method -- attribution --only signs

use std::process::ExitCode;

use tributary_experiments::Lab;
use tributary_experiments::studies::attribution::{Round, Scores, Trial};

fn agreeing(round: &mut Round<'_>) -> Scores {
    let step = &round.closed.step;
    round.scores(|at| {
        let (_, vector) = &round.closed.contributions[at];
        let pairs = vector.iter().zip(step);
        pairs.filter(|(one, other)| *one * *other > 0.0).count() as f64
    })
}

fn lab() -> Lab {
    let about = "numbers that point where the round went";
    Lab::default().method("signs of the step", about, |trial: &Trial<'_>| {
        trial.sum_rounds(2, agreeing)
    })
}

fn main() -> ExitCode {
    lab().main()
}

#[test]
fn signs_tell_members_apart_that_hold_different_text() {
    use tributary_experiments::studies::attribution::{Bank, Scope, compare};
    let bank = Bank::read(None).expect("the bank inside the program");
    let scope = Scope {
        only: "signs",
        federations: 2,
        seeds: 1,
    };
    let compared = compare(&bank, &lab().methods, &scope, |_| {}).expect("comparable");
    let figures = serde_json::to_value(compared.figures()).expect("plain figures");
    let rounds = figures["rounds"].as_array().expect("methods of rounds");
    let ours = rounds
        .iter()
        .find(|line| line["method"] == "signs of the step")
        .expect("asked for");
    println!("{ours}");
    assert!(ours["payout_error"][0].as_f64().expect("a figure") < 0.5);
}
