//! Calls of tools in the text of an answer, as it comes in pieces.
//!
//! Text is passed on as soon as it cannot be part of a call. A call is passed on once it is whole: what is not one in
//! the end, such as broken JSON or a name that no tool has, is text as it stands. White space around calls belongs to
//! their form and is left out. What comes out does not depend on where the text is cut.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::grammar::MAX_CALLS;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Longest call with its tags, in bytes; a longer one is text. Far above any answer of a few thousand tokens.
const MAX_CALL_BYTES: usize = 256 << 10;
/// How many closing tags are tried for one call: all but the last stand within strings of its arguments.
const MAX_ENDS: usize = 64;

/// Bytes of an id that follow from the answer: as many as a UUID has.
const ID_BYTES: usize = 12;

/// What an answer's text turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// A call.
    Call {
        /// Which call of the answer, from zero.
        index: usize,
        /// Its id, which no other call of the answer has.
        id: String,
        /// The function.
        name: String,
        /// Its arguments: a JSON object, as the model wrote it.
        arguments: String,
    },
}

/// Finds calls in text that comes in pieces.
#[derive(Clone, Debug)]
pub struct CallParser {
    names: Vec<String>,
    parallel: bool,
    /// What ids follow from.
    seed: [u8; 32],
    calls: usize,
    /// Text that may yet be part of a call or of the space before one.
    held: String,
    /// Where in `held` the end of a call has not been looked for yet.
    searched: usize,
    /// Closing tags of the call at hand that stood within a string.
    ends: usize,
    /// Whether `held` begins with white space after a call.
    after_call: bool,
}

#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
}

/// What stands between two tags.
enum Inner {
    Call {
        name: String,
        arguments: String,
    },
    /// The beginning of an object: the closing tag may stand within a string.
    Unfinished,
    Text,
}

impl CallParser {
    pub(super) fn new(names: Vec<String>, parallel: bool, seed: u64, prompt: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tributary id of a tool call");
        hasher.update(&seed.to_le_bytes());
        for token in prompt {
            hasher.update(&token.to_le_bytes());
        }
        Self {
            names,
            parallel,
            seed: *hasher.finalize().as_bytes(),
            calls: 0,
            held: String::new(),
            searched: 0,
            ends: 0,
            after_call: false,
        }
    }

    /// Takes the next piece of the answer's text.
    pub fn push(&mut self, piece: &str) -> Vec<Delta> {
        let mut out = Vec::new();
        if self.is_finished() {
            return out;
        }
        self.held.push_str(piece);
        while self.advance(&mut out) {}
        out
    }

    /// The answer is over: what was held is text after all.
    pub fn finish(mut self) -> Vec<Delta> {
        let mut out = Vec::new();
        let rest = std::mem::take(&mut self.held);
        self.tell(&mut out, rest);
        out
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the answer holds all calls that it may: what follows is left out, and the answer can be ended.
    pub fn is_finished(&self) -> bool {
        self.calls >= if self.parallel { MAX_CALLS } else { 1 }
    }

    /// One step; false when more text is needed.
    fn advance(&mut self, out: &mut Vec<Delta>) -> bool {
        let Some(open) = self.held.find(OPEN) else {
            let keep = self.undecided();
            let text: String = self.held.drain(..keep).collect();
            self.searched = 0;
            self.tell(out, text);
            return false;
        };
        let inner = open + OPEN.len();
        let from = self.searched.max(inner);
        let found = self.held[from..].find(CLOSE).map(|at| from + at);
        let end = found.map_or(self.held.len(), |close| close + CLOSE.len());
        if end - open > MAX_CALL_BYTES {
            self.give_up(out, inner);
            return true;
        }
        let Some(close) = found else {
            // The closing tag may have begun.
            let upto = self.held.len().saturating_sub(CLOSE.len() - 1);
            self.searched = floor(&self.held, upto.max(from));
            return false;
        };
        match self.read(&self.held[inner..close]) {
            Inner::Call { name, arguments } => self.called(out, open, end, name, arguments),
            Inner::Unfinished if self.ends < MAX_ENDS => {
                self.ends += 1;
                self.searched = end;
            }
            Inner::Unfinished | Inner::Text => self.give_up(out, inner),
        }
        !self.is_finished()
    }

    /// A call from `open` to `end` of what is held.
    fn called(
        &mut self,
        out: &mut Vec<Delta>,
        open: usize,
        end: usize,
        name: String,
        arguments: String,
    ) {
        let before = self.held[..open].trim_end().to_owned();
        self.tell(out, before);
        out.push(Delta::Call {
            index: self.calls,
            id: self.id(),
            name,
            arguments,
        });
        self.held.drain(..end);
        self.searched = 0;
        self.ends = 0;
        self.calls += 1;
        self.after_call = true;
        if self.is_finished() {
            self.held.clear();
        }
    }

    /// A tag that opens no call is text. What follows it may hold a call.
    fn give_up(&mut self, out: &mut Vec<Delta>, inner: usize) {
        self.searched = 0;
        self.ends = 0;
        let text: String = self.held.drain(..inner).collect();
        self.tell(out, text);
    }

    /// From where what is held may yet be the beginning of a call, or white space before one.
    fn undecided(&self) -> usize {
        let held = &self.held;
        let partial = (1..OPEN.len().min(held.len() + 1)).rev();
        let mut partial = partial.filter(|length| held.ends_with(&OPEN[..*length]));
        let text = held.len() - partial.next().unwrap_or(0);
        held[..text].trim_end().len()
    }

    fn tell(&mut self, out: &mut Vec<Delta>, text: String) {
        let text = match self.after_call {
            true => text.trim_start(),
            false => &text,
        };
        if text.is_empty() {
            return;
        }
        self.after_call = false;
        out.push(Delta::Text(text.to_owned()));
    }

    fn read(&self, inner: &str) -> Inner {
        let written: Written<'_> = match serde_json::from_str(inner) {
            Ok(written) => written,
            Err(error) if error.is_eof() && ends_in_string(inner) => return Inner::Unfinished,
            Err(_) => return Inner::Text,
        };
        if !self.names.contains(&written.name) {
            return Inner::Text;
        }
        // Some models write the arguments as the text of an object.
        let arguments = match serde_json::from_str::<String>(written.arguments.get()) {
            Ok(text) => text,
            Err(_) => written.arguments.get().to_owned(),
        };
        let object = arguments.trim_start().starts_with('{');
        match object && serde_json::from_str::<&RawValue>(&arguments).is_ok() {
            true => Inner::Call {
                name: written.name,
                arguments,
            },
            false => Inner::Text,
        }
    }

    fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&(self.calls as u64).to_le_bytes());
        let digits = hasher.finalize().to_hex();
        format!("call_{}", &digits[..2 * ID_BYTES])
    }
}

/// Whether JSON breaks off within a string.
fn ends_in_string(json: &str) -> bool {
    let mut within = false;
    let mut escaped = false;
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            _ => {}
        }
    }
    within
}

/// The beginning of the character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}
