//! The files of a base model, as members hand them on.
//!
//! A manifest names a listing by its hash and size ([`crate::manifest::Base::files`]), and the listing names every file
//! in pieces. A peer that fetches a base checks each piece as it arrives, takes pieces from several providers, and goes
//! on after a restart with the pieces that it lacks. What a listing cannot say is that its files are the manifest's
//! base: [`crate::manifest::Base::hash`] says so, of the files as they are loaded.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::entry::is_shown;
use crate::id::{BlobHash, BlobRef};
use crate::limits;

/// Endings of files that a model folder needs, none of which is run when it is read.
const ENDINGS: [&str; 5] = [".json", ".safetensors", ".jinja", ".txt", ".md"];
/// Beginnings of files without an ending that may come along.
const LICENCES: [&str; 4] = ["LICENSE", "LICENCE", "NOTICE", "COPYING"];

/// The files of a base model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Listing {
    /// The licence's name, or how its text begins, with the file that says so. Empty: none was found.
    pub licence: String,
    /// The files, strictly ascending by name.
    pub files: Vec<ListedFile>,
}

/// One file of a base model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ListedFile {
    /// Its plain name: all files lie in one folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Plain BLAKE3 of each [`limits::BASE_PIECE_BYTES`] of it; the last piece may be shorter.
    pub pieces: Vec<BlobHash>,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file's place in the listing.
    pub file: usize,
    /// Where the piece begins in its file.
    pub offset: u64,
    /// Plain BLAKE3 and length.
    pub content: BlobRef,
}

/// Why a listing is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// No listing at all.
    #[error("it cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// No file, or more than any model has.
    #[error("it names {0} files; 1 to {max} are taken", max = limits::MAX_BASE_FILES)]
    Files(usize),
    /// A name that leads out of the folder, or of a file that no model needs.
    #[error("its file {0} does not have the plain name of a file that a model needs")]
    Name(String),
    /// Names that are not in order, or that some disks take for one.
    #[error("its file names are not in order, or two differ only in capitals")]
    Order,
    /// A file without bytes, or whose pieces are not as many as its size says.
    #[error("its file {0} has another number of pieces than its size says")]
    Pieces(String),
    /// More bytes than any model that loads.
    #[error("its files have {0} bytes in all; at most {max} are taken", max = limits::MAX_BASE_BYTES)]
    Total(u128),
    /// A licence that is too long, or would disturb a terminal.
    #[error("its licence line is longer than {max} bytes or has characters that do not show", max = limits::MAX_LICENCE_BYTES)]
    Licence,
}

/// Whether a file of this name may be in a listing: a plain name, of a file that is not run when it is read.
pub fn is_listed_name(name: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_plain = (1..=limits::MAX_FILE_NAME_BYTES).contains(&name.len())
        && name.chars().all(usual)
        && !name.starts_with('.');
    let is_licence = !name.contains('.') && LICENCES.iter().any(|start| name.starts_with(start));
    is_plain && (is_licence || ENDINGS.iter().any(|end| name.ends_with(end)))
}

impl ListedFile {
    /// How many pieces a file of `size` bytes has.
    pub fn pieces_of(size: u64) -> u64 {
        size.div_ceil(limits::BASE_PIECE_BYTES)
    }

    fn check(&self) -> Result<(), ListingError> {
        if !is_listed_name(&self.name) {
            // A stranger's text is shown only as far as it shows.
            let shown = self.name.chars().filter(|c| c.is_ascii_graphic());
            return Err(ListingError::Name(shown.take(64).collect()));
        }
        if self.size == 0 || Self::pieces_of(self.size) != self.pieces.len() as u64 {
            return Err(ListingError::Pieces(self.name.clone()));
        }
        Ok(())
    }
}

impl Listing {
    /// Reads and checks the bytes of a listing.
    ///
    /// # Errors
    /// [`ListingError`] says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, ListingError> {
        let listing: Self = codec::decode::<_, { limits::MAX_LISTING_BYTES }>(bytes)?;
        listing.check()?;
        Ok(listing)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ListingError`] names the first file that is refused.
    pub fn check(&self) -> Result<(), ListingError> {
        if !(1..=limits::MAX_BASE_FILES).contains(&self.files.len()) {
            return Err(ListingError::Files(self.files.len()));
        }
        self.files.iter().try_for_each(ListedFile::check)?;
        let is_ordered = self
            .files
            .windows(2)
            .all(|pair| pair[0].name < pair[1].name);
        let folded: BTreeSet<String> = (self.files.iter())
            .map(|file| file.name.to_ascii_lowercase())
            .collect();
        if !is_ordered || folded.len() != self.files.len() {
            return Err(ListingError::Order);
        }
        let total: u128 = self.files.iter().map(|file| u128::from(file.size)).sum();
        if total > u128::from(limits::MAX_BASE_BYTES) {
            return Err(ListingError::Total(total));
        }
        if !self.licence.is_empty() && !is_shown(&self.licence, limits::MAX_LICENCE_BYTES) {
            return Err(ListingError::Licence);
        }
        Ok(())
    }

    /// Canonical bytes.
    pub fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The pieces of all files, in order. Their place in it is how peers name them to each other.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let files = self.files.iter().enumerate();
        files.flat_map(|(file, listed)| {
            let offsets = (0..listed.size).step_by(limits::BASE_PIECE_BYTES as usize);
            let pieces = listed.pieces.iter().zip(offsets);
            pieces.map(move |(hash, offset)| Piece {
                file,
                offset,
                content: BlobRef {
                    hash: *hash,
                    size: (listed.size - offset).min(limits::BASE_PIECE_BYTES),
                },
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    fn file(name: &str, size: u64) -> ListedFile {
        let pieces = 0..ListedFile::pieces_of(size);
        ListedFile {
            name: name.to_owned(),
            size,
            pieces: pieces
                .map(|n| BlobHash(hash::blob(&n.to_le_bytes())))
                .collect(),
        }
    }

    fn listing(files: &[(&str, u64)]) -> Listing {
        Listing {
            licence: "apache-2.0 (README.md)".to_owned(),
            files: files.iter().map(|(name, size)| file(name, *size)).collect(),
        }
    }

    fn refused(listing: &Listing) -> ListingError {
        Listing::read(&listing.bytes()).expect_err("a bad listing was taken")
    }

    #[test]
    fn pieces_cover_every_byte_once_and_in_order() {
        let size = 2 * limits::BASE_PIECE_BYTES + 5;
        let listing = listing(&[("config.json", 7), ("model.safetensors", size)]);
        assert_eq!(Listing::read(&listing.bytes()).as_ref(), Ok(&listing));
        let pieces: Vec<Piece> = listing.pieces().collect();
        let places: Vec<_> = pieces.iter().map(|p| (p.file, p.offset)).collect();
        let piece = limits::BASE_PIECE_BYTES;
        assert_eq!(places, [(0, 0), (1, 0), (1, piece), (1, 2 * piece)]);
        let covered: u64 = pieces.iter().map(|piece| piece.content.size).sum();
        assert_eq!(covered, listing.total());
        assert_eq!(pieces[3].content.size, 5);
    }

    #[test]
    fn names_that_lead_elsewhere_or_run_code_are_refused() {
        for name in [
            "../x.json",
            "a/b.json",
            "..",
            ".hidden.json",
            "",
            "model.bin",
            "pytorch_model.bin",
            "run.py",
            "c:\\x.json",
            "x\u{202e}.json",
            "weights.pt",
        ] {
            let found = refused(&listing(&[(name, 1)]));
            assert!(matches!(found, ListingError::Name(_)), "{name}: {found}");
        }
        let long = format!("{}.json", "x".repeat(limits::MAX_FILE_NAME_BYTES));
        assert!(!is_listed_name(&long));
        for name in [
            "LICENSE",
            "LICENSE.txt",
            "tokenizer.json",
            "chat_template.jinja",
            "README.md",
        ] {
            assert!(is_listed_name(name), "{name}");
        }
    }

    #[test]
    fn ten_thousand_files_and_too_many_bytes_are_refused() {
        let names: Vec<String> = (0..10_000).map(|n| format!("{n:05}.json")).collect();
        let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert!(Listing::read(&listing(&many).bytes()).is_err());
        assert_eq!(listing(&many).check(), Err(ListingError::Files(10_000)));
        let large = Listing {
            files: vec![ListedFile {
                size: u64::MAX,
                ..file("a.json", 1)
            }],
            ..Listing::default()
        };
        assert_eq!(refused(&large), ListingError::Pieces("a.json".to_owned()));
        let half = limits::MAX_BASE_BYTES / 2 + 1;
        let both = listing(&[("a.safetensors", half), ("b.safetensors", half)]);
        let total = 2 * u128::from(half);
        assert_eq!(both.check(), Err(ListingError::Total(total)));
    }

    #[test]
    fn the_largest_listing_fits_its_bound() {
        let each = limits::MAX_BASE_BYTES / limits::MAX_BASE_FILES as u64;
        let name = |n| format!("{n:0>190}.json");
        let names: Vec<String> = (0..limits::MAX_BASE_FILES).map(name).collect();
        let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), each)).collect();
        let largest = listing(&files);
        assert_eq!(Listing::read(&largest.bytes()), Ok(largest));
    }

    #[test]
    fn order_pieces_and_licence_are_checked() {
        let twice = listing(&[("a.json", 1), ("a.json", 1)]);
        assert_eq!(refused(&twice), ListingError::Order);
        let turned = listing(&[("b.json", 1), ("a.json", 1)]);
        assert_eq!(refused(&turned), ListingError::Order);
        assert_eq!(
            refused(&listing(&[("A.json", 1), ("a.json", 1)])),
            ListingError::Order
        );
        assert!(matches!(
            refused(&listing(&[("a.json", 0)])),
            ListingError::Pieces(_)
        ));
        assert_eq!(refused(&Listing::default()), ListingError::Files(0));
        let mut loud = listing(&[("a.json", 1)]);
        loud.licence = "mit\u{1b}[2J".to_owned();
        assert_eq!(refused(&loud), ListingError::Licence);
    }
}
