//! What each fact moves, and that repeated and refused ones leave the books alone.

use proptest::prelude::*;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobRef, BlockId, NanoNats, Ppb, Scope, Seq};
use tributary_protocol::manifest::RevenueSplit;
use tributary_protocol::round::{EntryRef, FinalScore, Included, Missed};

use super::*;
use crate::credit::Outcome;
use crate::fee::Shaped;
use crate::money::MAX_AMOUNT;
use crate::settlement::Address;
use crate::significance::CumulativeScore;

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
        luck: NanoNats(2),
    }
}

/// With as much shown as luck alone may give, or one nanonat more.
fn tested(score: FinalScore, is_held: bool) -> TestedScore {
    let shown = CumulativeScore {
        scores: if is_held { 6 } else { 7 },
        squares: 4,
    };
    TestedScore { score, shown }
}

fn round(of: u8, round: u32, budget: u128, scores: &[i64]) -> CertifiedRound {
    CertifiedRound {
        run: run(of),
        round: Round(round),
        sponsor: peer(250),
        offer: offer(budget),
        scores: (scores.iter().enumerate())
            .map(|(n, &s)| tested(score(n, s), false))
            .collect(),
        served: Served::default(),
    }
}

/// That any gain reaches.
fn offer(budget: u128) -> Offer {
    Offer {
        budget: MicroOpen(budget),
        price_per_nat: MicroOpen(u128::MAX),
        ..Offer::WHOLE
    }
}

/// Holds back the scores of those peers.
fn holding_back(mut round: CertifiedRound, held: &[usize]) -> CertifiedRound {
    for at in held {
        round.scores[*at] = tested(round.scores[*at].score, true);
    }
    round
}

fn fees(of: u8, answer: u8, amount: u128, share: u32) -> Fees {
    let author = peer(252);
    let at = EntryRef {
        author,
        seq: Seq(answer.into()),
        ..EntryRef::default()
    };
    Fees {
        run: run(of),
        round: Round(answer.into()),
        source: Source::Answers {
            at,
            server: author,
            payer: Address([0xfb; 20]),
        },
        amount: MicroOpen(amount),
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base: Some(Digest::default()),
        committee: vec![(peer(1), 1), (peer(2), 1), (peer(3), 1)],
        stakers: Vec::new(),
        shaped: Shaped {
            agreed: vec![(peer(1), share.into())],
            nobody: u128::from(1_000_000_000 - share),
            by_credits: 0,
        },
        credits: vec![(peer(2), 1)],
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
fn a_round_without_a_gain_moves_nothing_and_stays_on_record() {
    let books = Books::of([Fact::Round(round(1, 1, 90, &[0, -1]))]).expect("good fact");
    assert_eq!(books.balances().count(), 0);
    let rounds: Vec<_> = books.rounds(run(1)).collect();
    assert_eq!(rounds[0].1.lines[1].tested.score.score, NanoNats(-1));
}

#[test]
fn what_is_held_back_waits_unallocated_whether_others_are_paid_or_not() {
    let some = holding_back(round(1, 1, 90, &[2, -1, 1]), &[0, 1]);
    let nobody = holding_back(round(1, 2, 50, &[2, -1]), &[0, 1]);
    let books = Books::of([Fact::Round(some), Fact::Round(nobody)]).expect("good facts");
    let held = |account| books.balance(run(1), account).0;
    assert_eq!(held(Account::Contributor(peer(0))), 0);
    assert_eq!(held(Account::Contributor(peer(2))), 30);
    assert_eq!(held(Account::Unallocated), 60 + 50);
    assert_eq!(held(Account::Sponsor(peer(250))), -140);
}

#[test]
fn what_a_round_is_not_worth_stays_with_the_sponsor() {
    let mut dear = round(1, 1, 90, &[2_000_000, -1_000_000]);
    dear.offer.price_per_nat = MicroOpen(40_000);
    let books = Books::of([Fact::Round(dear)]).expect("good fact");
    assert_eq!(
        books.balance(run(1), Account::Contributor(peer(0))),
        Balance(40)
    );
    assert_eq!(
        books.balance(run(1), Account::Sponsor(peer(250))),
        Balance(-40)
    );
    assert_eq!(books.balances().count(), 2);
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
    assert_eq!(books.add(other), Err(FoldError::Conflict(Box::new(id))));
    assert_eq!(books, once);
}

#[test]
fn a_refused_fact_leaves_the_books_as_they_were() {
    let mut books = Books::of([Fact::Round(round(1, 1, 90, &[1]))]).expect("good fact");
    let once = books.clone();
    let absurd = Fact::Round(round(1, 2, MAX_AMOUNT.0 + 1, &[1]));
    assert!(matches!(books.add(absurd), Err(FoldError::Credit(_))));
    let mut odd = fees(1, 1, 10, 5);
    odd.revenue.server = Ppb(0);
    assert!(matches!(books.add(Fact::Fees(odd)), Err(FoldError::Fee(_))));
    assert_eq!(books, once);
}

#[test]
fn a_round_pays_for_the_part_of_the_committed_weight_that_arrived() {
    let manifest = manifest();
    let place = |author: u8| EntryRef {
        author: peer(author),
        seq: Seq(0),
        block: BlockId::default(),
        index: 0,
    };
    let mut values = [0, 1, 2].map(|round| value(round, &[7]));
    values[1].included = vec![Included {
        receipt: place(5),
        update: BlobRef::default(),
        tokens: 30,
        weight: 30,
    }];
    values[1].missed = vec![Missed {
        receipt: place(6),
        tokens: 10,
        weight: 10,
    }];
    let facts = CertifiedRound::chain(&manifest, &values, &funding(&manifest)).expect("a chain");
    assert_eq!(facts[0].offer.arrived, Ppb(750_000_000));
    // 77 of budget for any gain that is worth as much.
    let gain = i128::from(i64::MAX);
    assert_eq!(Offer::of(&manifest).worth(gain), MicroOpen(77));
    assert_eq!(facts[0].offer.worth(gain), MicroOpen(57));
}

#[test]
fn values_that_judge_nothing_are_no_facts() {
    let manifest = manifest();
    let values = [0, 1, 2].map(|round| value(round, &[7]));
    let facts = |upto: usize| {
        CertifiedRound::chain(&manifest, &values[..upto], &funding(&manifest)).expect("a chain")
    };
    assert_eq!((facts(0), facts(2)), (vec![], vec![]));
    let fact = &facts(3)[0];
    assert_eq!((fact.round, fact.offer), (Round(1), Offer::of(&manifest)));
    assert_eq!(
        (fact.offer.budget, fact.offer.price_per_nat),
        (MicroOpen(77), MicroOpen(11))
    );
    assert_eq!((fact.sponsor, fact.run), (manifest.creator, run(4)));
    assert_eq!(fact.scores, [tested(values[2].scores[0], false)]);
}

/// Luck is 2 a round: 5 is not beyond 6, 10 is beyond the root of 72, and so is 14 beyond that of 108.
#[test]
fn a_chain_is_walked_from_its_genesis_without_a_hole() {
    let mut manifest = manifest();
    manifest.plan.rounds = 9;
    let mut values: Vec<RoundValue> = (0..6).map(|round| value(round, &[5])).collect();
    // A round without final scores tests nobody.
    values[3].scores.clear();
    values[4].scores[0].score = NanoNats(5);
    values[5].scores[0].score = NanoNats(4);
    let facts = CertifiedRound::chain(&manifest, &values, &funding(&manifest)).expect("a chain");
    let counts: Vec<Vec<u64>> = (facts.iter())
        .map(|fact| fact.scores.iter().map(TestedScore::counts).collect())
        .collect();
    assert_eq!(counts, [vec![0], vec![], vec![5], vec![4]]);
    // What is known later changes nothing about what was known before.
    let fewer =
        CertifiedRound::chain(&manifest, &values[..5], &funding(&manifest)).expect("a chain");
    assert_eq!(fewer, facts[..3]);
    let without = |hole: usize| values.iter().filter(move |v| v.round.0 as usize != hole);
    for hole in 0..5 {
        let refused = CertifiedRound::chain(&manifest, without(hole), &funding(&manifest));
        assert_eq!(refused, Err(FoldError::Gap(Round(hole as u32))));
    }
}

fn funding(manifest: &Manifest) -> Funding {
    Funding::of_all_rounds(manifest)
}

#[test]
fn a_round_is_paid_by_what_was_deposited_before_it_began_and_by_that_once() {
    let mut manifest = manifest();
    manifest.plan.rounds = 4;
    let deposits = [0, 100, 100, 100, 231, 231];
    let mut chain = Chain::new(&manifest);
    let mut funded = Vec::new();
    for (round, deposited) in deposits.into_iter().enumerate() {
        // Each judged round gains what its budget pays, and all of it waits: who is new is not beyond luck.
        let value = value(round as u32, &[7_000_000_000 * i64::from(round > 1)]);
        let deposited = MicroOpen(deposited);
        let funding = Funding {
            deposited,
            signers: Vec::new(),
            panel: Panel::default(),
        };
        for fact in chain.push(&manifest, &value, &funding).expect("a chain") {
            if let Fact::Round(round) = fact {
                let credits = round.credits().expect("ordered");
                funded.push((round.offer.funded.0, credits.worth.0, credits.outcome));
            }
        }
    }
    let expected = [
        // Nothing was there when round 1 began; what height 1 saw is for round 2.
        (0, 0, Outcome::Unfunded),
        (77, 77, Outcome::Paid),
        // 100 less what round 2 may come to; and then nothing until height 4 sees more, which is too late for round 4.
        (23, 23, Outcome::Paid),
        (0, 0, Outcome::Unfunded),
    ];
    assert_eq!(funded, expected);
}

fn manifest() -> Manifest {
    let mut manifest = tributary_protocol::test_utils::fixture::manifest();
    manifest.creator = peer(3);
    manifest.plan.rounds = 2;
    manifest.payment.budget_per_round = MicroOpen(77);
    manifest.payment.price_per_nat = MicroOpen(11);
    manifest.payment.revenue = fees(0, 0, 0, 0).revenue;
    manifest
}

fn value(round: u32, scores: &[i64]) -> RoundValue {
    RoundValue {
        run: run(4),
        round: Round(round),
        scores: scores.iter().map(|s| score(5, *s)).collect(),
        ..RoundValue::default()
    }
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let amount = || 0..=MAX_AMOUNT.0;
    let line = (-1_000_000_000i64..1_000_000_000, any::<bool>());
    let scores = prop::collection::vec(line, 0..8);
    let rounds = (amount(), 0..=1u128 << 80, scores);
    let rounds = prop::collection::btree_map((0u8..3, 1u32..20), rounds, 0..25);
    let answers =
        prop::collection::btree_map((0u8..3, 0u8..20), (amount(), 0..=1_000_000_000u32), 0..25);
    (rounds, answers).prop_map(|(rounds, answers)| {
        let rounds = (rounds.into_iter()).map(|((of, at), (budget, price, scores))| {
            let (scores, held): (Vec<i64>, Vec<bool>) = scores.into_iter().unzip();
            let held: Vec<usize> = (0..held.len()).filter(|at| held[*at]).collect();
            let mut round = holding_back(round(of, at, budget, &scores), &held);
            round.offer.price_per_nat = MicroOpen(price);
            Fact::Round(round)
        });
        let answers = (answers.into_iter())
            .map(|((of, answer), (fee, share))| Fact::Fees(fees(of, answer, fee, share)));
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
        let mut plain: BTreeMap<(Scope, Account), i128> = BTreeMap::new();
        for fact in &facts {
            for posting in postings(fact).expect("good fact") {
                *plain.entry((fact.id().scope(), posting.account)).or_default() += posting.amount.0;
            }
        }
        let books = Books::of(facts).expect("good facts");
        let found: BTreeMap<_, _> = books.balances().map(|(r, a, b)| ((r, a), b.0)).collect();
        prop_assert_eq!(found, plain);
    }
}
