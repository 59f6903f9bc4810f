//! The engine: requests in, steps, events out.

use std::collections::VecDeque;

use crate::base::Base;
use crate::reference::Reference;
use crate::request::{Event, Finish, Micros, Refused, Request, RequestId, Token, Usage};

/// Weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Four bytes a number, as the trainer computes.
    #[default]
    F32,
    /// One byte a number and a scale for each group of them.
    Int8,
}

/// What an engine may take of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// How weights are kept.
    pub precision: Precision,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes for keys and values of all requests and of what is kept for later ones.
    pub cache_bytes: usize,
    /// Most requests that wait.
    pub most_waiting: usize,
    /// Most requests that are answered at the same time.
    pub most_running: usize,
}

/// Answers requests, step by step. One thread drives it.
pub struct Engine {
    base: Base,
    options: EngineOptions,
    waiting: VecDeque<(RequestId, Request)>,
    next: u64,
    closing: bool,
}

impl Engine {
    /// Lays out a base.
    pub fn new(base: Base, options: EngineOptions) -> Self {
        Self {
            base,
            options,
            waiting: VecDeque::new(),
            next: 0,
            closing: false,
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn submit(&mut self, request: Request, _now: Micros) -> Result<RequestId, Refused> {
        if self.closing {
            return Err(Refused::Closing);
        }
        if request.prompt.is_empty() {
            return Err(Refused::EmptyPrompt);
        }
        if self.waiting.len() >= self.options.most_waiting {
            return Err(Refused::Busy {
                waiting: self.waiting.len(),
                retry_after_s: 1,
            });
        }
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Ends a request within a step. Its [`Event::Finished`] still comes.
    pub fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    /// Takes nothing more; what was taken is finished.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Works for one step and tells what came of it. False when there was nothing to do.
    pub fn step(&mut self, _now: Micros, tell: &mut dyn FnMut(RequestId, Event)) -> bool {
        let Some((id, request)) = self.waiting.pop_front() else {
            return false;
        };
        let adapter = None;
        let positions = request.prompt.len() + request.max_tokens;
        let mut text = match Reference::new(&self.base, adapter, positions) {
            Ok(text) => text,
            Err(error) => {
                let usage = Usage::default();
                tell(
                    id,
                    Event::Finished(Finish::Failed(error.to_string()), usage),
                );
                return true;
            }
        };
        let mut logits = Vec::new();
        for token in &request.prompt {
            logits = text.read(*token);
        }
        let mut usage = Usage {
            prompt: request.prompt.len(),
            ..Usage::default()
        };
        let mut finish = Finish::Length;
        while usage.answer < request.max_tokens {
            let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
            let token = Token {
                id: best as u32,
                logprob: 0.0,
                top: Vec::new(),
            };
            usage.answer += 1;
            tell(id, Event::Token(token));
            if request.ends.contains(&(best as u32)) {
                finish = Finish::End;
                break;
            }
            logits = text.read(best as u32);
        }
        tell(id, Event::Finished(finish, usage));
        true
    }
}
