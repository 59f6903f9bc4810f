//! How much of a home's shards may be given away in one hour, to all askers together.
//!
//! ```text
//!   words asked ──matches──▶ spans of whole blocks ──Allowance──▶ those that may be shown
//!                                                     │
//!                                 file of the home ◀──┴── questions and shingles of the last hour
//! ```
//! Keys are free, so nothing here counts by asker. There are three rules: a number of questions about one root, a
//! number of words over all shards, and one step for each passage. The last one stops a reader: a span that shares
//! eight words in a row with one that was shown within the hour is cut down to what was shown, and looks to its asker
//! as if nothing else were there. The rule compares content and not places, so that a second copy of a passage, or
//! another shard with it, does not get around it. The peer keeps the file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use tributary_protocol::fingerprint::{Shingle, Span, shingles};
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{BLOCK_WORDS, MAX_SPANS};
use tributary_protocol::time::Timestamp;

use super::matching::{Match, Runs};
use super::shard::Shard;

/// What is counted is forgotten after an hour.
pub const WINDOW_MS: u64 = 60 * 60 * 1000;
/// Questions about one root within the hour. Each can hold 32 guesses, so that a reader tries some two thousand.
pub const MAX_QUESTIONS: usize = 64;
/// Words shown within the hour, of all shards together, after which nothing is answered: eight of the longest answers.
pub const MAX_SHOWN_WORDS: usize = 4096;

/// First line of a file.
const MAGIC: &str = "tributary-evidence-1";

/// The hour's questions or words are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard was asked about as often as one hour allows")]
pub struct Spent;

/// The text is not one that [`Allowance`] wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not a record of questions and words shown")]
pub struct NotAnAllowance(usize);

/// What was asked and shown within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    questions: Vec<(MerkleRoot, Timestamp)>,
    /// When each shingle was shown first, by its key.
    shown: BTreeMap<u64, Timestamp>,
}

impl Allowance {
    /// Counts a question about `shard`, and gives the proven spans that may be shown: two whole blocks or more each.
    /// The outcome must be kept before the answer leaves.
    ///
    /// # Errors
    /// [`Spent`]; nothing was looked up then.
    pub fn spans(
        &mut self,
        shard: &Shard,
        words: &[String],
        now: Timestamp,
    ) -> Result<Vec<Span>, Spent> {
        self.forget(now);
        let root = shard.root();
        let asked = self.questions.iter().filter(|(of, _)| *of == root).count();
        if asked >= MAX_QUESTIONS || self.shown.len() >= MAX_SHOWN_WORDS {
            return Err(Spent);
        }
        self.questions.push((root, now));
        let mut found = self.allowed(shard, words, now);
        found.sort_by_key(|span| span.from);
        Ok(shard.prove(&found))
    }

    /// What may be shown: first what was shown before, then one new run after the other. A run that is held back is
    /// left out before anything is chosen: if it stood in the way of another one, it would show by that.
    fn allowed(&mut self, shard: &Shard, words: &[String], now: Timestamp) -> Vec<Match> {
        let shingles: Vec<Shingle> = shingles(words).collect();
        let runs = Runs::find(&shingles, shard);
        let seen = |shown: &BTreeMap<u64, Timestamp>| -> Vec<bool> {
            let shingles = shingles.iter();
            shingles
                .map(|shingle| shown.contains_key(&shingle.key()))
                .collect()
        };
        let known = seen(&self.shown);
        let shown_blocks = |from: usize, blocks: usize| {
            let shingles = known[from..].iter().take_while(|known| **known).count();
            blocks.min(shingles.div_ceil(BLOCK_WORDS))
        };
        let mut found = runs.pick(shown_blocks);
        found.sort_by_key(|span| (std::cmp::Reverse(span.words), span.from));
        found.truncate(MAX_SPANS);
        found.sort_by_key(|span| span.from);
        while found.len() < MAX_SPANS {
            let known = seen(&self.shown);
            let new_blocks = |from, blocks| match known[inner(from, blocks)].contains(&true) {
                true => 0,
                false => blocks,
            };
            let Some(new) = runs.longest_beside(new_blocks, &found) else {
                break;
            };
            let keys = shingles[new.from..=new.from + new.words - BLOCK_WORDS].iter();
            self.shown.extend(keys.map(|shingle| (shingle.key(), now)));
            found.push(new);
            found.sort_by_key(|span| span.from);
        }
        found
    }

    /// Drops what is older than an hour. What lies ahead of a clock that was set back counts as now.
    fn forget(&mut self, now: Timestamp) {
        let recent = |at: &Timestamp| now.0 < at.0.saturating_add(WINDOW_MS);
        self.questions.retain(|(_, at)| recent(at));
        self.shown.retain(|_, at| recent(at));
    }
}

/// The shingles inside of so many blocks, one at least, from a word of a text on.
fn inner(from: usize, blocks: usize) -> Range<usize> {
    from..from + (blocks.max(1) - 1) * BLOCK_WORDS + 1
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}")?;
        for (root, at) in &self.questions {
            writeln!(f, "asked {} {root}", at.0)?;
        }
        for (key, at) in &self.shown {
            writeln!(f, "shown {} {key:016x}", at.0)?;
        }
        Ok(())
    }
}

impl FromStr for Allowance {
    type Err = NotAnAllowance;

    fn from_str(text: &str) -> Result<Self, NotAnAllowance> {
        let mut lines = text.lines().zip(1..);
        if lines.next() != Some((MAGIC, 1)) || !text.ends_with('\n') {
            return Err(NotAnAllowance(1));
        }
        let mut read = Self::default();
        for (line, number) in lines {
            read.read_line(line).ok_or(NotAnAllowance(number))?;
        }
        Ok(read)
    }
}

impl Allowance {
    fn read_line(&mut self, line: &str) -> Option<()> {
        let mut parts = line.split(' ');
        let (kind, at, what) = (parts.next()?, parts.next()?, parts.next()?);
        let at = Timestamp(at.parse().ok()?);
        match (kind, parts.next()) {
            ("asked", None) => self.questions.push((what.parse().ok()?, at)),
            ("shown", None) if what.len() == 16 => {
                (self.shown).insert(u64::from_str_radix(what, 16).ok()?, at);
            }
            _ => return None,
        }
        Some(())
    }
}
