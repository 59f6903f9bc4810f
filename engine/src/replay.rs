//! Whether an answer is what it is said to be.
//!
//! All tokens of an answer follow from base, adapter, precision, prompt, sampling and seed. A peer that holds these and
//! the answer reads prompt and answer in one pass, many rows at a time, and sees behind each token how far the next one is
//! from the one that its seed draws (`Sampler::margin`; Token-DiFR, arXiv 2511.20621). Nothing is generated, so it
//! takes a part of what the answer took. The end is checked too: an answer that was cut, or that goes on behind its
//! end, has right tokens only.
//!
//! ```text
//! begin_replay -> pieces of 64 rows, each between two steps -> Replay: margins, ending -> Rule -> Verdict
//! ```
//!
//! The same engine computes the same bits in whatever company, so **honest margins are exactly zero**
//! ([`Rule::SAME_ENGINE`]). Another version of the engine may add in another order; [`Rule::OTHER_ENGINE`] leaves room
//! for that, and for no more. `docs/numbers/replay.md` has what either catches.
//!
//! A replay uses pages of its own: answers that are being given lose none, and differ in no bit.

mod terms;

use std::fmt;
use std::sync::Arc;

pub use terms::{ARITHMETIC, MOST_ARITHMETIC_BYTES, Terms};

use crate::adapter::LoadedAdapter;
use crate::base::BaseInfo;
use crate::forward::{Forward, Span};
use crate::pages::PAGE_TOKENS;
use crate::request::{Constraint, Finish, Refused};
use crate::sample::{DrawError, Sampler, Sampling};

/// Rows of a piece: a weight that is read serves all of them, a step of others waits for no more than these, and logits
/// of as many rows are held, 25 MB with their copy in panels for a vocabulary of 50,000.
pub(crate) const ROWS: usize = 64;

/// Tokens whose margins one thread finds at a time.
const GROUP: usize = 8;

/// Most tokens of prompt and answer together. Keys and values of so many are kept apart for replays: 94 MB of
/// SmolLM2-135M, as much memory as its cache at most, and none before the first replay writes to it.
pub const MOST_REPLAYED: usize = 4096;

/// An answer, and everything that decides it.
pub struct Claim {
    /// What adapts the base, or nothing.
    pub adapter: Option<Arc<LoadedAdapter>>,
    /// Tokens that were to be continued.
    pub prompt: Vec<u32>,
    /// Tokens of the answer, one that ends it included.
    pub answer: Vec<u32>,
    /// How they were chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub ends: Arc<[u32]>,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Why it ended. An answer that ended with a text, not with a token, was cancelled as the engine sees it; that the
    /// text is there is for others to check.
    pub finish: Finish,
    /// What restricted the choice, as new; or nothing.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl fmt::Debug for Claim {
    /// Without the texts, which belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("prompt_tokens", &self.prompt.len())
            .field("answer_tokens", &self.answer.len())
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}

/// Why an answer is not replayed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The claim could be nobody's request.
    #[error("there is no such request: {0}")]
    Impossible(Refused),
    /// Another one is not done.
    #[error("another answer is being replayed; try again when it is done")]
    Busy,
    /// Nothing can be said of the answer.
    #[error("the answer cannot be replayed: {0}")]
    Failed(DrawError),
}

/// How far a replay is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// None was begun.
    Idle,
    /// There is more to read.
    More,
    /// It is done.
    Done(Result<Replay, ReplayError>),
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// For each token of the answer how far, in logits, it is from the one that its seed draws: 0 when it is the one,
    /// infinite when the constraint forbids it.
    pub margins: Vec<f32>,
    /// Whether it ended where it had to.
    pub ending: Ending,
}

/// Whether an answer ended where it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Yes.
    Right,
    /// It stopped, although nothing ended it.
    Early,
    /// It went on behind its end, after so many tokens.
    Late(usize),
    /// It ended there, but not for the reason that is given.
    Misnamed,
}

/// What counts as honest: no margin above the tolerance, and the right end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// A margin up to this is none, in logits.
    pub tolerance: f32,
}

impl Rule {
    /// For an answer of an engine of the same [`ARITHMETIC`]. Its bits are ours, so no token differs, and an answer that
    /// passes is, token for token, the one that an honest server gives.
    pub const SAME_ENGINE: Self = Self { tolerance: 0.0 };
    /// For an answer of the same model at the same precision by an engine that adds in another order: where its logits
    /// are within `e` of ours, margins are at most `2 e`. Over the embedded model the slow twin, which adds in plain order,
    /// chooses one of 40,000 tokens otherwise, by 0.00001. This leaves room a hundredfold, for deeper models; half of the
    /// tokens that int8 or four bits choose otherwise are tenfold beyond it.
    pub const OTHER_ENGINE: Self = Self { tolerance: 1e-3 };
}

/// What a rule says of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Honest,
    /// Tokens that its seed does not draw.
    Tokens {
        /// How many.
        count: usize,
        /// The first of them.
        first: usize,
        /// Its margin.
        margin: f32,
    },
    /// Another end.
    Ending(Ending),
}

impl Replay {
    /// Judges.
    pub fn verdict(&self, rule: Rule) -> Verdict {
        let differs = |(_, margin): &(usize, &f32)| **margin > rule.tolerance;
        let mut tokens = self.margins.iter().enumerate().filter(differs);
        if let Some((first, margin)) = tokens.next() {
            return Verdict::Tokens {
                count: 1 + tokens.count(),
                first,
                margin: *margin,
            };
        }
        match self.ending {
            Ending::Right => Verdict::Honest,
            ending => Verdict::Ending(ending),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Honest => write!(f, "the answer is what its model and seed give"),
            Self::Tokens {
                count,
                first,
                margin,
            } => write!(
                f,
                "{count} tokens are not what model and seed give, first token {} of the answer, by {margin} logits",
                first + 1
            ),
            Self::Ending(Ending::Right) => write!(f, "the answer ended where it had to"),
            Self::Ending(Ending::Early) => write!(f, "the answer was cut: nothing ended it"),
            Self::Ending(Ending::Late(after)) => {
                write!(f, "the answer goes on behind its end after {after} tokens")
            }
            Self::Ending(Ending::Misnamed) => {
                write!(f, "the answer did not end for the reason given")
            }
        }
    }
}

/// Positions that are kept for replays beside those of an engine whose texts have at most `positions`.
pub(crate) fn positions(positions: usize) -> usize {
    positions.min(MOST_REPLAYED)
}

/// A replay that is not done.
pub(crate) struct Replaying {
    claim: Claim,
    /// Prompt and answer.
    text: Vec<u32>,
    /// Tokens of it that were read.
    read: usize,
    margins: Vec<f32>,
    /// After how many tokens the constraint took the answer as whole.
    whole: Option<usize>,
    /// From which token of the answer on the constraint allows nothing.
    refused: Option<usize>,
}

/// Some tokens of the answer that follow each other.
struct Group<'a> {
    /// The first, counted through the answer.
    first: usize,
    /// The row of the piece that it follows.
    row: usize,
    allowed: &'a [Option<Vec<u32>>],
    margins: &'a mut [f32],
    error: Option<DrawError>,
}

impl Replaying {
    /// Checks what can be checked without reading.
    pub(crate) fn new(claim: Claim, info: &BaseInfo, most: usize) -> Result<Self, ReplayError> {
        let vocab = info.config.vocab;
        let refused = |refused| Err(ReplayError::Impossible(refused));
        if let Err(wrong) = claim.sampling.check(vocab) {
            return refused(wrong);
        }
        if claim.prompt.is_empty() {
            return refused(Refused::EmptyPrompt);
        }
        let (prompt, answer) = (claim.prompt.len(), claim.answer.len());
        if prompt.saturating_add(answer) > most {
            return refused(Refused::TooLong {
                prompt,
                answer,
                most,
            });
        }
        let text = [claim.prompt.as_slice(), &claim.answer].concat();
        if let Some(token) = text.iter().find(|token| **token as usize >= vocab) {
            let token = *token;
            return refused(Refused::UnknownToken { token, vocab });
        }
        Ok(Self {
            margins: vec![0.0; answer],
            text,
            read: 0,
            whole: None,
            refused: None,
            claim,
        })
    }

    /// Reads one piece into pages from `page` on. Gives the result when it was the last one.
    pub(crate) fn piece(
        &mut self,
        forward: &mut Forward,
        page: usize,
    ) -> Option<Result<Replay, ReplayError>> {
        // Nothing follows the last token.
        let last = self.text.len() - 1;
        let end = last.min(self.read + ROWS);
        if self.read < end && !self.claim.answer.is_empty() {
            let prompt = self.claim.prompt.len();
            // The token behind row `at` is number `at + 1 - prompt` of the answer.
            let from = self.read.max(prompt - 1);
            let wanted = from.min(end)..end;
            let tokens = wanted.start + 1 - prompt..wanted.end + 1 - prompt;
            let allowed = self.constrain(tokens.clone());
            let pages: Vec<u32> = (page..page + end.div_ceil(PAGE_TOKENS))
                .map(|page| page as u32)
                .collect();
            forward.step(&[Span {
                tokens: &self.text[self.read..end],
                position: self.read,
                pages: &pages,
                adapter: self.claim.adapter.as_deref(),
                logits: wanted.len(),
            }]);
            if let Err(error) = self.measure(forward, tokens, &allowed) {
                return Some(Err(ReplayError::Failed(error)));
            }
            self.read = end;
            if end < last {
                return None;
            }
        }
        Some(Ok(Replay {
            ending: self.ending(),
            margins: std::mem::take(&mut self.margins),
        }))
    }

    /// What the constraint allows for each of some tokens; nothing of all without one.
    fn constrain(&mut self, tokens: std::ops::Range<usize>) -> Vec<Option<Vec<u32>>> {
        let Some(constraint) = &mut self.claim.constraint else {
            return Vec::new();
        };
        let mut masks = Vec::with_capacity(tokens.len());
        for at in tokens {
            let is_over = self.refused.is_some() || self.whole.is_some();
            let allowed = if is_over {
                Ok(Vec::new())
            } else {
                constraint.allowed()
            };
            let token = self.claim.answer[at];
            let bit = |words: &Vec<u32>| words.get(token as usize / 32).copied().unwrap_or(0);
            match allowed {
                Ok(words) if bit(&words) >> (token % 32) & 1 == 1 => {
                    masks.push(Some(words));
                    match constraint.accept(token) {
                        Ok(()) if constraint.is_finished() => self.whole = Some(at + 1),
                        Ok(()) => {}
                        Err(_) => self.refused = Some(at + 1),
                    }
                }
                // Not the answer of a request that did not fail.
                _ => {
                    self.refused = self.refused.or(Some(at));
                    masks.push(None);
                }
            }
        }
        masks
    }

    /// Finds the margins of tokens behind the rows that gave logits.
    fn measure(
        &mut self,
        forward: &mut Forward,
        tokens: std::ops::Range<usize>,
        allowed: &[Option<Vec<u32>>],
    ) -> Result<(), DrawError> {
        let vocab = forward.vocab();
        let Claim {
            prompt,
            answer,
            sampling,
            ..
        } = &self.claim;
        let groups = self.margins[tokens.clone()].chunks_mut(GROUP);
        let mut groups: Vec<Group> = groups
            .enumerate()
            .map(|(at, margins)| Group {
                first: tokens.start + at * GROUP,
                row: at * GROUP,
                allowed: allowed.chunks(GROUP).nth(at).unwrap_or(&[]),
                margins,
                error: None,
            })
            .collect();
        forward.each(&mut groups, |logits, group| {
            let mut sampler = Sampler::new(sampling.clone(), prompt, vocab);
            answer[..group.first]
                .iter()
                .for_each(|token| sampler.accept(*token));
            for (at, margin) in group.margins.iter_mut().enumerate() {
                let number = group.first + at;
                let token = answer[number];
                let mask = match group.allowed.get(at) {
                    Some(None) => {
                        *margin = f32::INFINITY;
                        continue;
                    }
                    Some(Some(mask)) => Some(mask.as_slice()),
                    None => None,
                };
                let position = (prompt.len() + number) as u64;
                match sampler.margin(logits.of(group.row + at), position, mask, token) {
                    Ok(found) => *margin = found,
                    Err(error) => {
                        group.error = Some(error);
                        return;
                    }
                }
                sampler.accept(token);
            }
        });
        groups
            .iter()
            .find_map(|group| group.error)
            .map_or(Ok(()), Err)
    }

    /// Whether the answer ended where an engine ends it.
    fn ending(&self) -> Ending {
        let Claim {
            answer,
            ends,
            max_tokens,
            finish,
            ..
        } = &self.claim;
        let most = (*max_tokens).max(1);
        let by_token = answer.iter().position(|token| ends.contains(token));
        let by_token = by_token.map(|at| at + 1);
        let end = [by_token, self.whole].into_iter().flatten().min();
        let must = end.unwrap_or(usize::MAX).min(most);
        let is_end = end == Some(answer.len());
        match finish {
            _ if answer.len() > must => Ending::Late(must),
            Finish::End if is_end => Ending::Right,
            Finish::Length if !is_end && answer.len() == most => Ending::Right,
            _ if answer.len() == must => Ending::Misnamed,
            Finish::End | Finish::Length => Ending::Early,
            // Only the consumer knows whether it cancelled, and only its clock whether the deadline passed.
            Finish::Cancelled | Finish::Deadline | Finish::Failed(_) => Ending::Right,
        }
    }
}
