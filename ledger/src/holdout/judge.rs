//! Scores shown windows again, as a juror of a dispute does.

use std::sync::Arc;

use bytes::Bytes;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::aggregate::{ContributionVector, Layout};
use tributary_protocol::entry::{Score, ScoreSheet};
use tributary_protocol::event::ScoreTask;
use tributary_protocol::filing::Finding;
use tributary_protocol::id::PeerId;
use tributary_protocol::round::RoundValue;
use tributary_protocol::update::Packed;

use super::{HoldoutError, HoldoutProof, Scored, Scorer, check_windows, parsed};
use crate::archive::Archive;
use crate::audit;

/// How many times as wide as the recomputed interval the stated one may be: whoever states a wide one would be right
/// whatever it says.
const WIDEST: i64 = 2;
/// How far apart two machines compute one score, in nanonats, beside a twentieth of the interval.
const ROUNDING: i64 = 1_000;

/// What came of scoring shown windows again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The stated score is what the windows give.
    Holds,
    /// It is not.
    Fails {
        /// What the sheet says.
        stated: Score,
        /// What was computed.
        found: Score,
    },
    /// Something for it is missing here.
    Unknown(String),
}

impl Judged {
    /// What a juror files; nothing where it cannot know.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Holds => Some(Finding::Holds),
            Self::Fails { .. } => Some(Finding::Fails),
            Self::Unknown(_) => None,
        }
    }
}

/// Scores what an evaluator has shown, and compares the score of `peer` with what its sheet says.
///
/// # Errors
/// As [`super::check`]: what is wrong with the proof ([`crate::Remedy::is_wrong`]), or why it was not looked at.
pub fn judge(
    archive: &Archive,
    scorer: &dyn Scorer,
    proof: &HoldoutProof,
    peer: &PeerId,
) -> Result<Judged, HoldoutError> {
    let scored = Scored::find(archive, scorer, (&proof.run, proof.round))?;
    let evaluator: PeerId = parsed(&proof.evaluator, "the evaluator")?;
    let root = scored.root(&evaluator)?;
    check_windows(&scored, &root, proof)?;
    let Some(sheet) = scored.sheet(evaluator) else {
        return Ok(Judged::Unknown(
            "the evaluator's sheet is not in this home".to_owned(),
        ));
    };
    let Some(task) = task(archive, &scored)? else {
        let what = "updates of the round, or of those before it, are not in this home";
        return Ok(Judged::Unknown(what.to_owned()));
    };
    let windows = proof.drawn.iter().map(|window| window.tokens.clone());
    let found = scorer.score(scored.manifest, &task, windows.collect())?;
    Ok(match found {
        Ok(found) => compare(sheet, &found, peer),
        Err(missing) => Judged::Unknown(missing),
    })
}

/// A sheet without a line for the peer states nothing about it, and one is always recomputed.
fn compare(sheet: &ScoreSheet, found: &ScoreSheet, peer: &PeerId) -> Judged {
    let line = |sheet: &ScoreSheet| sheet.scores.iter().find(|line| line.peer == *peer).copied();
    match (line(sheet), line(found)) {
        (Some(stated), Some(found)) if agree(&stated, &found) => Judged::Holds,
        (Some(stated), Some(found)) => Judged::Fails { stated, found },
        _ => Judged::Unknown("the disputed peer was not scored".to_owned()),
    }
}

/// Whether the recomputed score lies in the stated interval, and that is none which anything lies in.
fn agree(stated: &Score, found: &Score) -> bool {
    let width = |score: &Score| score.high.0.saturating_sub(score.low.0);
    let slack = (width(found) / 20).saturating_add(ROUNDING);
    let is_within = found.score.0 >= stated.low.0.saturating_sub(slack)
        && found.score.0 <= stated.high.0.saturating_add(slack);
    let widest = width(found)
        .saturating_mul(WIDEST)
        .saturating_add(2 * slack);
    is_within && width(stated) <= widest
}

/// What the evaluator was asked to score, as far as its updates are here.
fn task(archive: &Archive, scored: &Scored<'_>) -> Result<Option<ScoreTask>, HoldoutError> {
    let round = scored.value.round;
    let (mut before, mut contributions) = (None::<Arc<Adapter>>, None);
    audit::audited(archive, scored.run, &mut |value, derived| {
        if Some(value.round) == round.previous() {
            before = derived.map(|derived| derived.adapter.clone());
        }
        if value.round == round {
            contributions = derived.and_then(|derived| derived.result.open().cloned());
        }
    })
    .map_err(|fault| HoldoutError::Broken(Box::new(fault)))?;
    let schedule = scored.manifest.training.schedule;
    let mut public = Vec::new();
    for earlier in schedule.turns_before(round) {
        let values = scored.run.certificates.iter().map(|c| &c.value);
        let value = values.into_iter().find(|value| value.round == earlier);
        match value.map(|value| updates(archive, scored, value)) {
            Some(Some(updates)) => public.extend(updates),
            _ => return Ok(None),
        }
    }
    let (Some(before), Some(contributions)) = (before, contributions) else {
        return Ok(None);
    };
    Ok(Some(ScoreTask {
        run: scored.run.id,
        round,
        state: scored.head.hash,
        before,
        trainable: schedule.trainable(round),
        contributions,
        public,
        seed: scored.value.score_seed(),
        windows: scored.manifest.scoring.windows,
    }))
}

/// The updates of a round as they travelled; none where one is not here.
fn updates(
    archive: &Archive,
    scored: &Scored<'_>,
    value: &RoundValue,
) -> Option<Vec<ContributionVector>> {
    let manifest = scored.manifest;
    let trainable = manifest.training.schedule.trainable(value.round);
    let layout = Layout::new(&manifest.model.adapter, trainable);
    let mut out = Vec::new();
    for included in &value.included {
        let bytes = archive.blob(included.update.hash).ok()??;
        let update = Packed::new(Bytes::from(bytes), layout.len(), manifest.updates.codec);
        // What is certified was read by its committee; what it could not read adds nothing.
        let whole = |update| ContributionVector::new(update, 1.0, layout.clone());
        out.extend(update.ok().map(whole));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::NanoNats;

    use super::*;

    fn line(score: i64, half: i64) -> Score {
        Score {
            peer: PeerId(Digest::from_bytes([3; 32])),
            score: NanoNats(score),
            low: NanoNats(score - half),
            high: NanoNats(score + half),
            luck: NanoNats(1),
        }
    }

    #[test]
    fn a_score_holds_within_its_interval_and_a_wide_interval_is_no_excuse() {
        let found = line(50_000_000, 10_000_000);
        assert!(agree(&line(50_000_000, 10_000_000), &found));
        // The interval of another machine, and a score that the same windows give a little elsewhere.
        assert!(agree(&line(50_000_400, 10_000_300), &found));
        assert!(agree(&line(59_000_000, 10_000_000), &found));
        assert!(!agree(&line(62_000_000, 10_000_000), &found));
        assert!(
            !agree(&line(100_000_000, 10_000_000), &found),
            "twice as much"
        );
        assert!(
            !agree(&line(100_000_000, 90_000_000), &found),
            "anything lies in it"
        );
        assert!(!agree(&line(50_000_000, i64::MAX / 4), &found));
        // Where nothing varies, rounding is all.
        assert!(agree(&line(700, 0), &line(0, 0)));
        assert!(!agree(&line(3_000, 0), &line(0, 0)));
    }
}
