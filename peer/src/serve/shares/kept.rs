//! Which answers are remembered, so that shares of them can be asked for: the newest of each consumer, in memory.
//!
//! Bounded by bytes. When there are too many, the consumer that takes the most room loses its oldest, so that nobody
//! pushes out the answers of others. Pure: no clock, no lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tributary_engine::request::Consumer;

/// Bytes that an answer takes beside its tokens: its id twice, its consumer, and the maps.
const OVERHEAD_BYTES: usize = 256;

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Answer {
    /// Who asked.
    pub(in crate::serve) consumer: Consumer,
    /// What the model was called.
    pub(in crate::serve) model: String,
    /// The body of the request.
    pub(in crate::serve) body: Arc<str>,
    /// What is known of it.
    pub(in crate::serve) of: Of,
}

/// What gave an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Of {
    /// The base: no contributor has a part in it.
    Base,
    /// An adapter that is not known to be certified. Its tokens are of no use.
    Uncertified,
    /// A certified adapter.
    Certified {
        /// Its id.
        adapter: String,
        /// Tokens of the prompts.
        prompts: Vec<Vec<u32>>,
        /// Tokens of the answers: as many to each prompt, prompt by prompt.
        answers: Vec<Vec<u32>>,
    },
}

impl Answer {
    fn bytes(&self) -> usize {
        let lists = |lists: &[Vec<u32>]| -> usize {
            let list = |list: &Vec<u32>| 4 * list.capacity() + size_of::<Vec<u32>>();
            lists.iter().map(list).sum()
        };
        let tokens = match &self.of {
            Of::Base | Of::Uncertified => 0,
            Of::Certified {
                adapter,
                prompts,
                answers,
            } => adapter.len() + lists(prompts) + lists(answers),
        };
        OVERHEAD_BYTES + self.model.len() + self.body.len() + tokens
    }
}

/// The answers of one consumer, the oldest first.
#[derive(Debug, Default)]
struct Held {
    ids: VecDeque<String>,
    bytes: usize,
}

/// Answers by id.
#[derive(Debug)]
pub(in crate::serve) struct Kept {
    most_bytes: usize,
    bytes: usize,
    answers: BTreeMap<String, Arc<Answer>>,
    by_consumer: BTreeMap<Consumer, Held>,
}

impl Kept {
    pub(in crate::serve) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            bytes: 0,
            answers: BTreeMap::new(),
            by_consumer: BTreeMap::new(),
        }
    }

    /// Remembers an answer, which has an id that no other has.
    pub(in crate::serve) fn keep(&mut self, id: String, answer: Answer) {
        let bytes = answer.bytes();
        let held = self.by_consumer.entry(answer.consumer).or_default();
        held.ids.push_back(id.clone());
        held.bytes += bytes;
        self.bytes += bytes;
        let before = self.answers.insert(id, Arc::new(answer));
        assert!(before.is_none(), "ids are drawn once");
        while self.bytes > self.most_bytes {
            self.forget_one();
        }
        assert_eq!(self.answers.is_empty(), self.bytes == 0);
    }

    /// The answer of that id which `consumer` was given.
    pub(in crate::serve) fn get(&self, id: &str, consumer: Consumer) -> Option<Arc<Answer>> {
        let answer = self.answers.get(id)?;
        (answer.consumer == consumer).then(|| answer.clone())
    }

    /// The oldest answer of the consumer that takes the most room.
    fn forget_one(&mut self) {
        let held = self.by_consumer.iter_mut();
        let largest = held.max_by_key(|(_, held)| held.bytes);
        let (consumer, held) = largest.expect("bytes are of answers");
        let consumer = *consumer;
        let oldest = held
            .ids
            .pop_front()
            .expect("a consumer that is held has answers");
        let answer = self.answers.remove(&oldest).expect("ids are of answers");
        let bytes = answer.bytes();
        held.bytes -= bytes;
        self.bytes -= bytes;
        if held.ids.is_empty() {
            self.by_consumer.remove(&consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(n: u8) -> Consumer {
        Consumer([n; 32])
    }

    fn answer(n: u8, tokens: usize) -> Answer {
        Answer {
            consumer: consumer(n),
            model: "poet".into(),
            body: "{}".into(),
            of: Of::Certified {
                adapter: "ab".into(),
                prompts: vec![vec![1, 2]],
                answers: vec![vec![3; tokens]],
            },
        }
    }

    #[test]
    fn an_answer_is_known_to_the_consumer_that_asked_and_to_no_other() {
        let mut kept = Kept::new(1 << 20);
        kept.keep("a".into(), answer(1, 5));
        assert_eq!(*kept.get("a", consumer(1)).unwrap(), answer(1, 5));
        assert!(kept.get("a", consumer(2)).is_none());
        assert!(kept.get("b", consumer(1)).is_none());
    }

    #[test]
    fn a_flood_of_answers_takes_no_more_than_the_bound_and_forgets_its_own_oldest() {
        let mut kept = Kept::new(20_000);
        kept.keep("quiet".into(), answer(1, 5));
        for n in 0..10_000 {
            kept.keep(n.to_string(), answer(2, 5));
            assert!(kept.bytes <= 20_000);
        }
        assert!(kept.get("quiet", consumer(1)).is_some());
        assert!(kept.get("9999", consumer(2)).is_some());
        assert!(kept.get("0", consumer(2)).is_none());
        let held: usize = kept.answers.values().map(|answer| answer.bytes()).sum();
        assert_eq!(held, kept.bytes);
        let listed: usize = kept.by_consumer.values().map(|held| held.ids.len()).sum();
        assert_eq!(listed, kept.answers.len());
    }

    #[test]
    fn an_answer_beyond_the_bound_is_forgotten_at_once() {
        let mut kept = Kept::new(1000);
        kept.keep("large".into(), answer(1, 1000));
        assert!(kept.get("large", consumer(1)).is_none());
        assert_eq!((kept.bytes, kept.by_consumer.len()), (0, 0));
    }
}
