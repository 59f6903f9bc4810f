//! Commands about adapters.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::parse_id;
use crate::settings::Bounds;

/// Commands about adapters.
#[derive(Clone, Debug, Subcommand)]
pub enum AdapterCommand {
    /// Write a run's latest certified adapter as a PEFT folder, or any adapter as a file for llama.cpp.
    Export {
        /// The adapter's id or its run's id, or the first digits of either; with --gguf a PEFT folder as well.
        #[arg(value_parser = parse_id_or_folder, value_name = "ID|DIR")]
        id: String,
        /// The folder to make; with --gguf the file.
        #[arg(value_name = "OUT")]
        dir: PathBuf,
        /// Write a file that llama.cpp loads with --lora beside the base's GGUF.
        #[arg(long)]
        gguf: bool,
        /// The base: `brook`, or a folder in Hugging Face layout. Needed where neither the program nor the home has it.
        #[arg(long, requires = "gguf", value_name = "DIR")]
        base: Option<String>,
    },
    /// Fetch an adapter from the network by its hash, check it against the certificates, write it.
    Get {
        /// The adapter's id or its run's id.
        #[arg(value_parser = parse_id)]
        id: String,
        /// The folder to make.
        dir: PathBuf,
        /// A peer that may have it, as its `tributary status` prints it. Repeatable.
        #[arg(long, value_name = "ADDR")]
        bootstrap: Vec<String>,
        /// Give up after this many seconds.
        #[arg(long, default_value_t = 120)]
        timeout_s: u64,
        /// What the run may take of this machine, where no daemon runs: a daemon has bounds of its own.
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Follow a run and write each adapter as it is certified, until the run is finished. The daemon has to run.
    Watch {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
        /// The folder to write them into, one folder a round.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A `tributary serve` of this machine that loads each of them, such as http://127.0.0.1:8080. Where it wants a
        /// token, the variable TRIBUTARY_SERVE_TOKEN has it.
        #[arg(long, requires_all = ["out", "name"], value_name = "URL")]
        serve: Option<String>,
        /// The name under which it is served; a request that runs keeps the adapter it began with.
        #[arg(long, requires = "serve")]
        name: Option<String>,
    },
    /// Check a PEFT folder: every tensor belongs to the base, and the adapter changes its output.
    Verify {
        /// The PEFT folder.
        dir: PathBuf,
        /// `brook`, or a folder in Hugging Face layout.
        #[arg(long, default_value = "brook")]
        base: String,
    },
    /// Adapters in this home.
    List,
}

/// A folder, by its path or because it is there, or an id.
fn parse_id_or_folder(text: &str) -> Result<String, String> {
    match Path::new(text).is_dir() || text.contains(['/', '\\', '.']) {
        true => Ok(text.to_owned()),
        false => {
            parse_id(text).map_err(|why| format!("there is no folder of that name, and {why}"))
        }
    }
}
