//! Models and adapters by name from the Hugging Face hub (feature `hub`).
//!
//! A name such as `HuggingFaceTB/SmolLM2-135M` is looked up once, and the files that this crate reads are copied into
//! a local folder, which is then loaded like any other: the hub is a way to get a folder, and is not trusted. Only
//! plain file names are asked for, every file has a bound, and pickles are never fetched. The folder's last component
//! is the commit, so a name that moved on gives a new folder, and a folder that is complete is used without a network.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use tributary_engine::base::MAX_CONFIG_BYTES;

use crate::model::files::{self, MAX_WEIGHTS_BYTES};
use crate::tokenizer::MAX_TOKENIZER_BYTES;

/// The hub itself; `HF_ENDPOINT` names a mirror, as for other programs.
const ENDPOINT: &str = "https://huggingface.co";
/// Largest list of a repository's files, in bytes; a thousand files take 50 thousand.
const MAX_LIST_BYTES: u64 = 4 << 20;
/// Silence after which a download is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Marks a folder whose files are all there.
const COMPLETE: &str = ".complete";
/// What is fetched besides weights, where it is there.
const SMALL_FILES: [(&str, u64); 6] = [
    ("config.json", MAX_CONFIG_BYTES),
    ("adapter_config.json", MAX_CONFIG_BYTES),
    ("tokenizer.json", MAX_TOKENIZER_BYTES),
    ("tokenizer_config.json", MAX_TOKENIZER_BYTES),
    ("chat_template.jinja", MAX_CONFIG_BYTES),
    ("generation_config.json", MAX_CONFIG_BYTES),
];

/// Why a name could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub could not be asked, or did not answer as expected.
    #[error("cannot fetch {url}: {why}; check the name and the network, or give a local folder")]
    Fetch {
        /// What was asked for.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The repository holds no safetensors weights.
    #[error("{name} on the hub holds no safetensors weights; choose a repository that does")]
    NoWeights {
        /// The repository.
        name: String,
    },
    /// A file is larger than any that is read.
    #[error("{url} is larger than the {limit} bytes that are read of such a file")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// The local folder could not be written.
    #[error("cannot write {path}: {source}; check the folder's permissions and free space")]
    Write {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No place for the files is known.
    #[error("neither XDG_CACHE_HOME nor HOME is set; set one, it is where models are kept")]
    NoHome,
}

/// Where names are looked up and where the files are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Folder that holds one folder per repository.
    pub cache: PathBuf,
    /// For repositories that need one.
    pub token: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// From `HF_ENDPOINT`, `HF_TOKEN` and the user's cache folder.
    ///
    /// # Errors
    /// [`HubError::NoHome`].
    pub fn from_env() -> Result<Self, HubError> {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let cache = match (var("XDG_CACHE_HOME"), var("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => PathBuf::from(home).join(".cache"),
            (None, None) => return Err(HubError::NoHome),
        };
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache: cache.join("tributary").join("hub"),
            token: var("HF_TOKEN"),
        })
    }

    /// The local folder of the repository `name`, fetched when it is not there.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn folder(&self, name: &str) -> Result<PathBuf, HubError> {
        let repository = self.cache.join(name.replace('/', "--"));
        let list_url = format!("{}/api/models/{name}/revision/main", self.endpoint);
        let listed = self.bytes(&list_url, MAX_LIST_BYTES);
        let listing = match listed {
            Ok(bytes) => listing(&list_url, &bytes)?,
            // Without a network the latest complete copy serves.
            Err(error) => return complete_copy(&repository).ok_or(error),
        };
        let folder = repository.join(&listing.sha);
        if folder.join(COMPLETE).exists() {
            return Ok(folder);
        }
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|source| written(&folder, source))?;
        let has = |name: &str| listing.siblings.iter().any(|s| s.rfilename == name);
        let url = |file: &str| format!("{}/{name}/resolve/{}/{file}", self.endpoint, listing.sha);
        for (file, limit) in SMALL_FILES {
            if has(file) {
                self.copy(&url(file), &folder.join(file), limit)?;
            }
        }
        for file in self.weights(name, &folder, has, url)? {
            self.copy(&url(&file), &folder.join(&file), MAX_WEIGHTS_BYTES)?;
        }
        let mark = folder.join(COMPLETE);
        let broken = |source| written(&mark, source);
        files::write_whole(&mark, broken, |file| {
            file.write_all(name.as_bytes()).map_err(broken)
        })?;
        Ok(folder)
    }

    /// The weight files to fetch: an adapter's, the single one, or the shards of the index, which is
    /// fetched for it.
    fn weights(
        &self,
        name: &str,
        folder: &Path,
        has: impl Fn(&str) -> bool,
        url: impl Fn(&str) -> String,
    ) -> Result<Vec<String>, HubError> {
        for single in ["adapter_model.safetensors", "model.safetensors"] {
            if has(single) {
                return Ok(vec![single.into()]);
            }
        }
        let none = || HubError::NoWeights { name: name.into() };
        if !has(files::INDEX) {
            return Err(none());
        }
        let (url, path) = (url(files::INDEX), folder.join(files::INDEX));
        self.copy(&url, &path, files::MAX_INDEX_BYTES)?;
        let bytes = std::fs::read(&path).map_err(|source| written(&path, source))?;
        files::shard_names(&bytes).map_err(|error| HubError::Fetch {
            url,
            why: error.to_string(),
        })
    }

    /// Fetches `url` into `path`, whole or not at all.
    fn copy(&self, url: &str, path: &Path, limit: u64) -> Result<(), HubError> {
        if path.exists() {
            return Ok(());
        }
        let mut body = self.get(url)?;
        let broken = |source| written(path, source);
        files::write_whole(path, broken, |file| {
            let mut buffer = vec![0; 1 << 16];
            let mut left = limit;
            loop {
                let read = body.read(&mut buffer).map_err(|why| failed(url, &why))?;
                if read == 0 {
                    return Ok(());
                }
                left = (left.checked_sub(read as u64)).ok_or_else(|| HubError::TooLarge {
                    url: url.into(),
                    limit,
                })?;
                file.write_all(&buffer[..read]).map_err(broken)?;
            }
        })
    }

    fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, HubError> {
        let mut out = Vec::new();
        let mut body = self.get(url)?.take(limit + 1);
        body.read_to_end(&mut out)
            .map_err(|why| failed(url, &why))?;
        match out.len() as u64 > limit {
            true => Err(HubError::TooLarge {
                url: url.into(),
                limit,
            }),
            false => Ok(out),
        }
    }

    fn get(&self, url: &str) -> Result<impl Read + use<>, HubError> {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .new_agent();
        let mut request = agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|why| failed(url, &why))?;
        Ok(response.into_body().into_reader())
    }
}

fn failed(url: &str, why: &dyn std::error::Error) -> HubError {
    HubError::Fetch {
        url: url.into(),
        why: why.to_string(),
    }
}

fn written(path: &Path, source: std::io::Error) -> HubError {
    HubError::Write {
        path: path.display().to_string(),
        source,
    }
}

/// The answer, when its commit can be the name of a folder.
fn listing(url: &str, bytes: &[u8]) -> Result<Listing, HubError> {
    let listing: Listing = serde_json::from_slice(bytes).map_err(|why| failed(url, &why))?;
    let plain = listing.sha.len() <= 64 && listing.sha.chars().all(|c| c.is_ascii_hexdigit());
    match plain && !listing.sha.is_empty() {
        true => Ok(listing),
        false => Err(HubError::Fetch {
            url: url.into(),
            why: "it names no commit".into(),
        }),
    }
}

/// The most recently completed copy of a repository.
fn complete_copy(repository: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(repository).ok()?.flatten();
    let completed = |folder: PathBuf| {
        let at = folder.join(COMPLETE).metadata().ok()?.modified().ok()?;
        Some((at, folder))
    };
    let newest = folders.filter_map(|entry| completed(entry.path())).max();
    newest.map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests;
