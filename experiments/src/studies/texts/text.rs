//! Words of real texts, each with the tokens that it takes.

use std::ops::Range;

use tributary_protocol::fingerprint;
use tributary_protocol::id::RunId;
use tributary_protocol::limits::BLOCK_WORDS;
use tributary_protocol::sketch::Sketch;
use tributary_trainer::{BaseModel, TokenizerError};

/// A text, or a part of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    words: Vec<String>,
    /// Of each word, with what stands between it and the next.
    tokens: Vec<u64>,
}

impl Text {
    /// The words of `text`, in the tokens of `base`.
    pub(super) fn of(base: &BaseModel, text: &str) -> Result<Self, TokenizerError> {
        let (starts, words): (Vec<usize>, Vec<String>) = fingerprint::words(text)
            .map(|(place, word)| (place.start, word))
            .unzip();
        let (_, places) = base.tokenizer().encode_with_places(text)?;
        let mut tokens = vec![0; words.len()];
        for place in places {
            let at = starts.partition_point(|start| *start < place.end);
            tokens[at.saturating_sub(1)] += 1;
        }
        Ok(Self { words, tokens })
    }

    /// Of words that are given, each so many tokens.
    pub(super) fn made(words: Vec<String>, tokens: u64) -> Self {
        Self {
            tokens: vec![tokens; words.len()],
            words,
        }
    }

    /// How many words.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// How many tokens.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.iter().sum()
    }

    /// These of its words.
    pub(super) fn part(&self, words: Range<usize>) -> Self {
        Self {
            words: self.words[words.clone()].to_vec(),
            tokens: self.tokens[words].to_vec(),
        }
    }

    /// In so many parts of equal length; the last is longer where it does not come out even.
    pub(super) fn cut(&self, parts: usize) -> Vec<Self> {
        let each = self.len() / parts;
        let end = |nth: usize| match nth + 1 == parts {
            true => self.len(),
            false => (nth + 1) * each,
        };
        (0..parts)
            .map(|nth| self.part(nth * each..end(nth)))
            .collect()
    }

    /// This text with another behind it.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            words: [&self.words[..], &other.words].concat(),
            tokens: [&self.tokens[..], &other.tokens].concat(),
        }
    }

    /// What a join commits to.
    pub(super) fn sketch(&self, run: RunId) -> Sketch {
        Sketch::of(run, &self.words)
    }

    /// With a word changed wherever eight in a row have a print that `seen` holds; and how many were.
    pub(super) fn reworded(&self, run: RunId, seen: &Sketch) -> (Self, usize) {
        let mut text = self.clone();
        let mut changed = 0;
        for at in 0..(text.len() + 1).saturating_sub(BLOCK_WORDS) {
            let here = Sketch::of(run, &text.words[at..at + BLOCK_WORDS]);
            let is_seen = (here.prints().iter()).any(|p| seen.prints().binary_search(p).is_ok());
            if is_seen {
                // In the middle, so that as many runs of words as possible are no longer the owner's.
                text.words[at + BLOCK_WORDS / 2].push('x');
                changed += 1;
            }
        }
        (text, changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_text_have_its_words_and_tokens() {
        let base = BaseModel::brook().expect("embedded");
        let said = "One's own words, and no more; twice told. Eight in a row make a print of them.";
        let text = Text::of(&base, said).expect("plain text");
        assert_eq!(text.len(), 18);
        assert_eq!(text.tokens(), base.encode(said).unwrap().len() as u64);
        let cut = text.cut(4);
        assert_eq!(cut.iter().map(Text::len).collect::<Vec<_>>(), [4, 4, 4, 6]);
        let again = cut
            .iter()
            .fold(Text::default(), |text, part| text.and(part));
        assert_eq!((again.words, again.tokens), (text.words, text.tokens));
    }

    #[test]
    fn a_reworded_text_shows_none_of_the_prints_that_were_seen() {
        let run = RunId::default();
        let words = (0..4_000).map(|n| n.to_string()).collect();
        let text = Text::made(words, 1);
        let seen = text.sketch(run);
        let (reworded, changed) = text.reworded(run, &seen);
        let all = Sketch::of(run, &reworded.words);
        let held = all.prints().iter().filter(|p| seen.prints().contains(p));
        assert_eq!(held.count(), 0);
        assert!((500..=1_024).contains(&changed), "{changed} words");
    }
}
