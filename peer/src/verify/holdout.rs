//! Whether an evaluator scored the windows that the certificate drew.
//!
//! A join commits to an evaluator's hold-out window by window ([`crate::shard`]), and a certified round gives
//! the seed of the draw. So an evaluator can show the drawn windows, and only those, with their paths to the
//! committed root; anyone who holds the run draws again. Where the base and the round's updates are at hand
//! as well, the losses on the shown windows are computed again and held against the signed sheet.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::entry::{Entry, ScoreSheet};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MerkleRoot, PeerId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::merkle::{self, InclusionProof};
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::Head;
use tributary_trainer::{BaseModel, Windows, evaluate};

use super::archive::{Archive, ArchivedRun};
use crate::home::HomePaths;
use crate::model::{self, learner};
use crate::shard::{Committed, leaves};
use crate::terminal::Failure;
use crate::view::book::Book;

/// How far a recomputed loss may be from the signed one, nats a token: ten times what the trainer allows
/// itself against another implementation, and far less than other text makes.
const LOSS_TOLERANCE: f64 = 1e-3;

/// `holdout-proof/1`: the windows that a round was scored on, with their place in what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldoutProof {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// The scored round.
    pub round: u32,
    /// Whose hold-out.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldoutReport {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// The scored round.
    pub round: u32,
    /// Whose hold-out.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Before the round.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// A certified round of an archive, as far as its scoring goes.
struct Scored<'a> {
    run: &'a ArchivedRun,
    manifest: &'a Manifest,
    value: &'a RoundValue,
    head: Head,
}

impl<'a> Scored<'a> {
    fn find(archive: &'a Archive, run: &str, round: u32) -> Result<Self, Failure> {
        let mut named = archive
            .runs
            .iter()
            .filter(|r| r.id.to_string().starts_with(run));
        let (Some(found), None) = (named.next(), named.next()) else {
            return Err(Failure::environment(format!(
                "not exactly one run of this home is named by {run:?}"
            ))
            .hint("`tributary run list` shows the runs; give more digits"));
        };
        let manifest = (found.manifest.as_ref())
            .ok_or_else(|| Failure::environment("the run's manifest is not in this home"))?;
        let certificate = found.certificates.iter().find(|c| c.value.round.0 == round);
        let certificate = certificate.filter(|c| !c.value.included.is_empty());
        let certificate = certificate.ok_or_else(|| {
            Failure::environment(format!(
                "no training round {round} of run {} is certified in this home",
                found.id.short()
            ))
            .hint("`tributary run show RUN` lists the certified rounds")
        })?;
        let mut heads = super::explain::heads(manifest, found)?;
        Ok(Self {
            run: found,
            manifest,
            value: &certificate.value,
            head: heads.swap_remove(round as usize),
        })
    }

    /// The root that an evaluator's certified join names.
    fn root(&self, evaluator: &PeerId) -> Result<MerkleRoot, Failure> {
        let member = self
            .head
            .roster
            .get(evaluator)
            .filter(|m| m.role.evaluates());
        let member = member.ok_or_else(|| {
            Failure::check(format!(
                "{} was no evaluating member after round {}",
                evaluator.short(),
                self.value.round
            ))
        })?;
        Ok(member.root)
    }

    fn drawn(&self, windows: u64) -> Vec<usize> {
        let windows = usize::try_from(windows).unwrap_or(0);
        learner::drawn(
            &self.value.score_seed(),
            self.manifest.score_windows,
            windows,
        )
    }

    /// The evaluator's first sheet of the round.
    fn sheet(&self, evaluator: PeerId) -> Option<&ScoreSheet> {
        let mut entries = self.run.log.entries(evaluator);
        entries.find_map(|(_, entry)| match entry {
            Entry::ScoreSheet(sheet) if sheet.state == self.head.hash => Some(sheet),
            _ => None,
        })
    }
}

/// Shows which windows `me` scored a round on, from its own home.
///
/// # Errors
/// No such round, or the committed hold-out is not here.
pub fn prove(
    archive: &Archive,
    home: &HomePaths,
    me: PeerId,
    (run, round): (&str, u32),
) -> Result<HoldoutProof, Failure> {
    let scored = Scored::find(archive, run, round)?;
    let root = scored.root(&me)?;
    let committed = Committed::read(home, &root)?;
    let leaves = committed.leaves();
    let path = |place: u64| {
        let proof = merkle::prove(&leaves, place as usize).expect("a leaf of the tree");
        proof.path.iter().map(Digest::to_string).collect()
    };
    let head = committed.head();
    let drawn = scored.drawn(head.windows).into_iter().map(|at| {
        let leaf = at as u64 + 1;
        DrawnWindow {
            place: at as u64,
            salt: committed.leaf_salt(leaf).to_string(),
            tokens: committed.holdout[at].clone(),
            path: path(leaf),
        }
    });
    Ok(HoldoutProof {
        schema: "holdout-proof/1".to_owned(),
        run: scored.run.id.to_string(),
        round,
        evaluator: me.to_string(),
        base: head.base.to_string(),
        context: head.context,
        windows: head.windows,
        leaves: head.leaves,
        path: path(0),
        drawn: drawn.collect(),
    })
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
    let scored = Scored::find(archive, &proof.run, proof.round)?;
    let mut adapters: Vec<Option<Arc<Adapter>>> = Vec::new();
    let round = scored.value.round;
    super::check::audited(archive, scored.run, &mut |value, derived| {
        if value.round == round || Some(value.round) == round.previous() {
            adapters.push(derived.map(|derived| derived.adapter.clone()));
        }
    })
    .map_err(|fault| Failure::check(format!("the ledger does not hold: {fault}")))?;
    let evaluator: PeerId = parsed(&proof.evaluator, "the evaluator")?;
    let root = scored.root(&evaluator)?;
    check_windows(&scored, &root, proof)?;
    let predicted = proof.drawn.iter().map(|w| w.tokens.len() as u64 - 1).sum();
    let names = Book {
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
        return Err(Failure::check(format!(
            "the sheet predicts {} tokens and the drawn windows have {predicted}: it was scored on others",
            sheet.predicted
        )));
    }
    report.sheet = Some(Losses {
        before: sheet.loss_before.as_nats(),
        after: sheet.loss_after.as_nats(),
    });
    match recomputed(home, &scored, proof, adapters)? {
        Ok(found) => {
            report.recomputed = Some(found);
            compare(&report)?;
        }
        Err(note) => report.notes.push(note),
    }
    Ok(report)
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|_| Failure::check(format!("the proof is damaged: {what} is no id")))
}

/// The head and every window stand where the proof says, and the certificate draws just these.
fn check_windows(
    scored: &Scored<'_>,
    root: &MerkleRoot,
    proof: &HoldoutProof,
) -> Result<(), Failure> {
    let stands = |index: u64, path: &[String], leaf: Digest| {
        let path = path.iter().map(|hash| parsed(hash, "a hash of a path"));
        let proof = InclusionProof {
            index,
            leaves: proof.leaves,
            path: path.collect::<Result<_, Failure>>()?,
        };
        Ok::<bool, Failure>(proof.verify(root, &leaf))
    };
    let base: Digest = parsed(&proof.base, "the base")?;
    let head = leaves::Head {
        base,
        context: proof.context,
        windows: proof.windows,
        leaves: proof.leaves,
    };
    if !stands(0, &proof.path, head.leaf())? {
        return Err(Failure::check(
            "the evaluator's certified join does not commit to a hold-out of this size",
        ));
    }
    let manifest = scored.manifest;
    if base != manifest.base.hash || proof.context != manifest.training.context {
        return Err(Failure::check(
            "the hold-out was committed for another base model or window than the run's",
        ));
    }
    let drawn = scored.drawn(proof.windows);
    let shown = proof.drawn.iter().map(|window| window.place);
    if !shown.eq(drawn.iter().map(|at| *at as u64)) {
        return Err(Failure::check(
            "the certificate's seed draws other windows than the proof shows",
        ));
    }
    for window in &proof.drawn {
        let salt = parsed(&window.salt, "a salt")?;
        let leaf = leaves::window(&salt, &window.tokens);
        let is_whole = (2..=proof.context as usize).contains(&window.tokens.len());
        if !is_whole || !stands(window.place + 1, &window.path, leaf)? {
            return Err(Failure::check(format!(
                "window {} is not what the evaluator committed to when it joined",
                window.place
            )));
        }
    }
    Ok(())
}

/// The losses on the shown windows; the inner error says what is missing for them.
fn recomputed(
    home: &HomePaths,
    scored: &Scored<'_>,
    proof: &HoldoutProof,
    adapters: Vec<Option<Arc<Adapter>>>,
) -> Result<Result<Losses, String>, Failure> {
    let [Some(before), Some(after)] = &adapters[..] else {
        return Ok(Err(
            "the round's updates are not all in this home, so the sheet's losses were not computed again; \
             ask on the home of a member that took part in it"
                .to_owned(),
        ));
    };
    let Some(base) = model::by_hash(home, &scored.manifest.base.hash)? else {
        return Ok(Err(format!(
            "the base model {} is not on this machine, so the sheet's losses were not computed again",
            scored.manifest.base.name
        )));
    };
    let tokens = proof.drawn.iter().map(|window| window.tokens.clone());
    let context = proof.context as usize;
    let windows = Windows::from_tokens(tokens.collect(), context, base.config().vocab);
    let windows = windows.map_err(|e| Failure::check(format!("the shown windows: {e}")))?;
    Ok(Ok(Losses {
        before: loss(&base, before, &windows)?,
        after: loss(&base, after, &windows)?,
    }))
}

fn loss(base: &BaseModel, adapter: &Adapter, windows: &Windows) -> Result<f64, Failure> {
    let found = evaluate(base, Some(adapter), windows);
    Ok(found.map_err(|e| Failure::from_error(&e))?.nll)
}

/// The signed losses are those on the shown windows.
fn compare(report: &HoldoutReport) -> Result<(), Failure> {
    let (Some(signed), Some(found)) = (report.sheet, report.recomputed) else {
        return Ok(());
    };
    let gap = (signed.before - found.before)
        .abs()
        .max((signed.after - found.after).abs());
    if gap <= LOSS_TOLERANCE {
        return Ok(());
    }
    Err(Failure::check(format!(
        "the sheet says {:.6} nats before and {:.6} after the round, and the drawn windows give {:.6} and \
         {:.6}: it was scored on other text",
        signed.before, signed.after, found.before, found.after
    ))
    .hint("keep the proof and the sheet's block: together they show it"))
}
