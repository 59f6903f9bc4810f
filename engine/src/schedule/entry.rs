//! One request: its text, how far it is read, and its pages.

use tributary_protocol::hash::Digest;

use super::Job;
use crate::pages::{PAGE_TOKENS, PageId, PageTokens, Pages, Parent};
use crate::request::{Consumer, Micros, RequestId, Usage};

/// Pages that hold so many positions.
pub(super) fn pages_for(positions: usize) -> usize {
    positions.div_ceil(PAGE_TOKENS)
}

pub(super) struct Entry {
    pub(super) id: RequestId,
    /// Its place in the order of arrival.
    pub(super) place: u64,
    pub(super) consumer: Consumer,
    cache: Digest,
    /// Prompt, then answer.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Most tokens of both.
    pub(super) most: usize,
    pub(super) deadline: Option<Micros>,
    /// Pages of all its tokens while it runs.
    pub(super) table: Vec<PageId>,
    /// Tokens whose keys and values are there.
    pub(super) position: usize,
    /// The farthest position ever. What is read again up to there is the engine's own affair.
    reached: usize,
    /// Tokens of the prompt that were found in the cache.
    cached: usize,
    /// Running requests of its consumer that are older.
    pub(super) rank: usize,
    pub(super) is_running: bool,
    pub(super) is_cancelled: bool,
    pub(super) is_charged: bool,
    /// Whether its logits were computed and no token came yet.
    pub(super) owes: bool,
}

impl Entry {
    pub(super) fn new(job: Job, place: u64) -> Self {
        let prompt = job.prompt.len();
        Self {
            id: job.id,
            place,
            consumer: job.consumer,
            cache: job.cache,
            tokens: job.prompt,
            prompt,
            most: prompt + job.max_tokens,
            deadline: job.deadline,
            table: Vec::new(),
            position: 0,
            reached: 0,
            cached: 0,
            rank: 0,
            is_running: false,
            is_cancelled: false,
            is_charged: false,
            owes: false,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt: self.prompt,
            cached: self.cached,
            answer: self.tokens.len() - self.prompt,
        }
    }

    /// Tokens that are not read.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.position
    }

    /// What comes before a page of the table.
    fn parent(&self, place: usize, table: &[PageId]) -> Parent {
        match place.checked_sub(1) {
            Some(before) => Parent::Page(table[before]),
            None => Parent::Root(self.consumer, self.cache),
        }
    }

    fn page_tokens(&self, place: usize) -> &PageTokens {
        let tokens = &self.tokens[place * PAGE_TOKENS..][..PAGE_TOKENS];
        tokens.try_into().expect("a whole page")
    }

    /// Full pages that the cache may give: the last token is read in any case, since the next one is drawn from its
    /// logits.
    fn most_found(&self) -> usize {
        (self.tokens.len() - 1) / PAGE_TOKENS
    }

    /// The page of the cache at a place, given the one before it.
    fn find_at(&self, pages: &Pages, place: usize, before: Option<PageId>) -> Option<PageId> {
        let parent = before.map_or(Parent::Root(self.consumer, self.cache), Parent::Page);
        pages.find(parent, self.page_tokens(place))
    }

    /// How many of its pages the cache holds, and how many of these nobody uses.
    pub(super) fn find(&self, pages: &Pages) -> (usize, usize) {
        let (mut found, mut unused) = (0, 0);
        let mut before = None;
        while found < self.most_found() {
            let Some(page) = self.find_at(pages, found, before) else {
                break;
            };
            found += 1;
            unused += usize::from(pages.is_unused(page));
            before = Some(page);
        }
        (found, unused)
    }

    /// Runs from now on: holds what the cache has of its text and takes pages for the rest.
    ///
    /// # Panics
    /// When there are not enough.
    pub(super) fn start(&mut self, pages: &mut Pages) {
        assert!(!self.is_running && self.table.is_empty() && self.position == 0);
        self.is_running = true;
        // Once, so that no step allocates.
        self.tokens.reserve_exact(self.most - self.tokens.len());
        self.table.reserve_exact(pages_for(self.most));
        while self.table.len() < self.most_found() {
            let place = self.table.len();
            let Some(page) = self.find_at(pages, place, self.table.last().copied()) else {
                break;
            };
            pages.hold(page);
            self.table.push(page);
        }
        let found = self.table.len() * PAGE_TOKENS;
        while self.table.len() < pages_for(self.tokens.len()) {
            self.table.push(pages.take().expect("its pages are there"));
        }
        self.count_cached(found);
        self.position = found;
    }

    /// Passes over pages that the cache got since this request began; gives the tokens of the prompt that this saved.
    pub(super) fn skip(&mut self, pages: &mut Pages) -> usize {
        let before = self.cached;
        while self.position.is_multiple_of(PAGE_TOKENS) {
            let place = self.position / PAGE_TOKENS;
            if place >= self.most_found() {
                break;
            }
            let parent = place.checked_sub(1).map(|before| self.table[before]);
            let Some(page) = self.find_at(pages, place, parent) else {
                break;
            };
            pages.hold(page);
            pages.give_back(std::mem::replace(&mut self.table[place], page));
            let position = self.position + PAGE_TOKENS;
            self.count_cached(position);
            self.position = position;
        }
        self.cached - before
    }

    /// Counts tokens of the prompt up to `found` that it never read.
    fn count_cached(&mut self, found: usize) {
        let end = found.min(self.prompt);
        self.cached += end.saturating_sub(self.reached.max(self.position));
        self.reached = self.reached.max(found);
    }

    /// Its text is read up to `end`; pages that are full now go into the cache.
    pub(super) fn read_to(&mut self, end: usize, pages: &mut Pages) {
        assert!(self.position < end && end <= self.tokens.len());
        for place in self.position / PAGE_TOKENS..end / PAGE_TOKENS {
            let parent = self.parent(place, &self.table);
            let page = pages.publish(parent, self.page_tokens(place), self.table[place]);
            self.table[place] = page;
        }
        self.position = end;
        self.reached = self.reached.max(end);
    }

    /// Gives back all its pages. It no longer runs; what it answered stays.
    pub(super) fn give_back(&mut self, pages: &mut Pages) {
        assert!(self.is_running);
        self.is_running = false;
        while let Some(page) = self.table.pop() {
            pages.give_back(page);
        }
        self.position = 0;
    }
}
