//! The engine: requests in, steps, events out.
//!
//! ```text
//! submit -> schedule -- plan --> forward pass, masks of constraints beside it -- logits --> samplers -> tokens
//!              ^------------------------------------------------------------------------------'
//! ```
//! It joins what knows nothing of each other: `schedule` decides what is read next, `forward` reads it, `sample` chooses.
//! One thread drives it; it has no clock and asks for the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::adapter::LoadedAdapter;
use crate::attend::Heads;
use crate::base::{self, Base, BaseInfo, LoadError};
use crate::config::Config;
use crate::forward::{Forward, Span};
use crate::pages::{PAGE_TOKENS, PageId};
use crate::replay::{self, Claim, Progress, Replay, ReplayError, Replaying};
use crate::request::{
    Constraint, Event, Finish, Micros, Refused, Request, RequestId, Token, Usage,
};
use crate::sample::Sampler;
use crate::schedule::{Job, Limits, Schedule};
use crate::weights::PackedParameter;

/// Rows of prompts in one step: enough to make good use of each weight that is read, and few enough that answers pause
/// for a fraction of a second on two threads.
const PROMPT_ROWS: usize = 256;

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
    /// Bytes for keys and values of all requests and of what is kept for later ones. Replays have their own, as many at
    /// most, of which the system sees nothing before the first replay.
    pub cache_bytes: usize,
    /// Most requests that wait, at most half of them of one consumer.
    pub most_waiting: usize,
    /// Most requests that are answered at the same time.
    pub most_running: usize,
}

/// Answers requests, step by step. One thread drives it.
pub struct Engine {
    info: BaseInfo,
    forward: Forward,
    schedule: Schedule,
    live: BTreeMap<RequestId, Live>,
    next: u64,
    replaying: Option<Replaying>,
    /// The first page of replays, and most positions of one.
    apart: (usize, usize),
}

/// What a request needs besides its place in the schedule.
struct Live {
    adapter: Option<Arc<LoadedAdapter>>,
    sampler: Sampler,
    ends: Arc<[u32]>,
    logprobs: Option<usize>,
    constraint: Option<Box<dyn Constraint>>,
    /// What the constraint allows next.
    allowed: Option<Result<Vec<u32>, String>>,
}

/// The choice of one token.
struct Draw<'a> {
    id: RequestId,
    live: &'a mut Live,
    position: u64,
    nth: usize,
    drawn: Option<Result<Token, String>>,
}

impl Engine {
    /// Lays out a base that is in memory already.
    pub fn new(base: Base, options: EngineOptions) -> Self {
        let parameters = base.parameters.into_iter();
        // One after the other: what was packed is freed.
        let parameters = parameters.map(|p| PackedParameter::new(p, options.precision));
        Self::of(base.info, parameters, options)
    }

    /// Loads a Hugging Face folder. Each tensor is packed as soon as it is read, so that with [`Precision::Int8`] the
    /// whole model is never in memory in f32; its hash is that of its files all the same.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_dir(folder: &Path, options: EngineOptions) -> Result<Self, LoadError> {
        let pack = |parameter| PackedParameter::new(parameter, options.precision);
        let (info, parameters) = base::read_dir(folder, pack)?;
        Ok(Self::of(info, parameters.into_iter(), options))
    }

    fn of(
        info: BaseInfo,
        parameters: impl Iterator<Item = PackedParameter>,
        options: EngineOptions,
    ) -> Self {
        let pages = (options.cache_bytes / page_bytes(&info.config)).max(1);
        let positions = info.config.max_context.min(pages * PAGE_TOKENS);
        let running = options.most_running.max(1);
        let limits = Limits {
            rows: PROMPT_ROWS + running,
            prompt_rows: PROMPT_ROWS,
            running,
            waiting: options.most_waiting.max(1),
            waiting_per_consumer: options.most_waiting.div_ceil(2).max(1),
            pages,
            positions,
        };
        let replayed = replay::positions(positions);
        let size = (positions, pages + replayed.div_ceil(PAGE_TOKENS));
        let (precision, threads) = (options.precision, options.threads);
        Self {
            forward: Forward::new(&info, parameters, precision, threads, size),
            schedule: Schedule::new(limits),
            info,
            live: BTreeMap::new(),
            next: 0,
            replaying: None,
            apart: (pages, replayed),
        }
    }

    /// What it answers with.
    pub fn info(&self) -> &BaseInfo {
        &self.info
    }

    /// Takes a request.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn submit(&mut self, request: Request, now: Micros) -> Result<RequestId, Refused> {
        let vocab = self.info.config.vocab;
        request.sampling.check(vocab)?;
        if let Some(token) = request.prompt.iter().find(|id| **id as usize >= vocab) {
            return Err(Refused::UnknownToken {
                token: *token,
                vocab,
            });
        }
        let id = RequestId(self.next);
        let content = request.adapter.as_ref().map(|adapter| adapter.content());
        let sampler = Sampler::new(request.sampling, &request.prompt, vocab);
        let job = Job {
            id,
            consumer: request.consumer,
            // One engine has one base and one precision.
            cache: content.unwrap_or_default(),
            prompt: request.prompt,
            max_tokens: request.max_tokens.max(1),
            deadline: request.deadline,
        };
        self.schedule.submit(job, now)?;
        self.next += 1;
        let live = Live {
            adapter: request.adapter,
            sampler,
            ends: request.ends,
            logprobs: request.logprobs,
            constraint: request.constraint,
            allowed: None,
        };
        self.live.insert(id, live);
        Ok(id)
    }

    /// Ends a request within a step. Its [`Event::Finished`] still comes.
    pub fn cancel(&mut self, id: RequestId) {
        self.schedule.cancel(id);
    }

    /// Takes nothing more; what was taken is finished.
    pub fn close(&mut self) {
        self.schedule.close();
    }

    /// Requests that wait, and requests that run.
    pub fn load(&self) -> (usize, usize) {
        self.schedule.load()
    }

    /// Works for one step and tells what came of it. False when there was nothing to do.
    pub fn step(
        &mut self,
        clock: &dyn Fn() -> Micros,
        tell: &mut dyn FnMut(RequestId, Event),
    ) -> bool {
        if self.schedule.is_idle() {
            return false;
        }
        self.schedule.plan(clock());
        let step = self.schedule.step();
        for (id, finish, usage) in &step.ended {
            self.live.remove(id);
            tell(*id, Event::Finished(finish.clone(), *usage));
        }
        if step.work.is_empty() {
            return true;
        }
        self.compute();
        self.schedule.computed(clock());
        for (id, drawn) in self.draw() {
            self.tell(id, drawn, tell);
        }
        true
    }

    /// Begins to check an answer. [`Self::replay_piece`] goes on with it.
    ///
    /// # Errors
    /// When one is being checked, or no request could have this answer.
    pub fn begin_replay(&mut self, claim: Claim) -> Result<(), ReplayError> {
        if self.replaying.is_some() {
            return Err(ReplayError::Busy);
        }
        let (_, most) = self.apart;
        self.replaying = Some(Replaying::new(claim, &self.info, most)?);
        Ok(())
    }

    /// Reads one piece of the answer that is being checked, which takes no longer than a step that reads a prompt. Call
    /// it between steps, after each or only when there is nothing else to do.
    pub fn replay_piece(&mut self) -> Progress {
        let Some(replaying) = &mut self.replaying else {
            return Progress::Idle;
        };
        match replaying.piece(&mut self.forward, self.apart.0) {
            None => Progress::More,
            Some(found) => {
                self.replaying = None;
                Progress::Done(found)
            }
        }
    }

    /// Forgets the answer that is being checked.
    pub fn drop_replay(&mut self) {
        self.replaying = None;
    }

    /// Checks an answer while nothing else is done.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn replay(&mut self, claim: Claim) -> Result<Replay, ReplayError> {
        self.begin_replay(claim)?;
        loop {
            if let Progress::Done(found) = self.replay_piece() {
                return found;
            }
        }
    }

    /// Reads what is planned; beside it, the constraints say what may follow.
    fn compute(&mut self) {
        let step = self.schedule.step();
        let tables: Vec<Vec<u32>> = (step.work.iter())
            .map(|work| step.pages(work).iter().map(|PageId(page)| *page).collect())
            .collect();
        let wants = |id| step.work.iter().any(|w| w.id == id && w.wants_logits);
        let (mut constrained, mut adapters) = (Vec::new(), BTreeMap::new());
        for (id, live) in &mut self.live {
            adapters.insert(*id, live.adapter.as_deref());
            if let Some(constraint) = live.constraint.as_mut().filter(|_| wants(*id)) {
                constrained.push((constraint, &mut live.allowed));
            }
        }
        let spans: Vec<Span> = (step.work.iter().zip(&tables))
            .map(|(work, pages)| Span {
                tokens: step.tokens(work),
                position: work.first,
                pages,
                adapter: adapters.get(&work.id).copied().flatten(),
                logits: usize::from(work.wants_logits),
            })
            .collect();
        if constrained.is_empty() {
            self.forward.step(&spans);
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (constraint, allowed) in constrained {
                    *allowed = Some(constraint.allowed());
                }
            });
            self.forward.step(&spans);
        });
    }

    /// The tokens that follow, in the order of the works.
    fn draw(&mut self) -> Vec<(RequestId, Result<Token, String>)> {
        let work = &self.schedule.step().work;
        let wanted: BTreeMap<RequestId, (usize, u64)> = (work.iter())
            .filter(|work| work.wants_logits)
            .enumerate()
            .map(|(nth, work)| (work.id, (nth, (work.first + work.len) as u64)))
            .collect();
        let mut draws: Vec<Draw> = (self.live.iter_mut())
            .filter_map(|(id, live)| {
                let (nth, position) = *wanted.get(id)?;
                Some(Draw {
                    id: *id,
                    live,
                    position,
                    nth,
                    drawn: None,
                })
            })
            .collect();
        self.forward.each(&mut draws, |logits, draw| {
            let allowed = match draw.live.allowed.take() {
                Some(Err(why)) => {
                    draw.drawn = Some(Err(why));
                    return;
                }
                Some(Ok(allowed)) => Some(allowed),
                None => None,
            };
            let (live, logits) = (&mut *draw.live, logits.of(draw.nth));
            let sampler = &mut live.sampler;
            let drawn = sampler.draw(logits, draw.position, allowed.as_deref(), live.logprobs);
            draw.drawn = Some(drawn.map_err(|error| error.to_string()));
        });
        let drawn = draws.into_iter();
        drawn
            .map(|draw| (draw.id, draw.drawn.expect("every draw was made")))
            .collect()
    }

    /// Tells of a token, and of the end where it is one.
    fn tell(
        &mut self,
        id: RequestId,
        drawn: Result<Token, String>,
        tell: &mut dyn FnMut(RequestId, Event),
    ) {
        let live = self.live.get_mut(&id).expect("it has not ended");
        let token = match drawn {
            Ok(token) => token,
            Err(why) => return self.end(id, Finish::Failed(why), tell),
        };
        live.sampler.accept(token.id);
        let more = self.schedule.advance(id, token.id);
        let mut finish = (!more).then_some(Finish::Length);
        if live.ends.contains(&token.id) {
            finish = Some(Finish::End);
        }
        if let Some(constraint) = &mut live.constraint {
            match constraint.accept(token.id) {
                Ok(()) if constraint.is_finished() => finish = Some(Finish::End),
                Ok(()) => {}
                Err(why) => finish = Some(Finish::Failed(why)),
            }
        }
        tell(id, Event::Token(token));
        if let Some(finish) = finish {
            self.end(id, finish, tell);
        }
    }

    fn end(&mut self, id: RequestId, finish: Finish, tell: &mut dyn FnMut(RequestId, Event)) {
        let usage: Usage = self.schedule.finish(id);
        self.live.remove(&id);
        tell(id, Event::Finished(finish, usage));
    }
}

/// Bytes of keys and values that one page takes in all layers.
fn page_bytes(config: &Config) -> usize {
    let heads = Heads::new(config);
    size_of::<u16>() * config.layers * heads.kv * heads.page()
}

#[cfg(test)]
mod tests;
