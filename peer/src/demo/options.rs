//! Options of `tributary demo`.

use std::path::PathBuf;

use clap::Args;

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Contributors; three evaluators come on top. Default: 6, or one for each file of --data.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=24))]
    pub peers: Option<u32>,
    /// Training rounds.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// A folder with one text or JSONL file per contributor; the file's stem is the name.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Text that evaluators score on; default: a tenth of each contributor's text, not trained on.
    #[arg(long, value_name = "FILE")]
    pub holdout: Option<PathBuf>,
    /// Seed of keys, order of data and draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Optimizer steps a round.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub steps: u32,
    /// The prompt of the closing answer; default: the start of a hold-out text.
    #[arg(long)]
    pub prompt: Option<String>,
}
