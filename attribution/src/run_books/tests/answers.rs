//! Answers that consumers paid for: from a channel's deposit to what contributors claim.

use tributary_protocol::filing::{
    AgreedShares, Answers, EvmAddress, EvmSignature, PaidAnswer, Transaction,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::Ppb;

use super::*;
use crate::settlement::Agreement;
use crate::settlement::calls::{Call, RunView, Settlement, Token};
use crate::voucher::calls::{Channels, Collector};
use crate::voucher::{ChannelConfig, ChannelId, Claim, Voucher};

/// What a consumer deposits, micro-OPEN.
const DEPOSIT: u128 = 1_000_000;

/// A consumer that pays a server through a channel. On the test chain transactions are members', so it is one.
pub(super) struct Paying {
    server: usize,
    consumer: usize,
    config: ChannelConfig,
}

pub(super) fn units(micro: u128) -> BaseUnits {
    BaseUnits(micro * 1_000_000_000_000)
}

fn sent(call: Call) -> Entry {
    Entry::Transaction(Transaction {
        to: EvmAddress(call.to.0),
        data: call.data,
    })
}

impl Paying {
    pub(super) fn new(world: &World, server: usize, consumer: usize) -> Self {
        let settled = world.settled(server);
        let config = ChannelConfig {
            payer: evm(consumer).address(),
            payer_authorizer: Address::ZERO,
            receiver: world.chain(server).till(settled.key()),
            receiver_authorizer: evm(server).address(),
            token: TestChain::deployed().token,
            withdraw_delay_s: 900,
            salt: [0; 32],
        };
        Self {
            server,
            consumer,
            config,
        }
    }

    fn id(&self) -> ChannelId {
        self.config.id(&TestChain::deployed().channels_deployment())
    }

    pub(super) fn deposit(&self, world: &mut World) {
        let deployed = TestChain::deployed();
        let (token, amount) = (Token(deployed.token), units(DEPOSIT));
        let channels = Channels(deployed.channels);
        let filings = vec![
            sent(token.mint(self.config.payer, amount)),
            sent(token.approve(deployed.collector, amount)),
            sent(Collector(deployed.collector).deposit(channels, &self.config, amount)),
        ];
        world.file(self.consumer, filings);
        let (id, server) = (self.id(), self.server);
        assert!(
            world.run_until(120_000, |world| world.chain(server).channel(id).deposit
                == amount)
        );
    }

    /// Answers of these fees behind what the channel was charged before, shared by agreement where there is one.
    pub(super) fn answers(
        &self,
        world: &World,
        before: u128,
        fees: &[(u128, &[(usize, u32)])],
    ) -> Entry {
        let deployment = *world.settled(self.server).deployment();
        let mut charged = before;
        let answers = fees.iter().map(|(fee, shares)| {
            charged += fee;
            let mut shares: Vec<(PeerId, Ppb)> = (shares.iter())
                .map(|(of, share)| (world.net.ids[*of], Ppb(*share)))
                .collect();
            shares.sort_unstable();
            let agreement = Agreement {
                channel: self.id().0,
                charged: units(charged),
                request: Digest::default(),
                text: Digest::default(),
                shares: &shares,
            };
            let signature = evm(self.consumer).sign(&agreement.digest(&deployment));
            PaidAnswer {
                adapter: Digest::default(),
                request: Digest::default(),
                response: Digest::default(),
                prompt_tokens: 10,
                answer_tokens: 20,
                fee: MicroOpen(*fee),
                shares: (!shares.is_empty()).then(|| AgreedShares {
                    text: Digest::default(),
                    shares: shares.clone(),
                    signature: EvmSignature(*signature.as_bytes()),
                }),
            }
        });
        Entry::Answers(Answers {
            payer: EvmAddress(self.config.payer.0),
            payer_authorizer: EvmAddress(self.config.payer_authorizer.0),
            withdraw_delay_s: self.config.withdraw_delay_s,
            salt: self.config.salt,
            before: MicroOpen(before),
            answers: answers.collect(),
        })
    }

    /// The claim of so much of the channel, all before included.
    pub(super) fn claim(&self, total: u128) -> Entry {
        let scheme = TestChain::deployed().channels_deployment();
        let max = units(total);
        let voucher = Voucher {
            channel: self.id(),
            max,
            signature: evm(self.consumer).sign(&Voucher::digest(self.id(), max, &scheme)),
        };
        let claim = Claim {
            config: self.config,
            voucher,
            total_claimed: max,
        };
        sent(Channels(TestChain::deployed().channels).claim(&[claim]))
    }
}

impl World {
    pub(super) fn file(&mut self, node: usize, filings: Vec<Entry>) {
        let run = self.run;
        self.net.command(node, Command::File { run, filings });
    }

    /// A run that is closed, and paid everybody.
    fn closed(change: impl FnOnce(&mut Manifest)) -> Self {
        Self::closed_of(4, change)
    }

    pub(super) fn closed_of(nodes: usize, change: impl FnOnce(&mut Manifest)) -> Self {
        let mut world = Self::new(nodes, change);
        world.keep();
        world.join_all();
        assert!(world.run_until(600_000, Self::has_paid_everybody));
        world
    }

    pub(super) fn earned(&self, account: impl Fn(PeerId) -> Account, of: usize) -> u128 {
        let account = account(self.net.ids[of]);
        let balance = self.books[0].books().balance(self.run, account);
        balance.0.unsigned_abs()
    }

    pub(super) fn fees(&self) -> u128 {
        let view = self.chain(0).run(self.settled(0).key());
        view.fees.to_micro_floor().0
    }
}

#[test]
fn a_served_answer_pays_contributors_long_after_the_run_closed() {
    let mut world = World::closed(|_| {});
    let before: Vec<u128> = (0..4)
        .map(|of| world.earned(Account::Contributor, of))
        .collect();
    let paying = Paying::new(&world, 2, 3);
    paying.deposit(&mut world);
    let filings = vec![
        paying.answers(&world, 0, &[(60_000, &[]), (40_000, &[])]),
        paying.claim(100_000),
    ];
    world.file(2, filings);
    let is_paid = |world: &World| world.fees() == 100_000 && world.has_paid_everybody();
    assert!(
        world.run_until(600_000, is_paid),
        "{:?}",
        world.settled(0).refused()
    );
    // The server has its portion, and contributors theirs by the run's credits, which here are nobody's choice.
    assert_eq!(world.earned(Account::Server, 2), 10_000);
    let after: Vec<u128> = (0..4)
        .map(|of| world.earned(Account::Contributor, of))
        .collect();
    let more: u128 = after.iter().zip(&before).map(|(a, b)| a - b).sum();
    assert!((70_000..=90_000).contains(&more), "{more}");
    let credits = world.books[0].rounds.credits();
    let of = |node: usize| {
        let found = credits
            .iter()
            .find(|(peer, _)| *peer == world.net.ids[node]);
        found.map_or(0, |(_, credit)| *credit)
    };
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        let [x, y] = [a, b].map(|n: usize| (after[n] - before[n]) as i128);
        let cross = |n: i128, credit: u128| n * (credit >> 60) as i128;
        let apart = (cross(x, of(b)) - cross(y, of(a))).abs();
        assert!(apart <= 4 * (of(a).max(of(b)) >> 60) as i128, "{x} {y}");
    }
    for node in 0..4 {
        assert!(world.books[node].is_conserved());
        let view = world.chain(node).run(world.settled(node).key());
        assert_eq!(view.paid, view.accepted.total);
        assert_eq!(view.accepted.from_fees, units(100_000));
    }
}

#[test]
fn shares_that_a_payer_agreed_to_decide_and_others_do_not() {
    let mut world = World::closed(|manifest| {
        manifest.payment.base_account = Some(EvmAddress(evm(40).address().0));
    });
    let paying = Paying::new(&world, 2, 3);
    paying.deposit(&mut world);
    let before = world.earned(Account::Contributor, 1);
    let Entry::Answers(mut answers) = paying.answers(
        &world,
        0,
        &[
            (50_000, &[(1, 600_000_000)]),
            (50_000, &[(1, 1_000_000_000)]),
        ],
    ) else {
        panic!("answers");
    };
    // The server writes itself into the second, for which the payer's signature then stands no more.
    let second = answers.answers[1].shares.as_mut().expect("agreed");
    second.shares[0].0 = world.net.ids[2];
    world.file(2, vec![Entry::Answers(answers), paying.claim(100_000)]);
    assert!(world.run_until(600_000, |world| world.fees() == 100_000
        && world.has_paid_everybody()));
    let fees = world.books[0].books().facts().find_map(|fact| match fact {
        Fact::Fees(fees) => Some(fees),
        _ => None,
    });
    let shaped = &fees.expect("fees").shaped;
    assert_eq!(shaped.agreed, [(world.net.ids[1], 50_000 * 600_000_000)]);
    assert_eq!(shaped.nobody, 50_000 * 400_000_000);
    assert_eq!(shaped.by_credits, 50_000 * 1_000_000_000);
    assert!(world.earned(Account::Contributor, 1) >= before + 21_000);
    // What the share names nobody for, and its portion, are the base author's, who is paid as anybody.
    let base = world.manifest.model.base.hash;
    let author = world.books[0]
        .books()
        .balance(world.run, Account::BaseAuthor(base));
    assert_eq!(author.0, 10_000 + 14_000);
    let key = world.settled(0).key();
    let root = world.settled(0).roots().last_key_value().expect("roots").1;
    assert_eq!(root.accounts[&evm(40).address()], units(24_000));
    assert_eq!(world.chain(0).claimed(key, evm(40).address()), units(0));
}

#[test]
fn a_server_that_claims_without_answers_loses_its_portion_to_the_contributors() {
    let mut world = World::closed(|_| {});
    let paying = Paying::new(&world, 2, 3);
    paying.deposit(&mut world);
    world.file(2, vec![paying.claim(100_000)]);
    assert!(world.run_until(600_000, |world| world.fees() == 100_000
        && world.has_paid_everybody()));
    assert_eq!(world.earned(Account::Server, 2), 0);
    // Answers that it files afterwards are for money that is gone.
    world.file(2, vec![paying.answers(&world, 0, &[(100_000, &[])])]);
    let height = world.books[0].expected();
    assert!(world.run_until(120_000, |world| world.books[0].expected() > height));
    assert_eq!(world.earned(Account::Server, 2), 0);
}

#[test]
fn answers_take_no_money_of_another_channel_and_none_twice() {
    let mut world = World::closed(|_| {});
    let (paying, other) = (Paying::new(&world, 2, 3), Paying::new(&world, 1, 0));
    paying.deposit(&mut world);
    other.deposit(&mut world);
    // Node 2 files answers of its channel twice, and of a channel of node 1, before node 1 claims.
    let foreign = other.answers(&world, 0, &[(90_000, &[])]);
    let own = || paying.answers(&world, 0, &[(100_000, &[])]);
    world.file(2, vec![foreign, own(), own()]);
    world.run_until(5_000, |_| false);
    world.file(
        1,
        vec![
            other.answers(&world, 0, &[(90_000, &[])]),
            other.claim(90_000),
        ],
    );
    assert!(world.run_until(600_000, |world| world.fees() == 90_000
        && world.has_paid_everybody()));
    assert_eq!(world.earned(Account::Server, 2), 0);
    assert_eq!(world.earned(Account::Server, 1), 9_000);
    // A part of its own answers is claimed, and then the rest: each pays its part.
    world.file(2, vec![paying.claim(30_000)]);
    assert!(world.run_until(600_000, |world| world.fees() == 120_000
        && world.has_paid_everybody()));
    assert_eq!(world.earned(Account::Server, 2), 3_000);
    world.file(2, vec![paying.claim(100_000)]);
    assert!(world.run_until(600_000, |world| world.fees() == 190_000
        && world.has_paid_everybody()));
    assert_eq!(world.earned(Account::Server, 2), 10_000);
    assert!(world.books.iter().all(RunBooks::is_conserved));
}

impl World {
    fn view(&self, node: usize) -> RunView {
        self.chain(node).run(self.settled(node).key())
    }

    /// Somebody pays the run's till, and sweeps it.
    fn tip(&mut self, node: usize, micro: u128) {
        let (settled, deployed) = (self.settled(node), TestChain::deployed());
        let till = self.chain(node).till(settled.key());
        let sweep = Settlement(deployed.settlement).sweep(settled.key());
        let filings = vec![
            sent(Token(deployed.token).mint(till, units(micro))),
            sent(sweep),
        ];
        self.file(node, filings);
    }

    /// The sponsor has what no root promised of the deposit, and members have the rest of it and every fee.
    fn is_settled(&self) -> bool {
        let view = self.view(0);
        let of_deposit = view.accepted.total.0 - view.accepted.from_fees.0;
        view.accepted.closed
            && view.accepted.from_fees == view.fees
            && view.paid == view.accepted.total
            && view.reclaimed.0 + of_deposit == view.deposited.0
    }
}

#[test]
fn a_sweep_in_the_height_of_the_closing_post_stops_nobody() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    let closing = world.manifest.closing_round();
    assert!(world.run_until(600_000, |world| world.books[0].expected() >= closing));
    // A height runs transactions in the order of their authors, so these come before any post.
    let first = (0..4).min_by_key(|node| world.net.ids[*node]);
    let is_left_out = |world: &World| {
        let view = world.view(0);
        let pending = view.pending.map(|pending| pending.root);
        pending.is_some_and(|root| root.closed && root.from_fees < view.fees)
    };
    for _ in 0..20 {
        let height = world.books[0].expected();
        world.tip(first.expect("nodes"), 10_000);
        assert!(world.run_until(120_000, |world| world.books[0].expected() > height));
        if is_left_out(&world) {
            break;
        }
    }
    assert!(is_left_out(&world), "no closing root left fees out");
    let is_over = |world: &World| world.has_paid_everybody() && world.is_settled();
    assert!(
        world.run_until(600_000, is_over),
        "{:?} {:?}",
        world.view(0),
        world.settled(0).refused()
    );
    world.tip(first.expect("nodes"), 10_000);
    let fees = units(world.fees() + 10_000);
    assert!(world.run_until(600_000, |world| world.view(0).fees == fees
        && is_over(world)));
    assert!(world.books.iter().all(RunBooks::is_conserved));
}

#[test]
fn whoever_says_only_after_the_closing_where_it_is_paid_has_its_fees_and_stops_nobody() {
    let mut world = World::new(4, |_| {});
    world.silent = vec![3];
    world.keep();
    world.join_all();
    let is_over = |world: &World| world.is_settled() && world.claimed(0, 3) == 0;
    assert!(world.run_until(600_000, is_over));
    let late = world.books[0].unbound();
    assert!(late > MicroOpen(0));
    world.silent.clear();
    let account = evm(3).address();
    let is_bound = |world: &World| world.books[0].account(&world.net.ids[3]) == Some(account);
    assert!(world.run_until(120_000, is_bound));
    world.tip(1, 100_000);
    let is_paid = |world: &World| world.fees() == 100_000 && world.is_settled();
    assert!(
        world.run_until(600_000, is_paid),
        "{:?} {:?}",
        world.view(0),
        world.settled(0).refused()
    );
    assert_eq!(world.books[0].unbound(), late);
    assert!(world.claimed(0, 3) > 0, "its part of the fees");
    let of_fees =
        |line: &&StatementLine| line.peer == world.net.ids[3] && line.capacity.is_of_fees();
    let lines = world.books[0].lines().iter().filter(of_fees);
    let sum: u128 = lines.map(|line| line.amount.0).sum();
    assert_eq!(world.claimed(0, 3), units(sum).0);
    let refused = world.books[0].prove(&world.net.ids[3], Round(2), Capacity::Contributor);
    assert_eq!(refused, Err(UnprovenError::Late));
    assert!(world.books.iter().all(RunBooks::is_conserved));
}
