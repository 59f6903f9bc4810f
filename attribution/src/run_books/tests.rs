//! A run's money from its deposit to its claims: nodes of the protocol, the books of each, and what each files. No network,
//! no clock, no disk.

use tributary_protocol::entry::Role;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::Finding;
use tributary_protocol::manifest::RoundSplit;
use tributary_protocol::test_utils::net::{Net, join, manifest};

use super::*;

mod answers;
mod asked;
mod bonded;
mod challenged;
mod checked;
mod disputed;
use crate::settlement::{BaseUnits, EvmKey};
use crate::test_chain::TestChain;

const ROUNDS: u32 = 4;

fn evm(node: usize) -> EvmKey {
    EvmKey::from_bytes(&[node as u8 + 1; 32]).expect("a key")
}

/// Nodes, and the books and the key that each of them has.
struct World {
    net: Net,
    run: RunId,
    manifest: Manifest,
    books: Vec<RunBooks>,
    /// Nodes that file nothing.
    silent: Vec<usize>,
    /// What each node finds of disputed sheets.
    findings: BTreeMap<usize, BTreeMap<EntryRef, Finding>>,
}

impl World {
    fn new(members: usize, change: impl FnOnce(&mut Manifest)) -> Self {
        let mut net = Net::new(members);
        let mut evaluators = vec![net.ids[0], net.ids[1]];
        evaluators.sort_unstable();
        let mut manifest = manifest(net.ids[0], evaluators, members as u32, ROUNDS);
        let terms = test_terms(evm(0).address(), &manifest);
        manifest.payment.settlement = Some(terms);
        manifest.payment.base_account = None;
        change(&mut manifest);
        let run = manifest.run_id();
        net.command(0, Command::Create(Box::new(manifest.clone())));
        Self {
            net,
            run,
            books: vec![RunBooks::new(&manifest); members],
            manifest,
            silent: Vec::new(),
            findings: BTreeMap::new(),
        }
    }

    fn join_all(&mut self) {
        for node in 0..self.books.len() {
            let role = if node < 2 {
                Role::Both
            } else {
                Role::Contributor
            };
            let join = Some(join(node, role).into());
            let run = self.run;
            self.net.command(node, Command::Follow { run, join });
        }
    }

    /// Each running node follows its certificates, and files what it is to file.
    fn keep(&mut self) {
        for node in 0..self.books.len() {
            let (filings, facts) = {
                let Some(view) = self.net.nodes[node].as_ref().and_then(|n| n.run(&self.run))
                else {
                    continue;
                };
                let books = &mut self.books[node];
                for certificate in &view.chain()[books.expected().0 as usize..] {
                    let value = &certificate.value;
                    let named = value.filings.iter();
                    let entry = |at: &EntryRef| Some((*at, view.log().entry(at)?.clone()));
                    let filings = named.filter_map(entry).collect();
                    books
                        .push(&self.manifest, value, &filings)
                        .expect("certified");
                }
                if self.silent.contains(&node) {
                    continue;
                }
                let peer = self.net.ids[node];
                let own = view.log().entries(peer);
                let named: Vec<EntryRef> = (view.chain().iter())
                    .flat_map(|c| c.value.filings.clone())
                    .collect();
                let pending: Vec<&Entry> = own
                    .filter(|(at, entry)| entry.is_filing() && !named.contains(at))
                    .map(|(_, entry)| entry)
                    .collect();
                let key = &evm(node);
                let facts = books.settled().and_then(Settled::chain_facts);
                let filer = Filer {
                    findings: self.findings.get(&node),
                    ..Filer::new(peer, key)
                };
                let duties = books.duties(&self.manifest, filer, &pending);
                (duties, facts.cloned())
            };
            if let Some(facts) = facts {
                let run = self.run;
                self.net.input(node, Input::Chain { run, facts });
            }
            if !filings.is_empty() {
                let run = self.run;
                self.net.command(node, Command::File { run, filings });
            }
        }
    }

    fn run_until(&mut self, limit_ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.net.now_ms + limit_ms;
        while !done(self) {
            if self.net.now_ms >= end {
                return false;
            }
            self.keep();
            self.net.run_until(20, |_| false);
            self.net.now_ms += 20;
        }
        true
    }

    fn settled(&self, node: usize) -> &Settled {
        self.books[node].settled().expect("terms")
    }

    fn chain(&self, node: usize) -> &TestChain {
        self.settled(node).chain().expect("the test chain")
    }

    fn claimed(&self, node: usize, of: usize) -> u128 {
        let key = self.settled(node).key();
        self.chain(node).claimed(key, evm(of).address()).0
    }

    /// Everybody was paid what its accounts hold, and says so.
    fn has_paid_everybody(&self) -> bool {
        let members = 0..self.books.len();
        let is_paid = |node: usize, of: usize| {
            let earned: u128 = (self.books[node].books().balances())
                .filter(|(_, account, balance)| {
                    let is_paid_in = matches!(account, Account::Sponsor(_));
                    account.holder() == Some(self.net.ids[of]) && !is_paid_in && balance.0 > 0
                })
                .map(|(_, _, balance)| balance.0.unsigned_abs())
                .sum();
            earned > 0 && self.claimed(node, of) == earned * 1_000_000_000_000
        };
        members
            .clone()
            .all(|node| members.clone().all(|of| is_paid(node, of)))
    }
}

#[test]
fn what_a_sponsor_deposits_is_earned_signed_posted_and_claimed() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(
        world.run_until(600_000, World::has_paid_everybody),
        "{:?}",
        world.settled(0).refused()
    );
    let budget = world.manifest.payment.budget_per_round.0;
    let deposited = u128::from(ROUNDS) * budget * 1_000_000_000_000;
    for node in 0..4 {
        let view = world.chain(node).run(world.settled(node).key());
        assert_eq!(view.deposited.0, deposited);
        let all: u128 = (0..4).map(|of| world.claimed(node, of)).sum();
        assert_eq!(view.paid.0, all);
        assert_eq!(view.accepted.total.0, all, "nothing is promised to nobody");
        assert!(view.accepted.closed);
        assert_eq!(world.chain(node).state(), world.chain(0).state());
        assert_eq!(world.settled(node).dissent().count(), 0);
        assert_eq!(world.books[node].unbound(), MicroOpen(0));
        assert_eq!(world.books[node].books(), world.books[0].books());
    }
    // Evaluators and signers have their parts.
    let books = world.books[0].books();
    let earned = |account| books.balance(world.run, account).0;
    assert!(earned(Account::Evaluator(world.net.ids[1])) > 0);
    assert!(earned(Account::Member(world.net.ids[3])) > 0);
    // And then nothing is left to be done, and no height comes.
    let last = world.books[0].expected();
    assert!(!world.run_until(120_000, |world| world.books[0].expected()
        > Round(last.0 + 1)));
}

#[test]
fn lines_add_up_to_what_each_account_is_paid_and_stand_under_the_root() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(world.run_until(600_000, World::has_paid_everybody));
    let books = &world.books[2];
    let (_, root) = world.settled(2).roots().last_key_value().expect("heights");
    let mut paid: BTreeMap<Address, u128> = BTreeMap::new();
    let mut tree = Vec::new();
    for line in books.lines() {
        *paid.entry(line.account).or_default() += line.amount.0 * 1_000_000_000_000;
        tree.push(line.encode());
    }
    let paid: BTreeMap<Address, BaseUnits> = paid
        .into_iter()
        .map(|(account, amount)| (account, BaseUnits(amount)))
        .collect();
    assert_eq!(paid, root.accounts);
    let tree = crate::settlement::Lines::build(tree.iter().map(Vec::as_slice));
    assert_eq!(tree.root(), root.root.lines);
    assert_eq!(root.balances().root().sum, root.root.total);
}

#[test]
fn a_line_is_proven_to_whoever_has_nothing_but_the_proof() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(world.run_until(600_000, World::has_paid_everybody));
    let (books, ids) = (&world.books[2], world.net.ids.clone());
    let (line, bundle) = books
        .prove(&ids[3], Round(3), Capacity::Contributor)
        .expect("signed");
    let bytes = bundle.encode();
    println!("{} bytes", bytes.len());
    assert!(bytes.len() <= 6 * 1024);
    let read = crate::settlement::Bundle::decode(&bytes).expect("its own bytes");
    let checked = read.check().expect("proven");
    assert!(checked.signers.len() >= 3);
    let crate::settlement::Subject::Line { bytes, .. } = &read.subject else {
        panic!("another subject");
    };
    assert_eq!(StatementLine::decode(bytes), Ok(line));
    assert_eq!((line.account, line.round), (evm(3).address(), Round(3)));
    let refused = books.prove(&ids[3], Round(99), Capacity::Contributor);
    assert_eq!(refused, Err(UnprovenError::NoLine));
}

#[test]
fn a_run_that_nobody_deposits_for_scores_and_pays_nothing() {
    let mut world = World::new(4, |_| {});
    world.silent = vec![0];
    world.join_all();
    let closing = world.manifest.closing_round();
    let is_over = |world: &World| world.books.iter().all(|books| books.expected() > closing);
    assert!(world.run_until(600_000, is_over));
    let books = world.books[0].books();
    let rounds: Vec<_> = books.rounds(world.run).collect();
    assert_eq!(rounds.len(), ROUNDS as usize);
    for (_, credits) in rounds {
        assert_eq!(credits.outcome, crate::Outcome::Unfunded);
        assert_eq!(credits.worth, MicroOpen(0));
        assert!(
            credits.lines.iter().any(|line| line.credit.0 > 0),
            "credits stand"
        );
    }
    assert!(books.balances().all(|(_, _, balance)| balance.0 == 0));
    assert!(
        !world.run_until(60_000, |world| world.books[0].expected() > closing.next()),
        "nobody files"
    );
}

#[test]
fn a_run_without_terms_is_unfunded() {
    let mut world = World::new(4, |manifest| manifest.payment.settlement = None);
    world.keep();
    world.join_all();
    let closing = world.manifest.closing_round();
    let is_over = |world: &World| world.books.iter().all(|books| books.expected() > closing);
    assert!(world.run_until(600_000, is_over));
    let books = &world.books[1];
    assert!(books.settled().is_none());
    let mut rounds = books.books().rounds(world.run);
    assert!(rounds.all(|(_, credits)| credits.outcome == crate::Outcome::Unfunded));
}

#[test]
fn whoever_crashes_between_any_steps_is_paid_in_the_end() {
    let mut world = World::new(4, |manifest| manifest.payment.round = RoundSplit::default());
    world.keep();
    world.join_all();
    let mut height = Round(0);
    for step in 0..40usize {
        // A node is gone for a while, another each time; its books are made again from its disk.
        let node = 1 + step % 3;
        let next = height;
        let moved = |world: &World| world.books[0].expected() > next || world.has_paid_everybody();
        if !world.run_until(120_000, moved) || world.has_paid_everybody() {
            break;
        }
        height = world.books[0].expected();
        world.net.crash(node);
        world.run_until(40, |_| false);
        world.net.restart(node);
        world.books[node] = RunBooks::new(&world.manifest);
    }
    assert!(world.run_until(600_000, World::has_paid_everybody));
    let states: BTreeSet<_> = (0..4).map(|node| world.chain(node).state().0).collect();
    assert_eq!(states.len(), 1);
}

#[test]
fn a_bind_that_its_account_did_not_sign_binds_nothing() {
    let world = World::new(2, |_| {});
    let settled = world.settled(0);
    let (peer, other) = (world.net.ids[0], world.net.ids[1]);
    let key = evm(5);
    let signed = |of| {
        let digest = settled.binding(of).digest(settled.deployment());
        tributary_protocol::filing::Bind {
            account: tributary_protocol::filing::EvmAddress(key.address().0),
            signature: tributary_protocol::filing::EvmSignature(*key.sign(&digest).as_bytes()),
        }
    };
    let mut bind = signed(peer);
    assert_eq!(settled.bound_account(peer, &bind), Some(key.address()));
    assert_eq!(
        settled.bound_account(peer, &signed(other)),
        None,
        "another's bind, copied"
    );
    bind.account.0[0] ^= 1;
    assert_eq!(settled.bound_account(peer, &bind), None);
    bind.signature.0[64] = 9;
    assert_eq!(settled.bound_account(peer, &bind), None);
}

#[test]
fn a_changed_account_counts_for_what_is_earned_after_the_cool_down() {
    let peer = PeerId(tributary_protocol::hash::Digest::from_bytes([1; 32]));
    let (one, two, thief) = (Address([1; 20]), Address([2; 20]), Address([3; 20]));
    let mut payees = Payees::default();
    let earn = |payees: &mut Payees, round: u32| {
        payees.begin(Round(round));
        payees.earn(peer, (Round(round), Capacity::Contributor), MicroOpen(10));
    };
    earn(&mut payees, 1);
    assert_eq!((payees.unbound(), payees.paid().len()), (MicroOpen(10), 0));
    payees.bind(peer, one, Round(2));
    assert_eq!(
        payees.paid()[&one],
        MicroOpen(10),
        "what waited comes with the first bind"
    );
    payees.bind(peer, two, Round(3));
    for round in 4..3 + BIND_COOLDOWN {
        earn(&mut payees, round);
    }
    assert_eq!(payees.account(&peer), Some(one));
    let before = payees.paid()[&one];
    earn(&mut payees, 3 + BIND_COOLDOWN);
    assert_eq!(payees.paid()[&one], before);
    assert_eq!(payees.paid()[&two], MicroOpen(10));
    // A thief's bind is undone by the owner's, made while it cools down.
    payees.bind(peer, thief, Round(30));
    payees.bind(peer, two, Round(31));
    earn(&mut payees, 100);
    assert_eq!(payees.account(&peer), Some(two));
    let sum: u128 = payees.paid().values().map(|amount| amount.0).sum();
    let lines: u128 = payees.lines().iter().map(|line| line.amount.0).sum();
    assert_eq!(sum, lines);
}

#[test]
fn a_signature_under_another_root_pays_nobody_and_is_shown() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(world.run_until(600_000, |world| world.books[0].expected() > Round(2)));
    let mut books = world.books[0].clone();
    let settled = books.settled.as_mut().expect("terms");
    let (round, root) = settled
        .roots()
        .last_key_value()
        .map(|(r, s)| (*r, s.clone()))
        .expect("a root");
    let given =
        |digest: &crate::settlement::Keccak, chain| tributary_protocol::filing::RootSignature {
            round,
            root: tributary_protocol::hash::Digest::from_bytes(digest.0),
            signature: tributary_protocol::filing::EvmSignature(*evm(1).sign(digest).as_bytes()),
            chain,
        };
    let (peer, account) = (world.net.ids[1], evm(1).address());
    let mut lying = root.root;
    lying.total = BaseUnits(lying.total.0 + 1);
    let lie = lying.digest(settled.deployment());
    assert!(!settled.take_signature(peer, account, &given(&lie, root.chain)));
    assert!(
        !settled.take_signature(peer, account, &given(&root.digest, None)),
        "another chain"
    );
    assert_eq!(settled.dissent().collect::<Vec<_>>(), [(round, peer)]);
    assert!(
        !settled.take_signature(peer, evm(2).address(), &given(&root.digest, root.chain)),
        "not its account"
    );
    assert!(settled.take_signature(peer, account, &given(&root.digest, root.chain)));
}

#[test]
fn the_deposit_pays_nobody_that_binds_after_the_closing_and_fees_do() {
    let peer = PeerId(tributary_protocol::hash::Digest::from_bytes([1; 32]));
    let account = Address([1; 20]);
    let mut payees = Payees::default();
    let earn = |payees: &mut Payees, capacity, amount| {
        payees.earn(peer, (Round(1), capacity), MicroOpen(amount));
    };
    earn(&mut payees, Capacity::Contributor, 10);
    earn(&mut payees, Capacity::Answers, 3);
    payees.close();
    earn(&mut payees, Capacity::Staker, 4);
    payees.bind(peer, account, Round(2));
    earn(&mut payees, Capacity::Server, 5);
    assert_eq!(payees.paid()[&account], MicroOpen(12));
    assert_eq!(payees.of_fees(), MicroOpen(12));
    assert_eq!(payees.unbound(), MicroOpen(10));
    assert!(payees.is_late(&peer, Round(1), Capacity::Contributor));
    assert!(!payees.is_late(&peer, Round(1), Capacity::Answers));
}
