//! The learner `language` of scenarios: simulated peers train LoRA on a base model and on texts that a scenario names.
//!
//! ```text
//!   [learner] model, texts ──► base model; each text in training text and hold-out
//!                                   │
//!        contributors ◄── one text or several each, or a part of one that several share
//!        evaluators   ◄── half of the hold-outs; losses are reported on the other half
//! ```
//!
//! The peers are the nodes of the simulator, so everything that a scenario can do to toy learners happens to real ones.
//! Base and texts are loaded once for all seeds of a program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::fingerprint;
use tributary_protocol::id::RunId;
use tributary_protocol::manifest::Base;
use tributary_protocol::sketch::Sketch;
use tributary_simulations::learner::{LANGUAGE, Learner, LearnerPlan, Members, Subject};
use tributary_simulations::{Catalogue, files};
use tributary_trainer::data::ReadOptions;
use tributary_trainer::shards::{DEMO_SHARDS, split};
use tributary_trainer::{BaseModel, DataError, Dataset, Windows, brook};

use super::Language;

/// The base model when a scenario names none.
const MODEL: &str = "brook";
/// What is usual in runs: see `examples/run.toml`.
const RANK: u32 = 8;
const ALPHA: u32 = 16;
const BATCH: u32 = 4;
const CONTEXT: u32 = 128;
/// Hold-out windows that a round is scored on: two batches of four, the fewest that have an interval.
const WINDOWS: u32 = 8;
/// Hold-out windows kept of all texts together: half of them are scored, half report losses.
const HELD: usize = 64;
/// Texts of one scenario.
const MAX_TEXTS: usize = 1_000;
/// Bytes of all texts together, which are held in memory.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Adds the learner `language` to a catalogue.
pub fn federated(catalogue: Catalogue) -> Catalogue {
    let loaded: Mutex<BTreeMap<String, Arc<Loaded>>> = Mutex::default();
    let about =
        "LoRA on a base model (model = \"brook\" or a folder) and your own texts (texts = [...])";
    catalogue.learner(LANGUAGE, about, move |plan, members, seed| {
        let key = format!("{:?} {:?} {:?}", plan.model, plan.texts, plan.context);
        let mut all = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match all.get(&key) {
            Some(loaded) => loaded.clone(),
            None => {
                let loaded = Arc::new(Loaded::of(plan)?);
                all.insert(key, loaded.clone());
                loaded
            }
        };
        drop(all);
        let learner = Federated::new(&loaded, plan, members, seed)?;
        Ok(Box::new(learner) as Box<dyn Learner>)
    })
}

/// A base model, and texts cut for it.
struct Loaded {
    base: BaseModel,
    context: usize,
    texts: Vec<Text>,
}

/// One text in its two parts.
struct Text {
    training: String,
    hold_out: Windows,
}

impl Loaded {
    fn of(plan: &LearnerPlan) -> Result<Self, String> {
        let model = plan.model.as_deref().unwrap_or(MODEL);
        let base = match model {
            MODEL => brook::load(),
            folder => BaseModel::from_dir(Path::new(folder)),
        };
        let base = base.map_err(|why| format!("`learner.model`: {why}"))?;
        let context = plan.context.unwrap_or(CONTEXT) as usize;
        let found = match &plan.texts {
            Some(texts) => read(texts.paths()).map_err(|why| format!("`learner.texts` {why}"))?,
            None => (DEMO_SHARDS.iter())
                .map(|shard| (shard.name.to_owned(), shard.text.to_owned()))
                .collect(),
        };
        let held = (HELD / found.len()).max(2);
        let texts = found.into_iter().map(|(name, text)| {
            let parts = split(&text);
            let hold_out = windows(&base, &name, &parts.hold_out, context)?;
            match hold_out.len() >= 2 {
                true => Ok(Text {
                    hold_out: hold_out.sample(&[0; 32], held),
                    training: parts.training,
                }),
                false => Err(format!(
                    "a tenth of {name} is held out, which is less than two windows of {context} tokens; give \
                     more text or lower `learner.context`"
                )),
            }
        });
        let texts: Vec<Text> = texts.collect::<Result<_, String>>()?;
        Ok(Self {
            base,
            context,
            texts,
        })
    }
}

fn windows(base: &BaseModel, name: &str, text: &str, context: usize) -> Result<Windows, String> {
    Windows::from_text(base, text, context).map_err(|why: DataError| format!("{name}: {why}"))
}

/// The texts of files and of folders' files, by name.
///
/// # Errors
/// Names what cannot be read, and why.
pub fn read(paths: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for path in paths {
        found.extend(listed(Path::new(path))?);
    }
    if found.is_empty() || found.len() > MAX_TEXTS {
        return Err(format!(
            "names {} files, but must name 1 to {MAX_TEXTS}",
            found.len()
        ));
    }
    let mut bytes = 0;
    let texts = found.into_iter().map(|path| {
        let shown = path.display().to_string();
        let refused = |why: &dyn std::fmt::Display| format!("{shown}: {why}");
        files::check(&path).map_err(|why| refused(&why))?;
        let dataset = Dataset::read(&path, &ReadOptions::default());
        let texts = dataset.and_then(Dataset::texts).map_err(|why| refused(&why))?;
        let text = texts.join("\n\n");
        bytes += text.len() as u64;
        match bytes > MAX_TEXT_BYTES {
            true => Err(refused(&format_args!(
                "with it the texts have more than the {MAX_TEXT_BYTES} bytes that one scenario may name"
            ))),
            false => Ok((shown, text)),
        }
    });
    texts.collect()
}

/// A file, or the files of a folder in order of their names, hidden ones and folders below left out.
fn listed(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |why: std::io::Error| format!("{}: {why}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_TEXTS {
            break;
        }
    }
    files.sort();
    Ok(files)
}

/// The peers of one run.
struct Federated {
    language: Language,
    /// What each peer holds; evaluators nothing.
    texts: Vec<String>,
    tokens: Vec<u64>,
}

impl Federated {
    fn new(
        loaded: &Loaded,
        plan: &LearnerPlan,
        members: Members,
        seed: u64,
    ) -> Result<Self, String> {
        if plan.windows.is_some_and(|windows| windows < WINDOWS) {
            return Err(format!(
                "`learner.windows` must be at least {WINDOWS}, or scores have no interval"
            ));
        }
        let base = &loaded.base;
        let shape = base.adapter_shape(plan.rank.unwrap_or(RANK), plan.alpha.unwrap_or(ALPHA));
        shape
            .check()
            .map_err(|why| format!("`learner.rank` and `learner.alpha`: {why}"))?;
        let texts = deal(&loaded.texts, members);
        let hold_outs: Vec<Windows> = loaded.texts.iter().map(|t| t.hold_out.clone()).collect();
        let nothing = hold_outs[0].only(0);
        let shares =
            texts
                .iter()
                .enumerate()
                .map(|(peer, text)| match members.is_evaluator(peer) {
                    // It never trains.
                    true => Ok(nothing.clone()),
                    false => windows(
                        base,
                        &format!("the text of peer {peer}"),
                        text,
                        loaded.context,
                    ),
                });
        let shares: Vec<Windows> = shares.collect::<Result<_, String>>()?;
        let tokens = shares.iter().map(Windows::predicted).collect();
        let language = Language::new(base.clone(), Arc::new(shape), seed, shares, &hold_outs);
        if language.scored().len() < WINDOWS as usize {
            return Err(format!(
                "the texts' hold-outs have {} windows of {} tokens to score, but {WINDOWS} are needed; give \
                 more text or lower `learner.context`",
                language.scored().len(),
                loaded.context
            ));
        }
        Ok(Self {
            language,
            texts,
            tokens,
        })
    }
}

/// What each peer holds: several whole texts where there are enough, else a part of one; evaluators nothing.
fn deal(texts: &[Text], members: Members) -> Vec<String> {
    let contributors: Vec<usize> = members.contributors().collect();
    let mut held = vec![String::new(); members.peers];
    for (at, text) in texts.iter().enumerate() {
        let sharing = contributors.iter().skip(at % contributors.len());
        let sharing: Vec<usize> = sharing.step_by(texts.len()).copied().collect();
        let parts = cut(&text.training, sharing.len());
        for (peer, part) in sharing.into_iter().zip(parts) {
            let held = &mut held[peer];
            if !held.is_empty() {
                held.push_str("\n\n");
            }
            held.push_str(part);
        }
    }
    held
}

/// So many parts of about the same length, cut between words.
fn cut(text: &str, parts: usize) -> Vec<&str> {
    let mut from = 0;
    (1..=parts)
        .map(|part| {
            let to = match part == parts {
                true => text.len(),
                false => end_of_word(text, (text.len() / parts * part).max(from)),
            };
            let piece = &text[from..to];
            from = to;
            piece
        })
        .collect()
}

fn end_of_word(text: &str, at: usize) -> usize {
    let at = (at..=text.len()).find(|at| text.is_char_boundary(*at));
    let at = at.unwrap_or(text.len());
    (text[at..].find(char::is_whitespace)).map_or(text.len(), |further| at + further)
}

impl Learner for Federated {
    fn train(&self, peer: usize, task: &TrainTask) -> Trained {
        self.language.train(peer, task)
    }

    fn score(&self, peer: usize, task: &ScoreTask) -> ScoreSheet {
        self.language.score(peer, task)
    }

    fn loss(&self, values: &[f32]) -> f64 {
        self.language.loss(values)
    }

    fn subject(&self, plan: &LearnerPlan) -> Subject {
        let base = self.language.base();
        Subject {
            datanet: "texts".into(),
            base: Base {
                name: base.name().to_owned(),
                hash: base.hash(),
                files: None,
            },
            adapter: (**self.language.shape()).clone(),
            batch: plan.batch.unwrap_or(BATCH),
            context: plan.context.unwrap_or(CONTEXT),
            windows: plan.windows.unwrap_or(WINDOWS),
        }
    }

    fn tokens(&self, peer: usize) -> u64 {
        self.tokens[peer]
    }

    fn sketch(&self, run: RunId, peer: usize) -> Sketch {
        let words: Vec<String> = fingerprint::words(&self.texts[peer])
            .map(|(_, word)| word)
            .collect();
        Sketch::of(run, &words)
    }

    fn loss_unit(&self) -> &'static str {
        self.language.loss_unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(training: &str) -> Text {
        let base = brook::load().expect("embedded");
        Text {
            training: training.into(),
            hold_out: windows(&base, "a", "some words to hold out", 4).expect("windows"),
        }
    }

    #[test]
    fn parts_are_cut_between_words_and_together_are_the_text() {
        let text = "one twö three four five";
        for parts in 1..=8 {
            let cut = cut(text, parts);
            assert_eq!((cut.len(), cut.concat()), (parts, text.to_owned()));
        }
        assert_eq!(cut(text, 2), ["one twö three", " four five"]);
    }

    #[test]
    fn few_texts_are_shared_out_and_many_are_held_several_at_a_time() {
        let members = |peers| Members {
            peers,
            evaluators: 1,
            names: 0,
        };
        let two = [text("a b"), text("c d")];
        // Peer 1 evaluates; peers 0, 2 and 3 train.
        assert_eq!(deal(&two, members(4)), ["a", "", "c d", " b"]);
        assert_eq!(deal(&two, members(2)), ["a b\n\nc d", ""]);
    }
}
