//! The books: certified facts in, postings that sum to zero, balances out.
//!
//! A [`Fact`] is what a certificate makes true about money, reduced to plain
//! data, so that the daemon that follows a run and an auditor with bytes alone fold the same thing.
//! Facts are named; one that is already in the books changes nothing, and the order in which facts
//! arrive changes no balance. Whether a fact is certified is decided before it comes here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tributary_protocol::id::{MicroOpen, PeerId, Round, RunId, Scope};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::panel::Panel;
use tributary_protocol::reject::Rejection;
use tributary_protocol::round::{EntryRef, RoundValue};

use crate::account::Account;
use crate::closing::{Closing, Running};
use crate::credit::{self, CreditError, Offer, RoundCredits, Served};
use crate::fee::{self, FeeError, Fees, Source};
use crate::money::{Balance, MoneyError};
use crate::significance::{Significance, TestedScore};

/// A training round whose scores (or their absence) are final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedRound {
    /// The run.
    pub run: RunId,
    /// The training round that was scored, from 1.
    pub round: Round,
    /// The sponsor that pays: the run's creator.
    pub sponsor: PeerId,
    /// What the round may pay.
    pub offer: Offer,
    /// Final scores, ordered by peer, each with what its author had shown by then; empty when too few sheets
    /// arrived.
    pub scores: Vec<TestedScore>,
    /// Whom it pays beside contributors.
    pub served: Served,
}

/// What certificates have seen of a run's money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Funding {
    /// All deposits until now.
    pub deposited: MicroOpen,
    /// Members whose signatures under the root of the height before are certified now, ordered, with their votes.
    pub signers: Vec<(PeerId, u64)>,
    /// Who judged the round before; whom it does not name has a seat.
    pub panel: Panel,
}

impl Funding {
    /// As if the whole budget had been deposited before the genesis, and nobody had signed roots: for studies of what
    /// rounds are worth.
    pub fn of_all_rounds(manifest: &Manifest) -> Self {
        let budget = manifest.payment.budget_per_round.0;
        Self {
            deposited: MicroOpen(budget.saturating_mul(u128::from(manifest.plan.rounds))),
            signers: Vec::new(),
            panel: Panel::default(),
        }
    }
}

impl CertifiedRound {
    /// What the round comes to.
    ///
    /// # Errors
    /// [`CreditError`].
    pub fn credits(&self) -> Result<RoundCredits, CreditError> {
        credit::assign(&self.scores, &self.offer, &self.served)
    }

    /// What the certified values of a run make final, from the genesis on and in their order. Each says it
    /// about the round before its own; genesis and the first round judge nothing. Whether a score counts hangs
    /// on the rounds before; what is returned does not, and may be folded in any order.
    ///
    /// # Errors
    /// [`FoldError::Gap`] where a value is missing.
    pub fn chain<'a>(
        manifest: &Manifest,
        values: impl IntoIterator<Item = &'a RoundValue>,
        funding: &Funding,
    ) -> Result<Vec<Self>, FoldError> {
        let facts = facts(manifest, values, funding)?.into_iter();
        let rounds = facts.filter_map(|fact| match fact {
            Fact::Round(round) => Some(round),
            Fact::Fees(_) | Fact::Closing(_) | Fact::Forfeit(_) => None,
        });
        Ok(rounds.collect())
    }
}

/// What the certified values of a run make true about money: its judged rounds ([`CertifiedRound::chain`]), and once it is
/// closed what becomes of what waited, where `funding` had been there from the genesis on.
///
/// # Errors
/// [`FoldError::Gap`] where a value is missing, [`FoldError::Credit`] where its scores cannot be.
pub fn facts<'a>(
    manifest: &Manifest,
    values: impl IntoIterator<Item = &'a RoundValue>,
    funding: &Funding,
) -> Result<Vec<Fact>, FoldError> {
    let mut chain = Chain::new(manifest);
    let mut out = Vec::new();
    for value in values {
        out.extend(chain.push(manifest, value, funding)?);
    }
    Ok(out)
}

/// A run's certified values so far, taken one by one: what the next makes final follows from it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    significance: Significance,
    expected: Round,
    offer: Offer,
    /// What a deposit covers of the round that comes next. It is set aside before the round begins, so no sponsor looks at
    /// what a round brought before it decides to pay for it.
    aside: MicroOpen,
    /// What rounds were worth, all together.
    promised: MicroOpen,
    running: Running,
}

impl Chain {
    /// Before the genesis.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            significance: Significance::default(),
            expected: Round(0),
            offer: Offer::of(manifest),
            aside: MicroOpen(0),
            promised: MicroOpen(0),
            running: Running::default(),
        }
    }

    /// The round that comes next.
    pub fn expected(&self) -> Round {
        self.expected
    }

    /// The run's credits so far: everybody that was ever scored, with its part of what rounds gained, in billionths of a
    /// nanonat, ordered by peer.
    pub fn credits(&self) -> Vec<(PeerId, u128)> {
        let credits = self.running.credits().iter();
        credits.map(|(peer, credit)| (*peer, *credit)).collect()
    }

    /// Everybody that was ever scored, ordered.
    pub fn scored(&self) -> impl Iterator<Item = PeerId> {
        self.running.credits().keys().copied()
    }

    /// An evaluator lost what it would have been paid: it waits until the run closes.
    pub fn forfeit(&mut self, amount: MicroOpen) {
        self.running.wait(amount);
    }

    /// One value on; the round that it makes final, if any, and behind the last what becomes of what waited.
    ///
    /// # Errors
    /// [`FoldError::Gap`] when it is not the next, [`FoldError::Credit`] when its scores are not what a certificate can
    /// say.
    pub fn push(
        &mut self,
        manifest: &Manifest,
        value: &RoundValue,
        funding: &Funding,
    ) -> Result<Vec<Fact>, FoldError> {
        if value.round != self.expected {
            return Err(FoldError::Gap(self.expected));
        }
        self.expected = self.expected.next();
        let is_training = |round: &Round| (1..=manifest.plan.rounds).contains(&round.0);
        let judged = value.round.previous().filter(is_training);
        let judged = judged.map(|round| CertifiedRound {
            run: value.run,
            round,
            sponsor: manifest.creator,
            offer: self.offer,
            scores: self.significance.round(&value.scores),
            served: Served {
                evaluators: (value.sheets.iter())
                    .map(|sheet| sheet.author)
                    .flat_map(|peer| {
                        std::iter::repeat_n(peer, funding.panel.seats_of(&peer).max(1))
                    })
                    .collect(),
                signers: funding.signers.clone(),
            },
        });
        self.offer = Offer {
            funded: self.aside,
            ..Offer::of_round(manifest, value)
        };
        let mut facts = Vec::new();
        if let Some(round) = judged {
            let credits = round.credits()?;
            self.promised.0 += credits.worth.0;
            self.running.add(&credits, &round.offer);
            facts.push(Fact::Round(round));
        }
        let bound = self.promised.0 + self.offer.funded.0;
        let free = funding.deposited.0.saturating_sub(bound);
        self.aside = MicroOpen(free).min(manifest.payment.budget_per_round);
        if value.round == manifest.closing_round() {
            facts.push(Fact::Closing(
                self.running.close(value.run, manifest.creator),
            ));
        }
        Ok(facts)
    }
}

/// Something that moves money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A scored round pays its contributors.
    Round(CertifiedRound),
    /// Fees of answers.
    Fees(Fees),
    /// A run closes: what waited is given out.
    Closing(Closing),
    /// An evaluator lost a dispute about its sheet.
    Forfeit(Forfeit),
}

/// What an evaluator would have been paid for a sheet about which it lost a dispute. It waits, as what nobody earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forfeit {
    /// The run.
    pub run: RunId,
    /// The height at which that was final.
    pub round: Round,
    /// The entry that opened the dispute.
    pub dispute: EntryRef,
    /// The evaluator.
    pub evaluator: PeerId,
    /// How much.
    pub amount: MicroOpen,
}

impl Forfeit {
    fn postings(&self) -> Result<Vec<Posting>, MoneyError> {
        let posting = |account, amount| Posting { account, amount };
        Ok(vec![
            posting(
                Account::Evaluator(self.evaluator),
                Balance::minus(self.amount)?,
            ),
            posting(Account::Unallocated, Balance::plus(self.amount)?),
        ])
    }
}

/// The name of a fact: at most one of each is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactId {
    /// A round of a run.
    Round(RunId, Round),
    /// Fees that a run had at a height: of an entry of answers, or of none.
    Fees(RunId, Round, Option<EntryRef>),
    /// The closing of a run.
    Closing(RunId),
    /// What was lost by a dispute of a run, at a height.
    Forfeit(RunId, Round, EntryRef),
}

impl FactId {
    /// The run that it is about.
    pub fn run(&self) -> RunId {
        match *self {
            Self::Round(run, _)
            | Self::Fees(run, ..)
            | Self::Closing(run)
            | Self::Forfeit(run, ..) => run,
        }
    }

    /// What its accounts belong to.
    pub fn scope(&self) -> Scope {
        Scope::Run(self.run())
    }
}

impl Fact {
    /// Its name.
    pub fn id(&self) -> FactId {
        match self {
            Self::Round(round) => FactId::Round(round.run, round.round),
            Self::Fees(fees) => {
                let at = match fees.source {
                    Source::Answers { at, .. } => Some(at),
                    Source::Unexplained => None,
                };
                FactId::Fees(fees.run, fees.round, at)
            }
            Self::Closing(closing) => FactId::Closing(closing.run),
            Self::Forfeit(one) => FactId::Forfeit(one.run, one.round, one.dispute),
        }
    }
}

/// One line of an event: `amount` into (or, negative, out of) `account` of the event's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// The amount; negative when it goes out.
    pub amount: Balance,
}

/// Why a fact does not go into the books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Another fact of the same name is in the books: two certificates for one height. Over a third of a committee broke its word; neither may be chosen here.
    #[error("{0:?} is in the books with other content: keep both certificates as evidence")]
    Conflict(Box<FactId>),
    /// A chain with a hole: what counts later hangs on the scores before.
    #[error(
        "the certificate of round {0} is missing, and without it nobody can say whose scores count: \
         `tributary ledger verify` shows what is damaged"
    )]
    Gap(Round),
    /// A value that does not follow from those before.
    #[error(
        "a certified value does not follow from those before: {0}; `tributary ledger verify` shows what is damaged"
    )]
    Value(Rejection),
    /// The round's scores or budget are not what a certificate can say.
    #[error("round cannot be credited: {0}")]
    Credit(#[from] CreditError),
    /// Fees cannot be split.
    #[error("fees cannot be split: {0}")]
    Fee(#[from] FeeError),
    /// An amount or a balance out of range.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// The postings of one fact; they add up to zero.
///
/// # Errors
/// See [`FoldError`]; never `Conflict` or `Gap`.
pub fn postings(fact: &Fact) -> Result<Vec<Posting>, FoldError> {
    Ok(post(fact)?.1)
}

/// What a round is split into, and the postings of the fact.
fn post(fact: &Fact) -> Result<(Option<RoundCredits>, Vec<Posting>), FoldError> {
    match fact {
        Fact::Round(round) => {
            let credits = round.credits()?;
            let postings = round_postings(round, &credits)?;
            Ok((Some(credits), postings))
        }
        Fact::Fees(fees) => Ok((None, fee::postings(fees)?)),
        Fact::Closing(closing) => Ok((None, closing.postings()?)),
        Fact::Forfeit(forfeit) => Ok((None, forfeit.postings()?)),
    }
}

fn round_postings(
    round: &CertifiedRound,
    credits: &RoundCredits,
) -> Result<Vec<Posting>, FoldError> {
    let lines = credits.lines.iter();
    let payees = lines.map(|line| (Account::Contributor(line.peer()), line.amount));
    let payees = payees.chain(credits.others.iter().copied());
    let payees = payees.chain([(Account::Unallocated, credits.waiting)]);
    let mut out = Vec::new();
    for (account, amount) in payees {
        if amount > MicroOpen(0) {
            let amount = Balance::plus(amount)?;
            out.push(Posting { account, amount });
        }
    }
    if !out.is_empty() {
        let amount = Balance::minus(credits.worth)?;
        let account = Account::Sponsor(round.sponsor);
        out.insert(0, Posting { account, amount });
    }
    Ok(out)
}

/// A fact in the books, with what it is split into where it is a round.
#[derive(Debug, PartialEq, Eq)]
struct Posted {
    fact: Fact,
    credits: Option<RoundCredits>,
}

/// Facts and the balances that follow from them. A clone shares the facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    facts: BTreeMap<FactId, Arc<Posted>>,
    balances: BTreeMap<(Scope, Account), Balance>,
}

impl Books {
    /// How many facts are in them.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// The books of `facts`, in any order, repeated or not.
    ///
    /// # Errors
    /// See [`FoldError`]; never `Gap`.
    pub fn of(facts: impl IntoIterator<Item = Fact>) -> Result<Self, FoldError> {
        let mut books = Self::new();
        for fact in facts {
            books.add(fact)?;
        }
        Ok(books)
    }

    /// Posts a fact; `false` when it was in the books already. On an error nothing is changed.
    ///
    /// # Errors
    /// See [`FoldError`]; never `Gap`.
    pub fn add(&mut self, fact: Fact) -> Result<bool, FoldError> {
        let id = fact.id();
        match self.facts.get(&id) {
            Some(known) if known.fact == fact => return Ok(false),
            Some(_) => return Err(FoldError::Conflict(Box::new(id))),
            None => {}
        }
        let mut moved = BTreeMap::new();
        let mut sum = Balance::default();
        let (credits, postings) = post(&fact)?;
        for posting in postings {
            let key = (id.scope(), posting.account);
            let before = moved
                .get(&key)
                .copied()
                .unwrap_or_else(|| self.of_account(&key));
            moved.insert(key, before.checked_add(posting.amount)?);
            sum = sum.checked_add(posting.amount)?;
        }
        assert_eq!(
            sum,
            Balance::default(),
            "postings of {id:?} do not sum to zero"
        );
        self.balances.extend(moved);
        self.facts.insert(id, Arc::new(Posted { fact, credits }));
        Ok(true)
    }

    fn of_account(&self, key: &(Scope, Account)) -> Balance {
        self.balances.get(key).copied().unwrap_or_default()
    }

    /// What an account of a scope holds.
    pub fn balance(&self, scope: impl Into<Scope>, account: Account) -> Balance {
        self.of_account(&(scope.into(), account))
    }

    /// Every account that was ever moved, ordered by scope and account.
    pub fn balances(&self) -> impl Iterator<Item = (Scope, Account, Balance)> {
        (self.balances.iter()).map(|(&(scope, account), &balance)| (scope, account, balance))
    }

    /// The accounts of one scope.
    pub fn balances_of(&self, scope: impl Into<Scope>) -> impl Iterator<Item = (Account, Balance)> {
        let scope = scope.into();
        (self.balances())
            .filter(move |(of, _, _)| *of == scope)
            .map(|(_, account, balance)| (account, balance))
    }

    /// All facts, ordered by name.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values().map(|posted| &posted.fact)
    }

    /// The scored rounds of one run in order, with their credits.
    pub fn rounds(&self, run: RunId) -> impl Iterator<Item = (&CertifiedRound, &RoundCredits)> {
        let of_run = FactId::Round(run, Round(0))..=FactId::Round(run, Round(u32::MAX));
        (self.facts.range(of_run)).filter_map(|(_, posted)| match &posted.fact {
            Fact::Round(round) => Some((round, posted.credits.as_ref()?)),
            Fact::Fees(_) | Fact::Closing(_) | Fact::Forfeit(_) => None,
        })
    }

    /// What waited in a run and was given out when it closed.
    pub fn closing(&self, run: RunId) -> Option<&Closing> {
        match &self.facts.get(&FactId::Closing(run))?.fact {
            Fact::Closing(closing) => Some(closing),
            Fact::Forfeit(_) => None,
            Fact::Round(_) | Fact::Fees(_) => None,
        }
    }

    /// One scored round with its credits.
    pub fn round(&self, run: RunId, round: Round) -> Option<(&CertifiedRound, &RoundCredits)> {
        let posted = self.facts.get(&FactId::Round(run, round))?;
        match &posted.fact {
            Fact::Round(round) => Some((round, posted.credits.as_ref()?)),
            Fact::Fees(_) | Fact::Closing(_) | Fact::Forfeit(_) => None,
        }
    }

    /// Runs with at least one fact, ordered.
    pub fn runs(&self) -> Vec<RunId> {
        let runs: BTreeSet<RunId> = self.facts.keys().map(FactId::run).collect();
        runs.into_iter().collect()
    }

    /// Sum of all balances. It is always zero.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] when balances of one sign leave `i128`.
    pub fn total(&self) -> Result<Balance, MoneyError> {
        (self.balances.values()).try_fold(Balance::default(), |sum, &b| sum.checked_add(b))
    }
}

#[cfg(test)]
mod tests;
