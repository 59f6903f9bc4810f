//! What members hand on of a base model: the listing of its folder, made once and kept.
//!
//! The peer that opens a run lists its folder and keeps the listing's bytes in the home (`cache/bases/HASH.listing`);
//! peers that fetch the base keep them as well. So nobody hashes gigabytes at every start: a provider checks each piece
//! when it reads it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, BlobRef};
use tributary_protocol::limits::{BASE_PIECE_BYTES, MAX_LICENCE_BYTES};
use tributary_protocol::listing::{ListedFile, Listing, ListingError, is_listed_name};
use tributary_trainer::{BaseError, BaseModel};

use crate::home::{HomePaths, disk};

/// Bytes of a licence's or model card's beginning that are looked at.
const HEAD: u64 = 16 << 10;
/// Characters of a licence's first line that are kept.
const LINE: usize = 100;

/// Why a folder cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Not a model folder.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A file cannot be read, or the listing not be kept.
    #[error("could not use {path}: {source}; check its permissions and the free space")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is beyond what a listing may say.
    #[error(
        "the base in {folder} cannot be handed on: {why}; set `share_base = false`, and members bring the folder"
    )]
    Listing {
        /// The folder.
        folder: PathBuf,
        /// Why.
        why: ListingError,
    },
}

/// Where fetched bases and listings are.
pub(crate) fn folder(home: &HomePaths) -> PathBuf {
    home.cache().join("bases")
}

fn place(home: &HomePaths, listing: BlobHash) -> PathBuf {
    folder(home).join(format!("{listing}.listing"))
}

/// A listing that is kept in the home.
pub(crate) fn kept(home: &HomePaths, listing: BlobRef) -> Option<Listing> {
    let path = place(home, listing.hash);
    let size = fs::metadata(&path).ok()?.len();
    let bytes = (size == listing.size)
        .then(|| fs::read(&path))
        .and_then(Result::ok)?;
    let is_whole = hash::blob(&bytes) == listing.hash.0;
    is_whole.then(|| Listing::read(&bytes).ok()).flatten()
}

/// Keeps a listing in the home.
///
/// # Errors
/// [`ShareError::Io`].
pub(crate) fn keep(home: &HomePaths, bytes: &[u8]) -> Result<BlobRef, ShareError> {
    let listing = BlobRef::of(bytes);
    let path = place(home, listing.hash);
    let written = disk::make_folder(&folder(home)).and_then(|()| disk::write_whole(&path, bytes));
    written.map_err(|source| ShareError::Io { path, source })?;
    Ok(listing)
}

/// Lists the model in `base`; `told` hears of each file that is read.
///
/// # Errors
/// See [`ShareError`].
pub fn list(base: &Path, told: &mut dyn FnMut(&str, u64)) -> Result<Listing, ShareError> {
    let mut files = Vec::new();
    for name in BaseModel::file_names(base)? {
        let path = base.join(&name);
        let io = |source| ShareError::Io {
            path: path.clone(),
            source,
        };
        let size = fs::metadata(&path).map_err(io)?.len();
        // Of files beside the model only those that members take.
        let is_weights = name.ends_with(".safetensors");
        if size == 0 || (!is_weights && !is_listed_name(&name)) {
            continue;
        }
        told(&name, size);
        let pieces = pieces(&path, size).map_err(io)?;
        files.push(ListedFile { name, size, pieces });
    }
    let licence = licence(base);
    let listing = Listing { licence, files };
    match listing.check() {
        Ok(()) => Ok(listing),
        Err(why) => Err(ShareError::Listing {
            folder: base.to_owned(),
            why,
        }),
    }
}

fn pieces(path: &Path, size: u64) -> io::Result<Vec<BlobHash>> {
    let mut file = File::open(path)?;
    let mut pieces = Vec::new();
    let mut left = size;
    let mut bytes = Vec::new();
    while left > 0 {
        let length = left.min(BASE_PIECE_BYTES);
        bytes.resize(length as usize, 0);
        file.read_exact(&mut bytes)?;
        pieces.push(BlobHash(hash::blob(&bytes)));
        left -= length;
    }
    Ok(pieces)
}

/// The licence of a model folder, with the file that says so; empty where nothing does.
pub(super) fn licence(base: &Path) -> String {
    let card = head(&base.join("README.md")).unwrap_or_default();
    if let Some(name) = card_licence(&card) {
        return fitting(&name, "README.md");
    }
    let Ok(entries) = fs::read_dir(base) else {
        return String::new();
    };
    let mut names: Vec<String> = (entries.flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            ["LICENSE", "LICENCE", "COPYING"]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .collect();
    names.sort();
    let first = names.into_iter().find_map(|name| {
        let text = head(&base.join(&name))?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(fitting(line, &name))
    });
    first.unwrap_or_default()
}

/// `license:` of the settings at the head of a model card.
fn card_licence(card: &str) -> Option<String> {
    let settings = card.trim_start().strip_prefix("---")?;
    let settings = settings.split("\n---").next()?;
    let named = |key: &str| {
        let value = settings.lines().find_map(|line| line.strip_prefix(key))?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    // Cards of other licences say `other`, and its name below.
    match named("license:") {
        Some(other) if other == "other" => named("license_name:").or(Some(other)),
        named => named,
    }
}

/// A line that a listing takes.
fn fitting(line: &str, file: &str) -> String {
    let plain = |text: &str, most: usize| -> String {
        let shown = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        shown.take(most).collect()
    };
    let line = format!("{} ({})", plain(line, LINE), plain(file, LINE / 2));
    debug_assert!(line.len() <= MAX_LICENCE_BYTES);
    line
}

fn head(path: &Path) -> Option<String> {
    // A pipe would be waited for.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_trainer::brook;

    #[test]
    fn a_folder_is_listed_with_what_loads_and_its_licence_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        brook::write_to(dir.path()).unwrap();
        for (name, text) in [
            (
                "README.md",
                "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n",
            ),
            ("LICENSE", "\n  Apache License\n"),
            ("pytorch_model.bin", "pickle"),
            ("notes.txt", "the owner's own"),
            ("LICENSE.py", "print()"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let listing = list(dir.path(), &mut |_, _| ()).unwrap();
        let names: Vec<&str> = listing
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "LICENSE",
                "README.md",
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json"
            ]
        );
        assert_eq!(listing.licence, "apache-2.0 (README.md)");
        fs::remove_file(dir.path().join("README.md")).unwrap();
        assert_eq!(
            list(dir.path(), &mut |_, _| ()).unwrap().licence,
            "Apache License (LICENSE)"
        );
        fs::remove_file(dir.path().join("LICENSE")).unwrap();
        fs::remove_file(dir.path().join("LICENSE.py")).unwrap();
        assert_eq!(list(dir.path(), &mut |_, _| ()).unwrap().licence, "");
    }

    #[test]
    fn a_listing_is_kept_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = HomePaths::new(dir.path());
        let listing = tributary_protocol::test_utils::fixture::listing();
        let kept_as = keep(&home, &listing.bytes()).unwrap();
        assert_eq!(kept(&home, kept_as), Some(listing));
        let path = place(&home, kept_as.hash);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(kept(&home, kept_as), None);
    }

    #[test]
    fn a_strangers_licence_line_shows_as_it_is() {
        assert_eq!(card_licence("no settings\nlicense: mit\n"), None);
        let other = "---\nlicense: other\nlicense_name: \"our-terms\"\n---\n";
        assert_eq!(card_licence(other).as_deref(), Some("our-terms"));
        let line = fitting(&"x\u{1b}".repeat(4000), &"y".repeat(300));
        assert!(line.len() <= MAX_LICENCE_BYTES && !line.contains('\u{1b}'));
    }
}
