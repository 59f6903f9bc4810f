//! `ledger explain`: one payout walked back to the data behind it, each station recomputed.
//!
//! Works on an [`Archive`], so it needs nothing but the bytes of a home. The whole run is audited first: what the walk
//! shows has then been followed from the genesis on. What the home lacks (the updates of a round that it did not have
//! to fetch) is named, with where to get it. `find` says which receipt was meant and why one earned nothing; the
//! arithmetic is [`tributary_attribution::explain`].

mod error;
pub(crate) mod find;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tributary_attribution::account::Account;
use tributary_attribution::credit::Outcome;
use tributary_attribution::explain::{Check, MedianBasis, Payout, Station, Step};
use tributary_attribution::fold::{Books, CertifiedRound, Fact};
use tributary_protocol::aggregate::{self, Weighted};
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::{Entry, Score, ScoreSheet};
use tributary_protocol::id::{MerkleRoot, MicroOpen, PeerId, Round};
use tributary_protocol::manifest::{Aggregation, Manifest};
use tributary_protocol::panel::Panel;
use tributary_protocol::round::Included;
use tributary_protocol::state::{self, Head};
use tributary_protocol::update;

use crate::account::{RunAccount, role_word};
use crate::archive::{Archive, ArchivedRun};
use crate::audit;
use crate::view::explain::{
    CertificatePart, Explanation, PayoutPart, ReceiptPart, SCHEMA, ScorePart, SeatPart, ShardPart,
    SheetPart, SplitPart, StepPart, VectorPart,
};
pub use error::ExplainError;
use find::Found;

/// What a home holds of the text behind a shard's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardText {
    /// The text, with that root.
    Here,
    /// A text that has another root; why it cannot be used.
    Damaged(String),
    /// Nothing: the text is with its owner.
    Elsewhere,
}

/// Explains the payout of the receipt that `wanted` names (by its first digits, or as `RUN/ROUND/PEER`), for
/// the owner `me` of a home. `text` says what the home holds behind the root of a shard.
///
/// # Errors
/// [`ExplainError`]: no such receipt; one that was not included, or whose round is not final yet; a ledger that
/// does not hold.
pub fn explain(
    archive: &Archive,
    text: &dyn Fn(&MerkleRoot) -> ShardText,
    me: PeerId,
    wanted: &str,
) -> Result<Explanation, ExplainError> {
    let found = find::receipt(archive, me, wanted)?;
    let manifest = found.run.manifest.as_ref();
    let manifest = manifest.ok_or(ExplainError::NoManifest)?;
    let (included, round, next) = found.certified(manifest)?;
    let broken = |fault| ExplainError::Broken(Box::new(fault));
    audit::caught_up(archive, found.run).map_err(broken)?;
    let marked = found.run.checked.get();
    let recomputed = marked.is_some_and(|m| !m.unchecked.contains(&round.round().0));
    let vector = match marked {
        Some(_) => None,
        None => audited_vector(archive, &found, round.round())?,
    };
    let account = RunAccount {
        manifest,
        chain: &found.run.certificates,
        log: &found.run.log,
    };
    let walk = Walk {
        archive,
        text,
        me,
        found: &found,
        manifest,
        included,
        round,
        next,
        recomputed,
        names: account.names(),
        heads: heads(manifest, found.run)?,
    };
    walk.explain(&account, vector)
}

/// Audits the run, and gives the vector that the audit recomputed a round's adapter with.
fn audited_vector(
    archive: &Archive,
    found: &Found<'_>,
    round: Round,
) -> Result<Option<Vec<f32>>, ExplainError> {
    let mut vector = None;
    audit::audited(archive, found.run, &mut |value, derived| {
        if value.round == round {
            let own =
                derived.and_then(|d| d.result.open()?.iter().find(|(p, _)| *p == found.peer()));
            vector = own.map(|(_, vector)| vector.to_vec());
        }
    })
    .map_err(|fault| ExplainError::Broken(Box::new(fault)))?;
    Ok(vector)
}

/// States after each certificate, by round.
pub(super) fn heads(manifest: &Manifest, run: &ArchivedRun) -> Result<Vec<Head>, ExplainError> {
    let mut heads: Vec<Head> = Vec::with_capacity(run.certificates.len());
    for certificate in &run.certificates {
        let head = state::follow(manifest, run.id, heads.last(), &certificate.value);
        heads.push(head.map_err(ExplainError::Unfollowed)?);
    }
    Ok(heads)
}

/// Everything that the stations need.
struct Walk<'a> {
    archive: &'a Archive,
    text: &'a dyn Fn(&MerkleRoot) -> ShardText,
    me: PeerId,
    found: &'a Found<'a>,
    manifest: &'a Manifest,
    included: &'a Included,
    round: &'a Certificate,
    next: &'a Certificate,
    /// Whether an earlier audit of the same bytes recomputed the round's adapter.
    recomputed: bool,
    names: BTreeMap<PeerId, String>,
    heads: Vec<Head>,
}

impl Walk<'_> {
    fn explain(
        &self,
        account: &RunAccount<'_>,
        vector: Option<Vec<f32>>,
    ) -> Result<Explanation, ExplainError> {
        let peer = self.found.peer();
        let certified = account.certified()?;
        let judged = (certified.iter()).find(|judged| judged.round == self.round.round());
        let judged = judged.ok_or(ExplainError::NotJudged)?;
        let payout = Payout::of(judged, peer)?;
        let (payout_part, moved) = self.payout(&certified, &payout)?;
        let (score, judged) = self.score()?;
        let (vector, added) = self.vector(vector)?;
        let (shard, committed) = self.shard()?;
        let steps = [
            moved,
            self.split(&payout),
            judged,
            self.certified(),
            added,
            self.receipt_step(),
            committed,
        ];
        Ok(Explanation {
            schema: SCHEMA.to_owned(),
            run: self.found.run.id.to_string(),
            run_name: self.manifest.name.clone(),
            round: self.round.round().0,
            peer: peer.to_string(),
            name: self.name(&peer),
            payout: payout_part,
            split: self.split_parts(&payout),
            positive_nanonats: u64::try_from(payout.positive).unwrap_or(u64::MAX),
            score,
            certificate: self.certificate(self.round),
            scored_by: self.certificate(self.next),
            vector,
            receipt: self.receipt(),
            shard,
            steps: steps.map(step_part).into(),
        })
    }

    fn name(&self, peer: &PeerId) -> String {
        self.names.get(peer).cloned().unwrap_or_default()
    }

    fn payout(
        &self,
        certified: &[CertifiedRound],
        payout: &Payout,
    ) -> Result<(PayoutPart, Step), ExplainError> {
        let account = Account::Contributor(payout.peer);
        let upto = |last: Round| {
            let rounds = certified.iter().filter(|round| round.round <= last);
            let books = Books::of(rounds.cloned().map(Fact::Round))?;
            Ok::<i128, ExplainError>(books.balance(self.found.run.id, account).0)
        };
        let after = upto(payout.round)?;
        let before = upto(payout.round.previous().unwrap_or_default())?;
        let amount = payout.explained_line().map_or(0, |line| line.amount().0);
        if after - before != amount as i128 {
            return Err(ExplainError::Account {
                moved: after - before,
                given: amount,
            });
        }
        let outcome = match payout.outcome {
            Outcome::Paid => "paid",
            Outcome::NoGain => "no-gain",
            Outcome::NotBeyondLuck => "not-beyond-luck",
            Outcome::Unscored => "unscored",
            Outcome::Unfunded => "unfunded",
        };
        let part = PayoutPart {
            outcome: outcome.to_owned(),
            micro_open: u64::try_from(amount).unwrap_or(u64::MAX),
            gain_nanonats: narrow(payout.gain),
            price_per_nat_micro_open: capped(payout.offer.price_per_nat),
            budget_micro_open: capped(payout.offer.budget),
            arrived_ppb: payout.offer.arrived.0,
            worth_micro_open: capped(payout.worth),
            waiting_micro_open: capped(payout.waiting),
            account_before_micro_open: narrow(before),
            account_after_micro_open: narrow(after),
        };
        let how =
            "folded the certified rounds into accounts, up to the round before and up to this one";
        Ok((part, holds(Station::Payout, how)))
    }

    fn split_parts(&self, payout: &Payout) -> Vec<SplitPart> {
        (payout.lines.iter())
            .map(|line| SplitPart {
                peer: line.peer().to_string(),
                name: self.name(&line.peer()),
                score_nanonats: line.tested.score.score.0,
                luck_nanonats: line.tested.score.luck.0,
                shown_nanonats: narrow(line.tested.shown.scores),
                bar_nanonats: u64::try_from(line.tested.shown.threshold()).unwrap_or(u64::MAX),
                beyond_luck: line.tested.shown.is_beyond_luck(),
                credit: line.credit().0.into(),
                credit_rounded_up: line.credit.is_some_and(|part| part.is_topped),
                micro_open: u64::try_from(line.amount().0).unwrap_or(u64::MAX),
                micro_open_rounded_up: line.amount.is_some_and(|part| part.is_topped),
            })
            .collect()
    }

    fn split(&self, payout: &Payout) -> Step {
        let count = payout.lines.len();
        holds(
            Station::Split,
            match payout.outcome {
                Outcome::Paid => format!(
                    "multiplied the sum of {count} scores by the price, within the budget and for the part of the weight \
                     that arrived, and split the product over those above zero, by largest remainder; the parts of authors not yet beyond luck wait"
                ),
                Outcome::NoGain => format!(
                    "{count} scores add up to nothing or less: the sponsor keeps the budget"
                ),
                Outcome::NotBeyondLuck => format!(
                    "summed up the scores and the luck of {count} contributors over the rounds so far: nobody \
                     with a positive score is beyond luck yet, and what the round is worth waits unallocated"
                ),
                Outcome::Unscored => "no final scores: the budget waits unallocated".to_owned(),
                Outcome::Unfunded => {
                    "no deposit covers the round: credits stand, and nothing is paid".to_owned()
                }
            },
        )
    }

    /// Who might judge the round.
    fn panel(&self) -> Panel {
        let judged = self.next.round().previous();
        let head = judged.and_then(|round| self.heads.get(round.0 as usize));
        head.map(|head| head.panel.clone()).unwrap_or_default()
    }

    /// The sheets that the next certificate counts, ranked.
    fn score(&self) -> Result<(ScorePart, Step), ExplainError> {
        let peer = self.found.peer();
        let mut sheets = BTreeMap::new();
        for at in &self.next.value.sheets {
            if let Some(Entry::ScoreSheet(shown)) = self.found.run.log.entry(at) {
                sheets.insert(at.author, (at, &shown.sheet));
            }
        }
        let line = |sheet: &ScoreSheet| sheet.scores.iter().find(|s| s.peer == peer).copied();
        let lines: Vec<(PeerId, Score)> = (sheets.iter())
            .filter_map(|(author, (_, sheet))| Some((*author, line(sheet)?)))
            .collect();
        let certified = self.next.value.scores.iter().find(|s| s.peer == peer);
        let panel = self.panel();
        let verdict = MedianBasis::of(&peer, lines, &panel);
        let median = (verdict.as_ref()).map(|verdict| [verdict.score, verdict.luck]);
        if let (Some([score, luck]), Some(certified)) = (median, certified)
            && [score, luck] != [certified.score, certified.luck]
        {
            return Err(ExplainError::Medians {
                found: [score, luck],
                certified: [certified.score, certified.luck],
            });
        }
        let evaluators = panel.judges_of(&peer);
        let needed = aggregate::needed(evaluators);
        let judgements = verdict.map(|v| v.judgements).unwrap_or_default();
        let given: usize = judgements.iter().map(|judgement| judgement.seats).sum();
        let parts: Vec<SheetPart> = (judgements.iter())
            .map(|judgement| {
                let (at, sheet) = sheets[&judgement.evaluator];
                SheetPart {
                    evaluator: judgement.evaluator.to_string(),
                    name: self.name(&judgement.evaluator),
                    score_nanonats: judgement.line.score.0,
                    low_nanonats: judgement.line.low.0,
                    high_nanonats: judgement.line.high.0,
                    luck_nanonats: judgement.line.luck.0,
                    middle: judgement.is_middle && certified.is_some(),
                    predicted: sheet.predicted,
                    block: at.block.to_string(),
                    sequence: at.seq.0,
                }
            })
            .collect();
        let how = match certified {
            Some(_) if given < needed => format!(
                "this evaluator's own sheet does not count for itself, and {} of the {evaluators} others sent one, \
                 fewer than the {needed} needed: not judged",
                parts.len()
            ),
            Some(_) => format!(
                "took the median of the {} certified sheets again; each names this round's state, and \
                 the signature of its block holds",
                parts.len()
            ),
            None => format!(
                "{} of {evaluators} evaluators' sheets were certified, fewer than the {needed} needed: no final score",
                parts.len()
            ),
        };
        let part = ScorePart {
            score_nanonats: certified.map(|score| score.score.0),
            evaluators: evaluators as u32,
            needed: needed as u32,
            sheets: parts,
        };
        Ok((part, holds(Station::Score, how)))
    }

    fn certificate(&self, certificate: &Certificate) -> CertificatePart {
        let round = certificate.round();
        let before = round.previous().map(|round| &self.heads[round.0 as usize]);
        let committee = state::committee(self.manifest, &self.found.run.id, before);
        let signed = |peer: &PeerId| certificate.precommits.iter().any(|(who, _)| who == peer);
        CertificatePart {
            round: round.0,
            value: certificate.value.id().to_string(),
            state: certificate.value.state.to_string(),
            attempt: certificate.attempt,
            quorum: committee.quorum() as u32,
            committee: (committee.members().iter())
                .map(|peer| SeatPart {
                    peer: peer.to_string(),
                    name: self.name(peer),
                    signed: signed(peer),
                })
                .collect(),
        }
    }

    fn certified(&self) -> Step {
        let count = self.round.precommits.len() + self.next.precommits.len();
        holds(
            Station::Certificate,
            format!(
                "drew both committees again from the rosters before, verified all {count} signatures, \
                 and followed the chain from the genesis"
            ),
        )
    }

    /// What the rule made of the update. `derived` is the vector that the audit recomputed the adapter with.
    fn vector(
        &self,
        derived: Option<Vec<f32>>,
    ) -> Result<(Option<VectorPart>, Step), ExplainError> {
        let updates = self.updates()?;
        let (true, Some(updates)) = (derived.is_some() || self.recomputed, updates) else {
            let gone = |i: &&Included| !matches!(self.archive.blob(i.update.hash), Ok(Some(_)));
            let gone = self.round.value.included.iter().filter(gone).count();
            let what = match gone {
                0 => "the adapter before this round cannot be recomputed here".to_owned(),
                _ => format!(
                    "{gone} of the round's {} updates are not in this home: the vector stands on the \
                     certificate alone",
                    self.round.value.included.len()
                ),
            };
            let mend = "run `tributary up`, which fetches updates in the background, or ask on the home of \
                        a member that took part in the round"
                .to_owned();
            let check = Check::Missing { what, mend };
            let station = Station::Vector;
            return Ok((None, Step { station, check }));
        };
        let peer = self.found.peer();
        let coefficients = aggregate::coefficients(self.manifest.updates.aggregation, &updates);
        let own = updates.iter().zip(&coefficients);
        let own = own.into_iter().find(|(weighted, _)| weighted.peer == peer);
        let (weighted, (_, share, coefficient)) = own.ok_or(ExplainError::NoUpdate)?;
        let scaled = weighted.update.iter();
        let scaled: Vec<f32> = scaled
            .map(|v| (coefficient * f64::from(*v)) as f32)
            .collect();
        let segments = self.segments();
        let parameters = self.manifest.model.adapter.parameters();
        let vector = update::scatter(&scaled, &segments, parameters);
        if derived.is_some_and(|derived| derived != vector) {
            return Err(ExplainError::Vector);
        }
        let part = VectorPart {
            rule: rule_word(self.manifest.updates.aggregation).to_owned(),
            included: updates.len() as u32,
            token_share: *share,
            factor: if *share > 0.0 {
                coefficient / share
            } else {
                0.0
            },
            coefficient: *coefficient,
            update_norm: norm(&weighted.update),
            vector_norm: norm(&vector),
            moved: vector.iter().filter(|v| **v != 0.0).count() as u64,
            parameters: vector.len() as u64,
        };
        Ok((
            Some(part),
            holds(Station::Vector, self.vector_words(updates.len())),
        ))
    }

    fn vector_words(&self, count: usize) -> String {
        match self.recomputed {
            false => format!(
                "decoded the round's {count} updates, applied the rule, and added the vectors to the adapter before: \
                 the outcome has the certified hash"
            ),
            true => format!(
                "decoded the round's {count} updates and applied the rule; that the adapter before and the vectors \
                 give the certified hash was checked earlier, on the same bytes (`tributary ledger verify --full` \
                 checks it again)"
            ),
        }
    }

    fn segments(&self) -> Vec<tributary_protocol::adapter::Segment> {
        let trainable = (self.manifest.training.schedule).trainable(self.round.round());
        self.manifest.model.adapter.trainable_segments(trainable)
    }

    /// The round's decoded updates in the order of peers; `None` when one is not here.
    fn updates(&self) -> Result<Option<Vec<Weighted>>, ExplainError> {
        let len = self.segments().iter().map(|s| s.len()).sum();
        let mut updates = Vec::new();
        for included in &self.round.value.included {
            let blob = self.archive.blob(included.update.hash);
            let Some(bytes) = blob? else {
                return Ok(None);
            };
            let update = update::decode(&bytes, len, self.manifest.updates.codec);
            updates.push(Weighted {
                peer: included.receipt.author,
                weight: included.weight,
                update: update.map_err(ExplainError::Update)?,
            });
        }
        Ok(Some(updates))
    }

    fn receipt(&self) -> ReceiptPart {
        let (at, receipt) = (&self.found.at, &self.found.receipt);
        ReceiptPart {
            block: at.block.to_string(),
            sequence: at.seq.0,
            index: at.index,
            base_state: receipt.base.to_string(),
            update: receipt.update.hash.to_string(),
            update_bytes: receipt.update.size,
            tokens: receipt.tokens,
        }
    }

    fn receipt_step(&self) -> Step {
        let is_here = matches!(self.archive.blob(self.included.update.hash), Ok(Some(_)));
        let update = match is_here {
            true => "; the update here has the hash and size that it names",
            false => "; the update itself is not in this home",
        };
        holds(
            Station::Receipt,
            format!(
                "verified the signature of its block and the block's links; it names the state before the \
                 round{update}"
            ),
        )
    }

    fn shard(&self) -> Result<(ShardPart, Step), ExplainError> {
        let peer = self.found.peer();
        let before = self.round.round().previous().unwrap_or_default();
        let member = self.heads[before.0 as usize].roster.get(&peer);
        let member = member.ok_or(ExplainError::NoMember)?;
        let root = self.found.receipt.shard;
        if member.root != root {
            return Err(ExplainError::OtherShard);
        }
        // A member's first round can open its sketch.
        let mut openings = self.round.value.openings.iter();
        let opened = openings.find(|opened| opened.entry.author == peer);
        let part = ShardPart {
            root: root.to_string(),
            role: role_word(member.role).to_owned(),
            tokens: member.tokens,
            own_tokens: opened.map_or(member.own_tokens, |opened| opened.own_tokens),
            block: member.joined.block.to_string(),
            sequence: member.joined.seq.0,
            since: member.since.0,
        };
        let text = match (self.text)(&root) {
            ShardText::Here => "; the text in this home has that root",
            ShardText::Damaged(why) => return Err(ExplainError::Text(why)),
            ShardText::Elsewhere if peer == self.me => {
                let what = "the receipt names the root of the certified join, and the text behind it is not \
                            in this home"
                    .to_owned();
                let mend = "restore shards/committed from a backup of this home".to_owned();
                let check = Check::Missing { what, mend };
                let station = Station::Shard;
                return Ok((part, Step { station, check }));
            }
            ShardText::Elsewhere => "; the text is with its owner alone",
        };
        let how = format!("the receipt names the root of the certified join{text}");
        Ok((part, holds(Station::Shard, how)))
    }
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// As JSON has it.
fn capped(amount: MicroOpen) -> u64 {
    u64::try_from(amount.0).unwrap_or(u64::MAX)
}

fn holds(station: Station, how: impl Into<String>) -> Step {
    let check = Check::Holds(how.into());
    Step { station, check }
}

fn step_part(step: Step) -> StepPart {
    let (checked, how, mend) = match step.check {
        Check::Holds(how) => (true, how, None),
        Check::Missing { what, mend } => (false, what, Some(mend)),
    };
    StepPart {
        station: step.station.word().to_owned(),
        checked,
        how,
        mend,
    }
}

fn rule_word(rule: Aggregation) -> &'static str {
    match rule {
        Aggregation::Mean => "mean",
        Aggregation::ClippedMean => "clipped mean",
        Aggregation::MultiKrum { .. } => "multi-krum",
        Aggregation::CentredClip { .. } => "centred clipping",
        Aggregation::GeometricMedian { .. } => "geometric median",
        Aggregation::Agreement { .. } => "agreement",
    }
}

/// Euclidean length.
fn norm(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|v| f64::from(*v) * f64::from(*v));
    squares.sum::<f64>().sqrt()
}
