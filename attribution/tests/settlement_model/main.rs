//! The contracts beside a plain model of what they promise, on the test chain: random calls of every kind, good and bad, two
//! runs and four channels. After each call every view of the chain is the model's, no unit of the token is lost, each run
//! keeps within its own money, and what is due is paid.
//!
//! A token that calls back into the contracts is tried by forge (`contracts/test/Invariant.t.sol`), because the test chain
//! has one token.
//!
//!     cargo test -p tributary-attribution --features test-chain --test settlement_model
//!     cargo test --release -p tributary-attribution --features test-chain --test settlement_model -- --ignored --nocapture

mod action;
mod cast;
mod channels;
mod draw;
mod model;
mod stake;

use std::collections::BTreeMap;

use tributary_attribution::settlement::calls::{Call, Settlement, Token};
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_attribution::test_chain::{Outcome, TestChain, Transaction};

use action::Action;
use cast::{Cast, WINDOW_S};
use draw::{Dice, Draw, Known};
use model::{BURNED, Model, Purse, Run};

/// When each sequence begins.
const START_S: u64 = 1_000;
/// Calls of one sequence: after so many, most runs have ended.
const CALLS: usize = 250;
/// What everybody has at the beginning.
const FIRST: u128 = 50_000;

/// How often each kind of call was refused, and done.
type Counts = BTreeMap<String, [u64; 2]>;

#[derive(Clone)]
struct World {
    chain: TestChain,
    model: Model,
    known: Known,
}

impl World {
    /// Everybody has money and allowed the contracts to take it. `strict`: terms ask for stake and bonds.
    fn new(cast: &Cast, strict: bool) -> Self {
        let mut chain = TestChain::new();
        let deployed = TestChain::deployed();
        let terms = cast.terms(strict);
        let tills = terms.map(|terms| chain.till(terms.key()));
        let runs = [0, 1].map(|run| Run::new(terms[run], tills[run]));
        let mut purse = Purse::default();
        let token = Token(deployed.token);
        let mut transactions = Vec::new();
        for account in cast.everybody() {
            purse.mint(account, FIRST);
            let all = BaseUnits(u128::MAX);
            transactions.extend([
                Transaction::new(account, token.mint(account, BaseUnits(FIRST))),
                Transaction::new(account, token.approve(deployed.settlement, all)),
                Transaction::new(account, token.approve(deployed.collector, all)),
            ]);
        }
        let outcomes = chain.block(START_S, &transactions);
        assert!(
            outcomes
                .iter()
                .all(|one| matches!(one, Outcome::Done { .. }))
        );
        let model = Model {
            now_s: START_S,
            purse,
            settlement: deployed.settlement_deployment(),
            runs: runs.into(),
            credits: BTreeMap::new(),
            channels: channels::Channels {
                scheme: deployed.channels_deployment(),
                all: cast.channels(tills),
                received: BTreeMap::new(),
            },
        };
        let known = Known::default();
        Self {
            chain,
            model,
            known,
        }
    }

    /// The same with stake that counts in both runs, and deposits.
    fn staked(cast: &Cast, strict: bool) -> Self {
        let mut world = Self::new(cast, strict);
        for run in 0..2 {
            let bonds = cast
                .members
                .iter()
                .map(|member| (*member, Action::Bond(run, 100)));
            let actions: Vec<_> = bonds.collect();
            for (from, action) in actions {
                assert!(world.act(cast, 0, from, &action), "{action:?}");
            }
        }
        for run in 0..2 {
            let activate = |member: &Address| Action::Activate(run, *member);
            let actions: Vec<_> = cast.members.iter().map(activate).collect();
            for (at, action) in actions.iter().enumerate() {
                let pause_s = if at + run == 0 { WINDOW_S } else { 0 };
                assert!(
                    world.act(cast, pause_s, cast.stranger, action),
                    "{action:?}"
                );
            }
            let deposit = Action::Deposit(run, 2000, false);
            assert!(world.act(cast, 0, cast.sponsors[run], &deposit));
        }
        world
    }

    /// One block of one transaction, in the chain and in the model. Whether it was done; they have to agree.
    fn act(&mut self, cast: &Cast, pause_s: u64, from: Address, action: &Action) -> bool {
        let call: Call = action.call(&self.model, cast);
        self.model.now_s += pause_s;
        let mut next = self.model.clone();
        let wanted = action.apply(&mut next, from).is_some();
        let transaction = Transaction::new(from, call);
        let outcome = self
            .chain
            .block(self.model.now_s, &[transaction])
            .remove(0)
            .result();
        match (&outcome, wanted) {
            (Err(reason), true) => panic!("the contract refuses what it promises: {reason}"),
            (Ok(_), false) => panic!("the contract does what it promises to refuse"),
            (Ok(_), true) => self.model = next,
            (Err(_), false) => {}
        }
        wanted
    }

    /// Everything that the chain shows is what the model has.
    fn compare(&self, cast: &Cast) {
        let (chain, model) = (&self.chain, &self.model);
        for run in &model.runs {
            let key = run.terms.key();
            assert_eq!(chain.run(key), run.view(model.now_s, &model.settlement));
            for member in &cast.members {
                let stake = run.stakes.get(member).cloned().unwrap_or_default();
                assert_eq!(chain.stake(key, *member), stake.view());
            }
            for payee in &cast.payees {
                let paid = run.claimed.get(payee).copied().unwrap_or_default();
                assert_eq!(chain.claimed(key, *payee), BaseUnits(paid));
            }
        }
        for account in cast.everybody() {
            let credit = model.credits.get(&account).copied().unwrap_or_default();
            assert_eq!(
                chain.credits(account),
                BaseUnits(credit),
                "credits of {account}"
            );
        }
        for channel in &model.channels.all {
            let id = channel.config.id(&model.channels.scheme);
            assert_eq!(chain.channel(id), channel.view());
            let receiver = channel.config.receiver;
            assert_eq!(chain.received(receiver), model.channels.received(receiver));
        }
        let mut all = 0;
        for (account, held) in &model.purse.held {
            let balance = chain.balance(*account);
            assert_eq!(balance, BaseUnits(*held), "{account}");
            all += balance.0;
        }
        assert_eq!(all, model.purse.minted, "units were lost or made");
        self.keep(cast);
    }

    /// Each pot holds what it owes, to the unit, and each run keeps within its own money.
    fn keep(&self, cast: &Cast) {
        let model = &self.model;
        let mut owed: u128 = model.credits.values().sum();
        for run in &model.runs {
            let stakes: u128 = run.stakes.values().map(stake::Stake::all).sum();
            let bonds = run.pending.as_ref().and_then(|one| one.challenge);
            owed += run.inside() + stakes + bonds.map_or(0, |(_, bond)| bond);
            assert!(run.paid <= run.total(), "paid more than was accepted");
            assert!(
                run.total() - run.paid <= run.inside(),
                "promised more than there is"
            );
            assert!(
                run.of_fees() <= run.fees && run.of_deposit() <= run.deposited,
                "promised more of one part than there is"
            );
            assert!(
                !run.closed || run.reclaimed + run.of_deposit() <= run.deposited,
                "a sponsor took a fee"
            );
            assert!(run.stakes.keys().all(|one| cast.everybody().contains(one)));
        }
        assert_eq!(model.purse.of(model.settlement.contract), owed);
        let paid_in: u128 = model.channels.all.iter().map(|one| one.balance).sum();
        let settled: u128 = model
            .channels
            .received
            .values()
            .map(|(_, settled)| settled)
            .sum();
        assert_eq!(
            model.purse.of(model.channels.scheme.contract),
            paid_in - settled
        );
        assert!(
            model
                .channels
                .all
                .iter()
                .all(|one| one.claimed <= one.balance)
        );
        assert_eq!(model.purse.of(TestChain::deployed().collector), 0);
    }

    /// Everything that the accepted roots promise is paid, to whom and as much as they say.
    fn pay_all(&mut self, cast: &Cast) {
        for at in 0..2 {
            let run = &self.model.runs[at];
            let mut standing = run.accepted.map(|posted| posted.root);
            let now = run.view(self.model.now_s, &self.model.settlement);
            if let Some(pending) = &run.pending
                && now.accepted.height == pending.posted.root.height
            {
                standing = Some(pending.posted.root);
            }
            let Some(root) = standing else { continue };
            let due = self.known.due(at, &root);
            let most = now.accepted.total.0 - now.paid.0;
            let left =
                |(_, proof, _): &(usize, tributary_attribution::settlement::BalanceProof, bool)| {
                    let paid = run.claimed.get(&proof.address).copied().unwrap_or_default();
                    proof.balance.0.saturating_sub(paid)
                };
            let wanted = due.iter().map(left).sum::<u128>().min(most);
            let before = run.paid;
            assert!(self.act(cast, 0, cast.stranger, &Action::Claim(due)), "due");
            assert_eq!(
                self.model.runs[at].paid - before,
                wanted,
                "paid less than is due"
            );
        }
        self.compare(cast);
    }
}

/// One sequence from one of the beginnings.
fn sequence(cast: &Cast, beginnings: &[World], seed: u64, counts: &mut Counts) {
    let mut world = beginnings[(seed % beginnings.len() as u64) as usize].clone();
    let mut dice = Dice(seed);
    for at in 0..CALLS {
        let mut draw = Draw {
            dice: &mut dice,
            cast,
            model: &world.model,
            known: &mut world.known,
        };
        let pause_s = draw.pause();
        let (from, action) = draw.action();
        let place = Place(seed, at, &action);
        let is_closed = |run: &usize| world.model.runs[*run].closed;
        let kind = match &action {
            Action::Post(run, ..) | Action::Reclaim(run, _) if is_closed(run) => {
                action.kind() + " once closed"
            }
            _ => action.kind(),
        };
        let done = world.act(cast, pause_s, from, &action);
        counts.entry(kind).or_default()[usize::from(done)] += 1;
        // What was refused changed nothing: seen at the next look, for half the time.
        if done || at % 8 == 7 {
            world.compare(cast);
        }
        if at % 50 == 49 {
            world.pay_all(cast);
        }
        drop(place);
    }
}

/// Says where it was when a sequence fails.
struct Place<'a>(u64, usize, &'a Action);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Self(seed, at, action) = self;
        if std::thread::panicking() {
            eprintln!("seed {seed}, call {at}: {action:?}");
        }
    }
}

/// So many sequences; every kind of call has to come through, and to be refused.
fn sequences(seeds: std::ops::Range<u64>) -> Counts {
    let cast = Cast::new();
    let beginnings = [false, true].map(|strict| {
        let staked = World::staked(&cast, strict);
        [
            World::new(&cast, strict),
            staked.clone(),
            staked.clone(),
            staked,
        ]
    });
    let mut counts = Counts::new();
    for seed in seeds {
        sequence(&cast, beginnings.as_flattened(), seed, &mut counts);
    }
    counts
}

fn assert_everything_happened(counts: &Counts) {
    /// Kinds of calls, and two of them apart in closed runs.
    const KINDS: usize = 31;
    for (kind, [refused, done]) in counts {
        let never_refused = ["Mint", "Settle"].contains(&kind.as_str());
        assert!(
            *done > 0 && (*refused > 0 || never_refused),
            "{kind}: {refused} {done}"
        );
    }
    assert_eq!(counts.len(), KINDS, "{counts:?}");
}

#[test]
fn contracts_do_what_the_model_says_and_nothing_else() {
    let counts = sequences(0..40);
    assert_everything_happened(&counts);
}

#[test]
#[ignore = "a million calls take 18 minutes of a processor in the release profile"]
fn contracts_do_what_the_model_says_for_a_million_calls() {
    const SEEDS: u64 = 1_000_000 / CALLS as u64;
    const FROM: u64 = 1_000_000;
    let half = FROM + SEEDS / 2;
    let mut counts = std::thread::scope(|scope| {
        let other = scope.spawn(|| sequences(half..FROM + SEEDS));
        let counts = sequences(FROM..half);
        other
            .join()
            .map(|other| [counts, other])
            .expect("both halves")
    });
    let [all, other] = &mut counts;
    for (kind, [refused, done]) in other {
        let both = all.entry(kind.clone()).or_default();
        *both = [both[0] + *refused, both[1] + *done];
    }
    for (kind, [refused, done]) in &*all {
        println!("{kind:20} {done:8} done {refused:8} refused");
    }
    assert_everything_happened(all);
}

#[test]
fn the_model_burns_where_nobody_has_a_key() {
    assert_eq!(
        BURNED.to_string(),
        "0x000000000000000000000000000000000000dEaD"
    );
    let deployed = TestChain::deployed();
    assert_eq!(Settlement(deployed.settlement).0, deployed.settlement);
}
