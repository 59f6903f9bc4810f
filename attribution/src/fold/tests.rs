//! What each fact moves, and that repeated and refused ones leave the books alone.

use proptest::prelude::*;
use tributary_protocol::id::{NanoNats, Ppb};
use tributary_protocol::manifest::RevenueSplit;

use super::*;
use crate::money::MAX_AMOUNT;
use crate::query::{AnswerShare, AnswerShares};

fn peer(n: u8) -> PeerId {
    PeerId(Digest::from_bytes([n; 32]))
}

fn run(n: u8) -> RunId {
    RunId(Digest::from_bytes([n; 32]))
}

fn score(n: usize, score: i64) -> FinalScore {
    FinalScore {
        peer: peer(n as u8),
        score: NanoNats(score),
        low: NanoNats(score),
        high: NanoNats(score),
    }
}

fn round(of: u8, round: u32, budget: u128, scores: &[i64]) -> CertifiedRound {
    CertifiedRound {
        run: run(of),
        round: Round(round),
        sponsor: peer(250),
        budget: MicroOpen(budget),
        scores: (scores.iter().enumerate())
            .map(|(n, &s)| score(n, s))
            .collect(),
    }
}

fn usage(of: u8, answer: u8, fee: u128, share: u32) -> Usage {
    Usage {
        run: run(of),
        answer: Digest::from_bytes([answer; 32]),
        consumer: peer(251),
        server: peer(252),
        fee: MicroOpen(fee),
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base: Digest::default(),
        committee: vec![peer(1), peer(2), peer(3)],
        shares: AnswerShares {
            nobody: Ppb(1_000_000_000 - share),
            shares: vec![AnswerShare {
                peer: peer(1),
                influence: NanoNats(1),
                share: Ppb(share),
            }],
        },
    }
}

#[test]
fn a_round_pays_its_contributors_from_the_sponsor() {
    let books = Books::of([Fact::Round(round(1, 1, 90, &[2, -1, 1]))]).expect("good fact");
    let held = |account| books.balance(run(1), account).0;
    assert_eq!(held(Account::Sponsor(peer(250))), -90);
    assert_eq!(held(Account::Contributor(peer(0))), 60);
    assert_eq!(held(Account::Contributor(peer(1))), 0);
    assert_eq!(held(Account::Contributor(peer(2))), 30);
    assert_eq!(books.total(), Ok(Balance(0)));
}

#[test]
fn a_round_that_helped_nobody_moves_nothing_and_stays_on_record() {
    let books = Books::of([Fact::Round(round(1, 1, 90, &[0, -1]))]).expect("good fact");
    assert_eq!(books.balances().count(), 0);
    let rounds: Vec<_> = books.rounds(run(1)).collect();
    assert_eq!(rounds[0].1.lines[1].score, NanoNats(-1));
}

#[test]
fn an_unscored_round_waits_unallocated() {
    let books = Books::of([Fact::Round(round(1, 1, 90, &[]))]).expect("good fact");
    assert_eq!(books.balance(run(1), Account::Unallocated), Balance(90));
    assert_eq!(
        books.balance(run(1), Account::Sponsor(peer(250))),
        Balance(-90)
    );
}

#[test]
fn a_budget_of_nothing_moves_nothing() {
    for scores in [&[5, 5][..], &[]] {
        let books = Books::of([Fact::Round(round(1, 1, 0, scores))]).expect("good fact");
        assert_eq!(books.balances().count(), 0);
    }
}

#[test]
fn a_repeated_fact_changes_nothing_and_another_of_its_name_is_refused() {
    let fact = Fact::Round(round(1, 1, 90, &[1]));
    let mut books = Books::of([fact.clone()]).expect("good fact");
    let once = books.clone();
    assert_eq!(books.add(fact), Ok(false));
    let other = Fact::Round(round(1, 1, 90, &[1, 1]));
    let id = FactId::Round(run(1), Round(1));
    assert_eq!(books.add(other), Err(FoldError::Conflict(id)));
    assert_eq!(books, once);
}

#[test]
fn a_refused_fact_leaves_the_books_as_they_were() {
    let mut books = Books::of([Fact::Round(round(1, 1, 90, &[1]))]).expect("good fact");
    let once = books.clone();
    let absurd = Fact::Round(round(1, 2, MAX_AMOUNT.0 + 1, &[1]));
    assert!(matches!(books.add(absurd), Err(FoldError::Credit(_))));
    let mut odd = usage(1, 1, 10, 5);
    odd.revenue.server = Ppb(0);
    assert!(matches!(
        books.add(Fact::Usage(odd)),
        Err(FoldError::Fee(_))
    ));
    assert_eq!(books, once);
}

#[test]
fn values_that_judge_nothing_are_no_facts() {
    let (manifest, mut value) = (manifest(), value());
    for round in [0, 1] {
        value.round = Round(round);
        assert_eq!(CertifiedRound::of(&manifest, &value), None);
    }
    value.round = Round(2);
    let fact = CertifiedRound::of(&manifest, &value).expect("judges round 1");
    assert_eq!((fact.round, fact.budget), (Round(1), MicroOpen(77)));
    assert_eq!((fact.sponsor, fact.run), (manifest.creator, value.run));
    assert_eq!(fact.scores, value.scores);
}

fn manifest() -> Manifest {
    use tributary_protocol::adapter::AdapterShape;
    use tributary_protocol::manifest::*;
    Manifest {
        name: "r".into(),
        creator: peer(3),
        nonce: 0,
        base: Base {
            name: "b".into(),
            hash: Digest::default(),
        },
        adapter: AdapterShape {
            rank: 1,
            alpha: 1,
            modules: vec![],
        },
        datanet: "d".into(),
        rounds: 2,
        training: Training {
            local_steps: 1,
            batch: 1,
            context: 1,
            learning_rate: Ppb(1),
            schedule: FactorSchedule::Both,
        },
        codec: UpdateCodec::DenseF32,
        aggregation: Aggregation::Mean,
        weights: Weights::Trained,
        evaluators: vec![],
        score_windows: 1,
        committee: 1,
        min_members: 1,
        min_contributions: 1,
        participants: 64,
        deadlines: Deadlines {
            round_ms: 1,
            grace_ms: 1,
            propose_ms: 1,
            vote_ms: 1,
        },
        budget_per_round: MicroOpen(77),
        revenue: usage(0, 0, 0, 0).revenue,
    }
}

fn value() -> RoundValue {
    RoundValue {
        run: run(4),
        round: Round(0),
        previous: Default::default(),
        state: Default::default(),
        adapter: Default::default(),
        included: vec![],
        joins: vec![],
        leaves: vec![],
        sheets: vec![],
        scores: vec![score(5, 10)],
    }
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let amount = || 0..=MAX_AMOUNT.0;
    let scores = prop::collection::vec(-1_000_000_000i64..1_000_000_000, 0..8);
    let rounds = prop::collection::btree_map((0u8..3, 1u32..20), (amount(), scores), 0..25);
    let answers =
        prop::collection::btree_map((0u8..3, 0u8..20), (amount(), 0..=1_000_000_000u32), 0..25);
    (rounds, answers).prop_map(|(rounds, answers)| {
        let rounds = (rounds.into_iter())
            .map(|((of, at), (budget, scores))| Fact::Round(round(of, at, budget, &scores)));
        let answers = (answers.into_iter())
            .map(|((of, answer), (fee, share))| Fact::Usage(usage(of, answer, fee, share)));
        rounds.chain(answers).collect()
    })
}

proptest! {
    #[test]
    fn every_event_sums_to_zero_and_so_do_the_books(facts in facts()) {
        for fact in &facts {
            let sum: i128 = postings(fact).expect("good fact").iter().map(|p| p.amount.0).sum();
            prop_assert_eq!(sum, 0);
        }
        prop_assert_eq!(Books::of(facts).expect("good facts").total(), Ok(Balance(0)));
    }

    #[test]
    fn neither_order_nor_repetition_changes_the_books(
        (facts, shuffled) in facts().prop_flat_map(|facts| {
            let twice = [facts.clone(), facts.clone()].concat();
            (Just(facts), Just(twice).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(Books::of(facts).expect("good"), Books::of(shuffled).expect("good"));
    }

    #[test]
    fn balances_are_the_plain_sum_of_postings(facts in facts()) {
        let mut plain: BTreeMap<(RunId, Account), i128> = BTreeMap::new();
        for fact in &facts {
            for posting in postings(fact).expect("good fact") {
                *plain.entry((fact.id().run(), posting.account)).or_default() += posting.amount.0;
            }
        }
        let books = Books::of(facts).expect("good facts");
        let found: BTreeMap<_, _> = books.balances().map(|(r, a, b)| ((r, a), b.0)).collect();
        prop_assert_eq!(found, plain);
    }
}
