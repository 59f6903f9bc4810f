//! Whether an evaluator scored the windows that the certificate drew.
//!
//! A join commits to an evaluator's hold-out window by window ([`leaves`]), and a certified round gives the seed of
//! the draw. So an evaluator can show the drawn windows, and only those, with their paths to the committed root;
//! anyone who holds the run draws again. Where the base and the round's updates are at hand as well, the losses on the
//! shown windows are computed again and compared with the signed sheet. The trainer draws windows and computes losses
//! ([`Scorer`]).

mod error;
mod judge;
pub mod leaves;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::entry::{Entry, ScoreSheet};
use tributary_protocol::event::ScoreTask;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MerkleRoot, PeerId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::merkle::{self, InclusionProof};
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::Head;
use utoipa::ToSchema;

use crate::account::RunAccount;
use crate::archive::{Archive, ArchivedRun};
use crate::audit;
use crate::explain;
pub use error::HoldoutError;
pub use judge::{Judged, judge};

/// How far a recomputed loss may be from the signed one, nats a token: ten times what the trainer allows
/// itself against another implementation, and far less than other text makes.
const LOSS_TOLERANCE: f64 = 1e-3;

/// `holdout-proof/1`: the windows that a round was scored on, with their place in what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldoutProof {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// The scored round.
    pub round: u32,
    /// The evaluator whose hold-out it is.
    pub evaluator: String,
    /// Hash of the base model whose tokens these are.
    pub base: String,
    /// Tokens of a window at most.
    pub context: u32,
    /// Windows of the whole hold-out.
    pub windows: u64,
    /// Leaves behind the root.
    pub leaves: u64,
    /// From the first leaf, which says the three lines before, up to the root.
    pub path: Vec<String>,
    /// The drawn windows, by rising place.
    pub drawn: Vec<DrawnWindow>,
}

/// A shown window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrawnWindow {
    /// Its place in the hold-out, from 0.
    pub place: u64,
    /// What blinds its leaf.
    pub salt: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// From its leaf up to the root.
    pub path: Vec<String>,
}

/// `holdout-check/1`: what was found of a proof that holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoldoutReport {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// The scored round.
    pub round: u32,
    /// The evaluator whose hold-out it is.
    pub evaluator: String,
    /// The name it gave itself.
    pub name: String,
    /// The root that its certified join names.
    pub root: String,
    /// The seed of the draw, from the certificate.
    pub seed: String,
    /// Windows drawn.
    pub drawn: u32,
    /// Of so many.
    pub windows: u64,
    /// Tokens predicted in them.
    pub predicted: u64,
    /// What the signed sheet says of them; `None` while no sheet is here.
    pub sheet: Option<Losses>,
    /// The same, computed just now.
    pub recomputed: Option<Losses>,
    /// What was not checked, and where to get what is missing.
    pub notes: Vec<String>,
}

/// Mean losses on the drawn windows, nats a predicted token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Losses {
    /// Before the round.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// What scores rounds: draws windows, and computes losses on them.
pub trait Scorer {
    /// Places of the windows that a round is scored on, of `windows` in a hold-out, rising.
    fn drawn(&self, seed: &Digest, score_windows: u32, windows: usize) -> Vec<usize>;

    /// The losses of two adapters on windows of tokens. The inner error says what is missing for them.
    ///
    /// # Errors
    /// [`HoldoutError::Tokens`] where the run's base cannot read the windows, [`HoldoutError::Losses`] where
    /// the computation fails.
    fn losses(
        &self,
        manifest: &Manifest,
        adapters: [&Adapter; 2],
        windows: Vec<Vec<u32>>,
    ) -> Result<Result<Losses, String>, HoldoutError>;

    /// The sheet of a round by windows of tokens, as an evaluator that has them makes it. The inner error says what is missing
    /// for it.
    ///
    /// # Errors
    /// As [`Scorer::losses`].
    fn score(
        &self,
        manifest: &Manifest,
        task: &ScoreTask,
        windows: Vec<Vec<u32>>,
    ) -> Result<Result<ScoreSheet, String>, HoldoutError>;
}

/// A committed hold-out, opened by its owner.
pub trait Opened {
    /// What the first leaf says.
    fn head(&self) -> leaves::Head;
    /// The hashes that the root is over.
    fn leaves(&self) -> Vec<Digest>;
    /// What blinds the leaf at `place`.
    fn salt(&self, place: u64) -> Digest;
    /// The tokens of the window at `place`, from 0.
    fn window(&self, place: usize) -> &[u32];
}

/// A certified round of an archive, as far as its scoring goes.
pub struct Scored<'a> {
    scorer: &'a dyn Scorer,
    run: &'a ArchivedRun,
    manifest: &'a Manifest,
    value: &'a RoundValue,
    head: Head,
}

impl<'a> Scored<'a> {
    /// Round `round` of the run whose id begins with `run`.
    ///
    /// # Errors
    /// [`HoldoutError`]: not one such run, or no such training round.
    pub fn find(
        archive: &'a Archive,
        scorer: &'a dyn Scorer,
        (run, round): (&str, u32),
    ) -> Result<Self, HoldoutError> {
        let mut named = archive
            .runs
            .iter()
            .filter(|r| r.id.to_string().starts_with(run));
        let (Some(found), None) = (named.next(), named.next()) else {
            return Err(HoldoutError::Run(run.to_owned()));
        };
        let manifest = found.manifest.as_ref().ok_or(HoldoutError::NoManifest)?;
        let certificate = found.certificates.iter().find(|c| c.value.round.0 == round);
        let certificate = certificate.filter(|c| !c.value.included.is_empty());
        let run = found.id;
        let certificate = certificate.ok_or(HoldoutError::Round { run, round })?;
        let mut heads = explain::heads(manifest, found).map_err(Box::new)?;
        Ok(Self {
            scorer,
            run: found,
            manifest,
            value: &certificate.value,
            head: heads.swap_remove(round as usize),
        })
    }

    /// The root that an evaluator's certified join names.
    ///
    /// # Errors
    /// [`HoldoutError::NoEvaluator`].
    pub fn root(&self, evaluator: &PeerId) -> Result<MerkleRoot, HoldoutError> {
        let member = self
            .head
            .roster
            .get(evaluator)
            .filter(|m| m.role.evaluates());
        let member = member.ok_or(HoldoutError::NoEvaluator {
            peer: *evaluator,
            round: self.value.round,
        })?;
        Ok(member.root)
    }

    fn drawn(&self, windows: u64) -> Vec<usize> {
        let windows = usize::try_from(windows).unwrap_or(0);
        let seed = self.value.score_seed();
        self.scorer
            .drawn(&seed, self.manifest.scoring.windows, windows)
    }

    /// The evaluator's first sheet of the round.
    fn sheet(&self, evaluator: PeerId) -> Option<&ScoreSheet> {
        let mut entries = self.run.log.entries(evaluator);
        entries.find_map(|(_, entry)| match entry {
            Entry::ScoreSheet(shown) if shown.sheet.state == self.head.hash => Some(&shown.sheet),
            _ => None,
        })
    }
}

impl Scored<'_> {
    /// Shows which windows of its hold-out `me` scored the round on.
    pub fn prove(&self, me: PeerId, opened: &impl Opened) -> HoldoutProof {
        let leaves = opened.leaves();
        let path = |place: u64| {
            let proof = merkle::prove(&leaves, place as usize).expect("a leaf of the tree");
            proof.path.iter().map(Digest::to_string).collect()
        };
        let head = opened.head();
        let drawn = self.drawn(head.windows).into_iter().map(|at| {
            let leaf = at as u64 + 1;
            DrawnWindow {
                place: at as u64,
                salt: opened.salt(leaf).to_string(),
                tokens: opened.window(at).to_vec(),
                path: path(leaf),
            }
        });
        HoldoutProof {
            schema: "holdout-proof/1".to_owned(),
            run: self.run.id.to_string(),
            round: self.value.round.0,
            evaluator: me.to_string(),
            base: head.base.to_string(),
            context: head.context,
            windows: head.windows,
            leaves: head.leaves,
            path: path(0),
            drawn: drawn.collect(),
        }
    }
}

/// Checks a proof against the run in this home.
///
/// # Errors
/// The first thing in it that does not hold.
pub fn check(
    archive: &Archive,
    scorer: &dyn Scorer,
    proof: &HoldoutProof,
) -> Result<HoldoutReport, HoldoutError> {
    let scored = Scored::find(archive, scorer, (&proof.run, proof.round))?;
    let mut adapters: Vec<Option<Arc<Adapter>>> = Vec::new();
    let round = scored.value.round;
    audit::audited(archive, scored.run, &mut |value, derived| {
        if value.round == round || Some(value.round) == round.previous() {
            adapters.push(derived.map(|derived| derived.adapter.clone()));
        }
    })
    .map_err(|fault| HoldoutError::Broken(Box::new(fault)))?;
    let evaluator: PeerId = parsed(&proof.evaluator, "the evaluator")?;
    let root = scored.root(&evaluator)?;
    check_windows(&scored, &root, proof)?;
    let predicted = proof.drawn.iter().map(|w| w.tokens.len() as u64 - 1).sum();
    let names = RunAccount {
        manifest: scored.manifest,
        chain: &scored.run.certificates,
        log: &scored.run.log,
    }
    .names();
    let mut report = HoldoutReport {
        schema: "holdout-check/1".to_owned(),
        run: proof.run.clone(),
        round: proof.round,
        evaluator: proof.evaluator.clone(),
        name: names.get(&evaluator).cloned().unwrap_or_default(),
        root: root.to_string(),
        seed: scored.value.score_seed().to_string(),
        drawn: proof.drawn.len() as u32,
        windows: proof.windows,
        predicted,
        ..HoldoutReport::default()
    };
    let Some(sheet) = scored.sheet(evaluator) else {
        let note = "no sheet of this evaluator about the round is in this home, so there is nothing to hold \
                    the windows against; `tributary up` fetches the run's log";
        report.notes.push(note.to_owned());
        return Ok(report);
    };
    if sheet.predicted != predicted {
        return Err(HoldoutError::Predicted {
            sheet: sheet.predicted,
            drawn: predicted,
        });
    }
    report.sheet = Some(Losses {
        before: sheet.loss_before.as_nats(),
        after: sheet.loss_after.as_nats(),
    });
    match recomputed(&scored, proof, &adapters)? {
        Ok(found) => {
            report.recomputed = Some(found);
            compare(&report)?;
        }
        Err(note) => report.notes.push(note),
    }
    Ok(report)
}

fn parsed<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, HoldoutError> {
    text.parse().map_err(|_| HoldoutError::Damaged(what))
}

/// The head and every window stand where the proof says, and the certificate draws just these.
fn check_windows(
    scored: &Scored<'_>,
    root: &MerkleRoot,
    proof: &HoldoutProof,
) -> Result<(), HoldoutError> {
    let stands = |index: u64, path: &[String], leaf: Digest| {
        let path = path.iter().map(|hash| parsed(hash, "a hash of a path"));
        let proof = InclusionProof {
            index,
            leaves: proof.leaves,
            path: path.collect::<Result<_, HoldoutError>>()?,
        };
        Ok::<bool, HoldoutError>(proof.verify(root, &leaf))
    };
    let base: Digest = parsed(&proof.base, "the base")?;
    let head = leaves::Head {
        base,
        context: proof.context,
        windows: proof.windows,
        leaves: proof.leaves,
    };
    if !stands(0, &proof.path, head.leaf())? {
        return Err(HoldoutError::Size);
    }
    let manifest = scored.manifest;
    if base != manifest.model.base.hash || proof.context != manifest.training.context {
        return Err(HoldoutError::OtherBase);
    }
    let drawn = scored.drawn(proof.windows);
    let shown = proof.drawn.iter().map(|window| window.place);
    if !shown.eq(drawn.iter().map(|at| *at as u64)) {
        return Err(HoldoutError::OtherWindows);
    }
    for window in &proof.drawn {
        let salt = parsed(&window.salt, "a salt")?;
        let leaf = leaves::window(&salt, &window.tokens);
        let is_whole = (2..=proof.context as usize).contains(&window.tokens.len());
        if !is_whole || !stands(window.place + 1, &window.path, leaf)? {
            return Err(HoldoutError::Window(window.place));
        }
    }
    Ok(())
}

/// The losses on the shown windows; the inner error says what is missing for them.
fn recomputed(
    scored: &Scored<'_>,
    proof: &HoldoutProof,
    adapters: &[Option<Arc<Adapter>>],
) -> Result<Result<Losses, String>, HoldoutError> {
    let [Some(before), Some(after)] = adapters else {
        return Ok(Err(
            "the round's updates are not all in this home, so the sheet's losses were not computed again; \
             ask on the home of a member that took part in it"
                .to_owned(),
        ));
    };
    let tokens = proof.drawn.iter().map(|window| window.tokens.clone());
    (scored.scorer).losses(scored.manifest, [before, after], tokens.collect())
}

/// The signed losses are those on the shown windows.
fn compare(report: &HoldoutReport) -> Result<(), HoldoutError> {
    let (Some(signed), Some(found)) = (report.sheet, report.recomputed) else {
        return Ok(());
    };
    let gap = (signed.before - found.before)
        .abs()
        .max((signed.after - found.after).abs());
    if gap <= LOSS_TOLERANCE {
        return Ok(());
    }
    Err(HoldoutError::OtherText { signed, found })
}
