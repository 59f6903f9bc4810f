//! What a peer adds to a proof of its hold-out: the opened text, the draw, and the base model.
//!
//! What makes a proof hold is said in [`tributary_ledger::holdout`].

use tributary_ledger::Archive;
use tributary_ledger::holdout::leaves::Head;
use tributary_ledger::holdout::{
    self, HoldoutError, HoldoutProof, HoldoutReport, Judged, Losses, Opened, Scored, Scorer,
};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::ScoreTask;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::PeerId;
use tributary_protocol::manifest::Manifest;
use tributary_trainer::{BaseModel, Windows, evaluate};

use super::failure;
use crate::home::HomePaths;
use crate::model::{self, learner};
use crate::shard::Committed;
use crate::terminal::Failure;
use crate::work::Cancel;

/// Shows which windows `me` scored a round on, from its own home.
///
/// # Errors
/// No such round, or the committed hold-out is not here.
pub fn prove(
    archive: &Archive,
    home: &HomePaths,
    me: PeerId,
    of: (&str, u32),
) -> Result<HoldoutProof, Failure> {
    let trained = Trained(home);
    let scored = Scored::find(archive, &trained, of).map_err(failure)?;
    let root = scored.root(&me).map_err(failure)?;
    Ok(scored.prove(me, &Committed::read(home, &root)?))
}

/// Checks a proof against the run in this home.
///
/// # Errors
/// The first thing in it that does not hold.
pub fn check(
    archive: &Archive,
    home: &HomePaths,
    proof: &HoldoutProof,
) -> Result<HoldoutReport, Failure> {
    holdout::check(archive, &Trained(home), proof).map_err(failure)
}

/// Scores what an evaluator has shown a jury.
///
/// # Errors
/// What is wrong with it, or why it was not looked at.
pub fn judge(
    archive: &Archive,
    home: &HomePaths,
    proof: &HoldoutProof,
    peer: &PeerId,
) -> Result<Judged, HoldoutError> {
    holdout::judge(archive, &Trained(home), proof, peer)
}

impl Opened for Committed {
    fn head(&self) -> Head {
        Self::head(self)
    }

    fn leaves(&self) -> Vec<Digest> {
        Self::leaves(self)
    }

    fn salt(&self, place: u64) -> Digest {
        self.leaf_salt(place)
    }

    fn window(&self, place: usize) -> &[u32] {
        &self.holdout[place]
    }
}

/// Scores with the base models that a home knows of.
struct Trained<'a>(&'a HomePaths);

impl Scorer for Trained<'_> {
    fn drawn(&self, seed: &Digest, score_windows: u32, windows: usize) -> Vec<usize> {
        learner::drawn(seed, score_windows, windows)
    }

    fn losses(
        &self,
        manifest: &Manifest,
        adapters: [&Adapter; 2],
        windows: Vec<Vec<u32>>,
    ) -> Result<Result<Losses, String>, HoldoutError> {
        let (base, windows) = match self.opened(manifest, windows)? {
            Ok(opened) => opened,
            Err(missing) => return Ok(Err(missing)),
        };
        let loss = |adapter: &Adapter| match evaluate(&base, Some(adapter), &windows) {
            Ok(found) => Ok(found.nll),
            Err(e) => Err(failed(&e)),
        };
        let [before, after] = adapters;
        Ok(Ok(Losses {
            before: loss(before)?,
            after: loss(after)?,
        }))
    }

    fn score(
        &self,
        manifest: &Manifest,
        task: &ScoreTask,
        windows: Vec<Vec<u32>>,
    ) -> Result<Result<ScoreSheet, String>, HoldoutError> {
        let (base, windows) = match self.opened(manifest, windows)? {
            Ok(opened) => opened,
            Err(missing) => return Ok(Err(missing)),
        };
        match learner::score_windows(&base, task, windows, &Cancel::default()) {
            Ok(sheet) => Ok(Ok(sheet)),
            Err(why) => Err(HoldoutError::Losses(why.to_string())),
        }
    }
}

fn failed(e: &(dyn std::error::Error + 'static)) -> HoldoutError {
    HoldoutError::Losses(Failure::from_error(e).message().to_owned())
}

impl Trained<'_> {
    /// The run's base and these windows as it reads them; the inner error says what is missing.
    fn opened(
        &self,
        manifest: &Manifest,
        windows: Vec<Vec<u32>>,
    ) -> Result<Result<(BaseModel, Windows), String>, HoldoutError> {
        let base = model::by_hash(self.0, &manifest.model.base.hash);
        let Some(base) = base.map_err(|e| failed(&e))? else {
            return Ok(Err(format!(
                "the base model {} is not on this machine, so nothing was computed again",
                manifest.model.base.name
            )));
        };
        let context = manifest.training.context as usize;
        let windows = Windows::from_tokens(windows, context, base.config().vocab);
        let windows = windows.map_err(|e| HoldoutError::Tokens(e.to_string()))?;
        Ok(Ok((base, windows)))
    }
}
