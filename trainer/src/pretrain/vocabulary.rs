//! Brook's own vocabulary: byte-level BPE learnt from its training text only.
//!
//! Byte level means that any text can be encoded, also one full of characters the training text never
//! had. The end-of-text token comes first (id 0) and never appears inside a word.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerBuilder,
};

use crate::pretrain::END_OF_TEXT;

/// Why no vocabulary could be learnt.
#[derive(Debug, thiserror::Error)]
#[error("the vocabulary could not be learnt: {0}; check that the text is not empty")]
pub struct VocabularyError(String);

/// Learns `size` tokens (the 256 bytes and the end of text among them) and returns a `tokenizer.json`.
///
/// The same documents in the same order give the same bytes.
///
/// # Errors
/// See [`VocabularyError`].
pub fn learn<'a>(
    documents: impl Iterator<Item = &'a str> + Send,
    size: usize,
) -> Result<String, VocabularyError> {
    let failed = |error: tokenizers::Error| VocabularyError(error.to_string());
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .build();
    let bytes = || ByteLevel::default().add_prefix_space(false);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(bytes().into()))
    .with_decoder(Some(bytes().into()))
    .build()
    .map_err(failed)?;
    tokenizer.train(&mut trainer, documents).map_err(failed)?;
    tokenizer.to_string(false).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    const TEXT: [&str; 3] = [
        "the cat sat on the mat, and the cat was the cat of the house",
        "a cat is a small animal that sits on a mat",
        "the house had a mat and a cat and another mat",
    ];

    #[test]
    fn learnt_vocabulary_encodes_any_text_and_marks_its_end() {
        let json = learn(TEXT.into_iter(), 300).expect("learns");
        let tokenizer = Tokenizer::from_bytes(json.as_bytes()).expect("loads");
        assert!(tokenizer.vocab_size() <= 300);
        assert_eq!(tokenizer.eos_ids(), [0]);
        for text in ["the cat", "żółw 🐢 at 3 o'clock\n\n\tend "] {
            let ids = tokenizer.encode(text).expect("encodes");
            assert_eq!(tokenizer.decode(&ids).expect("decodes"), text);
        }
        assert!(tokenizer.encode("the cat").expect("encodes").len() <= 3);
    }

    #[test]
    fn same_text_gives_the_same_vocabulary() {
        let first = learn(TEXT.into_iter(), 290).expect("learns");
        assert_eq!(first, learn(TEXT.into_iter(), 290).expect("learns"));
    }
}
