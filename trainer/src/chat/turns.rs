//! Which part of a conversation the assistant says.
//!
//! The conversation up to a message, with the invitation to answer, is what a generation starts from;
//! the conversation including the message is where it should end. What lies between is the
//! assistant's. Both must be beginnings of the whole, or the template rewrites its past and the parts
//! cannot be told apart.

use std::ops::Range;

use super::{ChatError, ChatTemplate};
use crate::data::{Document, Message};
use crate::tokenizer::Tokenizer;

impl ChatTemplate {
    /// The whole conversation and, in bytes of it, what the assistant says.
    ///
    /// # Errors
    /// [`ChatError::Render`] or [`ChatError::NotPrefix`].
    pub fn turns(&self, messages: &[Message]) -> Result<(String, Vec<Range<usize>>), ChatError> {
        let whole = self.render(messages, false)?;
        let mut turns = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            if message.role != "assistant" {
                continue;
            }
            let before = self.render(&messages[..at], true)?;
            let after = match at + 1 == messages.len() {
                true => whole.clone(),
                false => self.render(&messages[..=at], false)?,
            };
            if !(whole.starts_with(&after) && after.starts_with(&before)) {
                return Err(ChatError::NotPrefix { message: at + 1 });
            }
            turns.push(before.len()..after.len());
        }
        Ok((whole, turns))
    }

    /// The conversation's tokens; those that the assistant says are learned, up to and including the
    /// last of `ends` in each turn: what the template writes behind it is never generated.
    ///
    /// # Errors
    /// See [`ChatError`].
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        ends: &[u32],
    ) -> Result<Document, ChatError> {
        let (text, turns) = self.turns(messages)?;
        let (tokens, places) = tokenizer.encode_with_places(&text)?;
        let mut learned = vec![false; tokens.len()];
        for turn in turns {
            // A token that begins before the turn is part of what the answer was given.
            let first = places.partition_point(|place| place.start < turn.start);
            let mut last = first + places[first..].partition_point(|place| place.end <= turn.end);
            let said = tokens[first..last].iter();
            if let Some(end) = said.clone().rposition(|token| ends.contains(token)) {
                last = first + end + 1;
            }
            learned[first..last].fill(true);
        }
        Ok(Document {
            tokens,
            learned: Some(learned),
        })
    }
}
