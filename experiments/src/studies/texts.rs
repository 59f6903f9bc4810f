//! What it gains to claim others' text.
//!
//! Five honest owners of real text, and an attacker with a tenth as much of its own, in runs whose weights follow own
//! text. Joins, openings and values are the protocol's own ([`run`]); [`attacks`] has the attacks. An attack's *gain*
//! is what all names of the attacker have for their own, over what its own text gives it under one name; what it
//! *takes* is what the victim then lacks beside a run without attack.

mod attacks;
mod run;
mod text;

use std::error::Error;

use serde::Serialize;
use tributary_protocol::sign::SecretKey;
use tributary_trainer::shards::DEMO_SHARDS;
use tributary_trainer::{BaseError, BaseModel, TokenizerError};

use tributary_simulations::markdown::table;

use crate::study::{Outcome, Study, Work};
use attacks::{FAILING, HOLDING, Scene, TextAttack};
use run::{FULL, TextRun};
use text::Text;

/// Words of an honest owner.
const OWNED: usize = 20_000;
/// Words of the attacker.
const ATTACKER: usize = 2_000;
/// Runs of each attack. Prints belong to a run, so each sees other ones of the same texts.
const RUNS: u64 = 20;
/// The owners' texts; the victim changes from run to run.
const OWNERS: [&str; 5] = ["shakespeare", "hackers", "atlas", "opticks", "devil"];
/// What the attacker owns a part of, in each run another.
const ATTACKERS: &str = "nature";
/// What is to gain at most by others' text.
const AIM: f64 = 1.05;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    /// The base model, whose tokens are counted.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A text that it cannot express.
    #[error(transparent)]
    Tokens(#[from] TokenizerError),
}

/// One attack over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is played.
    pub plays: String,
    /// Names of the attacker.
    pub names: usize,
    /// Own tokens of all of them over what its own text gives: mean.
    pub gain: f64,
    /// The same in the run where it gains most.
    pub most: f64,
    /// Votes of all of them over what its own text gives: mean.
    pub votes: f64,
    /// Own tokens of the victim over what it has in a run without attack: least.
    pub victim: f64,
    /// The same of the owner that loses most.
    pub others: f64,
}

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Texts {
    /// Tokens of the owners' texts, mean.
    pub owned: f64,
    /// Tokens of the attacker's, mean.
    pub attackers: f64,
    /// Part of the words that are changed where the victim's text is reworded.
    pub changed: f64,
    /// Where others' text gains nothing.
    pub holding: Vec<Row>,
    /// Where it does, or where no text stands behind what is claimed.
    pub failing: Vec<Row>,
}

/// What does it gain to claim others' text?
pub struct TextsStudy;

impl Study for TextsStudy {
    fn name(&self) -> &'static str {
        "texts"
    }

    fn about(&self) -> &'static str {
        "What it gains to claim, split, copy and invent text where weights follow own text"
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let found = measure(|line| work.say(line))?;
        let markdown = markdown(&found, &work.command());
        Ok(Some(Outcome::new(&found, markdown)))
    }
}

/// Plays every attack.
///
/// # Errors
/// See [`TextsError`].
pub fn measure(mut say: impl FnMut(&str)) -> Result<Texts, TextsError> {
    let scenes = scenes(RUNS)?;
    let quiet: Vec<Quiet> = scenes.iter().map(Quiet::of).collect();
    let mut rows = |plays: &[TextAttack]| -> Vec<Row> {
        (plays.iter())
            .map(|play| {
                say(&play.name());
                row(*play, &scenes, &quiet)
            })
            .collect()
    };
    let (holding, failing) = (rows(&HOLDING), rows(&FAILING));
    let mean =
        |of: &dyn Fn(&Scene) -> f64| scenes.iter().map(of).sum::<f64>() / scenes.len() as f64;
    Ok(Texts {
        owned: mean(&|s| {
            s.owners.iter().map(|t| t.tokens() as f64).sum::<f64>() / OWNERS.len() as f64
        }),
        attackers: mean(&|s| s.own.tokens() as f64),
        changed: mean(&Scene::changed),
        holding,
        failing,
    })
}

/// Texts of so many runs.
fn scenes(runs: u64) -> Result<Vec<Scene>, TextsError> {
    let base = BaseModel::brook()?;
    let read = |name: &str| {
        let shard = DEMO_SHARDS.iter().find(|shard| shard.name == name);
        Text::of(&base, shard.expect("a shard of the trainer").text)
    };
    let whole: Result<Vec<Text>, TokenizerError> = OWNERS.into_iter().map(read).collect();
    let mut owners: Vec<Text> = whole?.iter().map(|text| text.part(0..OWNED)).collect();
    let attackers = read(ATTACKERS)?;
    let scene = |number: u64| {
        owners.rotate_left(1);
        let from = number as usize * ATTACKER;
        let own = attackers.part(from..from + ATTACKER);
        Scene::new(number, owners.clone(), own)
    };
    Ok((0..runs).map(scene).collect())
}

/// A run without attack.
struct Quiet {
    /// Own tokens and votes of the attacker, by its own text.
    fair: (u64, u64),
    /// Own tokens of each owner.
    owners: Vec<u64>,
}

impl Quiet {
    fn of(scene: &Scene) -> Self {
        let fair = scene.fair();
        let plans = [scene.honest(2), vec![fair.clone()]].concat();
        let stage = run::play(scene.number, &plans);
        Self {
            fair: held(&stage, [&fair.key]),
            owners: owners(scene, &stage),
        }
    }
}

/// Own tokens and votes of these names together.
fn held<'a>(stage: &TextRun, names: impl IntoIterator<Item = &'a SecretKey>) -> (u64, u64) {
    let each = names
        .into_iter()
        .map(|key| (stage.own(key), stage.votes(key)));
    each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn owners(scene: &Scene, stage: &TextRun) -> Vec<u64> {
    (0..scene.owners.len())
        .map(|nth| stage.own(&scene.owner(nth)))
        .collect()
}

fn row(play: TextAttack, scenes: &[Scene], quiet: &[Quiet]) -> Row {
    let mut row = Row {
        plays: play.name(),
        names: 0,
        gain: 0.0,
        most: 0.0,
        votes: 0.0,
        victim: f64::INFINITY,
        others: f64::INFINITY,
    };
    for (scene, quiet) in scenes.iter().zip(quiet) {
        let attack = scene.attack(play);
        let plans = [scene.honest(play.victim_opens()), attack.clone()].concat();
        let stage = run::play(scene.number, &plans);
        let (own, votes) = held(&stage, attack.iter().map(|plan| &plan.key));
        // By accident one has the victim's text, and would have all of it.
        let victims = quiet.owners[scene.owners.len() - 1];
        let fair = match play {
            TextAttack::Accident => (victims, victims.min(FULL)),
            _ => quiet.fair,
        };
        let gain = own as f64 / fair.0 as f64;
        row.names = attack.len();
        row.gain += gain / scenes.len() as f64;
        row.votes += votes as f64 / fair.1 as f64 / scenes.len() as f64;
        row.most = gain.max(row.most);
        let kept = owners(scene, &stage).into_iter().zip(&quiet.owners);
        let kept: Vec<f64> = kept.map(|(now, then)| now as f64 / *then as f64).collect();
        let (victim, others) = kept.split_last().expect("five owners");
        row.victim = victim.min(row.victim);
        row.others = others.iter().copied().fold(row.others, f64::min);
    }
    row
}

fn rows(rows: &[Row]) -> String {
    let heads = [
        "the attacker shows",
        "names",
        "gain",
        "most",
        "gain in votes",
        "victim keeps, least",
        "other owners keep, least",
    ];
    let row = |row: &Row| {
        vec![
            row.plays.clone(),
            row.names.to_string(),
            format!("{:.3}", row.gain),
            format!("{:.3}", row.most),
            format!("{:.3}", row.votes),
            format!("{:.3}", row.victim),
            format!("{:.3}", row.others),
        ]
    };
    table(&heads, &rows.iter().map(row).collect::<Vec<_>>())
}

/// The tables of the page.
pub fn markdown(texts: &Texts, command: &str) -> String {
    let above = texts.holding.iter().filter(|row| row.most > AIM).count();
    format!(
        "From `{command}`. {} owners of {OWNED} words ({:.0} tokens on average), an attacker of {ATTACKER} ({:.0} tokens), \
         `weights = own` with {FULL} tokens of full weight; {RUNS} runs, in each other prints and another attacker's text, \
         and in turns another victim. A second name stands beside the attacker's own text under its first.\n\n\
         Own text split, repeated or mixed with others', and others' text ({above} of {} rows gain more than {AIM} in some \
         run):\n\n{}\n\
         What does not hold: text that the rule cannot tell from new text, text that somebody committed before its owner, \
         and claims that no text stands behind. Reworded, {:.1} % of the words are others:\n\n{}",
        OWNERS.len(),
        texts.owned,
        texts.attackers,
        texts.holding.len(),
        rows(&texts.holding),
        100.0 * texts.changed,
        rows(&texts.failing),
    )
}

#[cfg(test)]
mod tests;
