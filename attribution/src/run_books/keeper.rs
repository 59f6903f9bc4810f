//! What one member files so that a run's money moves: where it is paid, its signature under each root, its answer to a
//! challenge of a right one, its part in disputes, and on the test chain its transactions. A pure function of the run's books
//! and of what the member has filed and nobody has put in order yet; asked again after each certificate, it goes on where it
//! was, whatever was lost between.

use std::collections::BTreeMap;

use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{
    self, Bind, Confirm, EvmAddress, EvmSignature, Finding, RootSignature,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Round};
use tributary_protocol::manifest::{Manifest, Settlement, SettlementChain};
use tributary_protocol::round::EntryRef;

use super::RunBooks;
use super::disputes::{APPEAL_HEIGHTS, DISPUTE_HEIGHTS, JURY_HEIGHTS, SENTENCE_HEIGHTS, Stage};
use super::settled::{SECONDS_PER_HEIGHT, Settled, SignedRoot, time_of};
use crate::settlement::calls::{self, Call, Payment, RunView, Token};
use crate::settlement::{Address, BaseUnits, EvmKey, Keccak, Signature};
use crate::test_chain::TestChain;
use crate::voucher::calls::Channels;

/// What each member bonds on the test chain.
const TEST_STAKE: MicroOpen = MicroOpen(1_000_000);
/// What a challenger puts up there.
const TEST_BOND: MicroOpen = MicroOpen(1_000_000);
/// Members whose turn it is at once where the one whose turn it is may be gone: after the closing, when no height comes by
/// itself, and where a challenge is answered, which can wait for no other height.
const MANY_TURNS: usize = 3;
/// Heights that a root waits on the test chain. A challenge comes with one, members' answers with the next, and what carries
/// them to the contract with the third, before that time is over.
const WINDOW_HEIGHTS: u32 = 3;
/// Heights until stake that leaves is out of reach there: whoever takes it out as soon as its sheet counts is still there
/// for the slowest sentence. A jury is drawn with the height behind its call, and there are two.
const COOLDOWN_HEIGHTS: u32 =
    DISPUTE_HEIGHTS + 2 * (1 + JURY_HEIGHTS) + APPEAL_HEIGHTS + SENTENCE_HEIGHTS + WINDOW_HEIGHTS;
/// Heights without an accepted root after which a sponsor may halt the run there.
const HALT_HEIGHTS: u32 = 30;

/// Terms on the test chain, in heights for days. Everything that is deposited may be promised at once, as nobody can lose
/// more than test OPEN.
pub fn test_terms(sponsor: Address, manifest: &Manifest) -> Settlement {
    let height_s = SECONDS_PER_HEIGHT as u32;
    let rounds = u128::from(manifest.plan.rounds);
    let budget = manifest.payment.budget_per_round.0.saturating_mul(rounds);
    let most = tributary_protocol::limits::MAX_BUDGET_MICRO_OPEN;
    let quorum = u128::from(manifest.membership.min_members) * 2 / 3 + 1;
    Settlement {
        chain: SettlementChain::Test,
        sponsor: EvmAddress(sponsor.0),
        arbiter: None,
        rate_per_s: MicroOpen(budget.div_ceil(u128::from(SECONDS_PER_HEIGHT)).min(most)),
        challenge_bond: TEST_BOND,
        min_stake: MicroOpen(
            TEST_STAKE.0 * quorum.min(u128::from(manifest.membership.min_members)),
        ),
        window_s: WINDOW_HEIGHTS * height_s,
        cooldown_s: COOLDOWN_HEIGHTS * height_s,
        halt_s: HALT_HEIGHTS * height_s,
    }
}

/// A member that files.
#[derive(Clone, Copy)]
pub struct Filer<'a> {
    /// The member.
    pub peer: PeerId,
    /// Its account's key.
    pub key: &'a EvmKey,
    /// Digest of a posted root that somebody challenged, where the run's chain is a real one: as the member reads it.
    pub challenged: Option<Keccak>,
    /// What the member found of disputed sheets, where it scored their windows again.
    pub findings: Option<&'a BTreeMap<EntryRef, Finding>>,
}

impl<'a> Filer<'a> {
    /// One that knows nothing beside the books.
    pub fn new(peer: PeerId, key: &'a EvmKey) -> Self {
        Self {
            peer,
            key,
            challenged: None,
            findings: None,
        }
    }
}

impl RunBooks {
    /// What `filer` is to file now, in this order, where `pending` are its filings that no certificate has named.
    pub fn duties(&self, manifest: &Manifest, filer: Filer<'_>, pending: &[&Entry]) -> Vec<Entry> {
        let mut duties = Vec::new();
        let (Some(settled), Some(at)) = (self.settled(), self.expected().previous()) else {
            return self.before_genesis(manifest, filer, pending);
        };
        let is_sponsor = filer.peer == manifest.creator;
        let is_member = (self.head()).is_some_and(|head| head.roster.get(&filer.peer).is_some());
        let view = settled.chain().map(|chain| chain.run(settled.key()));
        let is_funded = view.is_some_and(|view| view.deposited.max(view.fees) > BaseUnits(0));
        let counts = is_funded || manifest.is_bonded();
        if !(is_sponsor || is_member && counts) {
            return duties;
        }
        let binds = pending.iter().any(|entry| matches!(entry, Entry::Bind(_)));
        if self.account(&filer.peer).is_none() && !binds {
            duties.push(bind(settled, filer));
        }
        if is_member && self.account(&filer.peer) == Some(filer.key.address()) {
            let posted = view.and_then(|view| view.pending);
            let waits = posted.is_some_and(|root| root.due_s > time_of(self.expected()))
                || self.matures(settled, filer)
                || self.disputes.waits(settled, self.expected())
                || self.fees.waits();
            // What waits on the test chain waits for heights, and after the closing none comes without a filing.
            let is_epoch = at > manifest.closing_round() && !waits;
            duties.extend(signature(settled, filer, (at, is_epoch), pending));
            let challenged = posted.filter(|root| root.challenger.is_some());
            let challenged = challenged.map(|root| root.digest).or(filer.challenged);
            duties.extend(challenged.and_then(|root| confirm(settled, filer, root, pending)));
            duties.extend(self.disputes.duties(settled, filer, pending));
        }
        let waits = pending
            .iter()
            .any(|entry| matches!(entry, Entry::Transaction(_)));
        if let (Some(chain), Some(view), false) = (settled.chain(), view, waits) {
            let turn = Turn {
                books: self,
                settled,
                chain,
                view,
                account: filer.key.address(),
                next: self.expected(),
                is_closed: at >= manifest.closing_round(),
            };
            let calls = match is_sponsor.then(|| turn.deposit(manifest)) {
                Some(calls) if !calls.is_empty() => calls,
                _ if is_member => turn.calls(),
                _ => Vec::new(),
            };
            duties.extend(calls.into_iter().map(entry));
        }
        duties
    }

    /// Whether the member's stake on the test chain will count, and not yet.
    fn matures(&self, settled: &Settled, filer: Filer<'_>) -> bool {
        let chain = settled.chain();
        let stake = chain.map(|chain| chain.stake(settled.key(), filer.key.address()));
        stake.is_some_and(|stake| {
            stake.maturing > BaseUnits(0) && stake.mature_s > time_of(self.expected())
        })
    }

    /// The creator binds and deposits in the genesis itself, so that the first round is funded.
    fn before_genesis(
        &self,
        manifest: &Manifest,
        filer: Filer<'_>,
        pending: &[&Entry],
    ) -> Vec<Entry> {
        let mut duties = Vec::new();
        let Some(settled) = self.settled() else {
            return duties;
        };
        let Some(chain) = settled.chain() else {
            return duties;
        };
        if filer.peer == manifest.creator && pending.is_empty() {
            duties.push(bind(settled, filer));
            let turn = Turn {
                books: self,
                settled,
                chain,
                view: chain.run(settled.key()),
                account: filer.key.address(),
                next: Round(0),
                is_closed: false,
            };
            duties.extend(turn.deposit(manifest).into_iter().map(entry));
        }
        duties
    }
}

fn alone(signed: &[(Address, Signature)]) -> Vec<Signature> {
    signed.iter().map(|(_, signature)| *signature).collect()
}

pub(super) fn entry(call: Call) -> Entry {
    Entry::Transaction(filing::Transaction {
        to: EvmAddress(call.to.0),
        data: call.data,
    })
}

fn bind(settled: &Settled, filer: Filer<'_>) -> Entry {
    let digest = settled.binding(filer.peer).digest(settled.deployment());
    Entry::Bind(Bind {
        account: EvmAddress(filer.key.address().0),
        signature: EvmSignature(*filer.key.sign(&digest).as_bytes()),
    })
}

/// The member's signature under the last height's root, unless it stands there already, or would say what an earlier
/// epoch's says: then nobody signs, and no height comes of it.
fn signature(
    settled: &Settled,
    filer: Filer<'_>,
    (at, is_epoch): (Round, bool),
    pending: &[&Entry],
) -> Option<Entry> {
    let last = settled.roots().get(&at)?;
    let before = at
        .previous()
        .and_then(|before| settled.roots().get(&before));
    let says = |root: &SignedRoot| (root.root.balances, root.root.lines, root.root.closed);
    let is_old = is_epoch && before.is_some_and(|before| says(before) == says(last));
    let is_filed =
        |entry: &&&Entry| matches!(entry, Entry::RootSignature(given) if given.round == at);
    let is_signed = last.signatures.contains_key(&filer.key.address());
    if is_old || is_signed || at == Round(0) || pending.iter().any(|entry| is_filed(&entry)) {
        return None;
    }
    Some(Entry::RootSignature(RootSignature {
        round: at,
        root: Digest::from_bytes(last.digest.0),
        signature: EvmSignature(*filer.key.sign(&last.digest).as_bytes()),
        chain: last.chain,
    }))
}

/// The member's answer to a challenge of a root that follows here, unless it stands there already. A root that does not
/// follow is answered by nobody honest, and void. Where the terms name an arbiter, that one decides.
fn confirm(
    settled: &Settled,
    filer: Filer<'_>,
    challenged: Keccak,
    pending: &[&Entry],
) -> Option<Entry> {
    let mut roots = settled.roots().iter();
    let (round, root) = roots.find(|(_, root)| root.digest == challenged)?;
    let is_filed =
        |entry: &&&Entry| matches!(entry, Entry::Confirm(given) if given.round == *round);
    let is_given = root.confirms.contains_key(&filer.key.address());
    let is_arbiters = settled.terms().arbiter.is_some();
    if is_given || is_arbiters || pending.iter().any(|entry| is_filed(&entry)) {
        return None;
    }
    let statement = settled.confirmed(&root.root, root.digest);
    let digest = statement.digest(settled.deployment());
    Some(Entry::Confirm(Confirm {
        round: *round,
        root: Digest::from_bytes(root.digest.0),
        signature: EvmSignature(*filer.key.sign(&digest).as_bytes()),
    }))
}

/// One member's look at the test chain, before the height at which what it files may come to be.
struct Turn<'a> {
    books: &'a RunBooks,
    settled: &'a Settled,
    chain: &'a TestChain,
    view: RunView,
    account: Address,
    next: Round,
    is_closed: bool,
}

impl Turn<'_> {
    fn contract(&self) -> calls::Settlement {
        calls::Settlement(self.settled.deployment().contract)
    }

    /// Test OPEN from the faucet, and leave for the contract to take it.
    fn draw(&self, amount: BaseUnits) -> [Call; 2] {
        let token = Token(TestChain::deployed().token);
        [
            token.mint(self.account, amount),
            token.approve(self.contract().0, amount),
        ]
    }

    /// What the sponsor deposits: the budgets of all rounds.
    fn deposit(&self, manifest: &Manifest) -> Vec<Call> {
        let rounds = u128::from(manifest.plan.rounds);
        let budget = MicroOpen(manifest.payment.budget_per_round.0.saturating_mul(rounds));
        let Ok(budget) = BaseUnits::from_micro(budget) else {
            return Vec::new();
        };
        let lacks = budget.saturating_sub(self.view.deposited);
        if lacks == BaseUnits(0) || self.is_closed {
            return Vec::new();
        }
        let mut calls = self.draw(lacks).to_vec();
        calls.push(self.contract().deposit(self.settled.terms(), lacks));
        calls
    }

    /// What of the deposit goes back to the sponsor, once the chain has the closing root.
    fn reclaim(&self) -> Option<Call> {
        let accepted = self.accepted(time_of(self.next));
        // Fees of a closed run are its members'.
        let bound = accepted.total.0 - accepted.from_fees.0 + self.view.reclaimed.0;
        let is_closed = self.view.accepted.closed || accepted.closed;
        let terms = self.settled.terms();
        (is_closed && self.view.deposited.0 > bound && terms.sponsor == self.account)
            .then(|| self.contract().reclaim(terms, false))
    }

    /// Brings what channels were claimed for from their contract into the run's till, and from there into its fees.
    fn gather(&self) -> Vec<Call> {
        let (key, deployed) = (self.settled.key(), TestChain::deployed());
        let till = self.chain.till(key);
        let received = self.chain.received(till);
        let mut calls = Vec::new();
        if received.claimed > received.settled {
            calls.push(Channels(deployed.channels).settle(till, deployed.token));
        }
        if !calls.is_empty() || self.chain.balance(till) > BaseUnits(0) {
            calls.push(self.contract().sweep(key));
        }
        // Stakes are asked for one by one, so only where there is something to bring.
        if calls.is_empty() {
            return calls;
        }
        let stakers = self.settled.stakers(&self.books.payees);
        let accounts = stakers.iter().map(|(peer, _)| self.books.account(peer));
        let is_turn = self.is_turn(accounts, self.turns());
        if is_turn { calls } else { Vec::new() }
    }

    /// How many members post and gather at once.
    fn turns(&self) -> usize {
        if self.is_closed { MANY_TURNS } else { 1 }
    }

    /// Whether this member is one of the `turns` whose turn it is, of those whose accounts come in this order.
    fn is_turn(&self, accounts: impl Iterator<Item = Option<Address>>, turns: usize) -> bool {
        let accounts: Vec<Option<Address>> = accounts.collect();
        let place = accounts.iter().position(|one| *one == Some(self.account));
        place.is_some_and(|place| {
            let turn = self.next.0 as usize % accounts.len();
            (place + accounts.len() - turn) % accounts.len() < turns
        })
    }

    /// What a member does next: bond, have its stake count, post, claim; the first that is to be done.
    fn calls(&self) -> Vec<Call> {
        let (contract, key) = (self.contract(), self.settled.key());
        let stake = self.chain.stake(key, self.account);
        let time_s = time_of(self.next);
        if stake.all() == BaseUnits(0) && !self.is_closed {
            let amount = BaseUnits::from_micro(TEST_STAKE).expect("one OPEN");
            let mut calls = self.draw(amount).to_vec();
            calls.push(contract.bond(self.settled.terms(), amount));
            return calls;
        }
        if stake.maturing > BaseUnits(0) && stake.mature_s <= time_s {
            return vec![contract.activate(key, self.account)];
        }
        let moves = [
            self.confirm(),
            self.post(time_s),
            self.claim(time_s),
            self.reclaim(),
        ];
        let mut calls: Vec<Call> = moves.into_iter().flatten().collect();
        calls.extend(self.sentences(time_s));
        calls.extend(self.gather());
        calls
    }

    /// The newest root that enough stake signed, if it says more than the chain has and it is this member's turn.
    fn post(&self, time_s: u64) -> Option<Call> {
        let waits = self
            .view
            .pending
            .is_some_and(|pending| pending.due_s > time_s);
        let least = self.settled.terms().min_stake;
        if waits || self.view.stake < least || self.view.stake == BaseUnits(0) {
            return None;
        }
        let mut roots = self.settled.roots().values().rev();
        let (root, signed) = roots
            .find_map(|root| Some((root, self.of_quorum(&root.signatures, self.view.stake)?)))?;
        let known = self.accepted(time_s);
        let is_news = root.root.height > known.height
            && (root.root.total > known.total || root.root.closed && !known.closed);
        let is_turn = self.is_turn(signed.iter().map(|(signer, _)| Some(*signer)), self.turns());
        if !is_news || !is_turn {
            return None;
        }
        let (terms, signatures) = (self.settled.terms(), alone(&signed));
        Some(self.contract().post(terms, &root.root, &signatures))
    }

    /// Carries members' answers to a challenge to the contract.
    fn confirm(&self) -> Option<Call> {
        let posted = self.view.pending.filter(|root| root.challenger.is_some())?;
        let mut roots = self.settled.roots().values();
        let root = roots.find(|root| root.digest == posted.digest)?;
        let signed = self.of_quorum(&root.confirms, self.view.stake)?;
        let is_turn = self.is_turn(signed.iter().map(|(signer, _)| Some(*signer)), MANY_TURNS);
        let (terms, signatures) = (self.settled.terms(), alone(&signed));
        is_turn.then(|| self.contract().confirm(terms, &root.root, &signatures))
    }

    /// Brings sentences to the contract, and has it carry out those that have waited.
    fn sentences(&self, time_s: u64) -> Vec<Call> {
        let (key, contract) = (self.settled.key(), self.contract());
        let mut calls = Vec::new();
        for (_, dispute) in self.books.disputes() {
            let Stage::Over(sentence) = &dispute.stage else {
                continue;
            };
            let Some(slash) = sentence.slash else {
                continue;
            };
            let stake = self.chain.stake(key, slash.account);
            let signers = || sentence.signatures.keys().map(|one| Some(*one));
            match stake.sentence {
                Some(waits) if waits.due_s <= time_s && self.is_turn(signers(), MANY_TURNS) => {
                    calls.push(contract.execute_slash(key, slash.account));
                }
                Some(_) => {}
                None if self.settled.sentenced().contains(&slash.evidence) => {}
                None => {
                    // The contract asks for more than two thirds of the others' stake, and more than a third of all.
                    let others =
                        BaseUnits(self.view.stake.0 - stake.counting.0.min(self.view.stake.0));
                    let signed = self.of_quorum(&sentence.signatures, others);
                    let signed = signed.filter(|_| stake.all() > BaseUnits(0));
                    if let Some(signed) = signed
                        && self.is_turn(signers(), MANY_TURNS)
                    {
                        let terms = self.settled.terms();
                        calls.push(contract.slash(terms, &slash, &alone(&signed)));
                    }
                }
            }
        }
        calls
    }

    /// Signatures of those whose stake counts, ascending by signer, where that is a quorum of `all`.
    fn of_quorum(
        &self,
        signatures: &BTreeMap<Address, Signature>,
        all: BaseUnits,
    ) -> Option<Vec<(Address, Signature)>> {
        let key = self.settled.key();
        let counting = |account| self.chain.stake(key, account).counting.0;
        let signed = signatures.iter().map(|(signer, one)| (*signer, *one));
        let signed: Vec<(Address, Signature, u128)> = signed
            .map(|(signer, one)| (signer, one, counting(signer)))
            .filter(|(_, _, stake)| *stake > 0)
            .collect();
        // Stakes of test OPEN are far below a third of 128 bits.
        let sum: u128 = signed.iter().map(|(_, _, stake)| stake).sum();
        let is_quorum = 3 * sum > 2 * all.0;
        is_quorum.then(|| {
            signed
                .iter()
                .map(|(signer, one, _)| (*signer, *one))
                .collect()
        })
    }

    /// The root that the chain will have accepted by then.
    fn accepted(&self, time_s: u64) -> calls::RootView {
        match self.view.pending {
            Some(pending) if pending.due_s <= time_s && pending.challenger.is_none() => {
                pending.root
            }
            _ => self.view.accepted,
        }
    }

    /// What the member is owed, once the run is closed.
    fn claim(&self, time_s: u64) -> Option<Call> {
        let accepted = self.accepted(time_s);
        let root = (self.settled.roots()).get(&Round(u32::try_from(accepted.height).ok()?))?;
        let owed = *root.accounts.get(&self.account)?;
        let key = self.settled.key();
        if !self.is_closed || owed <= self.chain.claimed(key, self.account) {
            return None;
        }
        let payment = Payment {
            run: key,
            proof: root.balances().prove(&self.account)?,
            unwrap: false,
        };
        assert_eq!(
            self.books.run(),
            self.settled.terms().run,
            "one run's books"
        );
        Some(self.contract().claim(&[payment]))
    }
}
