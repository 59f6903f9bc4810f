//! A run's account as views: rounds with their losses, contributors with their credits.
//!
//! An account reads a chain of certified values and the logs behind them, and folds all of them for each question: it is
//! the slow and obvious twin of [`crate::index`]. It trusts what it is given; [`crate::audit`] checks.

use std::collections::BTreeMap;

use tributary_attribution::account::Account;
use tributary_attribution::credit::{Outcome, RoundCredits};
use tributary_attribution::fold::{self, Books, CertifiedRound, FactId, FoldError};
use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::BaseUnits;
use tributary_attribution::statement::Statement;
use tributary_attribution::statement::compare::{self, Period};
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::{Entry, Role, ScoreSheet};
use tributary_protocol::id::{MicroOpen, PeerId, Round, RunId};
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::{Manifest, SettlementChain};
use tributary_protocol::round::{EntryRef, Joined, RoundValue};

use crate::view::{
    AccountView, AdapterView, CauseView, ChangeView, CreditView, LineView, MemberView, PeriodView,
    PostingView, RoundView, RunStatementView, SettlementView, short,
};

/// A run's certified values, and the logs that they rely on.
#[derive(Clone, Copy)]
pub struct RunAccount<'a> {
    /// The run's manifest.
    pub manifest: &'a Manifest,
    /// Certificates from the genesis on.
    pub chain: &'a [Certificate],
    /// The run's logs.
    pub log: &'a LogSet,
}

impl RunAccount<'_> {
    fn values(&self) -> impl Iterator<Item = &RoundValue> {
        self.chain.iter().map(|certificate| &certificate.value)
    }

    /// Names that members gave themselves when they joined.
    pub fn names(&self) -> BTreeMap<PeerId, String> {
        let mut names = BTreeMap::new();
        for (at, entry) in self.log.all() {
            if let Entry::Join(join) = entry {
                names.entry(at.author).or_insert_with(|| join.name.clone());
            }
        }
        names
    }

    /// Everyone that was ever admitted, with the latest role.
    pub fn members(&self) -> Vec<MemberView> {
        let mut members = BTreeMap::new();
        self.values().for_each(|value| admit(&mut members, value));
        member_views(&members, &self.names())
    }

    /// Training rounds that are certified.
    pub fn rounds(&self) -> Vec<RoundView> {
        self.values()
            .filter(|value| value.round.0 >= 1 && value.round.0 <= self.manifest.plan.rounds)
            .map(|value| round_view(value, self.losses(value.round)))
            .collect()
    }

    /// Medians over the score sheets that the next certificate counts.
    fn losses(&self, round: Round) -> (Option<f64>, Option<f64>) {
        let next = self.values().find(|v| v.round == round.next());
        let sheets = next.iter().flat_map(|value| &value.sheets);
        medians(sheets.filter_map(|at| match self.log.entry(at) {
            Some(Entry::ScoreSheet(shown)) => Some(losses(&shown.sheet)),
            _ => None,
        }))
    }

    /// The rounds that the certified values make final, each score with what its author had shown by then.
    ///
    /// # Errors
    /// When a certificate is missing.
    pub fn certified(&self) -> Result<Vec<CertifiedRound>, FoldError> {
        let books = self.books()?;
        let rounds = books.rounds(self.manifest.run_id());
        Ok(rounds.map(|(round, _)| round.clone()).collect())
    }

    /// The run's accounts.
    ///
    /// # Errors
    /// When a certificate is missing, or the certified scores cannot be credited; the certificates then
    /// contradict themselves.
    pub fn books(&self) -> Result<Books, FoldError> {
        Ok(self.run_books()?.books().clone())
    }

    /// The run's money: who is paid where, roots, and the test chain.
    ///
    /// # Errors
    /// As [`RunAccount::books`].
    pub fn run_books(&self) -> Result<RunBooks, FoldError> {
        self.run_books_until(Round(u32::MAX))
    }

    /// The same as they were after a height.
    ///
    /// # Errors
    /// As [`RunAccount::books`].
    pub fn run_books_until(&self, height: Round) -> Result<RunBooks, FoldError> {
        let mut books = RunBooks::new(self.manifest);
        for value in self.values().filter(|value| value.round <= height) {
            let entry = |at: &EntryRef| Some((*at, self.log.entry(at)?.clone()));
            let filings = value.filings.iter().filter_map(entry).collect();
            books.push(self.manifest, value, &filings)?;
        }
        Ok(books)
    }

    /// What lies where, of a run with terms of settlement.
    ///
    /// # Errors
    /// As [`RunAccount::books`].
    pub fn settlement(&self) -> Result<Option<SettlementView>, FoldError> {
        Ok(settlement_view(&self.run_books()?))
    }

    /// What contributors earned, by id.
    ///
    /// # Errors
    /// As [`RunAccount::books`].
    pub fn credits(&self) -> Result<Vec<CreditView>, FoldError> {
        let books = self.books()?;
        let run = self.manifest.run_id();
        let names = self.names();
        let mut views: BTreeMap<PeerId, CreditView> = BTreeMap::new();
        for joined in self.values().flat_map(|v| &v.joins) {
            if joined.role.contributes() {
                views.entry(joined.entry.author).or_default();
            }
        }
        for (_, round) in books.rounds(run) {
            earn(&mut views, round);
        }
        Ok(credit_views(views, &books, run, &names))
    }

    /// `peer`'s part of the account, in periods of `by` rounds (a quarter of the run unless given).
    ///
    /// # Errors
    /// As [`RunAccount::books`].
    pub fn statement(&self, peer: PeerId, by: Option<u32>) -> Result<RunStatementView, FoldError> {
        let books = self.books()?;
        let dated = Dated {
            receipt: &|round| self.receipt(round, peer),
            time_ms: &|round| self.time_ms(round),
        };
        Ok(statement(self.manifest, &books, (peer, by), &dated))
    }

    /// When a height was, as the authors of its receipts say: their median, or the last before that had any.
    fn time_ms(&self, round: Round) -> Option<u64> {
        let mut last = 0;
        for value in self.values().take_while(|value| value.round <= round) {
            let blocks = value
                .included
                .iter()
                .map(|i| (i.receipt.author, i.receipt.block));
            let times = blocks.filter_map(|(author, block)| {
                let signed = self.log.block(author, &block)?;
                Some(signed.block().time.0)
            });
            last = median_time(times).unwrap_or(last);
        }
        Some(last)
    }

    /// The id of the receipt that a certified round includes of `peer`.
    fn receipt(&self, round: Round, peer: PeerId) -> Option<String> {
        let value = self.values().find(|value| value.round == round)?;
        let included = value.included.iter().find(|i| i.receipt.author == peer)?;
        Some(receipt_id(&included.receipt))
    }

    /// The adapter after the last certified round.
    pub fn adapter(&self, here: bool) -> Option<AdapterView> {
        Some(adapter_view(self.manifest, self.values().last()?, here))
    }
}

/// Losses of one round's sheets, before and after it, in nats.
pub(crate) fn losses(sheet: &ScoreSheet) -> (f64, f64) {
    (sheet.loss_before.as_nats(), sheet.loss_after.as_nats())
}

/// Medians of the losses before, and of those after.
pub(crate) fn medians(sheets: impl Iterator<Item = (f64, f64)>) -> (Option<f64>, Option<f64>) {
    let (before, after) = sheets.unzip();
    (median(before), median(after))
}

/// Takes over who a certified value admits, and whose sketch it opens.
pub(crate) fn admit(members: &mut BTreeMap<PeerId, Joined>, value: &RoundValue) {
    for joined in &value.joins {
        members.insert(joined.entry.author, *joined);
    }
    for opened in &value.openings {
        if let Some(joined) = members.get_mut(&opened.entry.author) {
            joined.own_tokens = opened.own_tokens;
        }
    }
}

pub(crate) fn member_views(
    members: &BTreeMap<PeerId, Joined>,
    names: &BTreeMap<PeerId, String>,
) -> Vec<MemberView> {
    (members.iter())
        .map(|(peer, joined)| MemberView {
            peer: peer.to_string(),
            name: names.get(peer).cloned().unwrap_or_default(),
            role: role_word(joined.role).to_owned(),
            tokens: joined.tokens,
            own_tokens: joined.own_tokens,
        })
        .collect()
}

pub(crate) fn round_view(
    value: &RoundValue,
    (loss_before, loss_after): (Option<f64>, Option<f64>),
) -> RoundView {
    RoundView {
        round: value.round.0,
        state_hash: value.state.to_string(),
        adapter: value.adapter.hash.to_string(),
        included: value.included.len() as u32,
        loss_before,
        loss_after,
    }
}

pub(crate) fn adapter_view(manifest: &Manifest, last: &RoundValue, here: bool) -> AdapterView {
    AdapterView {
        id: last.adapter.hash.to_string(),
        size: last.adapter.size,
        run: last.run.to_string(),
        name: manifest.name.clone(),
        base: manifest.model.base.name.clone(),
        round: last.round.0.min(manifest.plan.rounds),
        here,
    }
}

/// Adds what one round gave its contributors.
pub(crate) fn earn(views: &mut BTreeMap<PeerId, CreditView>, round: &RoundCredits) {
    for line in &round.lines {
        let view = views.entry(line.peer()).or_default();
        let (score, shown) = (&line.tested.score, &line.tested.shown);
        view.score_nanonats += score.score.0;
        view.low_nanonats += score.low.0;
        view.high_nanonats += score.high.0;
        view.luck_nanonats = u64::try_from(shown.luck()).unwrap_or(u64::MAX);
        view.beyond_luck = shown.is_beyond_luck();
        view.credit += u64::from(line.credit.0);
    }
}

/// What was earned, with names and the accounts' balances.
pub(crate) fn credit_views(
    mut views: BTreeMap<PeerId, CreditView>,
    books: &Books,
    run: RunId,
    names: &BTreeMap<PeerId, String>,
) -> Vec<CreditView> {
    for (peer, view) in &mut views {
        view.peer = peer.to_string();
        view.name = names.get(peer).cloned().unwrap_or_default();
        let balance = books.balance(run, Account::Contributor(*peer));
        view.micro_open = u64::try_from(balance.0).unwrap_or(0);
    }
    views.into_values().collect()
}

/// A peer's part of a run's books, in periods of `by` rounds (a quarter of the run unless given).
pub(crate) fn statement(
    manifest: &Manifest,
    books: &Books,
    (peer, by): (PeerId, Option<u32>),
    dated: &Dated<'_>,
) -> RunStatementView {
    let mut view = RunStatementView {
        run: manifest.run_id().to_string(),
        name: manifest.name.clone(),
        chain: chain_word(manifest),
        ..RunStatementView::default()
    };
    let Some(found) = Statement::of(books, peer).runs.pop() else {
        return view;
    };
    view.unscored = found.unscored.iter().map(|r| r.0).collect();
    view.lines = (found.lines.iter())
        .map(|line| LineView {
            round: line.round.0,
            receipt: (dated.receipt)(line.round).unwrap_or_default(),
            score_nanonats: line.score.0,
            low_nanonats: line.low.0,
            high_nanonats: line.high.0,
            luck_nanonats: line.luck.0,
            beyond_luck: line.is_beyond_luck,
            credit: line.credit.0.into(),
            micro_open: u64::try_from(line.amount.0).unwrap_or(u64::MAX),
            unfunded: line.outcome == Outcome::Unfunded,
        })
        .collect();
    if !found.lines.is_empty() {
        let by = by.unwrap_or_else(|| compare::period_of(manifest.plan.rounds));
        view.periods = periods(&compare::periods(books, found.run, peer, by.max(1)));
    }
    view.postings = postings(manifest, books, peer, dated);
    view.closing_micro_open = u64::try_from(found.closing.0).unwrap_or(u64::MAX);
    view.accounts = (found.accounts.iter())
        .map(|(account, balance)| AccountView {
            capacity: account.capacity().to_owned(),
            micro_open: i64::try_from(balance.0).unwrap_or(i64::MAX),
        })
        .collect();
    view
}

/// What a statement's lines are told by, beside the books.
pub(crate) struct Dated<'a> {
    /// The peer's receipt of a round.
    pub(crate) receipt: &'a dyn Fn(Round) -> Option<String>,
    /// When a height was, milliseconds since 1970.
    pub(crate) time_ms: &'a dyn Fn(Round) -> Option<u64>,
}

/// Where a run's money lies, in a word.
fn chain_word(manifest: &Manifest) -> String {
    match manifest
        .payment
        .settlement
        .map(|settlement| settlement.chain)
    {
        None => String::new(),
        Some(SettlementChain::Test) => "test".to_owned(),
        Some(SettlementChain::Evm { id, .. }) => id.to_string(),
    }
}

/// Every change of the peer's accounts, in the order of rounds.
fn postings(
    manifest: &Manifest,
    books: &Books,
    peer: PeerId,
    dated: &Dated<'_>,
) -> Vec<PostingView> {
    let run = manifest.run_id();
    let mut out = Vec::new();
    for fact in books.facts().filter(|fact| fact.id().run() == run) {
        let round = match fact.id() {
            FactId::Round(_, round) => round,
            FactId::Fees(_, round, _) | FactId::Forfeit(_, round, _) => round,
            FactId::Closing(_) => manifest.closing_round(),
        };
        let own = fold::postings(fact).unwrap_or_default().into_iter();
        let own = own.filter(|posting| posting.account.holder() == Some(peer));
        out.extend(own.map(|posting| PostingView {
            time_ms: (dated.time_ms)(round).unwrap_or_default(),
            round: round.0,
            capacity: posting.account.capacity().to_owned(),
            receipt: match posting.account {
                Account::Contributor(_) => (dated.receipt)(round).unwrap_or_default(),
                _ => String::new(),
            },
            micro_open: i64::try_from(posting.amount.0).unwrap_or(i64::MAX),
        }));
    }
    out.sort_by_key(|posting| posting.round);
    out
}

/// The middle of what authors say; of an even number the earlier of the two.
pub(crate) fn median_time(times: impl Iterator<Item = u64>) -> Option<u64> {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied()
}

fn periods(found: &[Period]) -> Vec<PeriodView> {
    let narrow = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    let change = |at: usize| {
        let before = at.checked_sub(1).map(|before| &found[before])?;
        let change = found[at].since(before);
        let causes = change.parts.iter().map(|(cause, part)| CauseView {
            cause: cause.word().to_owned(),
            micro_open: narrow(part.0),
        });
        Some(ChangeView {
            micro_open: narrow(change.total.0),
            causes: causes.collect(),
        })
    };
    (found.iter().enumerate())
        .map(|(at, period)| PeriodView {
            first: period.first.0,
            last: period.last.0,
            taken: period.taken,
            absent: period.absent,
            unscored: period.unscored,
            without_gain: period.without_gain,
            not_beyond_luck: period.held,
            micro_open: u64::try_from(period.earned.0).unwrap_or(u64::MAX),
            score_nanonats: period.score.0,
            others_nanonats: period.others.0,
            change: change(at),
        })
        .collect()
}

/// What a run's books, and its chain where that is the test chain, say of its money.
pub(crate) fn settlement_view(books: &RunBooks) -> Option<SettlementView> {
    let settled = books.settled()?;
    let micro = |amount: BaseUnits| u64::try_from(amount.to_micro_floor().0).unwrap_or(u64::MAX);
    let last = settled.roots().last_key_value().map(|(_, root)| root);
    let mut view = SettlementView {
        chain: settled.deployment().chain.to_string(),
        contract: settled.deployment().contract.to_string(),
        key: settled.key().to_string(),
        paid_micro_open: last.map_or(0, |root| micro(root.root.total)),
        unbound_micro_open: u64::try_from(books.unbound().0).unwrap_or(u64::MAX),
        root: last.map_or_else(String::new, |root| root.digest.to_string()),
        height: last.map_or(0, |root| root.root.height),
        dissent: settled
            .dissent()
            .map(|(round, peer)| format!("{round} {peer}"))
            .collect(),
        refused: settled
            .refused()
            .iter()
            .map(|(from, why)| format!("{from}: {why}"))
            .collect(),
        ..SettlementView::default()
    };
    let Some(chain) = settled.chain() else {
        let (money, staked) = settled.anchored().unwrap_or_default();
        let micro = |amount: MicroOpen| u64::try_from(amount.0).unwrap_or(u64::MAX);
        view.deposited_micro_open = micro(money.deposited);
        view.fees_micro_open = micro(money.fees);
        view.staked_micro_open = staked;
        let came = micro(money.deposited).saturating_add(micro(money.fees));
        view.left_micro_open = came.saturating_sub(view.paid_micro_open);
        return Some(view);
    };
    let run = chain.run(settled.key());
    "test".clone_into(&mut view.chain);
    view.deposited_micro_open = micro(run.deposited);
    view.staked_micro_open = micro(run.stake);
    view.claimed_micro_open = micro(run.paid);
    view.reclaimed_micro_open = micro(run.reclaimed);
    view.accepted_height = run.accepted.height;
    view.accepted_micro_open = micro(run.accepted.total);
    view.fees_micro_open = micro(run.fees);
    let came = view
        .deposited_micro_open
        .saturating_add(view.fees_micro_open);
    view.left_micro_open = came.saturating_sub(view.paid_micro_open);
    view.conserved = books.is_conserved();
    Some(view)
}

/// A receipt's id: the block that carries it, with its place there where it is not the first.
pub fn receipt_id(at: &EntryRef) -> String {
    match at.index {
        0 => at.block.to_string(),
        index => format!("{}.{index}", at.block),
    }
}

/// The first ten digits of a receipt's id, with its place in the block.
pub fn short_receipt(id: &str) -> String {
    let (block, index) = id.split_once('.').unwrap_or((id, ""));
    let dot = if index.is_empty() { "" } else { "." };
    format!("{}{dot}{index}", short(block))
}

/// The role in one word.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Contributor => "contributor",
        Role::Evaluator => "evaluator",
        Role::Both => "both",
    }
}

/// The middle of an odd number of values, the mean of the two middle ones of an even number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
