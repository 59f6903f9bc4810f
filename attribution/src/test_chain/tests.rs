//! Money goes its whole way, chains that folded the same are the same, and no transaction breaks one.

mod deposits;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, RunId};

use super::*;
use crate::settlement::calls::{Payment, ascending};
use crate::settlement::{Balances, Confirm, EvmKey, Root, Signature, Slash, Terms};
use crate::voucher::calls::Collector;
use crate::voucher::{Channel, ChannelConfig, Claim, Requirements, Voucher};

const OPEN: u128 = 1_000_000_000_000_000_000;
const DAY_S: u64 = 86_400;
/// When tests begin.
const START_S: u64 = 1_800_000_000;
const TOKEN: Token = Token(DEPLOYED.token);
const SETTLEMENT: Settlement = Settlement(DEPLOYED.settlement);
const CHANNELS: Channels = Channels(DEPLOYED.channels);
const COLLECTOR: Collector = Collector(DEPLOYED.collector);

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&Keccak::of(&[b"key", &[seed]]).0).expect("a key")
}

fn who(seed: u8) -> Address {
    key(seed).address()
}

fn open(amount: u128) -> BaseUnits {
    BaseUnits(amount * OPEN)
}

fn terms() -> Terms {
    Terms {
        run: RunId(Digest::from_bytes([3; 32])),
        sponsor: who(100),
        arbiter: None,
        rate_per_s: BaseUnits(OPEN / 100),
        challenge_bond: open(5),
        min_stake: open(100),
        window_s: DAY_S,
        cooldown_s: 14 * DAY_S,
        halt_s: 30 * DAY_S,
    }
}

/// A chain with a clock that tests move.
struct World {
    chain: TestChain,
    time_s: u64,
    /// That all transactions took.
    gas: u64,
}

impl World {
    fn new() -> Self {
        Self {
            chain: TestChain::new(),
            time_s: START_S,
            gas: 0,
        }
    }

    fn try_one(&mut self, from: Address, call: Call) -> Result<Vec<u8>, Reason> {
        let transactions = [Transaction::new(from, call)];
        let mut outcomes = self.chain.block(self.time_s, &transactions);
        self.gas += outcomes[0].gas_used();
        outcomes.remove(0).result()
    }

    fn send(&mut self, from: Address, call: Call) {
        if let Err(reason) = self.try_one(from, call) {
            panic!("refused: {reason}");
        }
    }

    fn refused(&mut self, from: Address, call: Call) -> Refused {
        match self.try_one(from, call) {
            Err(Reason::Contract(refused)) => refused,
            other => panic!("expected a contract's refusal, got {other:?}"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.time_s += seconds;
        self.chain.block(self.time_s, &[]);
    }

    fn fund(&mut self, account: Address, spender: Address, amount: BaseUnits) {
        self.send(account, TOKEN.mint(account, amount));
        self.send(account, TOKEN.approve(spender, amount));
    }

    /// A run with four members of 100 OPEN each that count, and a deposit of 1,000.
    fn with_run() -> Self {
        let mut world = Self::new();
        let terms = terms();
        for member in 1..=4 {
            world.fund(who(member), SETTLEMENT.0, open(100));
            world.send(who(member), SETTLEMENT.bond(&terms, open(100)));
        }
        world.pass(DAY_S);
        for member in 1..=4 {
            world.send(who(9), SETTLEMENT.activate(terms.key(), who(member)));
        }
        world.fund(terms.sponsor, SETTLEMENT.0, open(1000));
        world.send(terms.sponsor, SETTLEMENT.deposit(&terms, open(1000)));
        world.pass(DAY_S);
        world
    }
}

fn tree(balances: &[(u8, u128)]) -> Balances {
    let accounts = balances
        .iter()
        .map(|(seed, held)| (who(*seed), open(*held)));
    Balances::build(&accounts.collect::<BTreeMap<_, _>>()).expect("a tree")
}

fn root(height: u64, tree: &Balances, closed: bool) -> Root {
    Root {
        run: terms().key(),
        height,
        balances: tree.root().hash,
        total: tree.root().sum,
        fees: BaseUnits(0),
        lines: Keccak::of(&[b"lines"]),
        closed,
    }
}

/// What the first `count` members sign.
fn signed(digest: Keccak, count: u8) -> Vec<Signature> {
    let signatures: Vec<_> = (1..=count).map(|seed| key(seed).sign(&digest)).collect();
    ascending(&digest, &signatures).expect("members' keys")
}

fn post(root: &Root, count: u8) -> Call {
    let digest = root.digest(&DEPLOYED.settlement_deployment());
    SETTLEMENT.post(&terms(), root, &signed(digest, count))
}

fn payment(tree: &Balances, seed: u8) -> Payment {
    Payment {
        run: terms().key(),
        proof: tree.prove(&who(seed)).expect("a leaf"),
        unwrap: false,
    }
}

#[test]
fn money_goes_from_a_deposit_through_a_signed_root_to_an_account_once() {
    let mut world = World::with_run();
    let run = terms().key();
    let tree = tree(&[(50, 30), (51, 12)]);
    let root = root(7, &tree, false);
    let refused = world.refused(who(9), post(&root, 2));
    let (signed, all) = (open(200), open(400));
    assert_eq!(refused, Refused::NoQuorum { signed, all });
    world.send(who(9), post(&root, 3));
    let pending = world.chain.run(run).pending.expect("a pending root");
    assert_eq!(
        pending.digest,
        root.digest(&DEPLOYED.settlement_deployment())
    );
    assert_eq!(pending.due_s, world.time_s + DAY_S);
    let claim = SETTLEMENT.claim(&[payment(&tree, 50)]);
    assert_eq!(world.refused(who(9), claim.clone()), Refused::BadProof);

    world.pass(DAY_S);
    world.send(who(9), claim.clone());
    assert_eq!(world.chain.balance(who(50)), open(30));
    assert_eq!(world.chain.claimed(run, who(50)), open(30));
    // A second time it is skipped, so that it does not undo a batch.
    world.send(who(9), claim);
    assert_eq!(world.chain.balance(who(50)), open(30));
    let view = world.chain.run(run);
    assert_eq!((view.paid, view.accepted.height), (open(30), 7));
    assert_eq!(view.deposited, open(1000));
    assert_eq!(world.chain.stake(run, who(1)).counting, open(100));
}

#[test]
fn a_root_above_the_deposit_or_the_rate_is_refused_with_the_bound() {
    let mut world = World::with_run();
    let above = root(1, &tree(&[(50, 1001)]), false);
    let deposited = open(1000);
    let refused = world.refused(who(9), post(&above, 4));
    assert_eq!(refused, Refused::TotalAboveMoney { deposited });
    let fast = root(1, &tree(&[(50, 900)]), false);
    let refused = world.refused(who(9), post(&fast, 4));
    let allowed = open(864);
    assert_eq!(refused, Refused::TotalRoseTooFast { allowed });
    assert!(refused.to_string().contains("864.000000000000000000 OPEN"));
}

#[test]
fn a_silent_run_is_halted_and_its_sponsor_reclaims_what_no_root_promised() {
    let mut world = World::with_run();
    let terms = terms();
    let tree = tree(&[(50, 30)]);
    world.send(who(9), post(&root(1, &tree, false), 4));
    let halt = SETTLEMENT.halt(&terms);
    assert_eq!(world.refused(who(9), halt.clone()), Refused::NotSponsor);
    let refused = world.refused(terms.sponsor, halt.clone());
    assert!(matches!(refused, Refused::TooEarly { .. }), "{refused}");
    world.pass(30 * DAY_S);
    world.send(terms.sponsor, halt);
    let reclaim = SETTLEMENT.reclaim(&terms, false);
    assert_eq!(world.refused(who(9), reclaim.clone()), Refused::RunNotEnded);
    world.pass(DAY_S);
    world.send(who(9), reclaim);
    assert_eq!(world.chain.balance(terms.sponsor), open(970));
    world.send(who(9), SETTLEMENT.claim(&[payment(&tree, 50)]));
    assert_eq!(world.chain.balance(who(50)), open(30));
}

#[test]
fn a_challenge_is_confirmed_by_the_stake_or_voids_the_root() {
    let mut world = World::with_run();
    let terms = terms();
    world.fund(who(70), SETTLEMENT.0, open(10));
    let first = root(1, &tree(&[(50, 30)]), false);
    world.send(who(9), post(&first, 4));
    world.send(who(70), SETTLEMENT.challenge(&terms));
    let confirm = Confirm {
        run: terms.key(),
        height: 1,
        root: first.digest(&DEPLOYED.settlement_deployment()),
    };
    let digest = confirm.digest(&DEPLOYED.settlement_deployment());
    let signatures = signed(digest, 3);
    world.send(who(9), SETTLEMENT.confirm(&terms, &first, &signatures));
    world.pass(DAY_S);
    let second = root(2, &tree(&[(50, 31)]), false);
    world.send(who(9), post(&second, 4));
    world.send(who(70), SETTLEMENT.challenge(&terms));
    world.pass(DAY_S);
    let view = world.chain.run(terms.key());
    assert_eq!((view.accepted.height, view.pending), (1, None));
    // The next call of the run writes down what time has decided, and credits the bond.
    world.send(who(9), post(&root(3, &tree(&[(50, 31)]), false), 4));
    assert_eq!(world.chain.credits(who(70)), open(5));
    world.send(who(9), SETTLEMENT.collect(who(70)));
    assert_eq!(world.chain.balance(who(70)), open(5));
    let dropped = second.digest(&DEPLOYED.settlement_deployment());
    assert_eq!(world.chain.read(&SETTLEMENT.dropped(dropped)), Ok(true));
}

#[test]
fn stake_leaves_after_its_cool_down_and_is_slashed_by_proofs_and_by_the_quorum() {
    let mut world = World::with_run();
    let (terms, run) = (terms(), terms().key());
    let forks = [1, 2].map(|held| root(5, &tree(&[(50, held)]), false));
    let signatures = forks.map(|root| key(1).sign(&root.digest(&DEPLOYED.settlement_deployment())));
    let proof = SETTLEMENT.slash_fork((&forks[0], &signatures[0]), (&forks[1], &signatures[1]));
    world.send(who(60), proof);
    assert_eq!(world.chain.balance(who(60)), open(10));
    assert_eq!(world.chain.stake(run, who(1)).all(), open(0));

    world.send(
        who(9),
        post(&root(6, &tree(&[(50, 30), (51, 1)]), false), 4),
    );
    world.pass(DAY_S);
    let lower = tree(&[(50, 30), (52, 2)]);
    let lie = root(7, &lower, false);
    world.send(who(9), post(&lie, 4));
    let digest = lie.digest(&DEPLOYED.settlement_deployment());
    let accepted = tree(&[(50, 30), (51, 1)]).prove(&who(51)).expect("a leaf");
    let absence = lower.prove_absence(&who(51)).expect("dropped");
    let shown = [absence.below, absence.above];
    let proof = SETTLEMENT.slash_lowered(&lie, &signed(digest, 2), &accepted, &shown);
    world.send(who(60), proof);
    assert_eq!(world.chain.run(run).pending, None);
    assert_eq!(world.chain.run(run).stake, open(200));

    let slash = Slash {
        run,
        account: who(4),
        amount: open(40),
        evidence: Keccak::of(&[b"evidence"]),
    };
    let digest = slash.digest(&DEPLOYED.settlement_deployment());
    let signatures = [key(3).sign(&digest)];
    world.send(who(9), SETTLEMENT.slash(&terms, &slash, &signatures));
    world.send(who(4), SETTLEMENT.unbond(&terms, open(100)));
    assert!(world.chain.stake(run, who(4)).sentence.is_some());
    world.pass(DAY_S);
    world.send(who(9), SETTLEMENT.execute_slash(run, who(4)));
    let refused = world.refused(who(4), SETTLEMENT.withdraw(run));
    assert!(matches!(refused, Refused::TooEarly { .. }), "{refused}");
    world.pass(13 * DAY_S);
    world.send(who(4), SETTLEMENT.withdraw(run));
    assert_eq!(world.chain.balance(who(4)), open(60));
}

/// A channel of account 80 that pays the run's till, with 40 OPEN in it.
fn funded(world: &mut World) -> ChannelConfig {
    let config = ChannelConfig {
        payer: who(80),
        payer_authorizer: Address::ZERO,
        receiver: world.chain.till(terms().key()),
        receiver_authorizer: who(81),
        token: DEPLOYED.token,
        withdraw_delay_s: 3600,
        salt: [1; 32],
    };
    world.fund(who(80), COLLECTOR.0, open(40));
    world.send(who(80), COLLECTOR.deposit(CHANNELS, &config, open(40)));
    config
}

#[test]
fn a_voucher_is_claimed_settled_to_the_till_and_swept_into_fees() {
    let till = TestChain::deployed()
        .settlement_deployment()
        .till(terms().key());
    assert_eq!(till, World::new().chain.till(terms().key()));
    let mut world = World::with_run();
    let scheme = DEPLOYED.channels_deployment();
    let config = funded(&mut world);
    let wanted = Requirements {
        receiver: config.receiver,
        receiver_authorizer: config.receiver_authorizer,
        token: config.token,
        withdraw_delay_s: config.withdraw_delay_s,
    };
    let id = config.id(&scheme);
    let seen = world.chain.channel(id);
    assert_eq!(seen.deposit, open(40));
    let mut channel = Channel::open(scheme, config, &wanted, seen).expect("a channel");
    let signature = key(80).sign(&Voucher::digest(id, open(25), &scheme));
    let voucher = Voucher {
        channel: id,
        max: open(25),
        signature,
    };
    channel.offer(voucher).map(drop).expect("a voucher");
    channel
        .charge(MicroOpen(20_000_000))
        .map(drop)
        .expect("covered");
    let claim = channel.claim().expect("something to claim");

    let refused = world.refused(who(9), CHANNELS.claim(&[claim]));
    assert_eq!(refused, Refused::NotReceiver);
    world.send(who(81), CHANNELS.claim(&[claim]));
    channel.see(world.chain.channel(id));
    assert_eq!((channel.exposure(), channel.claim()), (open(0), None));
    assert_eq!(world.chain.received(config.receiver).claimed, open(20));
    world.send(who(9), CHANNELS.settle(config.receiver, DEPLOYED.token));
    assert_eq!(world.chain.balance(config.receiver), open(20));
    world.send(who(9), SETTLEMENT.sweep(terms().key()));
    assert_eq!(world.chain.run(terms().key()).fees, open(20));
    let again = world.refused(who(9), SETTLEMENT.sweep(terms().key()));
    assert_eq!(again, Refused::NothingToSweep);

    // By the authorizer's signature anybody claims and refunds.
    channel
        .charge(MicroOpen(5_000_000))
        .map(drop)
        .expect("covered");
    let claim: Claim = channel.claim().expect("something to claim");
    let digest = voucher::claim_digest(&[claim.entry()], &scheme);
    world.send(
        who(9),
        CHANNELS.claim_signed(&[claim], &key(81).sign(&digest)),
    );
    channel.see(world.chain.channel(id));
    let refund = channel.refund(open(1)).expect("uncharged");
    let signature = key(81).sign(&refund.digest(&scheme));
    world.send(who(9), CHANNELS.refund_signed(&config, &refund, &signature));
    world.send(who(81), CHANNELS.refund(&config, open(1)));
    world.send(who(80), CHANNELS.initiate_withdraw(&config, open(13)));
    assert!(world.chain.channel(id).withdrawal.is_some());
    world.pass(3600);
    world.send(who(80), CHANNELS.finalize_withdraw(&config));
    assert_eq!(world.chain.balance(who(80)), open(15));
    assert_eq!(world.chain.channel(id).refund_nonce, 2);
}

#[test]
fn what_the_chain_does_not_take_is_refused_with_a_reason_and_changes_nothing() {
    let mut world = World::new();
    let before = world.chain.state.digest(0, 0);
    let mint = |amount| TOKEN.mint(who(1), amount);
    let to = |to, data| Call { to, data };
    let long = MAX_CALL_BYTES + 1;
    let cases = [
        (who(1), to(TOKEN.0, vec![0; long]), Reason::TooLong(long)),
        (who(1), to(who(2), vec![]), Reason::Elsewhere(who(2))),
        (Address::ZERO, mint(open(1)), Reason::Sender(Address::ZERO)),
        (SETTLEMENT.0, mint(open(1)), Reason::Sender(SETTLEMENT.0)),
        (who(1), mint(BaseUnits(MAX_MINT.0 + 1)), Reason::Faucet),
    ];
    for (from, call, reason) in cases {
        assert!(reason.to_string().len() > 40, "{reason}");
        assert_eq!(world.try_one(from, call), Err(reason));
    }
    assert_eq!(world.chain.state.digest(0, 0), before);
    let silent = world.refused(who(1), to(TOKEN.0, vec![1, 2, 3, 4]));
    assert_eq!(silent, Refused::Silent);
    // What was tried counts.
    assert_eq!((world.chain.sent(who(1)), world.chain.sent(who(2))), (1, 0));
    world.send(who(1), mint(MAX_MINT));
    assert_eq!(world.chain.balance(who(1)), MAX_MINT);
}

#[test]
fn a_block_refuses_what_its_gas_does_not_reach_and_the_next_one_takes_it() {
    let mut chain = TestChain::new();
    let mint = Transaction::new(who(1), TOKEN.mint(who(1), BaseUnits(1)));
    let many = vec![mint; 1000];
    let outcomes = chain.block(START_S, &many);
    let done = outcomes
        .iter()
        .take_while(|one| matches!(one, Outcome::Done { .. }));
    let done = done.count();
    assert!((300..1000).contains(&done), "{done}");
    let rest = outcomes[done..].iter();
    let full = |one: &Outcome| {
        let reason = one.clone().result();
        matches!(reason, Err(Reason::BlockFull { left }) if left < TRANSACTION_GAS)
    };
    assert!(rest.clone().all(full));
    let used: u64 = outcomes.iter().map(Outcome::gas_used).sum();
    assert!(used <= BLOCK_GAS);
    assert_eq!(chain.balance(who(1)), BaseUnits(done as u128));
    assert_eq!(
        chain.block(START_S, &many[..1])[0].gas_used(),
        outcomes[1].gas_used()
    );
}

#[test]
fn time_never_falls_and_never_leaves_what_contracts_can_keep() {
    let mut chain = TestChain::new();
    assert_eq!((chain.number(), chain.time_s()), (0, 1));
    for (given, wanted) in [
        (0, 1),
        (50, 50),
        (49, 50),
        (u64::MAX, LATEST_S),
        (7, LATEST_S),
    ] {
        chain.block(given, &[]);
        assert_eq!(chain.time_s(), wanted);
    }
    assert_eq!(chain.number(), 5);
}

/// A script that touches all four contracts.
fn script() -> World {
    let mut world = World::with_run();
    funded(&mut world);
    let tree = tree(&[(50, 30), (51, 12)]);
    world.send(who(9), post(&root(7, &tree, false), 3));
    world.pass(DAY_S);
    world.send(who(9), SETTLEMENT.claim(&[payment(&tree, 50)]));
    world
}

#[test]
fn the_same_blocks_give_the_same_state_and_another_order_another() {
    assert_eq!(script().chain.state(), script().chain.state());
    let transfers = [1, 2].map(|amount| Transaction::new(who(1), TOKEN.mint(who(1), open(amount))));
    let approve = Transaction::new(who(1), TOKEN.approve(who(2), open(1)));
    let less = Transaction::new(who(1), TOKEN.approve(who(2), open(0)));
    let state = |transactions: &[&Transaction]| {
        let mut chain = TestChain::new();
        let all: Vec<_> = transactions.iter().map(|one| (*one).clone()).collect();
        chain.block(START_S, &all);
        chain.state()
    };
    assert_ne!(state(&[&approve, &less]), state(&[&less, &approve]));
    // These two commute: the order of what does not depend on each other does not show.
    let [one, two] = &transfers;
    assert_eq!(state(&[one, two]), state(&[two, one]));
    let chain = TestChain::new();
    let mut copy = chain.clone();
    copy.block(START_S, &[approve]);
    assert_eq!(chain.state(), TestChain::new().state());
}

#[test]
fn a_fixed_script_ends_in_the_state_and_takes_the_gas_that_are_written_here() {
    // Both change with the contracts and with the script. Another version of revm must change neither, or peers of two
    // versions part.
    let world = script();
    let genesis = "0xef2f6a6003e9f3fe729d8dd3884a0357082ccf7f839f3055965f781fccbed2a1";
    let last = "0xd71ba17346a6fcd0250b5264b2101848f421ca72969b3d5027a5a7aca60e821a";
    let states = [TestChain::new().state(), world.chain.state()].map(|one| one.to_string());
    assert_eq!(
        (states, world.gas),
        ([genesis, last].map(str::to_owned), 1_581_338)
    );
}

#[test]
fn a_transaction_takes_the_gas_that_contracts_gas_txt_names() {
    let mut world = World::with_run();
    let terms = terms();
    world.fund(who(5), SETTLEMENT.0, open(1));
    world.send(who(5), SETTLEMENT.bond(&terms, open(1)));
    world.pass(DAY_S);
    let activate = SETTLEMENT.activate(terms.key(), who(5));
    let transaction = Transaction::new(who(5), activate);
    let gas = world.chain.block(world.time_s, &[transaction])[0].gas_used();
    let measured = include_str!("../../contracts/gas.txt").lines();
    let mut named = measured.filter_map(|line| line.strip_prefix("activate "));
    let named: u64 = named.next().expect("a line").trim().parse().expect("gas");
    // The bytes of the addresses differ: 12 gas for each that is zero and another's is not.
    assert!(gas.abs_diff(named) < 300, "{gas} {named}");
}

/// `multicall` of one call.
fn nested(inner: &[u8]) -> Vec<u8> {
    let word = |number: usize| U256::from(number).to_be_bytes::<32>();
    let mut data = vec![0xac, 0x96, 0x50, 0xd8];
    for number in [32, 1, 32, inner.len()] {
        data.extend(word(number));
    }
    data.extend(inner);
    data.resize(data.len().next_multiple_of(32) + 4, 0);
    data
}

#[test]
fn calls_within_calls_as_deep_as_calldata_reaches_break_nothing() {
    let mut world = World::new();
    let to = CHANNELS.0;
    let settle = CHANNELS.settle(who(1), TOKEN.0);
    let data = nested(&settle.data);
    world.send(who(1), Call { to, data });
    let mut data = settle.data;
    let mut depth = 0;
    while nested(&data).len() <= MAX_CALL_BYTES {
        data = nested(&data);
        depth += 1;
    }
    assert!(depth > 300, "{depth}");
    let deep = world.try_one(who(1), Call { to, data });
    let reason = deep.expect_err("more gas than a transaction has");
    assert!(
        matches!(reason, Reason::Contract(_) | Reason::OutOfGas),
        "{reason}"
    );
}

/// Processor seconds of this thread.
fn processor_s() -> f64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

#[test]
#[ignore = "prints figures of this machine"]
fn what_blocks_and_views_cost() {
    let mut world = World::with_run();
    let key_of_run = terms().key();
    let transfer = Transaction::new(who(1), TOKEN.transfer(who(2), BaseUnits(0)));
    let started = processor_s();
    world.chain.block(world.time_s, &vec![transfer; 500]);
    println!(
        "{:.0} transfers a second",
        500.0 / (processor_s() - started)
    );
    let started = processor_s();
    for _ in 0..10_000 {
        std::hint::black_box(world.chain.run(key_of_run));
    }
    println!(
        "{:.0} views of a run a second",
        10_000.0 / (processor_s() - started)
    );

    // What costs most for its gas: roots with signatures of strangers, which add nothing.
    let posts = (1..=12).map(|height| {
        let root = root(height, &tree(&[(50, 1)]), false);
        let digest = root.digest(&DEPLOYED.settlement_deployment());
        let signatures: Vec<_> = (0..=255).map(|seed| key(seed).sign(&digest)).collect();
        let signatures = ascending(&digest, &signatures).expect("keys");
        Transaction::new(who(9), SETTLEMENT.post(&terms(), &root, &signatures))
    });
    let posts: Vec<_> = posts.collect();
    let started = processor_s();
    let outcomes = world.chain.block(world.time_s, &posts);
    let spent = processor_s() - started;
    let done = outcomes
        .iter()
        .filter(|one| matches!(one, Outcome::Done { .. }));
    let gas: u64 = outcomes.iter().map(Outcome::gas_used).sum();
    println!(
        "{} roots with 256 signatures: {gas} gas, {spent:.2} s",
        done.count()
    );
}

/// Calldata between noise and a call that the contracts know.
fn damaged(how: u8, call: &[u8], noise: Vec<u8>) -> Vec<u8> {
    let flip = |(byte, noise): (&u8, &u8)| match noise {
        250.. => byte ^ noise,
        _ => *byte,
    };
    match how {
        0 => noise,
        1 => [&call[..4], &noise].concat(),
        2 => [&call[..call.len() / 2], &noise].concat(),
        3 => call.iter().zip(noise.iter().cycle()).map(flip).collect(),
        _ => [call, &noise].concat(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_panic_and_a_refusal_changes_no_balance(at in 0usize..4, which in any::<prop::sample::Index>(), how in 0u8..5, noise in vec(prop_oneof![Just(0u8), any::<u8>()], 0..600)) {
        let mut world = World::new();
        let from = who(1);
        world.send(from, TOKEN.mint(from, open(9)));
        let empty = tree(&[]);
        let end = empty.prove(&Address::ZERO).expect("an end");
        let root = root(1, &empty, true);
        let calls = [
            SETTLEMENT.claim(&[payment(&tree(&[(1, 1)]), 1)]),
            SETTLEMENT.post(&terms(), &root, &signed(Keccak::ZERO, 2)),
            SETTLEMENT.slash_lowered(&root, &[], &end, &[]),
            CHANNELS.settle(from, TOKEN.0),
            TOKEN.transfer(who(2), open(1)),
            SETTLEMENT.sweep(Key::default()),
        ];
        let data = damaged(how, &which.get(&calls).data, noise);
        let to = [TOKEN.0, SETTLEMENT.0, CHANNELS.0, COLLECTOR.0][at];
        let before = world.chain.state();
        let view = world.chain.call(to, &data);
        prop_assert_eq!(world.chain.state(), before);
        let done = world.chain.block(START_S, &[Transaction { from, to, data }]);
        prop_assert!(done[0].gas_used() <= TRANSACTION_GAS);
        if let Err(reason) = done[0].clone().result() {
            prop_assert!(!reason.to_string().is_empty());
            prop_assert_eq!(world.chain.balance(from), open(9));
        }
        // A view has no sender, so it may be refused where the transaction is not.
        drop(view);
    }
}
