//! The bytes that each token stands for.
//!
//! A token is not always text: one may hold half a character. Grammars and reports of probabilities need its bytes as
//! they are. Byte-level vocabularies write each byte as a letter of its own; SentencePiece ones write spaces as U+2581
//! and bytes without a letter as `<0xAB>`.

use tokenizers::DecoderWrapper;

use super::{Tokenizer, TokenizerError};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenText {
    /// Bytes of the text, at least one.
    Bytes(Vec<u8>),
    /// A mark such as the end of a turn, by its name; it never stands for text.
    Special(String),
    /// No token has the id, or the token stands for nothing.
    Absent,
}

/// How a vocabulary writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Each byte as a letter, as GPT-2 did.
    ByteLevel,
    /// Text, with this letter for a space and `<0xAB>` for single bytes.
    SentencePiece(char),
}

impl Tokenizer {
    /// How the vocabulary writes bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`] when the decoder is of another kind.
    pub fn spelling(&self) -> Result<Spelling, TokenizerError> {
        let mut found = None;
        if let Some(decoder) = self.inner.get_decoder() {
            find(decoder, &mut found);
        }
        found.ok_or_else(|| {
            let why = "its decoder is neither byte-level nor with bytes as a fallback";
            TokenizerError::Parse(why.into())
        })
    }

    /// What each token is, by its id.
    ///
    /// # Errors
    /// See [`Tokenizer::spelling`].
    pub fn token_texts(&self) -> Result<Vec<TokenText>, TokenizerError> {
        let spelling = self.spelling()?;
        let added = self.inner.get_added_tokens_decoder();
        let ids = self.inner.get_vocab(true).into_values().max();
        let ids = ids.map_or(0, |last| last + 1);
        let text = |id| {
            if let Some(token) = added.get(&id) {
                return match token.special {
                    true => TokenText::Special(token.content.clone()),
                    false => bytes_or_absent(token.content.clone().into_bytes()),
                };
            }
            match self.inner.id_to_token(id) {
                Some(name) => bytes_or_absent(spelling.bytes(&name)),
                None => TokenText::Absent,
            }
        };
        Ok((0..ids).map(text).collect())
    }
}

fn bytes_or_absent(bytes: Vec<u8>) -> TokenText {
    match bytes.is_empty() {
        true => TokenText::Absent,
        false => TokenText::Bytes(bytes),
    }
}

fn find(decoder: &DecoderWrapper, found: &mut Option<Spelling>) {
    match decoder {
        DecoderWrapper::ByteLevel(_) => *found = Some(Spelling::ByteLevel),
        DecoderWrapper::ByteFallback(_) => {
            *found = Some(found.unwrap_or(Spelling::SentencePiece('\u{2581}')));
        }
        DecoderWrapper::Metaspace(space) => {
            *found = Some(Spelling::SentencePiece(space.get_replacement()));
        }
        DecoderWrapper::Sequence(parts) => {
            for part in parts.get_decoders() {
                find(part, found);
            }
        }
        _ => {}
    }
}

impl Spelling {
    /// The bytes of a token of the vocabulary. Nothing where a byte-level name has letters that stand for no byte.
    fn bytes(self, name: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> = name.chars().map(byte_of).collect();
                bytes.unwrap_or_default()
            }
            Self::SentencePiece(space) => match single_byte(name) {
                Some(byte) => vec![byte],
                None => name.replace(space, " ").into_bytes(),
            },
        }
    }
}

/// `<0xAB>`.
fn single_byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    match digits.len() {
        2 => u8::from_str_radix(digits, 16).ok(),
        _ => None,
    }
}

/// The byte that a letter of a byte-level name stands for: printable ones are themselves, the others follow in order
/// from U+0100.
fn byte_of(letter: char) -> Option<u8> {
    let own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(letter) {
        code @ 0..=0xFF => Some(code as u8).filter(|byte| own(*byte)),
        code => {
            let nth = (code - 0x100) as usize;
            (0..=u8::MAX).filter(|byte| !own(*byte)).nth(nth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brook;
    use crate::test_utils::sentencepiece_tokenizer;

    fn joined(texts: &[TokenText], ids: &[u32]) -> Vec<u8> {
        let bytes = ids.iter().map(|id| match &texts[*id as usize] {
            TokenText::Bytes(bytes) => bytes.clone(),
            _ => Vec::new(),
        });
        bytes.collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_bytes_of_the_tokens_of_a_text_are_the_text() {
        let brook = brook::tokenizer().unwrap();
        let chat = include_bytes!("../../tests/chat/tokenizer.json");
        let chat = Tokenizer::from_bytes(chat).unwrap();
        let text = "A na\u{ef}ve \u{1f30a} of\n\ttext \u{ad}\u{7f}";
        for tokenizer in [brook, chat] {
            let texts = tokenizer.token_texts().unwrap();
            assert_eq!(tokenizer.spelling().unwrap(), Spelling::ByteLevel);
            assert_eq!(texts.len(), tokenizer.vocab_size());
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(joined(&texts, &ids), text.as_bytes());
        }
    }

    #[test]
    fn special_tokens_stand_for_no_text() {
        let texts = brook::tokenizer().unwrap().token_texts().unwrap();
        assert_eq!(texts[0], TokenText::Special("<|endoftext|>".into()));
        let special = |text: &&TokenText| matches!(text, TokenText::Special(_));
        assert_eq!(texts.iter().filter(special).count(), 1);
    }

    #[test]
    fn a_sentencepiece_vocabulary_has_spaces_and_single_bytes() {
        let tokenizer = sentencepiece_tokenizer();
        let texts = tokenizer.token_texts().unwrap();
        let ids = tokenizer.encode("{\"a\": \u{e9}}").unwrap();
        let bytes = joined(&texts, &ids);
        // The tokenizer writes a space before each text.
        assert_eq!(String::from_utf8(bytes).unwrap(), " {\"a\": \u{e9}}");
    }
}
