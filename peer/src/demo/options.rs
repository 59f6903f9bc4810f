//! Options of `tributary demo`.

use std::path::PathBuf;

use clap::Args;

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Contributors; three evaluators come on top. Default: 6, or one for each file of --data.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=24))]
    pub peers: Option<u32>,
    /// Training rounds. Default: enough to learn the demo's own texts, or 6 with --data.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// A folder with one text or JSONL file per contributor; the file's stem is the name. Default: the demo's own six
    /// texts.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Text that evaluators score on; default: a tenth of each contributor's text, not trained on.
    #[arg(long, value_name = "FILE")]
    pub holdout: Option<PathBuf>,
    /// Seed of keys, order of data and draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Optimizer steps a round. Default: as the texts need.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// A prompt to end with. Default: a question about each of the demo's own texts and one about none, or the start of a
    /// hold-out text of --data.
    #[arg(long)]
    pub prompt: Option<String>,
}
