//! Disputes about scores and checks of shares: what is judged, who judges it, what was found, and what the loser pays.
//!
//! ```text
//!   Open ──► jury ──► findings ──┬─► lost ──► (Appeal ──► twice the seats ──► lost) ──► sentence ──► signatures ──► slash
//!                                └─► nobody says enough ──► twice the seats ──┬─► unproven: the evaluator's pay is gone
//!                                                                             └─► lapsed, and nobody pays
//! ```
//!
//! A jury is drawn by the beacon of the certificate behind the one that puts the opening or the appeal in order, which nobody
//! knows when it files, without those concerned. Jurors score the windows again that the evaluator shows them. What more than
//! half of the seats say decides: within the interval that the sheet states the challenger loses, outside of it the
//! evaluator, and who shows no windows loses too. The loser pays the terms' bond out of its stake, an appellant that loses
//! twice as much. The stake's quorum signs that sentence, and what is taken is burned, so that nobody gains by a verdict. An
//! evaluator that most jurors could not reach loses no stake, which an attacker on its line could bring about, but has not
//! shown what it is paid for. Its pay for a round waits until its sheet can no longer be disputed, and while it is; who loses
//! or is not reached has none of it. No other line waits.
//!
//! Shares of answers are the word of the server that computed them, and their payers, who agree to them, cannot compute them.
//! One such answer in twenty is drawn ([`matter`]), and a jury computes its shares again from what the server shows: nobody
//! disputes them, so nobody but the server can lose.

mod matter;

use std::collections::BTreeMap;

use tributary_protocol::codec;
use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{DisputeStep, Disputed, EvmSignature, Finding};
use tributary_protocol::id::{MicroOpen, PeerId, Round};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::panel::Panel;
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self, Head};

pub use matter::{DisputedScore, Matter};

use super::keeper::Filer;
use super::payees::Payees;
use super::settled::Settled;
use crate::settlement::{Address, BaseUnits, Keccak, Signature, Slash};

/// Heights within which a counted sheet can be disputed: so long its author's pay waits.
pub const DISPUTE_HEIGHTS: u32 = 8;
/// Heights that a jury has.
pub const JURY_HEIGHTS: u32 = 8;
/// Heights within which the loser appeals.
pub const APPEAL_HEIGHTS: u32 = 4;
/// Heights within which a sentence is signed and brought to the contract.
pub(super) const SENTENCE_HEIGHTS: u32 = 8;
/// Seats of a jury; on appeal, and where the first one proved nothing, twice as many.
pub const JURY_SEATS: usize = 11;

/// One dispute, or one check of shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// What it is about.
    pub matter: Matter,
    /// Who judges, or judged last.
    pub jury: Panel,
    /// What jurors found.
    pub findings: BTreeMap<PeerId, Finding>,
    /// Who appealed.
    pub appellant: Option<PeerId>,
    /// How far it is.
    pub stage: Stage,
    /// Whether this jury is the second, whose verdict is final.
    is_second: bool,
}

/// How far a dispute is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The certificate behind this height draws its jury.
    Called(Round),
    /// Its jury sits, until this height.
    Sitting(Round),
    /// This peer lost, and may appeal until this height.
    Appealable(PeerId, Round),
    /// It is over, and this is the sentence.
    Over(Sentence),
    /// Shares were found right: they count, and nobody loses.
    Upheld,
    /// Most jurors could not reach whose word it is, or were shown nothing: that is not paid for, and nobody loses stake.
    Unproven,
    /// Too few jurors said the same, twice: nobody pays.
    Lapsed,
}

/// What a jury says.
enum Verdict {
    /// This peer loses.
    Lost(PeerId),
    /// The word was right, and nobody disputed it.
    Right,
    /// Nothing is proven for whose word it is, nor against it.
    Unproven,
}

/// What the loser of a dispute pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Who lost.
    pub loser: PeerId,
    /// What the stake signs; none where the terms ask for no bond, or the loser has no account.
    pub slash: Option<Slash>,
    /// By members' accounts.
    pub signatures: BTreeMap<Address, Signature>,
    /// Until when heights are made for them.
    until: Round,
}

impl Dispute {
    /// Whether something still waits for it.
    fn is_open(&self) -> bool {
        match self.stage {
            Stage::Called(_) | Stage::Sitting(_) | Stage::Appealable(..) => true,
            Stage::Over(_) | Stage::Upheld | Stage::Unproven | Stage::Lapsed => false,
        }
    }

    /// The evaluator that has lost its pay for a round.
    fn unpaid(&self) -> Option<(PeerId, Round)> {
        let score = self.matter.score()?;
        let evaluator = score.sheet.author;
        let is_unpaid = match &self.stage {
            Stage::Over(sentence) => sentence.loser == evaluator,
            Stage::Unproven => true,
            _ => false,
        };
        is_unpaid.then_some((evaluator, score.round))
    }

    /// Of a check of shares that is over: the answers, and whether their shares count. Where no jury could say anything they do
    /// not: a server must not gain by it.
    fn ruling(&self) -> Option<(EntryRef, bool)> {
        match &self.matter {
            Matter::Shares { answers, .. } if !self.is_open() => {
                Some((*answers, self.stage == Stage::Upheld))
            }
            _ => None,
        }
    }

    /// What more than half of the jury's seats say, if they do.
    fn verdict(&self) -> Option<Verdict> {
        let seats = |counts: &dyn Fn(&Finding) -> bool| -> bool {
            let said = self.findings.iter().filter(|(_, found)| counts(found));
            let said: usize = said.map(|(juror, _)| self.jury.seats_of(juror)).sum();
            2 * said > self.jury.seats()
        };
        if seats(&|found| *found == Finding::Holds) {
            let challenger = self.matter.challenger();
            Some(challenger.map_or(Verdict::Right, Verdict::Lost))
        } else if seats(&|found| matches!(found, Finding::Fails | Finding::Unshown)) {
            Some(Verdict::Lost(self.matter.author()))
        } else if seats(&|found| *found != Finding::Holds) {
            Some(Verdict::Unproven)
        } else {
            None
        }
    }

    fn is_heard(&self) -> bool {
        self.jury
            .peers()
            .all(|juror| self.findings.contains_key(juror))
    }
}

/// Why nobody may open a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndisputedError {
    /// The run has no money anywhere.
    #[error("the run names no chain, so nobody has stake that could be lost")]
    NoChain,
    /// No such sheet.
    #[error(
        "no certificate of the last {DISPUTE_HEIGHTS} heights counts such a sheet; later its evaluator is paid for good"
    )]
    NotCounted,
    /// The evaluator itself.
    #[error("nobody disputes its own sheet")]
    Own,
    /// The round had no such contributor.
    #[error("the round has no final score of that peer")]
    NotScored,
    /// Somebody was first.
    #[error("this score is disputed already, and every score is once")]
    Again,
    /// The bond is not covered.
    #[error(
        "the bond is one part of this peer's stake for each dispute that it has open, and it has less that counts"
    )]
    NoStake,
}

/// A sheet that certificates count.
#[derive(Clone, Debug)]
struct Counted {
    judged: Round,
    certified: Round,
    scored: Vec<PeerId>,
}

/// What disputes come to by the end of a height, of all that are over.
#[derive(Default)]
pub(super) struct Decided {
    /// Evaluators that are not paid for a round, each with the dispute.
    pub(super) unpaid: Vec<(EntryRef, PeerId, Round)>,
    /// Answers whose shares were checked, and whether they count.
    pub(super) ruled: Vec<(EntryRef, bool)>,
}

/// A run's disputes.
#[derive(Clone, Default)]
pub(super) struct Disputes {
    /// Sheets that can be disputed.
    counted: BTreeMap<EntryRef, Counted>,
    disputes: BTreeMap<EntryRef, Dispute>,
}

/// What a height's disputes are decided by.
pub(super) struct Court<'a> {
    pub(super) manifest: &'a Manifest,
    /// After the certificate.
    pub(super) head: &'a Head,
    pub(super) settled: &'a Settled,
    pub(super) payees: &'a Payees,
}

impl Court<'_> {
    /// Whether a peer has stake for so many bonds.
    fn can_pay(&self, peer: &PeerId, bonds: usize) -> bool {
        let bond = self.settled.terms().challenge_bond.to_micro_floor();
        let stakers = self.settled.stakers(self.payees);
        let stake = stakers.iter().find(|(staker, _)| staker == peer);
        let stake = stake.map_or(0, |(_, micro)| *micro);
        bond.0.saturating_mul(bonds as u128) <= u128::from(stake)
    }

    fn jury(&self, dispute: &Dispute, seats: usize) -> Panel {
        let concerned = dispute.matter.concerned();
        let accounts: Vec<Option<Address>> = (concerned.iter())
            .map(|peer| self.payees.account(peer))
            .collect();
        let shares_account = |peer: &PeerId| {
            let account = self.payees.account(peer);
            account.is_some() && accounts.contains(&account)
        };
        let is_out = |peer: &PeerId| concerned.contains(peer) || shares_account(peer);
        let is_heard = |peer: &PeerId| dispute.jury.contains(peer);
        let votes = |counts: &dyn Fn(&PeerId) -> bool| -> u64 {
            let electorate = self.head.electorate.iter();
            let votes = electorate.filter(|(peer, _)| counts(peer));
            votes.map(|(_, votes)| *votes).sum()
        };
        let others = votes(&|peer| !is_out(peer) && !is_heard(peer));
        // A second jury is a fresh one, unless too few are left for one.
        let is_fresh = others >= votes(&|peer| !is_out(peer)).div_ceil(2);
        let is_out = |peer: &PeerId| is_out(peer) || is_fresh && is_heard(peer);
        state::jury(
            self.manifest,
            self.head,
            &dispute.matter.lot(),
            is_out,
            seats,
        )
    }

    fn sentence(
        &self,
        (at, round): (&EntryRef, Round),
        dispute: &Dispute,
        loser: PeerId,
    ) -> Sentence {
        let bond = self.settled.terms().challenge_bond;
        let twice = dispute.appellant == Some(loser);
        let amount = BaseUnits(bond.0.saturating_mul(if twice { 2 } else { 1 }));
        let account = self.payees.account(&loser);
        let slash = account.filter(|_| amount.0 > 0).map(|account| Slash {
            run: self.settled.key(),
            account,
            amount,
            evidence: Keccak::of(&[&codec::encode(at)]),
        });
        Sentence {
            loser,
            slash,
            signatures: BTreeMap::new(),
            until: until(round, SENTENCE_HEIGHTS),
        }
    }
}

impl Disputes {
    /// Takes note of the sheets that a certificate counts, and forgets those that were counted long ago.
    pub(super) fn note(&mut self, value: &RoundValue) {
        let now = value.round;
        self.counted
            .retain(|_, counted| now.0 < counted.certified.0.saturating_add(DISPUTE_HEIGHTS));
        let Some(judged) = now.previous() else {
            return;
        };
        let scored: Vec<PeerId> = value.scores.iter().map(|score| score.peer).collect();
        for sheet in &value.sheets {
            let counted = Counted {
                judged,
                certified: now,
                scored: scored.clone(),
            };
            self.counted.insert(*sheet, counted);
        }
    }

    /// Takes a step that a certificate puts in order. One that is out of place changes nothing.
    pub(super) fn take(
        &mut self,
        (round, at): (Round, EntryRef),
        step: &DisputeStep,
        court: &Court<'_>,
    ) {
        match step {
            DisputeStep::Open(disputed) => self.open((round, at), disputed, court),
            DisputeStep::Find(dispute, finding) => {
                if let Some(dispute) = self.disputes.get_mut(dispute)
                    && matches!(dispute.stage, Stage::Sitting(until) if round <= until)
                    && dispute.jury.contains(&at.author)
                {
                    dispute.findings.entry(at.author).or_insert(*finding);
                }
            }
            DisputeStep::Appeal(name) => {
                if let Some(dispute) = self.disputes.get_mut(name)
                    && matches!(dispute.stage, Stage::Appealable(loser, until) if loser == at.author && round <= until)
                {
                    dispute.appellant = Some(at.author);
                    dispute.call_again(round);
                }
            }
            DisputeStep::Sign(dispute, signature) => {
                let account = court.payees.account(&at.author);
                if let (Some(dispute), Some(account)) = (self.disputes.get_mut(dispute), account)
                    && let Stage::Over(sentence) = &mut dispute.stage
                {
                    sentence.sign(account, signature, court.settled);
                }
            }
        }
    }

    /// Whether a peer may dispute a score: the round that is judged, or why not.
    pub(super) fn check(
        &self,
        by: &PeerId,
        (sheet, peer): (&EntryRef, &PeerId),
        court: &Court<'_>,
    ) -> Result<Round, UndisputedError> {
        let counted = self.counted.get(sheet);
        let counted = counted.ok_or(UndisputedError::NotCounted)?;
        if sheet.author == *by {
            return Err(UndisputedError::Own);
        }
        if !counted.scored.contains(peer) {
            return Err(UndisputedError::NotScored);
        }
        let mut others = self.disputes.values();
        let same = |score: &DisputedScore| (&score.sheet, &score.peer) == (sheet, peer);
        if others.any(|other| other.matter.score().is_some_and(same)) {
            return Err(UndisputedError::Again);
        }
        // One stake is not the bond of two disputes.
        let others = self.disputes.values();
        let open = others.filter(|other| other.is_open() && other.matter.challenger() == Some(*by));
        match court.can_pay(by, open.count() + 1) {
            true => Ok(counted.judged),
            false => Err(UndisputedError::NoStake),
        }
    }

    /// Sheets that can be disputed: the round that each judges, and whom it scores.
    pub(super) fn sheets(&self) -> impl Iterator<Item = (&EntryRef, Round, &[PeerId])> {
        let sheets = self.counted.iter();
        sheets.map(|(at, counted)| (at, counted.judged, counted.scored.as_slice()))
    }

    fn open(&mut self, (round, at): (Round, EntryRef), disputed: &Disputed, court: &Court<'_>) {
        let score = (&disputed.sheet, &disputed.peer);
        let Ok(judged) = self.check(&at.author, score, court) else {
            return;
        };
        let matter = Matter::Score(DisputedScore {
            sheet: disputed.sheet,
            round: judged,
            peer: disputed.peer,
            reason: disputed.reason.clone(),
            challenger: at.author,
        });
        self.disputes.insert(at, Dispute::called(matter, round));
    }

    /// Draws which of some answers, by place and fee, are checked. Whether any is: it is decided by juries then.
    pub(super) fn draw(
        &mut self,
        round: Round,
        (answers, fees): (EntryRef, &[(u8, MicroOpen)]),
        court: &Court<'_>,
    ) -> bool {
        let bond = court.settled.terms().challenge_bond.to_micro_floor();
        let at_stake = match court.can_pay(&answers.author, 1) {
            true => bond,
            false => MicroOpen(0),
        };
        let drawn = matter::drawn(&court.head.beacon, &answers, (fees, at_stake));
        if drawn.is_empty() {
            return false;
        }
        // Nobody knew this height's beacon when the answers were filed, so it draws the jury as well.
        let called = Round(round.0.saturating_sub(1));
        let matter = Matter::Shares { answers, drawn };
        self.disputes
            .insert(answers, Dispute::called(matter, called));
        true
    }

    /// At the end of a height: what juries have decided.
    pub(super) fn decide(&mut self, round: Round, court: &Court<'_>) -> Decided {
        let mut decided = Decided::default();
        for (at, dispute) in &mut self.disputes {
            dispute.decide(at, round, court);
            if let Some((evaluator, judged)) = dispute.unpaid() {
                decided.unpaid.push((*at, evaluator, judged));
            }
            decided.ruled.extend(dispute.ruling());
        }
        decided
    }

    /// Whether an evaluator's pay for a round waits for a dispute.
    pub(super) fn holds(&self, evaluator: &PeerId, round: Round) -> bool {
        let mut disputes = self.disputes.values();
        let is_its =
            |score: &DisputedScore| (score.sheet.author, score.round) == (*evaluator, round);
        disputes.any(|one| one.is_open() && one.matter.score().is_some_and(is_its))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&EntryRef, &Dispute)> {
        self.disputes.iter()
    }

    /// Whether something is still to come that only further heights bring.
    pub(super) fn waits(&self, settled: &Settled, next: Round) -> bool {
        self.disputes.values().any(|one| match &one.stage {
            Stage::Over(sentence) => sentence.waits(settled, next),
            _ => one.is_open(),
        })
    }

    /// What a member files: its findings, of those disputes that it judges, and its signatures under sentences.
    pub(super) fn duties(
        &self,
        settled: &Settled,
        filer: Filer<'_>,
        pending: &[&Entry],
    ) -> Vec<Entry> {
        let is_pending = |step: &DisputeStep| {
            let steps = pending.iter().filter_map(|entry| match entry {
                Entry::Dispute(step) => Some(step),
                _ => None,
            });
            let name = |step: &DisputeStep| match step {
                DisputeStep::Find(at, _) => Some((*at, false)),
                DisputeStep::Sign(at, _) => Some((*at, true)),
                DisputeStep::Open(_) | DisputeStep::Appeal(_) => None,
            };
            steps.into_iter().any(|other| name(other) == name(step))
        };
        let disputes = self.disputes.iter();
        let steps = disputes.filter_map(|(at, dispute)| dispute.duty(at, settled, filer));
        let steps = steps.filter(|step| !is_pending(step));
        steps.map(Entry::Dispute).collect()
    }
}

impl Dispute {
    fn called(matter: Matter, round: Round) -> Self {
        Self {
            matter,
            jury: Panel::default(),
            findings: BTreeMap::new(),
            appellant: None,
            stage: Stage::Called(round),
            is_second: false,
        }
    }

    fn decide(&mut self, at: &EntryRef, round: Round, court: &Court<'_>) {
        match self.stage {
            Stage::Called(since) if round > since => {
                let twice = if self.is_second { 2 } else { 1 };
                self.jury = court.jury(self, twice * JURY_SEATS);
                self.findings.clear();
                self.stage = Stage::Sitting(until(round, JURY_HEIGHTS));
            }
            Stage::Sitting(until) if self.is_heard() || round >= until => match self.verdict() {
                Some(Verdict::Lost(loser)) if self.is_second => {
                    self.stage = Stage::Over(court.sentence((at, round), self, loser));
                }
                Some(Verdict::Lost(loser)) => {
                    let until = Round(round.0.saturating_add(APPEAL_HEIGHTS));
                    self.stage = Stage::Appealable(loser, until);
                }
                Some(Verdict::Right) => self.stage = Stage::Upheld,
                Some(Verdict::Unproven) if self.is_second => self.stage = Stage::Unproven,
                None if self.is_second => self.stage = Stage::Lapsed,
                Some(Verdict::Unproven) | None => self.call_again(round),
            },
            Stage::Appealable(loser, until) if round >= until => {
                self.stage = Stage::Over(court.sentence((at, round), self, loser));
            }
            _ => {}
        }
    }

    /// A second jury, whose verdict is final. Until it is drawn the first one stands, so that it can be left out.
    fn call_again(&mut self, round: Round) {
        self.is_second = true;
        self.stage = Stage::Called(round);
    }
}

impl Dispute {
    /// What a member owes it.
    fn duty(&self, at: &EntryRef, settled: &Settled, filer: Filer<'_>) -> Option<DisputeStep> {
        match &self.stage {
            Stage::Sitting(_) => {
                let is_due =
                    self.jury.contains(&filer.peer) && !self.findings.contains_key(&filer.peer);
                let finding = filer.findings.filter(|_| is_due)?.get(at)?;
                Some(DisputeStep::Find(*at, *finding))
            }
            Stage::Over(sentence) => {
                let account = filer.key.address();
                let slash = sentence.slash.filter(|slash| {
                    slash.account != account
                        && !sentence.signatures.contains_key(&account)
                        && !settled.sentenced().contains(&slash.evidence)
                })?;
                let digest = slash.digest(settled.deployment());
                let signature = EvmSignature(*filer.key.sign(&digest).as_bytes());
                Some(DisputeStep::Sign(*at, signature))
            }
            _ => None,
        }
    }
}

fn until(round: Round, heights: u32) -> Round {
    Round(round.0.saturating_add(heights))
}

impl Sentence {
    /// Whether the test chain has still to take it or to carry it out. On a real chain nobody's heights are waited for.
    fn waits(&self, settled: &Settled, next: Round) -> bool {
        let (Some(slash), Some(chain)) = (self.slash, settled.chain()) else {
            return false;
        };
        let stake = chain.stake(settled.key(), slash.account);
        let is_taken = settled.sentenced().contains(&slash.evidence);
        stake.sentence.is_some() || !is_taken && next <= self.until && stake.all() > BaseUnits(0)
    }

    fn sign(&mut self, account: Address, given: &EvmSignature, settled: &Settled) {
        let (Some(slash), Ok(signature)) = (self.slash, Signature::from_bytes(&given.0)) else {
            return;
        };
        if signature.recover(&slash.digest(settled.deployment())) == Ok(account) {
            self.signatures.insert(account, signature);
        }
    }
}
