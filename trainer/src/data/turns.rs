//! Which part of a conversation the assistant says.
//!
//! The conversation up to a message, with the invitation to answer, is what a generation starts from;
//! the conversation including the message is where it should end. What lies between is the
//! assistant's. Both must be beginnings of the whole, or the template rewrites its past: then each answer is
//! learned by itself, in the conversation as the model would have been shown it.
//!
//! The invitation of some templates opens a thought that their finished answers do not have. The answer then begins
//! where invitation and finished message part.

use std::ops::Range;

use super::Document;
use super::document::Written;
use crate::chat::{ChatError, ChatTemplate, Conversation, Message};
use crate::tokenizer::Tokenizer;

/// What ends a thought within an answer.
const THOUGHT_END: &str = "</think>";
/// Fields of a message that are read here, whether or not a template names them.
const OWN_FIELDS: [&str; 2] = ["role", "content"];

/// The place of an answer among the messages, and the bytes of the written conversation that it says.
pub(crate) type Turn = (usize, Range<usize>);

/// The whole conversation and, in bytes of it, what the assistant says in each of its messages.
///
/// # Errors
/// [`ChatError::Render`] or [`ChatError::NotPrefix`].
pub(crate) fn turns(
    template: &ChatTemplate,
    conversation: &Conversation,
) -> Result<(String, Vec<Turn>), ChatError> {
    let messages = &conversation.messages;
    let whole = template.write(conversation, messages.len(), false)?;
    let mut found = Vec::new();
    for at in answers(messages) {
        let (after, said) = turn(template, conversation, at)?;
        if !whole.starts_with(&after) {
            return Err(ChatError::NotPrefix { message: at + 1 });
        }
        found.push((at, said));
    }
    Ok((whole, found))
}

/// The conversation up to the answer `at`, and where in it the answer stands.
fn turn(
    template: &ChatTemplate,
    conversation: &Conversation,
    at: usize,
) -> Result<(String, Range<usize>), ChatError> {
    let after = template.write(conversation, at + 1, false)?;
    let invited = template.write(conversation, at, true)?;
    if after.starts_with(&invited) {
        let turn = invited.len()..after.len();
        return Ok((after, turn));
    }
    let before = match at {
        0 => String::new(),
        _ => template.write(conversation, at, false)?,
    };
    let shared = shared_beginning(&invited, &after);
    // Beyond what came before, both must begin the assistant's message alike.
    if !(invited.starts_with(&before) && shared > before.len()) {
        return Err(ChatError::NotPrefix { message: at + 1 });
    }
    let text = conversation.messages[at].text();
    let said = after[before.len()..].find(text.trim());
    let start = said.map_or(shared, |said| shared.min(before.len() + said));
    let turn = start..after.len();
    Ok((after, turn))
}

/// The conversation's tokens; those that the assistant says are learned, up to and including the
/// last of `ends` in each turn: what the template writes behind it is never generated.
///
/// # Errors
/// See [`ChatError`].
pub(crate) fn encode(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    conversation: &Conversation,
    ends: &[u32],
) -> Result<Written, ChatError> {
    let messages = &conversation.messages;
    let mut written = Written::default();
    let mut add = |text: &str, turns: &[Turn]| {
        for (at, turn) in turns {
            let thought = messages[*at].text().contains(THOUGHT_END);
            if thought && !text[turn.clone()].contains(THOUGHT_END) {
                let what = "thoughts in answers, which the chat template leaves out";
                written.unused.insert(what.into());
            }
        }
        let learned = turns.iter().filter(|(at, _)| messages[*at].learned);
        let learned: Vec<Range<usize>> = learned.map(|(_, turn)| turn.clone()).collect();
        written
            .documents
            .push(document(tokenizer, text, &learned, ends)?);
        Ok::<(), ChatError>(())
    };
    match turns(template, conversation) {
        Ok((text, turns)) => add(&text, &turns)?,
        Err(ChatError::NotPrefix { .. }) => {
            for at in answers(messages).filter(|at| messages[*at].learned) {
                let (text, said) = turn(template, conversation, at)?;
                add(&text, &[(at, said)])?;
            }
        }
        Err(other) => return Err(other),
    }
    note_unused(template, conversation, &mut written);
    Ok(written)
}

/// Notes what the template does not name at all.
fn note_unused(template: &ChatTemplate, conversation: &Conversation, written: &mut Written) {
    if conversation.tools.is_some() && !template.names("tools") {
        written
            .unused
            .insert("tools, which the chat template has no place for".into());
    }
    let fields = conversation
        .messages
        .iter()
        .flat_map(|message| &message.more);
    for (name, _) in fields {
        if !OWN_FIELDS.contains(&name.as_str()) && !template.names(name) {
            written.unused.insert(format!("{name} of messages"));
        }
    }
}

/// Places of the assistant's messages.
fn answers(messages: &[Message]) -> impl Iterator<Item = usize> {
    (0..messages.len()).filter(|at| messages[*at].role == "assistant")
}

/// Bytes that two texts share at their beginnings, whole characters of them.
fn shared_beginning(one: &str, other: &str) -> usize {
    let pairs = one.char_indices().zip(other.chars());
    let mut shared = pairs.take_while(|((_, a), b)| a == b);
    shared
        .by_ref()
        .last()
        .map_or(0, |((at, last), _)| at + last.len_utf8())
}

fn document(
    tokenizer: &Tokenizer,
    text: &str,
    turns: &[Range<usize>],
    ends: &[u32],
) -> Result<Document, ChatError> {
    let (tokens, places) = tokenizer.encode_with_places(text)?;
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

#[cfg(test)]
mod tests;
