//! Options of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::PayArgs;
use clap::{Args, ValueEnum};

/// Options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// An adapter and the name that clients ask for it by: a PEFT folder, or the id of an adapter or a run, which the
    /// home holds or its daemon fetches. Repeatable.
    #[arg(long, value_name = "NAME=DIR|ID", value_parser = parse_adapter)]
    pub adapter: Vec<(String, String)>,
    /// Where to listen. Port 0 takes a free one. An address that other machines reach needs a token.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8420")]
    pub listen: SocketAddr,
    /// A further name that clients call this server by, such as that of a proxy before it. Repeatable.
    #[arg(long, value_name = "NAME[:PORT]")]
    pub host: Vec<String>,
    /// A file of tokens, one a line, any of which lets a client in. The environment variable TRIBUTARY_SERVE_TOKEN holds
    /// one more.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How weights are kept in memory.
    #[arg(long, value_enum, default_value_t = PrecisionName::F32)]
    pub precision: PrecisionName,
    /// Threads that compute; default: one for each core.
    #[arg(long, value_name = "N", value_parser = super::up_to(256))]
    pub threads: Option<u32>,
    /// MiB of memory for what requests have read, and for what is kept of it for later ones.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = super::up_to(1 << 20))]
    pub cache: u32,
    /// MiB of memory for adapters. Beyond that the one that was not asked for the longest makes room; it is loaded again
    /// when it is asked for.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = super::up_to(1 << 20))]
    pub adapter_memory: u32,
    /// Who pays.
    #[command(flatten)]
    pub pay: PayArgs,
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// Four bytes a number, as in training.
    F32,
    /// One byte a number.
    Int8,
}

pub(super) fn parse_adapter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, from)) if !name.is_empty() && !from.is_empty() => {
            Ok((name.to_owned(), from.to_owned()))
        }
        _ => Err("write NAME=DIR or NAME=ID, such as poet=adapters/poet".to_owned()),
    }
}
