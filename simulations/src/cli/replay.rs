//! `replay`: one seed, event by event, from a scenario or from the output folder of an earlier run.

use std::path::Path;

use serde_json::Value;

use super::{Answer, Program, run};
use crate::files;
use crate::record::{History, Moment, What};
use crate::report::{Run, folder};
use crate::scenario;

#[derive(clap::Args)]
pub struct Arguments {
    /// A scenario file, the name of a built-in scenario, or an output folder of `run`, which must come
    /// out with the same digest.
    file: String,
    /// The seed; that of the folder or the scenario by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Every notice of every participant, not only crashes, splits and certified rounds.
    #[arg(long)]
    verbose: bool,
    /// Only this participant, by its number.
    #[arg(long, value_name = "N")]
    participant: Option<usize>,
    /// Only while this round was open.
    #[arg(long, value_name = "N")]
    round: Option<u32>,
}

/// What an output folder says about its run.
struct Earlier {
    seed: u64,
    digest: String,
}

pub(super) fn execute(program: &Program, arguments: &Arguments) -> Answer {
    let at = Path::new(&arguments.file);
    let (file, earlier) = match at.is_dir() {
        true => (
            at.join(folder::SCENARIO).display().to_string(),
            Some(earlier(at)?),
        ),
        false => (arguments.file.clone(), None),
    };
    let scenario = scenario::load_from(&program.catalogue, &file)?;
    let seed = (arguments.seed)
        .or(earlier.as_ref().map(|e| e.seed))
        .unwrap_or(scenario.seed);
    let (outcome, wall_s) = run::record(&scenario, seed);
    let drawn = scenario.drawn(seed);
    let run = Run::of(&drawn, &outcome, wall_s).expect("the run was recorded");
    tell(arguments, run.history)?;
    run::print(&run);
    let Some(earlier) = earlier.filter(|earlier| earlier.seed == seed) else {
        return Ok(outcome.violations.is_empty());
    };
    let same = earlier.digest == outcome.digest.to_string();
    match same {
        true => say!("the digest is that of the folder: the run went the same way"),
        false => say!(
            "the digest of the folder is {}: the run went another way, because the program or the \
             scenario has changed since",
            earlier.digest
        ),
    }
    Ok(same && outcome.violations.is_empty())
}

fn earlier(at: &Path) -> Result<Earlier, String> {
    let path = at.join(folder::RESULT);
    let shown = path.display();
    let text = files::read_text(&path, files::MAX_RESULT_BYTES).map_err(|why| {
        format!("cannot read {shown}: {why}; give a folder that `run --out` wrote")
    })?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|why| format!("{shown} is no JSON: {why}; run the scenario again with --out"))?;
    let (seed, digest) = (value["seed"].as_u64(), value["digest"].as_str());
    match (seed, digest) {
        (Some(seed), Some(digest)) => Ok(Earlier {
            seed,
            digest: digest.into(),
        }),
        _ => Err(format!(
            "{shown} names no seed and digest; give a folder of `run`, not of `sweep`"
        )),
    }
}

fn tell(arguments: &Arguments, history: &History) -> Result<(), String> {
    let count = history.participants.len();
    if let Some(peer) = arguments.participant.filter(|peer| *peer >= count) {
        return Err(format!(
            "there is no participant {peer}; they are numbered from 0 to {}",
            count - 1
        ));
    }
    let mut open = 0;
    for moment in &history.moments {
        if let What::FirstCertified(round) = moment.what {
            open = open.max(round + 1);
        }
        let loud = arguments.verbose || !matches!(moment.what, What::Notice(_) | What::Invited);
        let theirs = arguments
            .participant
            .is_none_or(|p| moment.peer.is_none_or(|m| m == p));
        if loud && theirs && arguments.round.is_none_or(|round| round == open) {
            say!("{}", line(history, moment));
        }
    }
    Ok(())
}

fn line(history: &History, moment: &Moment) -> String {
    let who = moment
        .peer
        .map_or("all", |peer| &history.participants[peer].name);
    format!(
        "{:>10.3} s  {who:<8} {}",
        moment.at as f64 / 1e6,
        moment.what
    )
}
