//! Who gets what of fees, and that it all adds up.

use proptest::prelude::*;
use tributary_protocol::id::Seq;

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId(Digest::from_bytes([n; 32]))
}

/// Fees of 1,000 with everybody there: two agreed shares of a quarter and a half, a quarter nobody's.
fn fees() -> Fees {
    Fees {
        run: RunId::default(),
        round: Round(9),
        source: Source::Answers {
            at: EntryRef {
                author: peer(201),
                seq: Seq(3),
                ..EntryRef::default()
            },
            server: peer(201),
            payer: Address([7; 20]),
        },
        amount: MicroOpen(1000),
        revenue: RevenueSplit {
            contributors: Ppb(600_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(200_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base: Some(Digest::from_bytes([9; 32])),
        committee: vec![(peer(101), 1), (peer(102), 4)],
        stakers: vec![(peer(103), 10)],
        shaped: Shaped {
            agreed: vec![(peer(0), 1), (peer(1), 2)],
            nobody: 1,
            by_credits: 0,
        },
        credits: vec![(peer(0), 30), (peer(1), 0), (peer(2), 10)],
    }
}

fn paid(fees: &Fees) -> Vec<(Account, i128)> {
    let made = postings(fees).expect("fees that can be split");
    let mut sum: BTreeMap<Account, i128> = BTreeMap::new();
    for posting in made {
        *sum.entry(posting.account).or_default() += posting.amount.0;
    }
    sum.into_iter().collect()
}

#[test]
fn fees_reach_everyone_that_the_policy_names() {
    let expected = vec![
        (Account::Consumer(Address([7; 20])), -1000),
        (Account::Contributor(peer(0)), 150),
        (Account::Contributor(peer(1)), 300),
        (Account::BaseAuthor(Digest::from_bytes([9; 32])), 250),
        (Account::Server(peer(201)), 200),
        (Account::Committee(peer(101)), 10),
        (Account::Committee(peer(102)), 40),
        (Account::Staker(peer(103)), 50),
    ];
    assert_eq!(paid(&fees()), expected);
}

#[test]
fn portions_that_nobody_is_there_for_follow_the_credits() {
    let lonely = Fees {
        base: None,
        committee: Vec::new(),
        stakers: Vec::new(),
        ..fees()
    };
    // 150 of the contributors' portion, and 100, 50 and 50, by 30 to 10.
    let expected = vec![
        (Account::Consumer(Address([7; 20])), -1000),
        (Account::Contributor(peer(0)), 150 + 263),
        (Account::Contributor(peer(1)), 300),
        (Account::Contributor(peer(2)), 87),
        (Account::Server(peer(201)), 200),
    ];
    assert_eq!(paid(&lonely), expected);
}

#[test]
fn a_server_that_files_no_answers_loses_its_portion_to_the_contributors() {
    let silent = Fees {
        source: Source::Unexplained,
        shaped: Shaped {
            by_credits: 1,
            ..Shaped::default()
        },
        ..fees()
    };
    let got = paid(&silent);
    let of = |account| {
        got.iter()
            .find(|(of, _)| *of == account)
            .map_or(0, |(_, n)| *n)
    };
    assert_eq!(of(Account::Till), -1000);
    assert_eq!(of(Account::Contributor(peer(0))), 600);
    assert_eq!(of(Account::Contributor(peer(2))), 200);
    assert_eq!(of(Account::Server(peer(201))), 0);
}

#[test]
fn where_nobody_has_credits_what_would_follow_them_is_burned() {
    let fresh = Fees {
        credits: vec![(peer(0), 0)],
        base: None,
        ..fees()
    };
    assert!(paid(&fresh).contains(&(Account::Burned, 250)));
}

#[test]
fn policies_that_are_no_whole_and_fees_of_nobody_are_refused() {
    let mut odd = fees();
    odd.revenue.server = Ppb(0);
    assert_eq!(postings(&odd), Err(FeeError::Policy(800_000_000)));
    let nobodys = Fees {
        shaped: Shaped::default(),
        ..fees()
    };
    assert_eq!(postings(&nobodys), Err(FeeError::Nobody));
    let absurd = Fees {
        amount: MicroOpen(u128::MAX),
        ..fees()
    };
    assert!(matches!(postings(&absurd), Err(FeeError::Money(_))));
}

proptest! {
    #[test]
    fn postings_of_fees_add_up_to_zero(
        amount in 0..=money::MAX_AMOUNT.0,
        cuts in prop::collection::vec(0u32..=1_000_000_000, 4),
        weights in prop::collection::vec(0u128..1 << 110, 1..10),
        rest in (1u128..1 << 110, 0u128..1 << 110),
        votes in prop::collection::vec(0u64..100, 0..6),
        has_base: bool,
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let ends = [&[0], &cuts[..], &[1_000_000_000]].concat();
        let policy: Vec<Ppb> = ends.windows(2).map(|pair| Ppb(pair[1] - pair[0])).collect();
        let by = |weights: &[u128]| -> Vec<(PeerId, u128)> {
            weights.iter().enumerate().map(|(n, w)| (peer(n as u8), *w)).collect()
        };
        let votes: Vec<(PeerId, u64)> = votes.iter().enumerate().map(|(n, v)| (peer(n as u8), *v)).collect();
        let fees = Fees {
            amount: MicroOpen(amount),
            revenue: RevenueSplit {
                contributors: policy[0],
                base_author: policy[1],
                server: policy[2],
                committee: policy[3],
                stakers: policy[4],
            },
            base: has_base.then_some(Digest::default()),
            committee: votes.clone(),
            stakers: votes,
            shaped: Shaped { agreed: by(&weights), nobody: rest.0, by_credits: rest.1 },
            credits: by(&weights),
            ..fees()
        };
        let made = postings(&fees).expect("a whole policy");
        prop_assert_eq!(made.iter().map(|p| p.amount.0).sum::<i128>(), 0);
        let from = Account::Consumer(Address([7; 20]));
        prop_assert!(made.iter().all(|p| p.account == from || p.amount.0 > 0));
    }
}
