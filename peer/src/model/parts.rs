//! A base model that is not whole yet: the folder that its pieces are put into.
//!
//! Nothing is written down of which pieces are there: whoever opens the folder hashes what it holds. So a machine that
//! died in the middle, in whatever order its disk kept what was written, loses no more than what it lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary_protocol::hash;
use tributary_protocol::listing::{Listing, Piece};

use crate::home::disk;

/// The files of a listing, as far as they are there.
pub(crate) struct Parts {
    folder: PathBuf,
    pieces: Vec<Piece>,
    files: Vec<File>,
    missing: BTreeSet<u32>,
}

impl Parts {
    /// Opens a folder or makes it, and looks which pieces are there. `seen` is told the bytes of each piece that is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn open(
        folder: &Path,
        listing: &Arc<Listing>,
        seen: &mut dyn FnMut(u64),
    ) -> io::Result<Self> {
        disk::make_folder(folder)?;
        remove_others(folder, listing)?;
        let mut files = Vec::with_capacity(listing.files.len());
        for listed in &listing.files {
            let mut options = disk::private();
            options.read(true).create(true).truncate(false);
            let file = options.open(folder.join(&listed.name))?;
            if file.metadata()?.len() > listed.size {
                file.set_len(listed.size)?;
            }
            files.push(file);
        }
        let mut parts = Self {
            folder: folder.to_owned(),
            pieces: listing.pieces().collect(),
            files,
            missing: BTreeSet::new(),
        };
        for number in 0..parts.pieces.len() {
            match parts.has(number)? {
                true => seen(parts.pieces[number].content.size),
                false => _ = parts.missing.insert(number as u32),
            }
        }
        Ok(parts)
    }

    fn has(&mut self, number: usize) -> io::Result<bool> {
        let piece = self.pieces[number];
        let mut file = &self.files[piece.file];
        let end = piece.offset + piece.content.size;
        if file.metadata()?.len() < end {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(piece.offset))?;
        let mut bytes = Vec::with_capacity(piece.content.size as usize);
        file.take(piece.content.size).read_to_end(&mut bytes)?;
        Ok(hash::blob(&bytes) == piece.content.hash.0)
    }

    /// Pieces that are missing, by number.
    pub(crate) fn missing(&self) -> &BTreeSet<u32> {
        &self.missing
    }

    /// What a piece is.
    pub(crate) fn piece(&self, number: u32) -> Piece {
        self.pieces[number as usize]
    }

    /// Bytes that are missing.
    pub(crate) fn missing_bytes(&self) -> u64 {
        let sizes = self
            .missing
            .iter()
            .map(|number| self.piece(*number).content.size);
        sizes.sum()
    }

    /// Puts a piece in its place; its hash has been checked.
    ///
    /// # Errors
    /// When the disk refuses. The piece stays missing.
    pub(crate) fn put(&mut self, number: u32, bytes: &[u8]) -> io::Result<()> {
        let piece = self.piece(number);
        assert_eq!(
            bytes.len() as u64,
            piece.content.size,
            "a piece of another size"
        );
        let mut file = &self.files[piece.file];
        file.seek(SeekFrom::Start(piece.offset))?;
        file.write_all(bytes)?;
        self.missing.remove(&number);
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(&self) -> io::Result<()> {
        assert!(self.missing.is_empty(), "an incomplete base was finished");
        self.files.iter().try_for_each(File::sync_all)?;
        disk::sync_folder(&self.folder)
    }
}

/// Removes files of an earlier listing.
fn remove_others(folder: &Path, listing: &Listing) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_listed = listing.files.iter().any(|file| name == *file.name);
        if !is_listed || !entry.file_type()?.is_file() {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::id::BlobHash;
    use tributary_protocol::limits::BASE_PIECE_BYTES;
    use tributary_protocol::listing::ListedFile;

    #[test]
    fn a_folder_knows_its_pieces_again_and_forgets_damaged_ones() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("base.tributary-part");
        let large = vec![7; BASE_PIECE_BYTES as usize + 3];
        let split: Vec<&[u8]> = large.chunks(BASE_PIECE_BYTES as usize).collect();
        let file = |name: &str, pieces: &[&[u8]]| ListedFile {
            name: name.to_owned(),
            size: pieces.iter().map(|piece| piece.len() as u64).sum(),
            pieces: pieces
                .iter()
                .map(|piece| BlobHash(hash::blob(piece)))
                .collect(),
        };
        let listing = Arc::new(Listing {
            licence: String::new(),
            files: vec![file("a.json", &[b"{}"]), file("b.safetensors", &split)],
        });
        let mut parts = Parts::open(&folder, &listing, &mut |_| ()).unwrap();
        assert_eq!(parts.missing_bytes(), listing.total());
        // The last piece first: the file has a hole before it.
        parts.put(2, split[1]).unwrap();
        parts.put(0, b"{}").unwrap();
        drop(parts);
        fs::write(folder.join("left-over.json"), "x").unwrap();
        let mut seen = 0;
        let mut parts = Parts::open(&folder, &listing, &mut |bytes| seen += bytes).unwrap();
        assert_eq!(
            (seen, parts.missing().iter().collect::<Vec<_>>()),
            (5, vec![&1])
        );
        assert!(!folder.join("left-over.json").exists());
        parts.put(1, split[0]).unwrap();
        parts.finish().unwrap();
        assert_eq!(fs::read(folder.join("b.safetensors")).unwrap(), large);
        fs::write(folder.join("a.json"), "[]").unwrap();
        let parts = Parts::open(&folder, &listing, &mut |_| ()).unwrap();
        assert_eq!(parts.missing().iter().collect::<Vec<_>>(), [&0]);
    }
}
