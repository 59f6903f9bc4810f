//! The owner's data: files of a Datanet, cut in passages, and what a peer commits of them.
//!
//! ```text
//! shards/NAME/files/HASH.FILE  what the owner added, byte for byte
//! shards/committed/ROOT.json   the passages that a join committed to, under their Merkle root
//! ```
//! A join freezes its passages: later files change what the *next* join commits, never what a running
//! one trains on. Nothing here is ever sent; the root is salted with the peer's secret, so that
//! nobody can guess passages and compare. What is text and what is rows, the trainer's reader decides; what the passages
//! do to a model belongs to `work`.

mod committed;
mod files;
pub(crate) mod neutral;

use std::path::{Path, PathBuf};

pub use committed::Committed;
pub use files::{add, add_telling, check_all, list, read_passages, remove};

/// Bytes of one passage, about: long enough to hold a thought, short enough to share out.
const PASSAGE_BYTES: usize = 1200;
/// Bytes of one file: a peer trains on a few megabytes at most in one run; more is probably a mistake.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Why data could not be added or used.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// A Datanet's name that cannot name a folder.
    #[error(
        "the Datanet name {0:?} is empty, longer than 64 bytes, or has other characters than letters, digits, `-`, `_` and `.`"
    )]
    Name(String),
    /// The system refused.
    #[error("could not {doing} {path}: {source}{hint}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What to do, or nothing.
        hint: &'static str,
    },
    /// The file cannot be trained on.
    #[error("{path} {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// Another command holds the shards.
    #[error("another command is changing the shards in {0}; try again when it is done")]
    Busy(PathBuf),
    /// The shard has no file of that name.
    #[error("the shard {datanet} has no file {name:?}; it has {there}")]
    NoFile {
        /// The Datanet.
        datanet: String,
        /// What was named.
        name: String,
        /// Names of the files that it has.
        there: String,
    },
    /// The Datanet has no files on this machine.
    #[error(
        "this peer has no shard of the Datanet {name:?}; add files with `tributary datanet add {name} FILE...`"
    )]
    Missing {
        /// The Datanet.
        name: String,
    },
    /// Less text than a member needs.
    #[error("{0}")]
    TooLittle(String),
    /// The committed passages do not have the root they are filed under.
    #[error(
        "{path} is damaged ({why}); restore it from a backup, or leave the run and join it again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ShardError {
    let path = path.to_owned();
    move |source| ShardError::Io {
        doing,
        hint: match source.kind() {
            std::io::ErrorKind::NotFound => "; check the path",
            std::io::ErrorKind::StorageFull => "; free some disk space and try again",
            std::io::ErrorKind::PermissionDenied => "; make it accessible for your user",
            _ => "",
        },
        path,
        source,
    }
}

/// Cuts plain text in passages at blank lines (at line ends, or anywhere, where those are too far
/// apart). Joined with nothing in between they give the text back.
pub fn passages(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while rest.len() > PASSAGE_BYTES {
        let cut = cut_at(rest);
        let (passage, tail) = rest.split_at(cut);
        out.push(passage.to_owned());
        rest = tail;
    }
    if !rest.is_empty() {
        out.push(rest.to_owned());
    }
    out
}

/// The end of the first passage of a text longer than one.
fn cut_at(text: &str) -> usize {
    let mut window = PASSAGE_BYTES * 2;
    while window < text.len() && !text.is_char_boundary(window) {
        window += 1;
    }
    let window = &text[..window.min(text.len())];
    let after = |pattern: &str| {
        let from = (PASSAGE_BYTES..).find(|at| window.is_char_boundary(*at));
        let from = from.unwrap_or(window.len()).min(window.len());
        window[from..]
            .find(pattern)
            .map(|at| from + at + pattern.len())
    };
    (after("\n\n").or_else(|| after("\n")).or_else(|| after(" "))).unwrap_or(window.len())
}

/// Keeps a tenth of the passages back, spread evenly; at least one when there are two.
/// Gives (training, hold-out).
pub fn split(passages: Vec<String>) -> (Vec<String>, Vec<String>) {
    let few = passages.len() < 10;
    let mut train = Vec::new();
    let mut holdout = Vec::new();
    let last = passages.len().saturating_sub(1);
    for (at, passage) in passages.into_iter().enumerate() {
        let kept_back = if few {
            at == last && at > 0
        } else {
            at % 10 == 4
        };
        if kept_back {
            holdout.push(passage);
        } else {
            train.push(passage);
        }
    }
    (train, holdout)
}

#[cfg(test)]
mod tests;
