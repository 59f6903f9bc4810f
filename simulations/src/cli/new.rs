//! `new`: a scenario with comments, to be changed, that runs as it is.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use super::{Answer, Program};
use crate::scenario::draft::{Draft, draft};

#[derive(clap::Args)]
pub struct Arguments {
    /// The file to write. A file that is there is never overwritten.
    file: PathBuf,
    /// Begin with a built-in scenario (see `list`) instead of the commented one.
    #[arg(long)]
    template: Option<String>,
    /// All peers, evaluators included.
    #[arg(long)]
    peers: Option<usize>,
    /// How many of them score instead of training.
    #[arg(long)]
    evaluators: Option<usize>,
    /// Training rounds.
    #[arg(long)]
    rounds: Option<u32>,
    /// The seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Share of messages lost, 0 to 1.
    #[arg(long)]
    loss: Option<f64>,
    /// Share of the peers that crash in each round, 0 to 1.
    #[arg(long)]
    churn: Option<f64>,
}

pub(super) fn execute(program: &Program, arguments: &Arguments) -> Answer {
    let path = &arguments.file;
    let shown = path.display();
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let wish = Draft {
        name: stem.unwrap_or("study").to_owned(),
        template: arguments.template.clone(),
        peers: arguments.peers,
        evaluators: arguments.evaluators,
        rounds: arguments.rounds,
        seed: arguments.seed,
        loss: arguments.loss,
        churn: arguments.churn,
    };
    let text = draft(&wish)?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|why| format!("cannot write {shown}: {why}; give a path where no file is yet"))?;
    say!(
        "{shown} is written; next: {} run {shown} --out result",
        program.name
    );
    Ok(true)
}
