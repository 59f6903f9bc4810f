//! The output folder of one run.
//!
//! A folder that holds anything but an earlier result is never written into.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use tributary_protocol::event::{Notice, Phase};

use super::{Run, figures, page};
use crate::record::{History, Moment, What};
use crate::scenario::Scenario;

/// The file that makes a folder a result.
pub const RESULT: &str = "result.json";
/// What was run, exactly.
pub const SCENARIO: &str = "scenario.toml";
/// The page that holds everything.
pub const PAGE: &str = "report.html";

/// Why a folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It holds other things.
    #[error(
        "{0} is not empty and holds no earlier {RESULT}, so nothing was written there; give --out a \
         new folder"
    )]
    Foreign(PathBuf),
    /// The disk says no.
    #[error("cannot write {path}: {source}; give --out a place that can be written")]
    Disk {
        /// What was being written.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A table cannot be put into words.
    #[error("cannot write {path}: {why}; this is a defect of the report, please file it")]
    Words {
        /// What was being written.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// A folder under construction.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens a folder for results, making it where needed.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open(path: &Path, mark: &str) -> Result<Self, FolderError> {
        let disk = |source| FolderError::Disk {
            path: path.into(),
            source,
        };
        fs::create_dir_all(path).map_err(disk)?;
        let is_empty = fs::read_dir(path).map_err(disk)?.next().is_none();
        if !is_empty && !path.join(mark).is_file() {
            return Err(FolderError::Foreign(path.into()));
        }
        Ok(Self { path: path.into() })
    }

    /// Writes one file.
    ///
    /// # Errors
    /// [`FolderError::Disk`].
    pub fn put(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(|source| FolderError::Disk { path, source })
    }

    /// Writes one table. Its header comes from the rows' field names; without rows it is empty.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn table<R: Serialize>(&self, name: &str, rows: &[R]) -> Result<(), FolderError> {
        let words = |why: String| FolderError::Words {
            path: self.path.join(name),
            why,
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in rows {
            writer
                .serialize(row)
                .map_err(|why| words(why.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|why| words(why.to_string()))?;
        self.put(name, &bytes)
    }
}

/// Writes everything about a run of `scenario` (before the seed has drawn from it). `command` is how to
/// get it again.
///
/// # Errors
/// See [`FolderError`].
pub fn write(
    run: &Run<'_>,
    scenario: &Scenario,
    command: &str,
    path: &Path,
) -> Result<(), FolderError> {
    let folder = Folder::open(path, RESULT)?;
    let scenario = toml::to_string(scenario).map_err(|why| FolderError::Words {
        path: path.join(SCENARIO),
        why: why.to_string(),
    })?;
    folder.put(SCENARIO, scenario.as_bytes())?;
    folder.put("events.jsonl", &events(run.history))?;
    let tables = &run.tables;
    folder.table("rounds.csv", &tables.rounds)?;
    folder.table("participants.csv", &tables.participants)?;
    folder.table("contributions.csv", &tables.contributions)?;
    folder.table("traffic.csv", &tables.traffic)?;
    folder.table("waits.csv", &tables.waits)?;
    let figures = figures::figures(run);
    for figure in &figures {
        let drawn = figure.wide.as_ref().unwrap_or(&figure.svg);
        folder.put(&format!("{}.svg", figure.name), drawn.as_bytes())?;
    }
    folder.put(
        PAGE,
        page::page(run, &figures, command, &scenario).as_bytes(),
    )?;
    // Last, because it is what makes the folder a result.
    let result = serde_json::to_string_pretty(&result(run)).map_err(|why| FolderError::Words {
        path: path.join(RESULT),
        why: why.to_string(),
    })?;
    folder.put(RESULT, result.as_bytes())
}

/// What `result.json` says.
pub fn result(run: &Run<'_>) -> Value {
    let outcome = run.outcome;
    json!({
        "schema": "sim-result/1",
        "scenario": run.scenario.name,
        "describe": run.scenario.describe(),
        "seed": outcome.seed,
        "digest": outcome.digest.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "wall_s": run.wall_s,
        "violations": run.all_broken(),
        "metrics": run.metrics,
        "rounds": run.tables.rounds,
        "participants": run.tables.participants,
    })
}

/// One JSON object a line, in order of time.
fn events(history: &History) -> Vec<u8> {
    let mut out = Vec::new();
    let mut open = 0;
    for moment in &history.moments {
        if let What::FirstCertified(round) = moment.what {
            open = open.max(round + 1);
        }
        let line = event(history, moment, open);
        // Writing to memory does not fail.
        let _ = writeln!(out, "{line}");
    }
    out
}

fn event(history: &History, moment: &Moment, open: u32) -> Value {
    let name = |peer: usize| history.participants[peer].name.as_str();
    let (kind, detail) = match &moment.what {
        What::Crash { kept, lost } => ("crash", json!({"kept_syncs": kept, "lost_effects": lost})),
        What::Restart => ("restart", json!({})),
        What::Invited => ("invited", json!({})),
        What::Leaving => ("leaving", json!({})),
        What::Split {
            nth,
            apart,
            one_way,
        } => {
            let apart: Vec<&str> = apart.iter().map(|peer| name(*peer)).collect();
            (
                "split",
                json!({"nth": nth, "apart": apart, "one_way": one_way}),
            )
        }
        What::Heal { nth } => ("heal", json!({"nth": nth})),
        What::Calm => ("calm", json!({})),
        What::FirstCertified(round) => ("first_certificate", json!({"round": round})),
        What::Broken(what) => ("broken", json!({"what": what})),
        What::Note(text) => ("note", json!({"text": text})),
        What::Notice(notice) => notice_event(history, notice),
    };
    let mut out = json!({
        "at_s": moment.at as f64 / 1e6,
        "open_round": open,
        "participant": moment.peer.map(name),
        "kind": kind,
    });
    if let (Value::Object(out), Value::Object(detail)) = (&mut out, detail) {
        out.extend(detail);
    }
    out
}

fn phase_code(phase: Phase) -> &'static str {
    match phase {
        Phase::Gather => "gather",
        Phase::Train => "train",
        Phase::Collect => "collect",
        Phase::Agree => "agree",
        Phase::CatchUp => "catch_up",
        Phase::Stopped => "stopped",
        Phase::Finished => "finished",
    }
}

/// What a node says, by the names under which a daemon streams it (`EventView` of the control API).
fn notice_event(history: &History, notice: &Notice) -> (&'static str, Value) {
    let name = |peer| match history.index.get(peer) {
        Some(at) => history.participants[*at].name.clone(),
        None => peer.short(),
    };
    match notice {
        Notice::Following(_) => ("following", json!({})),
        Notice::Phase { round, phase, .. } => (
            "phase",
            json!({"round": round.0, "phase": phase_code(*phase)}),
        ),
        Notice::Contributed {
            round,
            peer,
            arrived,
            expected,
            ..
        } => (
            "contributed",
            json!({"round": round.0, "peer": name(peer), "arrived": arrived, "expected": expected}),
        ),
        Notice::Certified {
            round,
            state,
            included,
            took_ms,
            ..
        } => (
            "certified",
            json!({"round": round.0, "state": state.to_string(), "included": included, "took_ms": took_ms}),
        ),
        Notice::Finished(_) => ("finished", json!({})),
        Notice::Refused { from, why } => (
            "refused",
            json!({"peer": name(from), "code": why.code(), "why": why.to_string()}),
        ),
        Notice::Refuted { round, why, .. } => (
            "refuted",
            json!({"round": round.0, "code": why.code(), "why": why.to_string()}),
        ),
        Notice::Equivocation { author, .. } => ("equivocation", json!({"peer": name(author)})),
        Notice::Declined { excess, .. } => ("declined", json!({"why": excess.to_string()})),
        Notice::CommandFailed { why, .. } => ("failed", json!({"why": why})),
    }
}
