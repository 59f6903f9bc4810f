//! What is computed next: a pure machine in virtual time.
//!
//! ```text
//! submit -> waiting --admit--> running: reads its text, then one token a step --finish, cancel, deadline--> ended
//!              ^------------- put back when pages run out --'
//! ```
//! A step is [`Schedule::plan`], the forward pass, [`Schedule::computed`], then [`Schedule::advance`] or
//! [`Schedule::finish`] for each work that wants logits. The plan holds one row for each request that only continues, and
//! fills up with chunks of texts that are still read, so that long prompts delay running answers by a bounded part of a
//! step.
//!
//! Consumers take turns (`schedule/turns.rs`). A request is admitted when the pages of its text are there, and one more
//! for each request that runs. Nothing overtakes the one whose turn it is, so large requests do not starve.
//!
//! When pages run out, a running request is put back: the youngest of the consumer with the most. Its full pages stay in
//! the cache as long as nobody else needs them, its answer is kept, and its consumer sees but a pause. A consumer without
//! a running request may also take the place and the pages of such a request of others that have at least two. Every
//! consumer's oldest running request therefore outranks any other's second one; among the oldest, the first that came
//! stays. This order does not change while they run, so the first of all always comes to its end.

mod entry;
mod pace;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;

use tributary_protocol::hash::Digest;

use crate::pages::{PAGE_TOKENS, PageId, Pages};
use crate::request::{Consumer, Finish, Micros, Refused, RequestId, Usage};
use entry::{Entry, pages_for};
use pace::Pace;
use turns::{ANSWER_COST, Turns};

/// What a schedule may plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a step: tokens that go through the model at once. More than `running`.
    pub rows: usize,
    /// Of these, rows of texts that are still read: how long answers pause for prompts.
    pub prompt_rows: usize,
    /// Requests that are answered at the same time.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests of one consumer that wait, so that none takes all places.
    pub waiting_per_consumer: usize,
    /// Pages, each of [`PAGE_TOKENS`] positions.
    pub pages: usize,
    /// Positions that the model was made for: most tokens of prompt and answer.
    pub positions: usize,
}

/// A request as the schedule sees it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, given once only.
    pub id: RequestId,
    /// Whose.
    pub consumer: Consumer,
    /// Base, precision and adapter: what keys and values depend on besides the tokens.
    pub cache: Digest,
    /// Tokens to continue.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer; at least one.
    pub max_tokens: usize,
    /// When the answer is of no use any more.
    pub deadline: Option<Micros>,
}

/// Consecutive tokens of one request that go through the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whose.
    pub id: RequestId,
    /// Position of the first token; keys and values of all before it are there.
    pub first: usize,
    /// How many tokens.
    pub len: usize,
    /// Whether the token after the last one is to be drawn.
    pub wants_logits: bool,
    tokens_at: usize,
    pages_at: usize,
}

/// What to compute now, and what ended before it.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Each request at most once.
    pub work: Vec<Work>,
    /// Requests that were cancelled or passed their deadline. They are gone.
    pub ended: Vec<(RequestId, Finish, Usage)>,
    tokens: Vec<u32>,
    pages: Vec<PageId>,
}

impl Step {
    /// The tokens of a work.
    pub fn tokens(&self, work: &Work) -> &[u32] {
        &self.tokens[work.tokens_at..][..work.len]
    }

    /// The pages of positions 0 up to the last one of a work.
    pub fn pages(&self, work: &Work) -> &[PageId] {
        &self.pages[work.pages_at..][..pages_for(work.first + work.len)]
    }

    /// Tokens of all works.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    fn clear(&mut self) {
        self.work.clear();
        self.ended.clear();
        self.tokens.clear();
        self.pages.clear();
    }

    fn push(&mut self, entry: &Entry, end: usize) {
        self.work.push(Work {
            id: entry.id,
            first: entry.position,
            len: end - entry.position,
            wants_logits: end == entry.tokens.len(),
            tokens_at: self.tokens.len(),
            pages_at: self.pages.len(),
        });
        (self.tokens).extend_from_slice(&entry.tokens[entry.position..end]);
        (self.pages).extend_from_slice(&entry.table[..pages_for(end)]);
    }
}

/// Decides what is computed when.
pub struct Schedule {
    limits: Limits,
    pages: Pages,
    entries: BTreeMap<RequestId, Entry>,
    /// Best first.
    running: Vec<RequestId>,
    turns: Turns,
    pace: Pace,
    step: Step,
    /// When the step began that is being computed.
    open: Option<Micros>,
    /// Works of the last step whose token has not come.
    owed: usize,
    arrivals: u64,
    is_closing: bool,
    has_cancelled: bool,
    /// The first deadline of all.
    soonest: Option<Micros>,
    /// Space for [`Self::read`] and [`Self::rank`].
    readers: Vec<(u64, u64, RequestId)>,
    ranks: Vec<(Consumer, u64, RequestId)>,
}

impl Schedule {
    /// Nothing to do yet.
    ///
    /// # Panics
    /// When a limit is zero, or `rows` is not more than `running`: then answers would leave no row for prompts.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.prompt_rows > 0 && limits.running > 0 && limits.pages > 0);
        assert!(limits.rows > limits.running, "prompts need a row");
        Self {
            pages: Pages::new(limits.pages),
            limits,
            entries: BTreeMap::new(),
            running: Vec::new(),
            turns: Turns::default(),
            pace: Pace::default(),
            step: Step::default(),
            open: None,
            owed: 0,
            arrivals: 0,
            is_closing: false,
            has_cancelled: false,
            soonest: None,
            readers: Vec::new(),
            ranks: Vec::new(),
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// [`Refused::Closing`], [`Refused::EmptyPrompt`], [`Refused::TooLong`] when it could never be answered,
    /// [`Refused::Busy`] when the queue is full or holds as many of the consumer as it may.
    ///
    /// # Panics
    /// When there is a request of this name, or the answer may have no token.
    pub fn submit(&mut self, job: Job, _now: Micros) -> Result<(), Refused> {
        assert!(job.max_tokens > 0 && !self.entries.contains_key(&job.id));
        if self.is_closing {
            return Err(Refused::Closing);
        }
        if job.prompt.is_empty() {
            return Err(Refused::EmptyPrompt);
        }
        let most = (self.limits.positions).min(self.limits.pages.saturating_mul(PAGE_TOKENS));
        let (prompt, answer) = (job.prompt.len(), job.max_tokens);
        if prompt.saturating_add(answer) > most {
            return Err(Refused::TooLong {
                prompt,
                answer,
                most,
            });
        }
        self.check_queue(job.consumer)?;
        if let Some(deadline) = job.deadline {
            let soonest = self.soonest.unwrap_or(deadline);
            self.soonest = Some(soonest.min(deadline));
        }
        let place = self.arrivals;
        self.arrivals += 1;
        self.turns.arrive(job.consumer, place, job.id);
        self.entries.insert(job.id, Entry::new(job, place));
        Ok(())
    }

    /// Refused are those that come when the queue is full; by the time named, half of what is in their way is gone.
    fn check_queue(&self, consumer: Consumer) -> Result<(), Refused> {
        let (waiting, own) = (self.turns.waiting(), self.turns.waiting_of(consumer));
        let (waiting, ahead) = if waiting >= self.limits.waiting {
            (waiting, waiting.div_ceil(2))
        } else if own >= self.limits.waiting_per_consumer {
            // One of them ends in the time in which one of each other waiting consumer does.
            (own, own.div_ceil(2) * self.turns.waiting_consumers().max(1))
        } else {
            return Ok(());
        };
        Err(Refused::Busy {
            waiting,
            retry_after_s: self.pace.seconds(ahead),
        })
    }

    /// Ends a request: the next plan says so. Does nothing when it has ended.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_cancelled = true;
            self.has_cancelled = true;
        }
    }

    /// Takes no more requests; those that are there are finished.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether every request has ended and its end was told.
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    /// Requests that wait, and requests that run.
    pub fn load(&self) -> (usize, usize) {
        (self.turns.waiting(), self.running.len())
    }

    /// Plans a step. It may hold no work, and then there is nothing to compute.
    ///
    /// # Panics
    /// When the step before was not computed, or a token of it neither advanced nor finished its request.
    pub fn plan(&mut self, now: Micros) -> &Step {
        assert!(self.open.is_none(), "the step before was computed");
        assert_eq!(self.owed, 0, "each token advances or finishes its request");
        self.step.clear();
        self.end_due(now);
        self.rank();
        self.grow();
        self.admit();
        self.fill();
        assert!(self.is_idle() || !self.step.work.is_empty());
        if !self.step.work.is_empty() {
            self.open = Some(now);
        }
        &self.step
    }

    /// The step that was planned last.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Takes note that all work of the step is done.
    ///
    /// # Panics
    /// When no step with work was planned.
    pub fn computed(&mut self, now: Micros) {
        let began = self.open.take().expect("a step with work was planned");
        self.pace.step(began, now);
        for work in &self.step.work {
            let entry = self.entries.get_mut(&work.id).expect("it is running");
            entry.read_to(work.first + work.len, &mut self.pages);
            entry.owes = work.wants_logits;
            self.owed += usize::from(work.wants_logits);
        }
    }

    /// The token that was drawn for a request. Whether another one may follow; otherwise it must be finished.
    ///
    /// # Panics
    /// When the last step did not compute what it is drawn from.
    pub fn advance(&mut self, id: RequestId, token: u32) -> bool {
        let entry = self.entries.get_mut(&id).expect("it has not ended");
        assert!(entry.owes, "its logits were computed");
        entry.owes = false;
        self.owed -= 1;
        entry.tokens.push(token);
        self.turns.charge(entry.consumer, ANSWER_COST);
        entry.tokens.len() < entry.most
    }

    /// Ends a request: its answer is whole, or something is wrong with it.
    ///
    /// # Panics
    /// When it has ended, or between plan and computation.
    pub fn finish(&mut self, id: RequestId) -> Usage {
        assert!(self.open.is_none(), "the step is computed first");
        self.remove(id)
    }

    fn remove(&mut self, id: RequestId) -> Usage {
        let mut entry = self.entries.remove(&id).expect("it has not ended");
        self.owed -= usize::from(entry.owes);
        if entry.is_running {
            entry.give_back(&mut self.pages);
            self.running.retain(|running| *running != id);
            self.turns.end_running(entry.consumer);
            self.pace.end();
        } else {
            self.turns.end_waiting(entry.consumer, id);
        }
        entry.usage()
    }

    /// Ends what was cancelled or came too late.
    fn end_due(&mut self, now: Micros) {
        let is_due = self.soonest.is_some_and(|soonest| soonest <= now);
        if !is_due && !self.has_cancelled {
            return;
        }
        let mut ended = std::mem::take(&mut self.step.ended);
        for entry in self.entries.values() {
            let finish = if entry.is_cancelled {
                Finish::Cancelled
            } else if entry.deadline.is_some_and(|deadline| deadline <= now) {
                Finish::Deadline
            } else {
                continue;
            };
            ended.push((entry.id, finish, entry.usage()));
        }
        for (id, _, _) in &ended {
            self.remove(*id);
        }
        self.step.ended = ended;
        self.has_cancelled = false;
        self.soonest = self.entries.values().filter_map(|e| e.deadline).min();
    }

    /// Orders running requests: every consumer's oldest one, then every one's second, each by arrival.
    fn rank(&mut self) {
        self.ranks.clear();
        for id in &self.running {
            let entry = &self.entries[id];
            self.ranks.push((entry.consumer, entry.place, *id));
        }
        self.ranks.sort_unstable();
        let mut last = (Consumer::default(), 0);
        for (at, (consumer, _, id)) in self.ranks.iter().enumerate() {
            let is_same = at > 0 && last.0 == *consumer;
            last = (*consumer, if is_same { last.1 + 1 } else { 0 });
            let entry = self.entries.get_mut(id).expect("it is running");
            entry.rank = last.1;
        }
        let entries = &self.entries;
        (self.running).sort_unstable_by_key(|id| (entries[id].rank, entries[id].place));
    }

    /// Gives each running request the page of its next token, putting back the last ones when there are not enough.
    fn grow(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let entry = self.entries.get_mut(&self.running[at]).expect("it runs");
            assert!(
                entry.tokens.len() < entry.most,
                "a whole answer is finished"
            );
            if entry.table.len() < pages_for(entry.tokens.len()) {
                let Some(page) = self.pages.take() else {
                    self.put_back_last();
                    continue;
                };
                entry.table.push(page);
            }
            at += 1;
        }
        assert!(self.running.len() >= at);
    }

    fn put_back_last(&mut self) {
        let id = self.running.pop().expect("there is one");
        let entry = self.entries.get_mut(&id).expect("it is running");
        entry.give_back(&mut self.pages);
        (self.turns).put_back(entry.consumer, entry.place, entry.id);
    }

    fn admit(&mut self) {
        while let Some((consumer, id)) = self.turns.next() {
            if !self.make_way(consumer, id) {
                return;
            }
            let entry = self.entries.get_mut(&id).expect("it waits");
            entry.start(&mut self.pages);
            self.turns.admit(consumer);
            if !entry.is_charged {
                entry.is_charged = true;
                let cost = entry.prompt.saturating_sub(entry.position);
                self.turns.charge(consumer, cost as u64);
            }
            self.running.push(id);
            self.rank();
        }
    }

    /// Whether there is a place and pages for a request, perhaps because others are put back.
    fn make_way(&mut self, consumer: Consumer, id: RequestId) -> bool {
        let running = self.running.len();
        if running >= self.limits.running && self.turns.running_of(consumer) > 0 {
            // Without a look into the cache.
            return false;
        }
        let entry = &self.entries[&id];
        let (found, unused) = entry.find(&self.pages);
        let need = pages_for(entry.tokens.len()) - found + unused;
        let fits = |available: usize, running: usize| {
            // One page for each that runs, lest this one is put back at once.
            running < self.limits.running && need + running <= available
        };
        let mut available = self.pages.available();
        if fits(available, running) {
            return true;
        }
        if self.turns.running_of(consumer) > 0 {
            return false;
        }
        let mut victims = 0;
        for id in self.running.iter().rev() {
            let victim = &self.entries[id];
            if victim.rank == 0 {
                break;
            }
            let table = victim.table.iter();
            available += table.filter(|page| self.pages.is_sole(**page)).count();
            victims += 1;
            if fits(available, running - victims) {
                (0..victims).for_each(|_| self.put_back_last());
                return true;
            }
        }
        false
    }

    /// Writes the rows: first of those that continue, then of those that read.
    fn fill(&mut self) {
        self.readers.clear();
        for id in &self.running {
            let entry = &self.entries[id];
            if entry.pending() == 1 {
                self.step.push(entry, entry.tokens.len());
            } else {
                let served = self.turns.served(entry.consumer);
                self.readers.push((served, entry.place, *id));
            }
        }
        let left = self.limits.rows - self.step.rows();
        self.read(left.min(self.limits.prompt_rows));
    }

    /// Hands out rows to those that read: to the least served consumer first. A page of rows goes to the request that
    /// came first of all in any case, so that nobody reads for ever.
    fn read(&mut self, mut budget: usize) {
        self.readers.sort_unstable();
        let Some(oldest) = self.readers.iter().map(|(_, place, _)| *place).min() else {
            return;
        };
        let mut kept = PAGE_TOKENS.min(budget.div_ceil(2));
        let mut is_first = true;
        for (_, place, id) in &self.readers {
            let is_oldest = *place == oldest;
            if is_oldest {
                kept = 0;
            }
            let rows = budget - kept;
            if rows == 0 {
                continue;
            }
            let entry = self.entries.get_mut(id).expect("it is running");
            // What others computed meanwhile.
            let saved = entry.skip(&mut self.pages);
            self.turns.refund(entry.consumer, saved as u64);
            let mut end = entry.tokens.len().min(entry.position + rows);
            if end < entry.tokens.len() {
                // Whole pages, which others may then use; a few rows of one only where nothing else is read.
                let aligned = end / PAGE_TOKENS * PAGE_TOKENS;
                if aligned > entry.position {
                    end = aligned;
                } else if !is_first && !is_oldest {
                    continue;
                }
            }
            budget -= end - entry.position;
            is_first = false;
            self.step.push(entry, end);
        }
    }
}
