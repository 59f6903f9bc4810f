//! A federation of quadratic learners from contributions to statements, by the certified path:
//! combine, step, three evaluators' sheets, median, credits, books.

use std::convert::Infallible;

use tributary_attribution::fold::Funding;
use tributary_attribution::money::Balance;
use tributary_attribution::query::{self, TokenLoss};
use tributary_attribution::{
    Account, Books, CertifiedRound, Fact, Gradient, Moved, Outcome, Statement, path,
};
use tributary_protocol::aggregate::{self, Weighted};
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::hash::{self, Domain};
use tributary_protocol::id::{
    BlobRef, BlockId, MicroOpen, NanoNats, PeerId, Ppb, Round, Seq, StateHash,
};
use tributary_protocol::manifest::{
    Aggregation, FactorSchedule, Manifest, RevenueSplit, RoundSplit, UpdateCodec,
};
use tributary_protocol::panel::Panel;
use tributary_protocol::round::{EntryRef, FinalScore, Included, RoundValue};
use tributary_protocol::test_utils::net;

use crate::toy::{Counted, Draw, Loss, Quadratic, peer, widen};

/// With so many, honest work is beyond luck in its first round: all of them agree in sign, and luck is a root.
const PARAMETERS: usize = 48;
const ROUNDS: u32 = 4;
const BUDGET: MicroOpen = MicroOpen(10_000_001);
/// For a nat: any round of this run gains enough for its budget.
const PRICE: MicroOpen = MicroOpen(1_000_000_000_000_000);
/// What everybody's text has in common: where the hold-outs' losses are least.
const TRUTH: [f64; PARAMETERS] = {
    let (pattern, mut all) = ([1.0, -0.5, 0.25, 0.75, -1.0, 0.5], [0.0; PARAMETERS]);
    let mut at = 0;
    while at < PARAMETERS {
        all[at] = pattern[at % pattern.len()];
        at += 1;
    }
    all
};
/// Peers 0 to 2 are honest, peer 0 with twice the tokens; 3 sends nothing useful, 4 does harm.
const TOKENS: [u64; 5] = [2000, 1000, 1000, 1000, 1000];
const IDLE: usize = 3;
const HARMFUL: usize = 4;
const SPONSOR: usize = 9;
const EVALUATORS: usize = 3;

/// Everything that became final, as an auditor finds it.
struct Federation {
    manifest: Manifest,
    values: Vec<RoundValue>,
    sheets: Vec<Vec<ScoreSheet>>,
    moved: Moved,
    adapter: Vec<f32>,
}

fn manifest() -> Manifest {
    let evaluators = (20..20 + EVALUATORS).map(peer).collect();
    let mut manifest = net::manifest(peer(SPONSOR), evaluators, 5, ROUNDS);
    let side = PARAMETERS as u32 / 2;
    manifest.model.adapter = net::shape(1, &["bowl"], (side, side));
    manifest.training.schedule = FactorSchedule::Both;
    manifest.updates.codec = UpdateCodec::DenseF32;
    manifest.updates.aggregation = Aggregation::Mean;
    manifest.membership.committee = 3;
    manifest.plan.min_contributions = 5;
    manifest.payment.budget_per_round = BUDGET;
    manifest.payment.price_per_nat = PRICE;
    manifest.payment.round = RoundSplit::CONTRIBUTORS;
    manifest.payment.revenue = RevenueSplit {
        contributors: Ppb::ONE,
        base_author: Ppb(0),
        server: Ppb(0),
        committee: Ppb(0),
        stakers: Ppb(0),
    };
    manifest
}

/// Five steps of gradient descent on the peer's own bowl, or what a dishonest peer sends instead.
fn update(number: usize, round: u32, start: &[f32]) -> Vec<f32> {
    if number == IDLE {
        return vec![0.0; PARAMETERS];
    }
    let mut draw = Draw::new(1000 * u64::from(round) + number as u64);
    let own = Quadratic::around(&mut draw, &TRUTH, 1, 0.2);
    let mut at = widen(start);
    for _ in 0..5 {
        let (_, gradient) = own.at(0, &at);
        at.iter_mut().zip(gradient).for_each(|(x, g)| *x -= 0.1 * g);
    }
    let sign = if number == HARMFUL { -0.5 } else { 1.0 };
    (at.iter().zip(start))
        .map(|(x, s)| (sign * (x - f64::from(*s))) as f32)
        .collect()
}

fn sheet(number: usize, round: Round, before: &[f32], given: &[(PeerId, Vec<f32>)]) -> ScoreSheet {
    let mut draw = Draw::new(50 + number as u64);
    let mut hold_out = Counted::new(Quadratic::around(&mut draw, &TRUTH, 4, 0.2));
    let scores = path::score(before, given, &[], &mut hold_out).expect("a good hold-out");
    assert_eq!((hold_out.gradients.get(), hold_out.losses.get()), (8, 8));
    scores.sheet(round, StateHash::default())
}

fn included(number: usize, update: &[f32]) -> Included {
    let bytes: Vec<u8> = update.iter().flat_map(|v| v.to_le_bytes()).collect();
    let receipt = EntryRef {
        author: peer(number),
        seq: Seq(0),
        block: BlockId(hash::digest(Domain::Block, &bytes)),
        index: 0,
    };
    Included {
        receipt,
        update: BlobRef::of(&bytes),
        tokens: TOKENS[number],
        weight: TOKENS[number],
    }
}

fn run() -> Federation {
    let manifest = manifest();
    let mut adapter = vec![0.0f32; PARAMETERS];
    let (mut values, mut sheets, mut moved) = (vec![], vec![], Moved::default());
    let mut scores: Vec<FinalScore> = vec![];
    for round in 0..=manifest.closing_round().0 {
        let trains = round > 0 && round <= ROUNDS;
        let updates: Vec<Vec<f32>> = (0..TOKENS.len())
            .filter(|_| trains)
            .map(|number| update(number, round, &adapter))
            .collect();
        let weighted: Vec<Weighted> = (updates.iter().enumerate())
            .map(|(number, update)| Weighted {
                peer: peer(number),
                weight: TOKENS[number],
                update: update.clone(),
            })
            .collect();
        let included: Vec<Included> = (updates.iter().enumerate())
            .map(|(number, update)| included(number, update))
            .collect();
        values.push(RoundValue {
            run: manifest.run_id(),
            round: Round(round),
            included: included.clone(),
            scores: std::mem::take(&mut scores),
            ..RoundValue::default()
        });
        if !trains {
            continue;
        }
        let given = aggregate::combine(manifest.updates.aggregation, &weighted);
        let judged: Vec<ScoreSheet> = (0..EVALUATORS)
            .map(|number| sheet(number, Round(round), &adapter, &given))
            .collect();
        let signed: Vec<(PeerId, &ScoreSheet)> = (manifest.scoring.evaluators.iter())
            .copied()
            .zip(&judged)
            .collect();
        scores = aggregate::final_scores(
            &signed,
            &included,
            &Panel::equal(manifest.scoring.evaluators.iter().copied()),
        );
        adapter = aggregate::step(&adapter, &given);
        moved.add(&given).expect("vectors of one adapter");
        sheets.push(judged);
    }
    Federation {
        manifest,
        values,
        sheets,
        moved,
        adapter,
    }
}

impl Federation {
    fn facts(&self) -> Vec<Fact> {
        let rounds = CertifiedRound::chain(
            &self.manifest,
            &self.values,
            &Funding::of_all_rounds(&self.manifest),
        )
        .expect("without holes");
        rounds.into_iter().map(Fact::Round).collect()
    }

    fn statement(&self, number: usize) -> Statement {
        let books = Books::of(self.facts()).expect("certified facts");
        Statement::of(&books, peer(number))
    }
}

#[test]
fn every_round_lowers_the_loss_that_evaluators_measure() {
    for number in 0..EVALUATORS {
        let sheets = run().sheets;
        for pair in sheets.windows(2) {
            let (first, second) = (&pair[0][number], &pair[1][number]);
            assert!(first.loss_after < first.loss_before);
            let step = first.loss_after.0 - second.loss_before.0;
            assert!(step.abs() < 1000, "one adapter, one loss: {step} nanonats");
        }
    }
}

#[test]
fn every_sheet_adds_up_to_its_drop() {
    for sheet in run().sheets.iter().flatten() {
        let drop = sheet.loss_before.0 - sheet.loss_after.0;
        let sum: i64 = sheet.scores.iter().map(|s| s.score.0).sum();
        assert!((drop - sum).abs() < 1000, "{} nanonats", drop - sum);
    }
}

#[test]
fn useful_work_is_paid_by_its_use() {
    let federation = run();
    let earned = |number| federation.statement(number).runs[0].earned;
    assert!(earned(0) > MicroOpen(earned(1).0.max(earned(2).0) * 3 / 2));
    assert!(earned(1) > MicroOpen(0) && earned(2) > MicroOpen(0));
    assert_eq!(earned(IDLE), MicroOpen(0));
    assert_eq!(earned(HARMFUL), MicroOpen(0));
    let all: u128 = (0..TOKENS.len()).map(|n| earned(n).0).sum();
    assert_eq!(all, BUDGET.0 * u128::from(ROUNDS));
}

#[test]
fn harm_is_recorded_in_every_round() {
    let statement = run().statement(HARMFUL);
    let lines = &statement.runs[0].lines;
    assert_eq!(lines.len(), ROUNDS as usize);
    assert!(lines.iter().all(|l| l.score < NanoNats(0)));
    assert!(lines.iter().all(|l| l.outcome == Outcome::Paid));
    assert!(statement.to_string().contains("no help: earns nothing"));
}

#[test]
fn the_sponsor_paid_what_the_contributors_earned() {
    let federation = run();
    let books = Books::of(federation.facts()).expect("certified facts");
    let id = federation.manifest.run_id();
    let paid = books.balance(id, Account::Sponsor(peer(SPONSOR)));
    assert_eq!(paid, Balance(-((BUDGET.0 * u128::from(ROUNDS)) as i128)));
    assert_eq!(books.total(), Ok(Balance(0)));
    assert_eq!(federation.statement(SPONSOR).total, paid);
    for number in 0..TOKENS.len() {
        let statement = federation.statement(number);
        let lines: u128 = statement.runs[0].lines.iter().map(|l| l.amount.0).sum();
        assert_eq!(statement.total, Balance(lines as i128));
        assert_eq!(
            books.balance(id, Account::Contributor(peer(number))),
            statement.total
        );
    }
}

#[test]
fn two_peers_that_learn_the_rounds_in_other_orders_hold_equal_books() {
    let (one, other) = (run(), run());
    let mut turned = other.facts();
    turned.reverse();
    turned.extend(other.facts());
    let books = Books::of(one.facts()).expect("certified facts");
    assert_eq!(books, Books::of(turned).expect("certified facts"));
    assert_eq!(books.rounds(one.manifest.run_id()).count(), ROUNDS as usize);
}

#[test]
fn one_lying_evaluator_of_three_moves_nobody_out_of_the_honest_range() {
    let federation = run();
    let honest = &federation.sheets[0];
    let mut lying = honest[2].clone();
    for (number, line) in lying.scores.iter_mut().enumerate() {
        line.score = NanoNats(if number == IDLE { i64::MAX } else { i64::MIN });
    }
    let sheets = [&honest[0], &honest[1], &lying];
    let signed: Vec<(PeerId, &ScoreSheet)> = (federation.manifest.scoring.evaluators.iter())
        .copied()
        .zip(sheets)
        .collect();
    let judged = &federation.values[1].included;
    let found = aggregate::final_scores(
        &signed,
        judged,
        &Panel::equal(federation.manifest.scoring.evaluators.iter().copied()),
    );
    for (number, found) in found.iter().enumerate() {
        let (a, b) = (
            honest[0].scores[number].score,
            honest[1].scores[number].score,
        );
        assert!(
            a.min(b) <= found.score && found.score <= a.max(b),
            "peer {number}"
        );
    }
}

#[test]
fn an_answer_is_shared_by_those_who_moved_the_adapter_towards_it() {
    let federation = run();
    // The answer's loss is a bowl around the truth; the adapter has come most of the way.
    let mut question = Counted::new(Quadratic::around(&mut Draw::new(77), &TRUTH, 1, 0.0));
    let mut loss = |point: &[f32]| -> Result<f64, Infallible> { question.loss(0, point) };
    let losses = TokenLoss {
        base: loss(&[0.0; PARAMETERS]).expect("infallible"),
        adapter: loss(&federation.adapter).expect("infallible"),
    };
    assert!(losses.adapter < losses.base);
    let pass = question
        .loss_gradient(0, &federation.adapter)
        .expect("infallible");
    let shares =
        query::shares(&pass.gradient, federation.moved.iter(), &[losses]).expect("good input");
    let share = |number: usize| shares.shares[number].share;
    assert!(share(0) > share(1) && share(0) > share(2));
    assert_eq!((share(IDLE), share(HARMFUL)), (Ppb(0), Ppb(0)));
    assert!(shares.shares[HARMFUL].influence < NanoNats(0));
    let given: u32 = shares.shares.iter().map(|s| s.share.0).sum();
    assert_eq!(given + shares.nobody.0, Ppb::ONE.0);
    let kept = (losses.adapter - losses.base).exp();
    assert!((shares.nobody.as_f64() - kept).abs() < 1e-8);
}
