//! The text of an answer while its tokens come: never half a character, never a part of a stop string.
//!
//! A token of a byte-level vocabulary may end within a character, and a stop string may begin in one token and end in
//! another. What may still become either is held back. The text that was shown, up to the end, is the text of all tokens
//! decoded at once, cut before the first stop string. How tokens are named and what an answer is sent as is left to
//! others.

use std::collections::VecDeque;

use crate::tokenizer::Tokenizer;

/// U+FFFD, which a decoder writes for bytes that are no character.
const NO_CHARACTER: char = '\u{fffd}';
/// Most tokens of one undecided character: no character has more bytes than four, and a decoder that writes U+FFFD for
/// longer means it.
const MOST_UNDECIDED: usize = 8;

/// The text of one answer.
#[derive(Debug)]
pub struct Text {
    stops: Vec<String>,
    decoder: Decoder,
    /// Decoded and not shown.
    pending: String,
    /// Bytes of text that were shown.
    shown: usize,
    /// Characters of text that were decoded.
    characters: usize,
    /// Where the text of each token begins and ends that was not shown whole.
    places: VecDeque<(usize, usize)>,
    stopped: bool,
}

/// What may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Text, possibly none.
    pub text: String,
    /// How many further tokens, in the order in which they came, the text shown so far belongs to.
    pub tokens: usize,
    /// Whether a stop string was found: nothing of it is shown, and nothing may be added.
    pub stopped: bool,
}

#[derive(Debug)]
enum Decoder {
    /// Tokens are bytes; these may be the beginning of a character.
    Bytes(Vec<u8>),
    /// Whatever else: what the last tokens add to the text of those before.
    Window { ids: Vec<u32>, decoded: usize },
}

impl Text {
    /// An empty text that ends before the first of `stops`, none of which is empty.
    pub fn new(tokenizer: &Tokenizer, stops: Vec<String>) -> Self {
        assert!(
            stops.iter().all(|stop| !stop.is_empty()),
            "an empty stop string would end every text"
        );
        let decoder = match tokenizer.is_byte_level() {
            true => Decoder::Bytes(Vec::new()),
            false => Decoder::Window {
                ids: Vec::new(),
                decoded: 0,
            },
        };
        Self {
            stops,
            decoder,
            pending: String::new(),
            shown: 0,
            characters: 0,
            places: VecDeque::new(),
            stopped: false,
        }
    }

    /// Characters of the text so far, whether shown or held back: where the text of the next token begins.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// Adds a token.
    ///
    /// # Panics
    /// After a stop string.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Shown {
        assert!(!self.stopped, "nothing is added after a stop string");
        let start = self.shown + self.pending.len();
        self.add(|decoder, text| decoder.push(tokenizer, id, text));
        // A character that is not whole yet ends behind what is decoded.
        let end = self.shown + self.pending.len() + usize::from(self.decoder.is_within());
        self.places.push_back((start, end));
        self.show(false)
    }

    /// Shows what was held back: no token follows.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Shown {
        if self.stopped {
            return Shown::default();
        }
        self.add(|decoder, text| decoder.finish(tokenizer, text));
        self.show(true)
    }

    fn add(&mut self, decode: impl FnOnce(&mut Decoder, &mut String)) {
        let before = self.pending.len();
        decode(&mut self.decoder, &mut self.pending);
        self.characters += self.pending[before..].chars().count();
    }

    fn show(&mut self, is_end: bool) -> Shown {
        if let Some(at) = first_stop(&self.pending, &self.stops) {
            self.stopped = true;
            self.pending.truncate(at);
            let cut = self.shown + at;
            let begun = self.places.iter().take_while(|(start, _)| *start < cut);
            return Shown {
                tokens: begun.count(),
                text: std::mem::take(&mut self.pending),
                stopped: true,
            };
        }
        let held = if is_end {
            0
        } else {
            held_back(&self.pending, &self.stops)
        };
        let text: String = self.pending.drain(..self.pending.len() - held).collect();
        self.shown += text.len();
        let whole = |(_, end): &&(usize, usize)| is_end || *end <= self.shown;
        let tokens = self.places.iter().take_while(whole).count();
        self.places.drain(..tokens);
        Shown {
            text,
            tokens,
            stopped: false,
        }
    }
}

/// Where the stop string begins that ends first.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    let found = stops.iter().filter_map(|stop| {
        let start = text.find(stop.as_str())?;
        Some((start + stop.len(), start))
    });
    found.min().map(|(_, start)| start)
}

/// Bytes at the end that may be the beginning of a stop string.
fn held_back(text: &str, stops: &[String]) -> usize {
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    let from = text.len().saturating_sub(longest);
    let starts = text
        .char_indices()
        .map(|(at, _)| at)
        .filter(|at| *at >= from);
    let begins = |at: &usize| stops.iter().any(|stop| stop.starts_with(&text[*at..]));
    starts
        .into_iter()
        .find(begins)
        .map_or(0, |at| text.len() - at)
}

impl Decoder {
    /// Whether a character is not whole.
    fn is_within(&self) -> bool {
        match self {
            Self::Bytes(held) => !held.is_empty(),
            Self::Window { ids, decoded } => *decoded < ids.len(),
        }
    }

    fn push(&mut self, tokenizer: &Tokenizer, id: u32, text: &mut String) {
        if tokenizer.is_special(id) {
            return;
        }
        match self {
            Self::Bytes(held) => {
                held.extend(tokenizer.token_bytes(id));
                whole_characters(held, text);
            }
            Self::Window { ids, .. } => {
                ids.push(id);
                self.widen(tokenizer, text, false);
            }
        }
    }

    fn finish(&mut self, tokenizer: &Tokenizer, text: &mut String) {
        match self {
            Self::Bytes(held) if held.is_empty() => {}
            Self::Bytes(held) => {
                held.clear();
                text.push(NO_CHARACTER);
            }
            Self::Window { .. } => self.widen(tokenizer, text, true),
        }
    }

    /// What the tokens after the first `decoded` add to the text of those, unless it ends within a character. A
    /// decoder may treat a first token differently, hence some before.
    fn widen(&mut self, tokenizer: &Tokenizer, text: &mut String, is_end: bool) {
        let Self::Window { ids, decoded } = self else {
            return;
        };
        let known = tokenizer.decode(&ids[..*decoded]).unwrap_or_default();
        let all = tokenizer.decode(ids).unwrap_or_default();
        let undecided = ids.len() - *decoded;
        if all.ends_with(NO_CHARACTER) && !is_end && undecided < MOST_UNDECIDED {
            return;
        }
        text.push_str(all.get(known.len()..).unwrap_or_default());
        ids.drain(..*decoded);
        *decoded = ids.len();
    }
}

/// Moves whole characters, and U+FFFD for bytes that can be none, from `held` to `text`.
fn whole_characters(held: &mut Vec<u8>, text: &mut String) {
    let mut from = 0;
    while from < held.len() {
        match std::str::from_utf8(&held[from..]) {
            Ok(whole) => {
                text.push_str(whole);
                from = held.len();
            }
            Err(error) => {
                let upto = from + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&held[from..upto]));
                from = upto;
                match error.error_len() {
                    Some(wrong) => {
                        text.push(NO_CHARACTER);
                        from += wrong;
                    }
                    None => break,
                }
            }
        }
    }
    held.drain(..from);
}
