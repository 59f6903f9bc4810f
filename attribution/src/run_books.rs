//! One run's books, followed from certificate to certificate: what its rounds pay, to which accounts, out of which deposit.
//!
//! ```text
//!   certified value ─┬─ filings: binds, signatures of roots, transactions ──► test chain ──► what is deposited
//!                    │                                                                        │
//!                    ├─ scores, sheets ──► fold::Chain (funded by that) ──► facts ──► Books ──┼─► payees ──► Root
//!                    └─ answers ──► fees (what channels were claimed for) ──► facts ──────────┘
//! ```
//!
//! Everything follows from the manifest and the certified bytes, so every peer and every auditor has the same books and
//! signs the same root. A filing that comes to nothing changes nothing.

mod anchored;
mod asked;
mod disputes;
mod fees;
mod keeper;
mod line;
mod payees;
mod proof;
mod serving;
mod settled;

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::entry::Entry;
use tributary_protocol::id::{MicroOpen, PeerId, Round, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::panel::Panel;
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self, Head};

use crate::account::Account;
use crate::fee::Fees;
use crate::fold::{Books, Chain, Fact, FactId, FoldError, Forfeit, Funding, postings};
use crate::money::Balance;
use crate::settlement::Address;
use disputes::{Court, Disputes};
use fees::FeeQueue;
use payees::Payees;

pub use asked::Asked;
pub use disputes::{
    APPEAL_HEIGHTS, DISPUTE_HEIGHTS, Dispute, DisputedScore, JURY_HEIGHTS, JURY_SEATS, Matter,
    Sentence, Stage, UndisputedError,
};
pub use fees::ANNOUNCED_HEIGHTS;

pub use keeper::{Filer, test_terms};
pub use line::{Capacity, StatementLine};
pub use payees::BIND_COOLDOWN;
pub use proof::UnprovenError;
pub use serving::Served;
pub use settled::{SECONDS_PER_HEIGHT, Settled, SignedRoot, bind_of, deployment_of, terms_of};

/// A run's books as far as its certificates go.
#[derive(Clone)]
pub struct RunBooks {
    run: RunId,
    /// Of a run with terms: what certificates prove so far.
    head: Option<Head>,
    rounds: Chain,
    books: Books,
    payees: Payees,
    settled: Option<Box<Settled>>,
    fees: FeeQueue,
    disputes: Disputes,
    /// Filings that were put in order: naming one again changes nothing.
    filed: BTreeSet<EntryRef>,
}

impl RunBooks {
    /// Before the genesis.
    pub fn new(manifest: &Manifest) -> Self {
        let run = manifest.run_id();
        let settlement = manifest.payment.settlement.as_ref();
        let mut payees = Payees::default();
        if let Some(account) = manifest.payment.base_account {
            payees.bind(base_author(manifest), Address(account.0), Round(0));
        }
        Self {
            run,
            head: None,
            rounds: Chain::new(manifest),
            books: Books::new(),
            payees,
            settled: settlement
                .map(|terms| Box::new(Settled::new(run, terms, manifest.is_bonded()))),
            fees: FeeQueue::default(),
            disputes: Disputes::default(),
            filed: BTreeSet::new(),
        }
    }

    /// The height that comes next.
    pub fn expected(&self) -> Round {
        self.rounds.expected()
    }

    /// One certified value on, with the filings that it names; the names of the facts that it made true.
    ///
    /// # Errors
    /// [`FoldError`]: a value that is not the next, that does not follow from those before (of a run with terms), or whose
    /// scores are none.
    pub fn push(
        &mut self,
        manifest: &Manifest,
        value: &RoundValue,
        filings: &BTreeMap<EntryRef, Entry>,
    ) -> Result<Vec<FactId>, FoldError> {
        if value.round != self.expected() {
            return Err(FoldError::Gap(self.expected()));
        }
        let funding = match self.settled.is_some() {
            true => {
                let before = self.follow(manifest, value)?;
                let nobody = Vec::new();
                let votes = before.as_ref().map_or(&nobody, |head| &head.electorate);
                let panel = before.as_ref().map(|head| head.panel.clone());
                Funding {
                    panel: panel.unwrap_or_default(),
                    ..self.take_filings(manifest, value, filings, votes)
                }
            }
            false => Funding::default(),
        };
        let facts = self.rounds.push(manifest, value, &funding)?;
        let fees = self.collect_fees(manifest, value.round, &funding);
        let mut made = Vec::with_capacity(facts.len() + fees.len());
        let mut earned = Earned::new();
        for fact in facts.into_iter().chain(fees) {
            made.push(fact.id());
            self.post(value.round, fact, &mut earned)?;
        }
        for ((judged, capacity, peer), amount) in earned {
            self.payees.earn(peer, (judged, capacity), amount);
        }
        made.extend(self.decide(manifest, value.round)?);
        if let Some(settled) = &mut self.settled {
            let is_closed = value.round >= manifest.closing_round();
            let disputes = &self.disputes;
            let is_disputed = |peer: &PeerId, judged| disputes.holds(peer, judged);
            self.payees.release(is_closed, is_disputed);
            settled.close_height(value.round, &self.payees, is_closed);
            if is_closed {
                self.payees.close();
            }
        }
        Ok(made)
    }

    /// Moves the head on; what it was before.
    fn follow(
        &mut self,
        manifest: &Manifest,
        value: &RoundValue,
    ) -> Result<Option<Head>, FoldError> {
        let head = state::follow(manifest, self.run, self.head.as_ref(), value);
        let head = head.map_err(FoldError::Value)?;
        Ok(self.head.replace(head))
    }

    /// What of the run's fees is given out at a height.
    fn collect_fees(&mut self, manifest: &Manifest, round: Round, funding: &Funding) -> Vec<Fact> {
        let Some(settled) = &self.settled else {
            return Vec::new();
        };
        let collected = self.fees.collect(settled, round);
        let fact = |(source, amount, shaped)| {
            Fact::Fees(Fees {
                run: self.run,
                round,
                source,
                amount,
                revenue: manifest.payment.revenue,
                base: (manifest.payment.base_account).map(|_| manifest.model.base.hash),
                committee: funding.signers.clone(),
                stakers: settled.stakers(&self.payees),
                shaped,
                credits: self.rounds.credits(),
            })
        };
        collected.into_iter().map(fact).collect()
    }

    /// Puts in order what a value names: first who is paid where, then signatures of the root before, answers to
    /// challenges, steps of disputes, answers that were paid for, and then transactions.
    fn take_filings(
        &mut self,
        manifest: &Manifest,
        value: &RoundValue,
        filings: &BTreeMap<EntryRef, Entry>,
        votes: &[(PeerId, u64)],
    ) -> Funding {
        let round = value.round;
        self.payees.begin(round);
        let Some(settled) = &mut self.settled else {
            return Funding::default();
        };
        if let (Some(anchor), Some(head)) = (&value.anchor, &self.head) {
            settled.take_anchor(round, anchor, &head.roster);
        }
        let fresh = value.filings.iter().filter(|at| self.filed.insert(**at));
        let fresh: Vec<(EntryRef, &Entry)> = fresh
            .filter_map(|at| Some((*at, filings.get(at)?)))
            .collect();
        for (at, entry) in &fresh {
            if let Entry::Bind(bind) = entry
                && let Some(account) = settled.bound_account(at.author, bind)
            {
                self.payees.bind(at.author, account, round);
            }
        }
        let mut signed = BTreeSet::new();
        for (at, entry) in &fresh {
            if let Entry::RootSignature(signature) = entry
                && let Some(account) = self.payees.account(&at.author)
                && settled.take_signature(at.author, account, signature)
                && Some(signature.round) == round.previous()
            {
                signed.insert(at.author);
            }
        }
        for (at, entry) in &fresh {
            if let Entry::Confirm(confirm) = entry
                && let Some(account) = self.payees.account(&at.author)
            {
                settled.take_confirm(account, confirm);
            }
        }
        self.take_disputes(manifest, value, &fresh);
        self.take_answers(round, &fresh);
        let Some(settled) = &mut self.settled else {
            return Funding::default();
        };
        let sent = fresh.iter().filter_map(|(at, entry)| match entry {
            Entry::Transaction(transaction) => {
                Some((self.payees.account(&at.author)?, transaction))
            }
            _ => None,
        });
        let deposited = settled.run_block(round, sent);
        let signers = votes.iter().filter(|(peer, _)| signed.contains(peer));
        Funding {
            deposited,
            signers: signers.copied().collect(),
            panel: Panel::default(),
        }
    }

    fn take_disputes(
        &mut self,
        manifest: &Manifest,
        value: &RoundValue,
        fresh: &[(EntryRef, &Entry)],
    ) {
        let (Some(settled), Some(head)) = (&self.settled, &self.head) else {
            return;
        };
        self.disputes.note(value);
        let court = Court {
            manifest,
            head,
            settled,
            payees: &self.payees,
        };
        for (at, entry) in fresh {
            if let Entry::Dispute(step) = entry {
                self.disputes.take((value.round, *at), step, &court);
            }
        }
        let disputes = &mut self.disputes;
        self.fees.draw(value.round, |answers, fees| {
            disputes.draw(value.round, (answers, fees), &court)
        });
    }

    fn take_answers(&mut self, round: Round, fresh: &[(EntryRef, &Entry)]) {
        let Some(settled) = &self.settled else {
            return;
        };
        let scored: BTreeSet<PeerId> = self.rounds.scored().collect();
        for (at, entry) in fresh {
            if let Entry::Answers(answers) = entry
                && let Some(account) = self.payees.account(&at.author)
            {
                let now = (round, &scored);
                self.fees.announce(settled, (*at, account), answers, now);
            }
        }
    }

    /// What juries have decided by the end of a height; the facts that come of it.
    fn decide(&mut self, manifest: &Manifest, round: Round) -> Result<Vec<FactId>, FoldError> {
        let (Some(settled), Some(head)) = (&self.settled, &self.head) else {
            return Ok(Vec::new());
        };
        let court = Court {
            manifest,
            head,
            settled,
            payees: &self.payees,
        };
        let mut made = Vec::new();
        // At the closing height what waited has been given out, and what is held is paid.
        let is_late = round >= manifest.closing_round();
        let decided = self.disputes.decide(round, &court);
        for (answers, counts) in decided.ruled {
            self.fees.rule(answers, counts);
        }
        for (dispute, evaluator, judged) in decided.unpaid {
            if !is_late && let Some(amount) = self.payees.forfeit(&evaluator, judged) {
                let fact = Fact::Forfeit(Forfeit {
                    run: self.run,
                    round,
                    dispute,
                    evaluator,
                    amount,
                });
                made.push(fact.id());
                self.rounds.forfeit(amount);
                self.books.add(fact)?;
            }
        }
        Ok(made)
    }

    /// Posts a fact, and adds up what it pays.
    fn post(&mut self, round: Round, fact: Fact, earned: &mut Earned) -> Result<(), FoldError> {
        let judged = match fact.id() {
            FactId::Round(_, judged) => judged,
            FactId::Fees(..) | FactId::Closing(_) | FactId::Forfeit(..) => round,
        };
        for posting in postings(&fact)? {
            let (Some(peer), Some(capacity)) =
                (payee(&posting.account), Capacity::of(&posting, &fact))
            else {
                continue;
            };
            let amount = MicroOpen(posting.amount.0.unsigned_abs());
            earned.entry((judged, capacity, peer)).or_default().0 += amount.0;
        }
        self.books.add(fact)?;
        Ok(())
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// What certificates prove so far, of a run with terms.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Facts and balances.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Where a peer is paid now.
    pub fn account(&self, peer: &PeerId) -> Option<Address> {
        self.payees.account(peer)
    }

    /// What peers earned that have not said where they are paid, or too late: what a peer earned of the deposit and has not
    /// said by the closing height where to pay goes back to the sponsor.
    pub fn unbound(&self) -> MicroOpen {
        self.payees.unbound()
    }

    /// Whether a certificate has put a filing in order.
    pub fn has_filed(&self, at: &EntryRef) -> bool {
        self.filed.contains(at)
    }

    /// Whether everything adds up, here and on the test chain: balances to zero, what accounts are paid to what peers
    /// earned, promises to no more than is deposited, and what came and has not left to no more than the contract holds. It rests
    /// on nothing that a member could file: what others signed or sent is no fault of who keeps the books.
    pub fn is_conserved(&self) -> bool {
        let earned: u128 = (self.books.balances())
            .filter(|(_, account, balance)| {
                payee(account).is_some() && Capacity::of_account(account).is_some() && balance.0 > 0
            })
            .map(|(_, _, balance)| balance.0.unsigned_abs())
            .sum();
        let paid: u128 = self.payees.paid().values().map(|amount| amount.0).sum();
        self.books.total() == Ok(Balance::default())
            && paid + self.unbound().0 + self.payees.held().0 == earned
            && self
                .settled
                .as_ref()
                .is_none_or(|settled| settled.is_conserved(&self.payees))
    }

    /// Lines of what was earned and is to be paid to an account, in the order in which they came.
    pub fn lines(&self) -> &[StatementLine] {
        self.payees.lines()
    }

    /// The run's disputes, by the entries that opened them.
    pub fn disputes(&self) -> impl Iterator<Item = (&EntryRef, &Dispute)> {
        self.disputes.iter()
    }

    /// Sheets that can be disputed: the round that each judges, and whose scores became final with it.
    pub fn disputable(&self) -> impl Iterator<Item = (&EntryRef, Round, &[PeerId])> {
        self.disputes.sheets()
    }

    /// Whether a peer may dispute what a sheet says of another.
    ///
    /// # Errors
    /// [`UndisputedError`].
    pub fn check_dispute(
        &self,
        manifest: &Manifest,
        by: &PeerId,
        score: (&EntryRef, &PeerId),
    ) -> Result<(), UndisputedError> {
        let (Some(settled), Some(head)) = (&self.settled, &self.head) else {
            return Err(UndisputedError::NoChain);
        };
        let court = Court {
            manifest,
            head,
            settled,
            payees: &self.payees,
        };
        self.disputes.check(by, score, &court).map(|_| ())
    }

    /// The run's money on its chain; none without terms.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.as_deref()
    }
}

/// What a height pays: one line for each round, capacity and peer.
type Earned = BTreeMap<(Round, Capacity, PeerId), MicroOpen>;

/// Whose earnings an account holds: a peer's, or the base author's under [`base_author`]'s name.
fn payee(account: &Account) -> Option<PeerId> {
    match account {
        Account::BaseAuthor(base) => Some(PeerId(*base)),
        _ => account.holder(),
    }
}

/// The base author's name among payees: the base's hash in place of a key.
fn base_author(manifest: &Manifest) -> PeerId {
    PeerId(manifest.model.base.hash)
}

#[cfg(test)]
mod tests;
