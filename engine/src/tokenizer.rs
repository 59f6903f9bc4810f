//! Text to token ids and back, for one Hugging Face `tokenizer.json`.
//!
//! Why it exists: the rest of the crate wants plain `u32` ids and errors that say what to do, not the
//! `tokenizers` crate's boxed errors and its habit of adding special tokens. Everything that is trained,
//! scored or generated goes through [`Tokenizer::encode`], so all peers cut a text the same way.
//!
//! Left to others: chat templates, cutting ids into windows (`data`), and training a vocabulary (`pretrain`).

mod bytes;

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use tokenizers::{DecoderWrapper, Tokenizer as HfTokenizer};

use crate::input;

pub use bytes::{Spelling, TokenText};

/// Names under which published tokenizers mark the end of a text, most specific first.
const END_NAMES: [&str; 6] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
];

/// Largest `tokenizer.json` that is read, in bytes: the largest published ones (Qwen, Llama 3) are under 20 MiB.
pub const MAX_TOKENIZER_BYTES: u64 = 64 * 1024 * 1024;

/// Texts are encoded in pieces of about so many bytes: the library takes some hundred bytes of memory for each byte of
/// a text, and one thread.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes on each side of a place that are encoded together and apart, to see whether the text may be cut there. A
/// tokenizer's rules look at a word and its neighbours.
const SEAM_BYTES: usize = 512;
/// Line ends that are tried for one cut before the piece grows.
const SEAM_TRIES: usize = 16;

/// Why a tokenizer could not be loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error(
        "cannot read the tokenizer {path}: {source}; check that the model folder holds a tokenizer.json"
    )]
    Read {
        /// The file asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any real tokenizer.
    #[error(
        "the tokenizer {path} has {bytes} bytes, more than the {MAX_TOKENIZER_BYTES} allowed; use the model's original tokenizer.json"
    )]
    TooLarge {
        /// The file asked for.
        path: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The bytes are not a `tokenizer.json`.
    #[error("this is not a usable tokenizer.json: {0}; use the file that belongs to the model")]
    Parse(String),
    /// The text could not be cut in tokens.
    #[error("the tokenizer could not encode the text: {0}; the tokenizer.json may be damaged")]
    Encode(String),
    /// The ids could not be turned into text.
    #[error("the tokenizer could not decode the ids: {0}; the ids may come from another tokenizer")]
    Decode(String),
}

/// A loaded tokenizer. Cheap to share behind an `Arc`; all methods take `&self`.
#[derive(Clone)]
pub struct Tokenizer {
    inner: HfTokenizer,
    eos: Vec<u32>,
    opening: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("eos", &self.eos)
            .finish()
    }
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`] when the bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let mut inner =
            HfTokenizer::from_bytes(bytes).map_err(|e| TokenizerError::Parse(e.to_string()))?;
        // Published files may carry batch settings; they would silently cut or pad a text.
        inner
            .with_truncation(None)
            .map_err(|e| TokenizerError::Parse(e.to_string()))?;
        inner.with_padding(None);
        let eos: Vec<u32> = END_NAMES
            .iter()
            .filter_map(|name| inner.token_to_id(name))
            .collect();
        // What the post-processor writes around a text shows around an empty one.
        let around = inner.encode_fast("", true);
        let around = around.map_err(|e| TokenizerError::Parse(e.to_string()))?;
        let first = around.get_ids().first().copied();
        let opening = first.filter(|id| !eos.contains(id));
        Ok(Self {
            inner,
            eos,
            opening,
        })
    }

    /// Reads a `tokenizer.json` file.
    ///
    /// # Errors
    /// [`TokenizerError::Read`], [`TokenizerError::TooLarge`] or [`TokenizerError::Parse`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let read = |source| TokenizerError::Read {
            path: shown.clone(),
            source,
        };
        let bytes = input::finite(path).map_err(read)?.len();
        if bytes > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLarge { path: shown, bytes });
        }
        Self::from_bytes(&std::fs::read(path).map_err(read)?)
    }

    /// Cuts `text` in token ids, without adding special tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match self.pieces(text)[..] {
            [whole] => self.encode_whole(whole),
            ref pieces => self.encode_pieces(pieces),
        }
    }

    /// The tokens of pieces, one after the other.
    pub fn encode_pieces(&self, pieces: &[&str]) -> Result<Vec<u32>, TokenizerError> {
        let encode = |piece: &&str| self.encode_whole(piece);
        let encoded: Result<Vec<Vec<u32>>, TokenizerError> =
            pieces.par_iter().map(encode).collect();
        Ok(encoded?.concat())
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| TokenizerError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Pieces of a text whose tokens, one after the other, are those of the text. A tokenizer that never lets a text
    /// be cut, such as one that marks the beginning of each text, leaves it in one piece.
    pub fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let mut start = 0;
        let mut from = PIECE_BYTES;
        while from + PIECE_BYTES / 2 < text.len() {
            match self.seam(text, start, from) {
                Some(seam) => {
                    pieces.push(&text[start..seam]);
                    start = seam;
                    from = seam + PIECE_BYTES;
                }
                // A tokenizer that refused the first cuts would refuse them all.
                None if pieces.is_empty() && from > 4 * PIECE_BYTES => break,
                None => from += PIECE_BYTES,
            }
        }
        pieces.push(&text[start..]);
        pieces
    }

    /// A place after `from` where the text may be cut: behind a line end, and encoded together or apart its two sides
    /// have the same tokens.
    fn seam(&self, text: &str, start: usize, from: usize) -> Option<usize> {
        let upto = text.len().min(from + PIECE_BYTES);
        let ends = text.as_bytes()[from..upto].iter().enumerate();
        let ends = ends
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| from + at + 1);
        // Runs of line ends belong together.
        let ends = ends.filter(|at| {
            text.as_bytes()
                .get(*at)
                .is_some_and(u8::is_ascii_alphanumeric)
        });
        ends.take(SEAM_TRIES).find(|seam| {
            let left = floor(text, seam.saturating_sub(SEAM_BYTES).max(start));
            let right = floor(text, (seam + SEAM_BYTES).min(text.len()));
            let encode = |range: Range<usize>| self.encode_whole(&text[range]).ok();
            match (
                encode(left..*seam),
                encode(*seam..right),
                encode(left..right),
            ) {
                (Some(one), Some(other), Some(both)) => [one, other].concat() == both,
                _ => false,
            }
        })
    }

    /// As [`Tokenizer::encode`], with the bytes of `text` that each token stands for. Special tokens
    /// that the text spells out become those tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the vocabulary cannot express the text.
    pub fn encode_with_places(
        &self,
        text: &str,
    ) -> Result<(Vec<u32>, Vec<Range<usize>>), TokenizerError> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| TokenizerError::Encode(e.to_string()))?;
        let places = encoding.get_offsets().iter();
        let places = places.map(|(start, end)| *start..*end).collect();
        Ok((encoding.get_ids().to_vec(), places))
    }

    /// Turns ids back into text, leaving special tokens out.
    ///
    /// A cut in the middle of a character yields U+FFFD at that end.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the decoder refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, true)
            .map_err(|e| TokenizerError::Decode(e.to_string()))
    }

    /// Number of ids, special tokens included. A model's embedding may be padded to more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Ids of the tokens that end a text by their well-known names. A model's `eos_token_id` adds to these.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The token that the tokenizer puts before a text, such as Llama's `<|begin_of_text|>`; None where it puts
    /// none, or only one behind.
    pub fn opening(&self) -> Option<u32> {
        self.opening
    }

    /// The bytes that a token stands for: a part of a character, where the vocabulary is one of bytes. Special tokens
    /// stand for their names; an unknown id stands for nothing.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else {
            return Vec::new();
        };
        if self.is_special_name(&token) {
            return token.into_bytes();
        }
        if self.is_byte_level() {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return bytes.unwrap_or_else(|| token.into_bytes());
        }
        let text = self.inner.decode(&[id], false);
        text.map_or(Vec::new(), String::into_bytes)
    }

    /// Whether a token is left out of decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        (self.inner.id_to_token(id)).is_none_or(|token| self.is_special_name(&token))
    }

    fn is_special_name(&self, token: &str) -> bool {
        self.inner.get_added_vocabulary().is_special_token(token)
    }

    /// Whether the text of tokens is their bytes, one after the other.
    pub(crate) fn is_byte_level(&self) -> bool {
        matches!(self.inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
    }

    /// The id of a token by its exact name, if the vocabulary has it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

/// The byte that a character of a byte-level vocabulary stands for. Bytes that print stand for themselves; the 68 others
/// have, in their order, the characters from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The beginning of the character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte-level tokenizer with one merge, small enough to read.
    const TINY: &str = r#"{
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"<|endoftext|>": 0, "a": 1, "b": 2, "Ġ": 3, "ab": 4},
            "merges": [["a", "b"]]}
    }"#;

    #[test]
    fn text_survives_encoding_and_decoding() {
        let tokenizer = Tokenizer::from_bytes(TINY.as_bytes()).expect("parses");
        let ids = tokenizer.encode("ab ba").expect("encodes");
        assert_eq!(ids, [4, 3, 2, 1]);
        assert_eq!(tokenizer.decode(&ids).expect("decodes"), "ab ba");
    }

    #[test]
    fn truncation_stored_in_the_file_is_not_applied() {
        let tokenizer = Tokenizer::from_bytes(TINY.as_bytes()).expect("parses");
        assert_eq!(tokenizer.encode("aaaaaaa").expect("encodes").len(), 7);
    }

    #[test]
    fn a_long_text_in_pieces_has_the_tokens_of_the_whole() {
        let tokenizer =
            Tokenizer::from_bytes(include_bytes!("../tests/chat/tokenizer.json")).unwrap();
        let mut text = String::new();
        for line in 0..20_000 {
            let blank = "\n".repeat(1 + line % 3);
            text += &format!("Line {line} of a text, na\u{ef}ve \u{1f30a} and  all{blank}");
        }
        let pieces = tokenizer.pieces(&text);
        assert!(pieces.len() > 8, "{}", pieces.len());
        assert_eq!(pieces.concat(), text);
        assert!(tokenizer.encode(&text).unwrap() == tokenizer.encode_whole(&text).unwrap());
        // Without line ends there is no seam.
        assert_eq!(tokenizer.pieces(&"word ".repeat(100_000)).len(), 1);
    }

    #[test]
    fn a_tokenizer_that_marks_beginnings_is_given_the_text_whole() {
        let marking = TINY.replace(
            "\"normalizer\": null",
            "\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"b\"}",
        );
        let tokenizer = Tokenizer::from_bytes(marking.as_bytes()).unwrap();
        let text = "aab ba\n".repeat(60_000);
        assert_eq!(tokenizer.pieces(&text).len(), 1);
    }

    #[test]
    fn the_token_that_opens_a_text_is_the_post_processors() {
        assert_eq!(
            Tokenizer::from_bytes(TINY.as_bytes()).unwrap().opening(),
            None
        );
        let opening = r#""post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"a": {"id": "a", "ids": [1], "tokens": ["a"]}}}"#;
        let opening = TINY.replace("\"post_processor\": null", opening);
        assert_eq!(
            Tokenizer::from_bytes(opening.as_bytes()).unwrap().opening(),
            Some(1)
        );
    }

    #[test]
    fn end_of_text_is_found_by_name_and_left_out_of_decoded_text() {
        let tokenizer = Tokenizer::from_bytes(TINY.as_bytes()).expect("parses");
        assert_eq!(tokenizer.eos_ids(), [0]);
        assert_eq!(tokenizer.decode(&[4, 0]).expect("decodes"), "ab");
    }

    #[test]
    fn damaged_bytes_are_refused_with_advice() {
        let error = Tokenizer::from_bytes(&TINY.as_bytes()[..100]).expect_err("cut file");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }

    #[test]
    fn missing_file_is_named_in_the_error() {
        let error = Tokenizer::from_file("/nowhere/tokenizer.json").expect_err("missing");
        assert!(
            error.to_string().contains("/nowhere/tokenizer.json"),
            "{error}"
        );
    }
}
