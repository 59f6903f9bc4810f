//! Who takes part in a demo, with which text, in which run: fixed at its first start.
//!
//! `demo.json` keeps the choice, so that a second start on the same folder resumes the same run and
//! refuses other options. Keys, nonce and manifest follow from the seed; texts are read again and
//! compared by their hash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::RunId;
use tributary_protocol::manifest::Manifest;
use tributary_trainer::BaseModel;
use tributary_trainer::shards;

use super::narrator::DemoPeer;
use super::options::DemoArgs;
use super::texts;
use crate::config::{BaseFacts, RunFile};
use crate::home::{HomePaths, disk};
use crate::identity::Identity;
use crate::keeper::account_of;
use crate::model;
use crate::shard::{passages, read_passages};
use crate::terminal::Failure;
use crate::verify;

/// Evaluators of a demo.
const EVALUATORS: [&str; 3] = ["judge-1", "judge-2", "judge-3"];
/// How contributors train, unless told otherwise.
struct Recipe {
    rounds: u32,
    /// Optimizer steps a round.
    steps: u32,
    /// Keys of the run file that differ from its defaults.
    keys: &'static str,
}

/// For the demo's own texts, to know them by heart within three minutes on two cores. Each contributor moves the adapter by
/// a sixth of what it learned in a round: many short rounds in which one factor is trained come close to training on
/// all texts at once, a few long ones do not. The plain mean, because nobody of the demo lies, and because robust rules
/// pass over those that are furthest from the others: here the only ones that know their facts.
const OWN_TEXTS: Recipe = Recipe {
    rounds: 45,
    steps: 10,
    keys: "score_windows = 8\naggregation = \"mean\"\n\
           [adapter]\nrank = 16\nalpha = 32\n[codec]\nkind = \"dense-int8\"\n\
           [training]\ncontext = 64\nlearning_rate = 8e-3\nschedule = \"alternate\"\n",
};
/// For texts of any kind: lowers every domain's loss within three minutes on two cores.
const ANY_TEXTS: Recipe = Recipe {
    rounds: 6,
    steps: 24,
    keys: "score_windows = 12\n[training]\nlearning_rate = 4e-3\n",
};
/// Contributors at most: their joins, updates and homes all live in one process.
const MAX_PEERS: usize = 24;
/// OPEN a round.
const BUDGET: &str = "10";

/// The choices of a demo, fixed at its first start and kept in `demo.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of keys and draws.
    pub seed: u64,
    /// Training rounds.
    pub rounds: u32,
    /// Optimizer steps a round.
    pub steps: u32,
    /// The base model, as it was named.
    pub base: String,
    /// Its hash.
    pub base_hash: String,
    /// Hash of all texts.
    pub text_hash: String,
    /// Names of the contributors, in order.
    pub contributors: Vec<String>,
    /// What was measured of certified rounds while the demo ran.
    pub measured: BTreeMap<u32, Measured>,
    /// The texts, by contributor; read again at each start.
    #[serde(skip)]
    pub texts: Vec<Text>,
    /// Text of `--holdout`.
    #[serde(skip)]
    pub holdout: Option<Vec<String>>,
    /// Whether the texts are the demo's own.
    #[serde(skip)]
    pub is_own: bool,
}

/// What only a running process can measure of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes that the busiest peer sent.
    pub bytes_up_max: u64,
    /// Bytes that the busiest peer received.
    pub bytes_down_max: u64,
    /// From the certificate before, median over peers.
    pub certificate_ms: u64,
}

/// One contributor's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The contributor's name.
    pub name: String,
    /// What it trains on.
    pub train: Vec<String>,
    /// What it does not train on.
    pub holdout: Vec<String>,
}

impl Plan {
    /// The plan of the folder `root`, made now or read back.
    ///
    /// # Errors
    /// When texts cannot be read, the folder belongs to a demo with other options, or it is damaged.
    pub fn prepare(root: &Path, args: &DemoArgs, base: &BaseModel) -> Result<Self, Failure> {
        let texts = match &args.data {
            Some(folder) => texts_of(folder, args.peers)?,
            None => own_texts(args.peers)?,
        };
        let recipe = recipe(args.data.is_none());
        let holdout = (args.holdout.as_deref()).map(read_passages).transpose()?;
        let wanted = Self {
            seed: args.seed,
            rounds: args.rounds.unwrap_or(recipe.rounds),
            steps: args.steps.unwrap_or(recipe.steps),
            base: args.base.clone(),
            base_hash: base.hash().to_string(),
            text_hash: hash_of(&texts, holdout.as_deref()),
            contributors: texts.iter().map(|t| t.name.clone()).collect(),
            measured: BTreeMap::new(),
            texts,
            holdout,
            is_own: args.data.is_none(),
        };
        if !Self::file(root).exists() {
            disk::make_folder(root).map_err(|e| {
                Failure::environment(format!("cannot make the folder {}: {e}", root.display()))
                    .hint("name another folder with --home")
            })?;
            wanted.write(root)?;
            return Ok(wanted);
        }
        let found = Self::read(root).map_err(|why| {
            Failure::environment(why)
                .hint("restore the folder from a backup, or name another one with --home")
        })?;
        if let Some(other) = wanted.differs(&found) {
            return Err(Failure::environment(format!(
                "{} holds a demo with other options: {other}",
                root.display()
            ))
            .hint(
                "call it with the same options to resume it, or name another folder with --home",
            ));
        }
        Ok(Self {
            measured: found.measured,
            ..wanted
        })
    }

    fn differs(&self, found: &Self) -> Option<String> {
        let told = |what: &str, here: &dyn std::fmt::Display, there: &dyn std::fmt::Display| {
            Some(format!("{what} {there} there, {here} now"))
        };
        if self.seed != found.seed {
            return told("--seed", &self.seed, &found.seed);
        }
        if self.rounds != found.rounds {
            return told("--rounds", &self.rounds, &found.rounds);
        }
        if self.steps != found.steps {
            return told("--steps", &self.steps, &found.steps);
        }
        if self.contributors != found.contributors {
            let list = |names: &[String]| names.join(" ");
            return told(
                "contributors",
                &list(&self.contributors),
                &list(&found.contributors),
            );
        }
        if self.base_hash != found.base_hash {
            return told("--base", &self.base, &found.base);
        }
        (self.text_hash != found.text_hash).then(|| "the texts have changed".to_owned())
    }

    fn file(root: &Path) -> PathBuf {
        root.join("demo.json")
    }

    /// Where the peers' homes are.
    pub fn peers_folder(root: &Path) -> PathBuf {
        root.join("peers")
    }

    /// Where the adapter is exported to.
    pub fn adapter_folder(root: &Path) -> PathBuf {
        root.join("adapter")
    }

    /// Whether `root` is a demo's folder.
    pub fn is_home(root: &Path) -> bool {
        Self::file(root).exists() || Self::peers_folder(root).is_dir()
    }

    /// Whether every round was measured: the demo was played to its end.
    pub fn is_measured(&self) -> bool {
        self.measured.len() as u32 >= self.rounds
    }

    /// Reads `demo.json` and checks it against its own hash in the last line.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(root: &Path) -> Result<Self, String> {
        let path = Self::file(root);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let damaged = |why: &str| format!("{} is damaged: {why}", path.display());
        let (json, sum) = (text.strip_suffix('\n'))
            .and_then(|text| text.rsplit_once('\n'))
            .ok_or_else(|| damaged("its end is missing"))?;
        if sum != checksum(json) {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_str(json).map_err(|e| damaged(&e.to_string()))
    }

    /// Writes `demo.json`, whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, root: &Path) -> Result<(), Failure> {
        let path = Self::file(root);
        let write = || {
            let json = serde_json::to_string(self)?;
            let text = format!("{json}\n{}\n", checksum(&json));
            disk::write_whole(&path, text.as_bytes())
        };
        write().map_err(|e: std::io::Error| {
            Failure::environment(format!("cannot write {}: {e}", path.display())).hint(
                "free some disk space, then call the demo again with the same --home: it resumes",
            )
        })
    }

    /// Contributors, then evaluators.
    pub fn actors(&self) -> Vec<DemoPeer> {
        let names = self
            .contributors
            .iter()
            .map(String::as_str)
            .chain(EVALUATORS);
        (names.enumerate())
            .map(|(at, name)| DemoPeer {
                peer: self.identity(at).peer_id(),
                name: name.to_owned(),
                trains: at < self.contributors.len(),
            })
            .collect()
    }

    /// The key of the actor at `at`.
    pub fn identity(&self, at: usize) -> Identity {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"demo key");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&(at as u64).to_le_bytes());
        Identity::from_seed(*hasher.finalize().as_bytes())
    }

    /// The home of the actor at `at`.
    pub fn home(&self, root: &Path, at: usize) -> PathBuf {
        let actors = self.actors();
        Self::peers_folder(root).join(format!("{at:02}-{}", actors[at].name))
    }

    /// The evaluator that opens the run and pays for it.
    pub fn creator(&self) -> usize {
        self.contributors.len()
    }

    /// What the evaluator `which` (from 0) scores on: its part of `--holdout`, or of everybody's
    /// hold-out, dealt out passage by passage so that each covers every domain; all of it where that is little.
    pub fn evaluator_text(&self, which: usize) -> Vec<String> {
        let all: Vec<&String> = match &self.holdout {
            Some(text) => text.iter().collect(),
            None => self.texts.iter().flat_map(|t| &t.holdout).collect(),
        };
        // A passage of the own texts is a fact: ten of them make the windows that scoring needs.
        let each = if self.is_own { 10 } else { 2 };
        if all.len() < each * EVALUATORS.len() {
            return all.into_iter().cloned().collect();
        }
        let dealt = all.into_iter().skip(which).step_by(EVALUATORS.len());
        dealt.cloned().collect()
    }

    /// The manifest that the creator publishes; the same at every start.
    ///
    /// # Errors
    /// When a setting is out of bounds.
    pub fn manifest(&self, base: &BaseModel) -> Result<Manifest, Failure> {
        let actors = self.actors();
        let judges: Vec<String> = (actors[self.creator()..].iter())
            .map(|a| format!("\"{}\"", a.peer))
            .collect();
        // Nobody is waited for in vain in one process, so that a slow machine comes to the same values as a fast one.
        let text = format!(
            "name = \"demo\"\nbase = \"unused\"\ndatanet = \"demo\"\nrounds = {}\n\
             evaluators = [{}]\ncommittee = 7\nmin_members = {}\n\
             min_contributions = {}\nbudget_per_round_open = \"{BUDGET}\"\n{}local_steps = {}\n\
             [deadlines]\nround_ms = 7200000\ngrace_ms = 1800000\npropose_ms = 60000\nvote_ms = 60000\n",
            self.rounds,
            judges.join(", "),
            actors.len(),
            self.contributors.len(),
            recipe(self.is_own).keys,
            self.steps,
        );
        let facts = BaseFacts {
            name: if self.base == model::BROOK {
                model::BROOK
            } else {
                base.name()
            }
            .to_owned(),
            hash: base.hash(),
            files: None,
            modules: base.adapter_shape(1, 1).modules,
        };
        let file = RunFile::parse(&text, "the demo's run")?;
        let mut manifest = file.manifest(actors[self.creator()].peer, self.seed, &facts)?;
        file.settle(&mut manifest, account_of(&self.identity(self.creator())))?;
        Ok(manifest)
    }

    /// Whether every peer's ledger holds the closed run.
    pub fn is_finished(&self, root: &Path) -> bool {
        (0..self.actors().len()).all(|at| {
            verify::archive(&HomePaths::new(self.home(root, at))).is_ok_and(|archive| {
                archive.faults.is_empty()
                    && archive.runs.iter().any(|run| {
                        let closing = run.manifest.as_ref().map(Manifest::closing_round);
                        let last = run.certificates.last();
                        closing.is_some()
                            && last.map(|c| c.value.round) >= closing
                            && last.is_some_and(|c| {
                                matches!(archive.blob(c.value.adapter.hash), Ok(Some(_)))
                            })
                    })
            })
        })
    }

    /// The run.
    ///
    /// # Errors
    /// As [`Plan::manifest`].
    pub fn run(&self, base: &BaseModel) -> Result<RunId, Failure> {
        Ok(self.manifest(base)?.run_id())
    }
}

fn checksum(json: &str) -> String {
    tributary_protocol::hash::blob(json.as_bytes()).to_string()
}

fn hash_of(texts: &[Text], holdout: Option<&[String]>) -> String {
    let mut hasher = Hasher::new(Domain::Simulation);
    let mut add = |kind: u8, part: &str| {
        hasher.update(&[kind]);
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    for text in texts {
        add(0, &text.name);
        text.train.iter().for_each(|p| add(1, p));
        text.holdout.iter().for_each(|p| add(2, p));
    }
    holdout.into_iter().flatten().for_each(|p| add(3, p));
    hasher.finalize().to_string()
}

fn recipe(is_own: bool) -> Recipe {
    if is_own { OWN_TEXTS } else { ANY_TEXTS }
}

/// The demo's own texts; all of them unless told how many.
fn own_texts(peers: Option<u32>) -> Result<Vec<Text>, Failure> {
    let all = texts::all();
    let peers = peers.map_or(all.len(), |peers| peers as usize);
    if peers > all.len() {
        return Err(Failure::environment(format!(
            "the demo carries texts for {} contributors and {peers} were asked for",
            all.len()
        ))
        .hint("name a folder with a text file per contributor with --data"));
    }
    let text = |text: &texts::OwnText| Text {
        name: text.name.to_owned(),
        train: passages(&text.training()),
        holdout: text.hold_out(),
    };
    Ok(all.iter().take(peers).map(text).collect())
}

/// One text or JSONL file per contributor, ordered by name; all of them unless told how many.
fn texts_of(folder: &Path, peers: Option<u32>) -> Result<Vec<Text>, Failure> {
    let fault = |why: String| {
        Failure::environment(format!(
            "cannot use the data folder {}: {why}",
            folder.display()
        ))
        .hint("give a folder with one .txt or .jsonl file per contributor")
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| fault(e.to_string()))? {
        let path = entry.map_err(|e| fault(e.to_string()))?.path();
        let hidden = path
            .file_name()
            .is_none_or(|n| n.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    let peers = peers.map_or(files.len().min(MAX_PEERS), |peers| peers as usize);
    if files.len() < peers || peers < 2 {
        return Err(fault(format!(
            "it holds {} files and the demo needs {}",
            files.len(),
            peers.max(2)
        )));
    }
    files.truncate(peers);
    let mut texts = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let split = shards::split(&read_passages(&file)?.concat());
        let text = Text {
            name: plain(&name),
            train: passages(&split.training),
            holdout: passages(&split.hold_out),
        };
        if text.holdout.is_empty() {
            return Err(fault(format!(
                "{} is too short to hold a tenth back",
                file.display()
            )));
        }
        texts.push(text);
    }
    Ok(texts)
}

/// The file's stem as a name that also names a folder.
fn plain(name: &str) -> String {
    let fit = |c: char| {
        if c.is_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '-'
        }
    };
    name.chars().map(fit).take(32).collect()
}

#[cfg(test)]
mod tests;
