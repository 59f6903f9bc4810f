//! What is handed over of one channel, against a slow twin that knows every answer.

use proptest::prelude::*;
use tributary_attribution::voucher::OnChain;

use super::super::super::cashier::Served;
use super::super::record::{Record, Rule};
use super::super::*;
use super::scene::{Scene, run};
use super::{hash_of, x402_units};

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Step {
    Answer(u128),
    /// Time passes, and the server looks.
    Look {
        ms: u64,
        drains: bool,
        /// The cashier takes what it is given.
        goes_well: bool,
    },
    /// The chain shows the first so many claims that were handed over.
    Certify(usize),
    Deposit(u128),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u128).prop_map(Step::Answer),
        6 => (0..400_u64, prop::bool::weighted(0.1), prop::bool::weighted(0.8))
            .prop_map(|(ms, drains, goes_well)| Step::Look { ms, drains, goes_well }),
        3 => any::<usize>().prop_map(Step::Certify),
        2 => (0..200_u128).prop_map(Step::Deposit),
        1 => Just(Step::Crash),
    ]
}

fn rule(drains: bool) -> Rule {
    Rule {
        exposure: MicroOpen(60),
        wait_ms: 2000,
        again_ms: 500,
        is_draining: drains,
    }
}

fn served(at: usize, fee: u128, charged_before: u128) -> Served {
    Served {
        shares: None,
        adapter: hash_of(b"adapter"),
        request: hash_of(&at.to_le_bytes()),
        response: hash_of(b"answer"),
        prompt_tokens: 1,
        answer_tokens: 1,
        fee: MicroOpen(fee),
        charged_before: MicroOpen(charged_before),
    }
}

/// A record as a crash leaves it.
fn restarted(record: &Record) -> Record {
    let account = crate::serve::book::Account::default();
    let file = record::RecordFile::of(record, &account);
    let text = serde_json::to_string(&file).unwrap();
    let file: record::RecordFile = serde_json::from_str(&text).unwrap();
    file.read().unwrap().0
}

/// Hands over until nothing is left, with a chain that shows everything.
fn drained(record: &mut Record, chain: &mut OnChain, now_ms: &mut u64) {
    for _ in 0..100 {
        *now_ms += 501;
        record.see(*chain, 0);
        if let Some(last) = record.collect(&rule(true), *now_ms).last() {
            chain.claimed = x402_units(last.charged_after().0);
        }
    }
}

proptest! {
    #[test]
    fn answers_are_handed_over_in_order_within_the_deposit_and_each_until_its_claim_shows(steps in prop::collection::vec(step(), 1..120)) {
        let mut record = Record::new(run(), Scene::new().pays(0).config);
        let mut chain = OnChain::default();
        let (mut all, mut charged, mut now_ms) = (Vec::new(), 0, 0);
        // Totals of claims that the cashier took and no certificate shows.
        let mut handed: Vec<u128> = Vec::new();
        for step in steps {
            match step {
                Step::Answer(fee) => {
                    let one = served(all.len(), fee, charged);
                    charged += fee;
                    all.push(one.clone());
                    record.serve(one, now_ms);
                }
                Step::Look { ms, drains, goes_well } => {
                    now_ms += ms;
                    record.see(chain, 0);
                    let answers = record.collect(&rule(drains), now_ms);
                    let Some((first, last)) = answers.first().zip(answers.last()) else {
                        continue;
                    };
                    let from = all.iter().position(|one| one == first).unwrap();
                    prop_assert_eq!(&all[from..from + answers.len()], &answers[..]);
                    prop_assert!(x402_units(last.charged_after().0) <= chain.deposit);
                    // Nothing between what is claimed or on its way and this is left out.
                    let known = handed.iter().copied().max().unwrap_or(0);
                    prop_assert!(first.charged_before.0 <= known.max(chain.claimed.to_micro_floor().0));
                    match goes_well {
                        true => handed.push(last.charged_after().0),
                        false => record.uncollect(first.charged_before),
                    }
                }
                Step::Certify(count) if !handed.is_empty() => {
                    for total in handed.drain(..1 + count % handed.len()) {
                        chain.claimed = chain.claimed.max(x402_units(total));
                    }
                }
                Step::Certify(_) => {}
                Step::Deposit(more) => chain.deposit.0 += x402_units(more).0,
                Step::Crash => {
                    record = restarted(&record);
                    now_ms = 0;
                }
            }
            prop_assert!(chain.claimed <= x402_units(charged));
        }
        chain.deposit = x402_units(charged);
        drained(&mut record, &mut chain, &mut now_ms);
        prop_assert_eq!(chain.claimed, x402_units(charged));
        record.see(chain, 0);
        prop_assert!(record.served.is_empty());
    }
}
