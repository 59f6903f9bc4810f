//! A simulated engine in virtual time, whose pages hold the names of the texts that were written to them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits {
    rows: 24,
    prompt_rows: 20,
    running: 4,
    waiting: 1000,
    waiting_per_consumer: 1000,
    pages: 12,
    positions: 12 * PAGE_TOKENS,
};

const USUAL: Limits = Limits {
    rows: 256,
    prompt_rows: 192,
    running: 32,
    waiting: 20_000,
    waiting_per_consumer: 20_000,
    pages: 1024,
    positions: 4096,
};

fn consumer(number: u8) -> Consumer {
    Consumer([number; 32])
}

/// What a simulated request saw.
struct Text {
    job: Job,
    tokens: Vec<u32>,
    read: usize,
    /// Steps between submission and the first token, and the end.
    submitted: u64,
    first: Option<u64>,
    ended: Option<(u64, Usage)>,
    put_back: usize,
}

struct Simulator {
    schedule: Schedule,
    now: Micros,
    steps: u64,
    rows: u64,
    /// For each position of each page, the hash of the text up to there and of what it was computed with.
    memory: Vec<[u64; PAGE_TOKENS]>,
    texts: BTreeMap<RequestId, Text>,
    next: u64,
    /// Whether every invariant is checked after each step.
    is_checked: bool,
}

impl Simulator {
    fn new(limits: Limits) -> Self {
        Self {
            schedule: Schedule::new(limits),
            now: Micros(0),
            steps: 0,
            rows: 0,
            memory: vec![[0; PAGE_TOKENS]; limits.pages],
            texts: BTreeMap::new(),
            next: 0,
            is_checked: true,
        }
    }

    fn submit(&mut self, who: u8, prompt: Vec<u32>, max_tokens: usize) -> RequestId {
        self.try_submit(who, 0, prompt, max_tokens, None).unwrap()
    }

    fn try_submit(
        &mut self,
        who: u8,
        cache: u8,
        prompt: Vec<u32>,
        max_tokens: usize,
        deadline: Option<Micros>,
    ) -> Result<RequestId, Refused> {
        let job = Job {
            id: RequestId(self.next),
            consumer: consumer(who),
            cache: Digest::from_bytes([cache; 32]),
            prompt,
            max_tokens,
            deadline,
        };
        self.schedule.submit(job.clone(), self.now)?;
        self.next += 1;
        let id = job.id;
        let text = Text {
            tokens: job.prompt.clone(),
            job,
            read: 0,
            submitted: self.steps,
            first: None,
            ended: None,
            put_back: 0,
        };
        self.texts.insert(id, text);
        Ok(id)
    }

    fn end(&mut self, id: RequestId, usage: Usage) {
        let text = self.texts.get_mut(&id).unwrap();
        assert!(text.ended.is_none(), "every request ends once");
        assert_eq!(usage.prompt, text.job.prompt.len());
        assert_eq!(usage.answer, text.tokens.len() - usage.prompt);
        assert!(usage.cached < usage.prompt);
        text.ended = Some((self.steps, usage));
    }

    /// One step, which takes a millisecond and 50 microseconds a row.
    fn step(&mut self) {
        let limits = self.schedule.limits;
        let step = self.schedule.plan(self.now).clone();
        for (id, finish, usage) in &step.ended {
            let text = &self.texts[id];
            let is_late = text
                .job
                .deadline
                .is_some_and(|deadline| deadline <= self.now);
            assert!(*finish == Finish::Cancelled || (*finish == Finish::Deadline && is_late));
            self.end(*id, *usage);
        }
        assert!(step.rows() <= limits.rows && step.work.len() <= limits.rows);
        self.steps += 1;
        self.rows += step.rows() as u64;
        if step.work.is_empty() {
            self.now.0 += 1000;
            return;
        }
        self.compute(&step);
        self.now.0 += 1000 + 50 * step.rows() as u64;
        self.schedule.computed(self.now);
        for work in step.work.iter().filter(|work| work.wants_logits) {
            self.draw(work.id);
        }
        if self.is_checked {
            self.check();
        }
    }

    /// Reads and writes pages as attention would.
    fn compute(&mut self, step: &Step) {
        let mut prompt_rows = 0;
        let mut ids = BTreeSet::new();
        let mut written = BTreeMap::new();
        for work in &step.work {
            assert!(ids.insert(work.id), "each request once");
            let text = self.texts.get_mut(&work.id).unwrap();
            assert!(text.ended.is_none());
            let end = work.first + work.len;
            assert_eq!(step.tokens(work), &text.tokens[work.first..end]);
            assert_eq!(work.wants_logits, end == text.tokens.len());
            // It goes on where it was, or where the cache ends.
            assert!(work.first == text.read || work.first.is_multiple_of(PAGE_TOKENS));
            text.put_back += usize::from(work.first < text.read);
            text.read = end;
            prompt_rows += if work.len > 1 { work.len } else { 0 };
            let mut hasher = DefaultHasher::new();
            (text.job.consumer, text.job.cache.as_bytes()).hash(&mut hasher);
            let pages = step.pages(work);
            for position in 0..end {
                text.tokens[position].hash(&mut hasher);
                let page = pages[position / PAGE_TOKENS];
                let slot = &mut self.memory[page.0 as usize][position % PAGE_TOKENS];
                if position < work.first {
                    assert_eq!(*slot, hasher.finish(), "keys and values of this very text");
                } else {
                    *slot = hasher.finish();
                    assert_eq!(*written.entry(page).or_insert(work.id), work.id);
                }
            }
        }
        assert!(prompt_rows <= self.schedule.limits.prompt_rows);
        for (page, writer) in written {
            let entries = self.schedule.entries.values();
            let mut others = entries.filter(|entry| entry.id != writer);
            assert!(others.all(|entry| !entry.table.contains(&page)));
        }
    }

    fn draw(&mut self, id: RequestId) {
        let text = self.texts.get_mut(&id).unwrap();
        // Few different texts, some of which end early.
        let token = (text.tokens.iter().sum::<u32>() + text.tokens.len() as u32) % 41;
        text.tokens.push(token);
        text.first.get_or_insert(self.steps);
        let may_follow = self.schedule.advance(id, token);
        let answer = text.tokens.len() - text.job.prompt.len();
        assert_eq!(may_follow, answer < text.job.max_tokens);
        if !may_follow || token == 40 {
            let usage = self.schedule.finish(id);
            self.end(id, usage);
        }
    }

    fn check(&self) {
        let entries = self.schedule.entries.values();
        let tables: Vec<&[PageId]> = entries.map(|entry| &entry.table[..]).collect();
        self.schedule.pages.check(&tables);
        let running = self.schedule.entries.values().filter(|e| e.is_running);
        assert_eq!(running.count(), self.schedule.running.len());
        assert!(self.schedule.running.len() <= self.schedule.limits.running);
        // Within a consumer, what runs came before what waits.
        for a in self.schedule.entries.values().filter(|e| e.is_running) {
            for b in self.schedule.entries.values().filter(|e| !e.is_running) {
                assert!(a.consumer != b.consumer || a.place < b.place);
            }
        }
    }

    /// Steps until nothing is left.
    fn drain(&mut self, most: u64) {
        let end = self.steps + most;
        while !self.schedule.is_idle() {
            self.step();
            assert!(self.steps < end, "all end within {most} steps");
        }
        assert!(self.texts.values().all(|text| text.ended.is_some()));
        assert_eq!(self.schedule.pages.available(), self.schedule.limits.pages);
        assert_eq!(self.schedule.load(), (0, 0));
    }

    fn usage(&self, id: RequestId) -> Usage {
        self.texts[&id].ended.unwrap().1
    }
}

fn prompt(first: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| first + i % 7).collect()
}

#[test]
fn a_request_reads_its_prompt_in_chunks_and_then_one_token_a_step() {
    let mut simulator = Simulator::new(SMALL);
    let id = simulator.submit(1, prompt(1, 70), 5);
    let mut lens = Vec::new();
    while !simulator.schedule.is_idle() {
        simulator.step();
        lens.extend(simulator.schedule.step.work.iter().map(|work| work.len));
    }
    // 20 rows, then up to the end of the first page, and so on; the answer's last token is not read.
    assert_eq!(lens, [20, 12, 20, 18, 1, 1, 1, 1]);
    let usage = Usage {
        prompt: 70,
        cached: 0,
        answer: 5,
    };
    assert_eq!(simulator.usage(id), usage);
}

#[test]
fn the_same_prompt_again_is_read_from_the_last_full_page_on() {
    let mut simulator = Simulator::new(SMALL);
    for (len, cached) in [(64, 0), (64, 32), (65, 64), (70, 64), (33, 32), (32, 0)] {
        let id = simulator.submit(1, prompt(1, len), 2);
        simulator.drain(20);
        assert_eq!(simulator.usage(id).cached, cached, "{len}");
    }
    // The answer is part of the next prompt.
    let id = simulator.submit(1, prompt(3, 40), 40);
    simulator.drain(60);
    let mut next = simulator.texts[&id].tokens.clone();
    let read = next.len() - 1;
    next.extend([1, 2, 3]);
    let id = simulator.submit(1, next, 2);
    simulator.drain(60);
    assert_eq!(simulator.usage(id).cached, read / PAGE_TOKENS * PAGE_TOKENS);
}

#[test]
fn equal_prompts_at_the_same_time_are_read_once() {
    let mut simulator = Simulator::new(USUAL);
    let ids: Vec<RequestId> = (0..8)
        .map(|_| simulator.submit(1, prompt(1, 1001), 3))
        .collect();
    simulator.drain(100);
    let read: usize = (ids.iter())
        .map(|id| simulator.usage(*id).prompt - simulator.usage(*id).cached)
        .sum();
    assert!(read < 1001 + 8 * 2 * PAGE_TOKENS, "{read}");
}

#[test]
fn nothing_is_shared_between_consumers_or_between_adapters() {
    let mut simulator = Simulator::new(USUAL);
    for (who, cache) in [(1, 0), (2, 0), (1, 1)] {
        let id = simulator
            .try_submit(who, cache, prompt(1, 500), 2, None)
            .unwrap();
        simulator.drain(20);
        assert_eq!(simulator.usage(id).cached, 0);
    }
    // Nor at the same time.
    let ids: Vec<RequestId> = (3..9)
        .map(|who| simulator.submit(who, prompt(1, 500), 2))
        .collect();
    simulator.drain(100);
    assert!(ids.iter().all(|id| simulator.usage(*id).cached == 0));
}

#[test]
fn answers_go_on_while_a_long_prompt_is_read() {
    let mut simulator = Simulator::new(USUAL);
    let short = simulator.submit(1, prompt(1, 10), 30);
    simulator.step();
    simulator.submit(2, prompt(2, 3000), 2);
    for _ in 0..10 {
        let before = simulator.texts[&short].tokens.len();
        simulator.step();
        assert_eq!(simulator.texts[&short].tokens.len(), before + 1);
        assert!(simulator.schedule.step.rows() <= 193);
    }
}

#[test]
fn cancelled_requests_and_those_past_their_deadline_end_with_the_next_plan() {
    let mut simulator = Simulator::new(SMALL);
    let running = simulator.submit(1, prompt(1, 40), 100);
    let late = simulator.try_submit(1, 0, prompt(1, 40), 100, Some(Micros(9_000)));
    let late = late.unwrap();
    for _ in 0..4 {
        simulator.step();
    }
    let waiting = simulator.submit(1, prompt(1, 300), 10);
    simulator.schedule.cancel(running);
    simulator.schedule.cancel(waiting);
    simulator.schedule.cancel(waiting);
    simulator.step();
    assert!(simulator.texts[&running].ended.is_some());
    assert!(simulator.texts[&waiting].ended.is_some());
    while simulator.now < Micros(9_000) {
        assert!(simulator.texts[&late].ended.is_none());
        simulator.step();
    }
    simulator.step();
    assert!(simulator.texts[&late].ended.is_some());
    simulator.schedule.cancel(late);
    assert!(simulator.schedule.is_idle());
}

#[test]
fn a_closing_schedule_finishes_what_it_has_and_takes_nothing_more() {
    let mut simulator = Simulator::new(SMALL);
    for who in 0..6 {
        simulator.submit(who, prompt(1, 40), 10);
    }
    simulator.schedule.close();
    let refused = simulator.try_submit(1, 0, prompt(1, 5), 1, None);
    assert_eq!(refused, Err(Refused::Closing));
    simulator.drain(200);
}

#[test]
fn what_could_never_be_held_is_refused_and_the_longest_that_can_is_answered() {
    let mut simulator = Simulator::new(SMALL);
    let most = SMALL.pages * PAGE_TOKENS;
    let refused = simulator.try_submit(1, 0, prompt(1, most - 3), 4, None);
    let expected = Refused::TooLong {
        prompt: most - 3,
        answer: 4,
        most,
    };
    assert_eq!(refused, Err(expected));
    assert!(
        simulator
            .try_submit(1, 0, prompt(1, 3), usize::MAX, None)
            .is_err()
    );
    let empty = simulator.try_submit(1, 0, Vec::new(), 1, None);
    assert_eq!(empty, Err(Refused::EmptyPrompt));
    simulator.submit(1, prompt(1, most - 3), 3);
    simulator.submit(2, prompt(1, most - 3), 3);
    simulator.drain(100);
}

#[test]
fn a_full_queue_refuses_with_a_time_that_follows_the_measured_pace() {
    let limits = Limits {
        waiting: 8,
        waiting_per_consumer: 4,
        running: 1,
        ..SMALL
    };
    let mut simulator = Simulator::new(limits);
    for _ in 0..4 {
        simulator.submit(1, prompt(1, 40), 10);
    }
    let refused = simulator.try_submit(1, 0, prompt(1, 40), 10, None);
    let own = Refused::Busy {
        waiting: 4,
        retry_after_s: 1,
    };
    assert_eq!(refused, Err(own));
    for who in 2..6 {
        simulator.submit(who, prompt(1, 40), 10);
    }
    let mut refused = || {
        simulator
            .try_submit(9, 0, prompt(1, 40), 10, None)
            .unwrap_err()
    };
    assert!(matches!(refused(), Refused::Busy { waiting: 8, .. }));
    // Nothing ends in 20 seconds: half of 8 requests take 80, and more than a minute is never said.
    simulator.step();
    simulator.schedule.pace.step(Micros(0), Micros(20_000_000));
    let refused = simulator.try_submit(9, 0, prompt(1, 40), 10, None);
    assert!(refused.is_ok(), "one is running now");
    let refused = simulator.try_submit(9, 0, prompt(1, 40), 10, None);
    let busy = Refused::Busy {
        waiting: 8,
        retry_after_s: 60,
    };
    assert_eq!(refused, Err(busy));
}

#[test]
fn one_request_beside_a_flood_starts_with_the_next_step_and_goes_on_every_step() {
    let mut simulator = Simulator::new(USUAL);
    for i in 0..100 {
        simulator.submit(1, prompt(i, 200), 400);
    }
    for _ in 0..60 {
        simulator.step();
    }
    assert_eq!(simulator.schedule.load().1, USUAL.running);
    let single = simulator.submit(2, prompt(5, 150), 35);
    for _ in 0..60 {
        simulator.step();
    }
    let text = &simulator.texts[&single];
    let alone = 1;
    assert!(text.first.unwrap() <= text.submitted + alone + 1);
    let answer = text.tokens.len() - text.job.prompt.len();
    let (ended, _) = text.ended.expect("it ended");
    assert_eq!(ended + 1 - text.first.unwrap(), answer as u64);
    assert_eq!(text.put_back, 0);
    simulator.drain(10_000);
}

#[test]
fn consumers_that_flood_are_served_alike_whatever_the_size_of_their_requests() {
    let limits = Limits {
        running: 8,
        ..USUAL
    };
    let mut simulator = Simulator::new(limits);
    for i in 0..400 {
        simulator.submit(1, prompt(i, 100), 10);
        if i % 10 == 0 {
            simulator.submit(2, prompt(i, 1000), 100);
        }
    }
    for _ in 0..500 {
        simulator.step();
        let turns = &simulator.schedule.turns;
        let [one, two] = [1, 2].map(|who| turns.served(consumer(who)));
        // A request of the larger kind is charged at once.
        assert!(one.abs_diff(two) <= 2 * 1200, "{one} {two}");
    }
    assert!(simulator.schedule.turns.served(consumer(1)) > 5000);
}

#[test]
fn newcomers_keep_nobody_from_reading_a_long_prompt() {
    let mut simulator = Simulator::new(USUAL);
    // Active at the lowest level all the time, where newcomers come in.
    simulator.submit(0, vec![1], 1000);
    let long = simulator.submit(1, prompt(1, 3000), 1);
    for step in 0..3000 / PAGE_TOKENS + 10 {
        simulator.submit(2 + step as u8, prompt(1, USUAL.prompt_rows), 1);
        simulator.step();
        if simulator.texts[&long].ended.is_some() {
            return;
        }
    }
    panic!("it reads a page a step at least");
}

#[test]
fn a_request_that_needs_all_pages_is_not_held_up_by_small_ones_that_keep_coming() {
    let mut simulator = Simulator::new(SMALL);
    for step in 0..200u32 {
        for who in [1, 3 + (step % 100) as u8] {
            simulator.submit(who, prompt(step, 40), 5);
        }
        if step == 20 {
            simulator.submit(2, prompt(1, 12 * PAGE_TOKENS - 10), 10);
        }
        simulator.step();
    }
    let large = simulator
        .texts
        .values()
        .find(|text| text.job.consumer == consumer(2));
    let large = large.unwrap();
    assert!(large.first.expect("it was admitted") - large.submitted < 100);
    simulator.drain(3000);
}

#[test]
fn one_request_beside_a_flood_that_holds_all_pages_takes_some_of_them() {
    let mut simulator = Simulator::new(Limits { pages: 64, ..USUAL });
    for i in 0..100 {
        simulator.submit(1, prompt(i, 100), 300);
    }
    (0..50).for_each(|_| simulator.step());
    let single = simulator.submit(2, prompt(5, 150), 40);
    (0..60).for_each(|_| simulator.step());
    let text = &simulator.texts[&single];
    assert!(text.first.unwrap() <= text.submitted + 2);
    assert!(text.ended.is_some() && text.put_back == 0);
    simulator.drain(50_000);
}

#[test]
fn requests_put_back_for_want_of_pages_still_give_whole_answers() {
    let mut simulator = Simulator::new(SMALL);
    // Four of these need 24 pages of the 12.
    for who in 0..4 {
        simulator.submit(who, prompt(u32::from(who), 60), 120);
    }
    simulator.drain(2000);
    let put_back: usize = simulator.texts.values().map(|text| text.put_back).sum();
    assert!(put_back > 0);
}

#[test]
fn ten_thousand_requests_of_fifty_consumers_drain() {
    let mut simulator = Simulator::new(Limits {
        pages: 200,
        ..USUAL
    });
    simulator.is_checked = false;
    for i in 0..10_000u32 {
        let len = 1 + (i * 7919 % 97) as usize;
        simulator.submit((i % 50) as u8, prompt(i % 11, len), 1 + (i % 13) as usize);
        if i % 3 == 0 {
            simulator.step();
        }
        if i % 17 == 0 {
            simulator.schedule.cancel(RequestId(u64::from(i / 2)));
        }
    }
    simulator.schedule.close();
    simulator.drain(20_000);
    assert_eq!(simulator.texts.len(), 10_000);
}

#[derive(Clone, Debug)]
enum Action {
    Submit {
        who: u8,
        cache: u8,
        first: u32,
        len: usize,
        max_tokens: usize,
        deadline: Option<u64>,
    },
    Cancel(usize),
    Steps(usize),
}

fn an_action() -> impl Strategy<Value = Action> {
    let submit = (
        0u8..3,
        0u8..2,
        0u32..2,
        1usize..200,
        1usize..150,
        prop::option::weighted(0.2, 0u64..100_000),
    );
    let submit = submit.prop_map(
        |(who, cache, first, len, max_tokens, deadline)| Action::Submit {
            who,
            cache,
            first,
            len,
            max_tokens,
            deadline,
        },
    );
    prop_oneof![
        4 => submit,
        1 => (0usize..40).prop_map(Action::Cancel),
        3 => (1usize..30).prop_map(Action::Steps),
    ]
}

fn some_limits() -> impl Strategy<Value = Limits> {
    (1usize..6, 1usize..40, 1usize..70, 1usize..24).prop_map(
        |(running, more, prompt_rows, pages)| Limits {
            rows: running + more,
            prompt_rows,
            running,
            waiting: 30,
            waiting_per_consumer: 20,
            pages,
            positions: 300,
        },
    )
}

proptest! {
    #[test]
    fn whatever_comes_every_request_ends_once_and_reads_its_own_text(
        limits in some_limits(),
        actions in prop::collection::vec(an_action(), 1..60),
    ) {
        let mut simulator = Simulator::new(limits);
        for action in actions {
            match action {
                Action::Submit { who, cache, first, len, max_tokens, deadline } => {
                    let deadline = deadline.map(|after| Micros(simulator.now.0 + after));
                    let prompt = prompt(first, len);
                    match simulator.try_submit(who, cache, prompt, max_tokens, deadline) {
                        Ok(_) | Err(Refused::TooLong { .. } | Refused::Busy { .. }) => {}
                        Err(refused) => panic!("{refused}"),
                    }
                }
                Action::Cancel(id) => simulator.schedule.cancel(RequestId(id as u64)),
                Action::Steps(steps) => (0..steps).for_each(|_| simulator.step()),
            }
        }
        // Even one at a time, each read twice, with a row a step.
        let tokens: usize = simulator.texts.values().map(|text| text.job.prompt.len() + text.job.max_tokens).sum();
        simulator.schedule.close();
        simulator.drain(2 * tokens as u64 + 10);
    }
}

/// `cargo test -p tributary-engine --lib schedule -- --ignored --nocapture`
#[test]
#[ignore = "prints times, for a quiet machine"]
fn times_of_plans_with_long_texts() {
    for running in [32, 256] {
        let limits = Limits {
            rows: running + 128,
            running,
            pages: running * 40,
            ..USUAL
        };
        let mut schedule = Schedule::new(limits);
        for i in 0..running as u64 {
            let job = Job {
                id: RequestId(i),
                consumer: consumer((i % 20) as u8),
                cache: Digest::default(),
                prompt: prompt(i as u32, 200),
                max_tokens: 1000,
                deadline: None,
            };
            schedule.submit(job, Micros(0)).unwrap();
        }
        let mut times = Vec::new();
        while !schedule.is_idle() {
            let start = std::time::Instant::now();
            let work = schedule.plan(Micros(0)).work.clone();
            schedule.computed(Micros(0));
            for work in work.iter().filter(|work| work.wants_logits) {
                if !schedule.advance(work.id, 1) {
                    schedule.finish(work.id);
                }
            }
            if work.len() == running {
                times.push(start.elapsed().as_micros());
            }
        }
        times.sort_unstable();
        let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{running} running: {middle} us a step, at most {most}");
    }
}
