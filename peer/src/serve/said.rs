//! What was asked and answered where a payer agreed to shares, as the server keeps it for juries.
//!
//! ```text
//!   agreement ──► Said, on the disk ──► (a certificate draws the answer) ──► Shown to jurors ──► forgotten after some weeks
//! ```
//!
//! Whoever agreed signed hashes of both, so that a server can show nothing else. It is written down before the agreement is
//! confirmed, and nobody but jurors is shown it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tributary_attribution::voucher::ChannelId;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::MicroOpen;

use super::fields::request_hash;
use super::folder::DiskError;
use crate::home::disk;

/// How long it is kept: far longer than certificates take to draw an answer, and juries to judge it.
const KEPT: Duration = Duration::from_secs(28 * 86_400);
/// The only version.
const SCHEMA: &str = "said/1";
/// Largest file.
const MOST_BYTES: u64 = 8 << 20;

/// One request and its one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    schema: String,
    /// Body of the request.
    pub(crate) body: String,
    /// Tokens of the answer.
    pub(crate) answer: Vec<u32>,
}

impl Said {
    pub(crate) fn new(body: &str, answer: &[u32]) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            body: body.to_owned(),
            answer: answer.to_vec(),
        }
    }

    /// Hash of the request, as its answer's entry has it.
    pub(crate) fn request(&self) -> Digest {
        request_hash(&self.body)
    }

    /// Hash of the response, as its answer's entry has it.
    pub(crate) fn response(&self) -> Digest {
        response_hash([&self.answer])
    }
}

/// Hash of what the engine gave: for each answer its number of tokens and the tokens.
pub(super) fn response_hash<'a>(answers: impl IntoIterator<Item = &'a Vec<u32>>) -> Digest {
    let mut bytes = Vec::new();
    for answer in answers {
        bytes.extend_from_slice(&(answer.len() as u32).to_le_bytes());
        bytes.extend(answer.iter().flat_map(|id| id.to_le_bytes()));
    }
    hash::blob(&bytes)
}

/// Hash of an answer's text, as its payer signs it.
pub(crate) fn text_hash(text: &str) -> Digest {
    hash::blob(text.as_bytes())
}

/// Where it is kept: beside the channels that paid.
#[derive(Clone, Debug)]
pub(crate) struct SaidFolder(PathBuf);

impl SaidFolder {
    /// Beside what is kept of channels.
    pub(crate) fn beside(channels: &Path) -> Self {
        Self(channels.join("said"))
    }

    fn file(&self, channel: ChannelId, charged: MicroOpen) -> PathBuf {
        self.0.join(format!("{channel}-{}.json", charged.0))
    }

    /// Keeps what was asked and answered when a channel's charge came to this; on the disk when this returns.
    pub(super) fn keep(
        &self,
        (channel, charged): (ChannelId, MicroOpen),
        said: &Said,
    ) -> Result<(), DiskError> {
        let path = self.file(channel, charged);
        let io = |source| DiskError::Io {
            path: path.clone(),
            source,
        };
        disk::make_folder(&self.0).map_err(io)?;
        let bytes = serde_json::to_vec(said).expect("texts and numbers always serialise");
        disk::write_whole(&path, &bytes).map_err(io)
    }

    /// What was kept of this charge.
    pub(crate) fn find(&self, channel: ChannelId, charged: MicroOpen) -> Option<Said> {
        let path = self.file(channel, charged);
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= MOST_BYTES).then(|| fs::read(&path))?.ok()?;
        let said: Said = serde_json::from_slice(&bytes).ok()?;
        (said.schema == SCHEMA).then_some(said)
    }

    /// Removes what no jury asks for any more.
    pub(super) fn forget_old(&self, now: SystemTime) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let written = entry.metadata().and_then(|found| found.modified());
            let age = written.ok().and_then(|at| now.duration_since(at).ok());
            if age.is_some_and(|age| age > KEPT)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!("{} is not removed: {error}", entry.path().display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_attribution::settlement::Keccak;

    use super::*;

    #[test]
    fn what_was_said_is_found_by_its_charge_and_forgotten_after_some_weeks() {
        let home = tempfile::tempdir().unwrap();
        let folder = SaidFolder::beside(home.path());
        let channel = ChannelId(Keccak([7; 32]));
        let said = Said::new("{\"prompt\":\"a\"}", &[1, 2]);
        folder.keep((channel, MicroOpen(30)), &said).unwrap();
        assert_eq!(folder.find(channel, MicroOpen(30)), Some(said.clone()));
        assert_eq!(folder.find(channel, MicroOpen(31)), None);
        folder.forget_old(SystemTime::now());
        assert!(folder.find(channel, MicroOpen(30)).is_some());
        folder.forget_old(SystemTime::now() + KEPT + Duration::from_secs(60));
        assert_eq!(folder.find(channel, MicroOpen(30)), None);
    }
}
