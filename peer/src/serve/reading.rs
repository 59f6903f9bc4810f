//! What requests are read with: a base's tokens, its chat template, and the tokens that forms are kept to with. The server
//! reads requests with it before it answers, and a jury once more, to compute an answer's shares again.

use std::path::Path;
use std::sync::Arc;

use tributary_engine::base::BaseInfo;
use tributary_engine::chat::ChatTemplate;
use tributary_engine::text::Text;
use tributary_engine::{Base, Vocabulary};

use super::ask::Ask;
use super::fields::Fields;
use super::{Refusal, chat, completions, responses};

/// Of one base.
pub(crate) struct Reading {
    pub(super) info: BaseInfo,
    pub(super) template: Option<ChatTemplate>,
    /// The base's tokens, for answers that keep a form.
    pub(super) vocabulary: Vocabulary,
    pub(super) ends: Arc<[u32]>,
}

/// What one request asked, and the text that its client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Tokens of the prompt.
    pub(crate) prompt: Vec<u32>,
    /// The answer, as the client reads it.
    pub(crate) text: String,
}

impl Reading {
    pub(super) fn new(info: BaseInfo, template: Option<ChatTemplate>) -> Result<Self, String> {
        let ends: Arc<[u32]> = info.end_tokens().into();
        let vocabulary = Vocabulary::new(&info.tokenizer, &ends, info.config.vocab);
        Ok(Self {
            vocabulary: vocabulary.map_err(|e| e.to_string())?,
            info,
            template,
            ends,
        })
    }

    /// Of the base in a folder; `brook` without one.
    pub(crate) fn of(folder: Option<&Path>) -> Result<Self, String> {
        let (base, template) = match folder {
            None => (Base::brook(), None),
            Some(folder) => (Base::from_dir(folder), ChatTemplate::for_rows(folder)),
        };
        let base = base.map_err(|e| format!("the base cannot be read: {e}"))?;
        Self::new(base.info, template)
    }

    /// Hash of the base.
    pub(crate) fn base(&self) -> String {
        self.info.hash.to_string()
    }

    /// What the body of a request with one answer asked, and what the tokens of that answer say.
    ///
    /// # Errors
    /// For a body that no server answers, and for several prompts or answers: it is not told which of them is meant.
    pub(crate) fn told(&self, body: &str, answer: &[u32]) -> Result<Told, String> {
        let ask = self.ask(body).map_err(|refusal| refusal.message)?;
        let [prompt] = &ask.prompts[..] else {
            return Err("the request has several prompts".to_owned());
        };
        if ask.settings.answers != 1 {
            return Err("the request has several answers".to_owned());
        }
        let vocab = self.info.config.vocab;
        if answer.iter().any(|id| *id as usize >= vocab) {
            return Err(format!("the answer has tokens that are none of {vocab}"));
        }
        let tokenizer = &self.info.tokenizer;
        let mut shown = Text::new(tokenizer, ask.settings.stops.clone());
        let mut text = String::new();
        let mut is_stopped = false;
        for id in answer.iter().filter(|id| !self.ends.contains(id)) {
            let more = shown.push(tokenizer, *id);
            text.push_str(&more.text);
            is_stopped = more.stopped;
            if is_stopped {
                break;
            }
        }
        if !is_stopped {
            text.push_str(&shown.finish(tokenizer).text);
        }
        Ok(Told {
            prompt: prompt.clone(),
            text,
        })
    }

    /// The request that a body makes, of whichever kind it is: each has a field that the others have not.
    fn ask(&self, body: &str) -> Result<Ask, Refusal> {
        let fields = Fields::read(body.as_bytes())?;
        if fields.has("messages") {
            chat::read(self, fields)
        } else if fields.has("prompt") {
            completions::read(self, fields)
        } else {
            responses::read(self, fields).map(|(ask, _)| ask)
        }
    }
}
