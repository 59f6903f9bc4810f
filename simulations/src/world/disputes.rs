//! Disputes about score sheets, where a scenario has them: what each evaluator computed, what jurors find by it, and the honest
//! member that disputes what nobody computed.
//!
//! A juror of a real run scores the shown windows again; here it is told what an honest evaluator got from them, and compares
//! as jurors do.

use std::collections::BTreeMap;

use tributary_attribution::Fact;
use tributary_attribution::run_books::{Dispute, Matter, RunBooks, Stage};
use tributary_protocol::entry::{Entry, Score, ScoreSheet};
use tributary_protocol::filing::{DisputeStep, Finding};
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::EntryRef;

use crate::behave::open_dispute;

/// Rounds whose sheets are kept: longer than any dispute takes.
const KEPT_ROUNDS: u32 = 64;
/// How much wider than the computed one an interval may be.
const WIDEST: i64 = 2;

/// What evaluators computed from their windows, whatever they said.
#[derive(Default)]
pub(super) struct Computed {
    sheets: BTreeMap<(Round, PeerId), ScoreSheet>,
}

/// One member's look at the disputes of its books.
pub(super) struct Look<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) books: &'a RunBooks,
    pub(super) log: &'a LogSet,
    pub(super) me: PeerId,
    /// Its filings that no certificate has named.
    pub(super) pending: &'a [&'a Entry],
}

impl Look<'_> {
    fn has_filed(&self, is_it: impl Fn(&DisputeStep) -> bool) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|entry| matches!(entry, Entry::Dispute(step) if is_it(step)))
    }
}

impl Computed {
    /// Keeps what an evaluator computed.
    pub(super) fn keep(&mut self, evaluator: PeerId, sheet: &ScoreSheet) {
        let oldest = sheet.round.0.saturating_sub(KEPT_ROUNDS);
        self.sheets.retain(|(round, _), _| round.0 >= oldest);
        self.sheets.insert((sheet.round, evaluator), sheet.clone());
    }

    /// What an honest juror finds of a score; none where its own log lacks the sheet.
    fn finding(&self, log: &LogSet, sheet: &EntryRef, peer: &PeerId) -> Option<Finding> {
        let Some(Entry::ScoreSheet(shown)) = log.entry(sheet) else {
            return None;
        };
        let of_peer = |sheet: &ScoreSheet| {
            let mut scores = sheet.scores.iter();
            scores.find(|score| score.peer == *peer).copied()
        };
        let computed = self.sheets.get(&(shown.sheet.round, sheet.author));
        let lines = of_peer(&shown.sheet).zip(computed.and_then(of_peer));
        Some(match lines {
            Some((stated, computed)) if holds(&stated, &computed) => Finding::Holds,
            Some(_) => Finding::Fails,
            // Who computed nothing has nothing to show.
            None => Finding::Unshown,
        })
    }

    /// What an honest juror finds of whatever is disputed. Simulated answers have no text, so a server that has a payer sign
    /// shares of them has nothing to show.
    fn judged(&self, log: &LogSet, matter: &Matter) -> Option<Finding> {
        match matter {
            Matter::Score(score) => self.finding(log, &score.sheet, &score.peer),
            Matter::Shares { .. } => Some(Finding::Unshown),
        }
    }

    /// What a member finds of everything that it is asked to judge.
    pub(super) fn findings(&self, look: &Look<'_>) -> BTreeMap<EntryRef, Finding> {
        let asked = |dispute: &Dispute| {
            matches!(dispute.stage, Stage::Sitting(_)) && dispute.jury.contains(&look.me)
        };
        let disputes = look.books.disputes().filter(|(_, dispute)| asked(dispute));
        let found = disputes
            .filter_map(|(at, dispute)| Some((*at, self.judged(look.log, &dispute.matter)?)));
        found.collect()
    }

    /// The dispute that a member opens: of the newest score that its evaluator did not compute, while its stake is the bond
    /// of no other.
    pub(super) fn opening(&self, look: &Look<'_>) -> Option<Entry> {
        if look.has_filed(|step| matches!(step, DisputeStep::Open(_))) {
            return None;
        }
        let fails = |sheet: &EntryRef, peer: &PeerId| {
            let found = self.finding(look.log, sheet, peer);
            found.is_some_and(|found| found != Finding::Holds)
        };
        let may = |sheet: &EntryRef, peer: &PeerId| {
            let score = (sheet, peer);
            (look.books.check_dispute(look.manifest, &look.me, score)).is_ok()
        };
        let wrong = look
            .books
            .disputable()
            .filter_map(|(sheet, round, scored)| {
                let mut scored = scored.iter();
                let peer = scored.find(|peer| fails(sheet, peer) && may(sheet, peer))?;
                Some((round, *sheet, *peer))
            });
        // The newest: an older one can no longer be disputed when the step is put in order.
        let (_, sheet, peer) = wrong.max()?;
        Some(open_dispute(sheet, peer, "its windows say something else"))
    }

    /// Appeals against verdicts that are wrong, of the member that lost.
    pub(super) fn appeals(&self, look: &Look<'_>) -> Vec<Entry> {
        let is_wronged = |dispute: &Dispute| {
            let found = self.judged(look.log, &dispute.matter);
            let is_right = match look.me == dispute.matter.author() {
                true => found == Some(Finding::Holds),
                false => found.is_some_and(|found| found != Finding::Holds),
            };
            matches!(dispute.stage, Stage::Appealable(loser, _) if loser == look.me) && is_right
        };
        let wrong = look.books.disputes();
        let wrong = wrong.filter(|(_, dispute)| is_wronged(dispute));
        let is_filed = |at: &EntryRef| {
            look.has_filed(|step| matches!(step, DisputeStep::Appeal(name) if name == at))
        };
        wrong
            .filter(|(at, _)| !is_filed(at))
            .map(|(at, _)| Entry::Dispute(DisputeStep::Appeal(*at)))
            .collect()
    }
}

/// Whether a stated score is what was computed, within an interval that says something.
fn holds(stated: &Score, computed: &Score) -> bool {
    let width = |score: &Score| score.high.0.saturating_sub(score.low.0);
    (stated.low..=stated.high).contains(&computed.score)
        && width(stated) <= width(computed).saturating_mul(WIDEST)
}

/// What evaluators that lost were not paid for rounds, by evaluator.
pub(super) fn forfeited(books: &RunBooks) -> BTreeMap<PeerId, u128> {
    let mut forfeited = BTreeMap::new();
    for fact in books.books().facts() {
        if let Fact::Forfeit(lost) = fact {
            *forfeited.entry(lost.evaluator).or_default() += lost.amount.0;
        }
    }
    forfeited
}
