//! Disputes about score sheets: who opened one, who judges it, what was found, and what the loser pays.
//!
//! ```text
//!   Open ──► jury ──► findings ──┬─► lost ──► (Appeal ──► twice the seats ──► lost) ──► sentence ──► signatures ──► slash
//!                                └─► nobody says enough ──► twice the seats ──► lapsed, and nobody pays
//! ```
//!
//! A jury is drawn by the beacon of the certificate that puts the opening in order, without those concerned. Jurors score
//! the windows again that the evaluator shows them. What more than half of the seats say decides: within the interval that
//! the sheet states the challenger loses, outside of it the evaluator, and who shows no windows loses too. The loser pays
//! the terms' bond out of its stake, an appellant that loses twice as much. The stake's quorum signs that sentence, and what
//! is taken is burned, so that nobody gains by a verdict. An evaluator's pay for a round waits until its sheet can no longer
//! be disputed, and while it is; who loses has none of it. No other line waits.

use std::collections::BTreeMap;

use tributary_protocol::codec;
use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{DisputeStep, Disputed, EvmSignature, Finding};
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::panel::Panel;
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self, Head};

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
/// Seats of a jury; on appeal, and where too few were heard, twice as many.
pub const JURY_SEATS: usize = 11;

/// One dispute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// The sheet; its author is the evaluator.
    pub sheet: EntryRef,
    /// The round that it judges.
    pub round: Round,
    /// Whose score is disputed.
    pub peer: PeerId,
    /// What the challenger says of it.
    pub reason: String,
    /// Who opened it.
    pub challenger: PeerId,
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
    /// Its jury sits, until this height.
    Sitting(Round),
    /// This peer lost, and may appeal until this height.
    Appealable(PeerId, Round),
    /// It is over, and this is the sentence.
    Over(Sentence),
    /// Too few jurors said the same, twice: nobody pays.
    Lapsed,
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
    /// Whether a peer takes no part in judging.
    fn concerns(&self, peer: &PeerId) -> bool {
        [self.challenger, self.sheet.author, self.peer].contains(peer)
    }

    /// Whether its evaluator's pay still waits for it.
    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Sitting(_) | Stage::Appealable(..))
    }

    /// What more than half of the jury's seats say, if they do.
    fn verdict(&self) -> Option<PeerId> {
        let seats = |counts: fn(&Finding) -> bool| -> usize {
            let said = self.findings.iter().filter(|(_, found)| counts(found));
            said.map(|(juror, _)| self.jury.seats_of(juror)).sum()
        };
        let holds = seats(|found| *found == Finding::Holds);
        let fails = seats(|found| *found != Finding::Holds);
        let all = self.jury.seats();
        let losers = [(holds, self.challenger), (fails, self.sheet.author)];
        let lost = losers.into_iter().find(|(seats, _)| 2 * seats > all);
        lost.map(|(_, loser)| loser)
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

    fn jury(&self, at: &EntryRef, dispute: &Dispute, seats: usize) -> Panel {
        let accounts = [dispute.challenger, dispute.sheet.author, dispute.peer]
            .map(|peer| self.payees.account(&peer));
        let shares_account = |peer: &PeerId| {
            let account = self.payees.account(peer);
            account.is_some() && accounts.contains(&account)
        };
        let draw = |heard: bool| {
            let is_out = |peer: &PeerId| {
                dispute.concerns(peer)
                    || shares_account(peer)
                    || heard && dispute.jury.contains(peer)
            };
            state::jury(self.manifest, self.head, at, is_out, seats)
        };
        // A second jury is a fresh one, where others are left.
        let fresh = draw(true);
        if fresh.is_empty() { draw(false) } else { fresh }
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
            until: until(round, JURY_HEIGHTS),
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
                    dispute.sit_again(name, round, court);
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
        if others.any(|other| (&other.sheet, &other.peer) == (sheet, peer)) {
            return Err(UndisputedError::Again);
        }
        // One stake is not the bond of two disputes.
        let others = self.disputes.values();
        let open = others.filter(|other| other.is_open() && other.challenger == *by);
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
        let mut dispute = Dispute {
            sheet: disputed.sheet,
            round: judged,
            peer: disputed.peer,
            reason: disputed.reason.clone(),
            challenger: at.author,
            jury: Panel::default(),
            findings: BTreeMap::new(),
            appellant: None,
            stage: Stage::Sitting(until(round, JURY_HEIGHTS)),
            is_second: false,
        };
        dispute.jury = court.jury(&at, &dispute, JURY_SEATS);
        self.disputes.insert(at, dispute);
    }

    /// At the end of a height: what juries have decided. Evaluators that have lost for good, with the rounds of their sheets
    /// and the disputes.
    pub(super) fn decide(
        &mut self,
        round: Round,
        court: &Court<'_>,
    ) -> Vec<(EntryRef, PeerId, Round)> {
        let mut lost = Vec::new();
        for (at, dispute) in &mut self.disputes {
            dispute.decide(at, round, court);
            if let Stage::Over(sentence) = &dispute.stage
                && sentence.loser == dispute.sheet.author
            {
                lost.push((*at, sentence.loser, dispute.round));
            }
        }
        lost
    }

    /// Whether an evaluator's pay for a round waits for a dispute.
    pub(super) fn holds(&self, evaluator: &PeerId, round: Round) -> bool {
        let mut disputes = self.disputes.values();
        disputes.any(|one| one.is_open() && (one.sheet.author, one.round) == (*evaluator, round))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&EntryRef, &Dispute)> {
        self.disputes.iter()
    }

    /// Whether something is still to come that only further heights bring.
    pub(super) fn waits(&self, settled: &Settled, next: Round) -> bool {
        self.disputes.values().any(|one| match &one.stage {
            Stage::Sitting(_) | Stage::Appealable(..) => true,
            Stage::Over(sentence) => sentence.waits(settled, next),
            Stage::Lapsed => false,
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
    fn decide(&mut self, at: &EntryRef, round: Round, court: &Court<'_>) {
        match self.stage {
            Stage::Sitting(until) if self.is_heard() || round >= until => match self.verdict() {
                Some(loser) if self.is_second => {
                    self.stage = Stage::Over(court.sentence((at, round), self, loser));
                }
                Some(loser) => {
                    let until = Round(round.0.saturating_add(APPEAL_HEIGHTS));
                    self.stage = Stage::Appealable(loser, until);
                }
                None if self.is_second => self.stage = Stage::Lapsed,
                None => self.sit_again(at, round, court),
            },
            Stage::Appealable(loser, until) if round >= until => {
                self.stage = Stage::Over(court.sentence((at, round), self, loser));
            }
            _ => {}
        }
    }

    fn sit_again(&mut self, at: &EntryRef, round: Round, court: &Court<'_>) {
        self.jury = court.jury(at, self, 2 * JURY_SEATS);
        self.findings.clear();
        self.is_second = true;
        self.stage = Stage::Sitting(until(round, JURY_HEIGHTS));
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
            Stage::Appealable(..) | Stage::Lapsed => None,
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
