//! Whose turn it is, in the manner of virtual token counters (Sheng et al. 2024, arXiv 2401.00588).
//!
//! Each consumer has a counter of what was done for it; of those that wait, the one with the least goes next, and among
//! its requests the first that came. A consumer without requests does not save up: when it comes back, its counter is at
//! least that of the least served one with requests. Its debt stays while others have requests.
//!
//! New consumers come in at that level too, so an endless row of them could hold up one above it for ever. Hence a
//! consumer that was overtaken [`MOST_OVERTAKEN`] times goes next, whatever its counter.

use std::collections::{BTreeMap, VecDeque};

use crate::request::{Consumer, RequestId};

/// What an answer's token counts, in tokens of a prompt: each takes a pass over the weights, and costs about as much
/// more as the usual price lists say.
pub(super) const ANSWER_COST: u64 = 2;

/// Admissions of others that a waiting consumer lets pass: an eighth of a full queue of 512.
pub(super) const MOST_OVERTAKEN: usize = 64;

/// Consumers without requests whose debts are remembered, a hundred bytes each. Beyond that the smallest are forgiven.
const MOST_DEBTORS: usize = 1024;

#[derive(Default)]
struct Account {
    served: u64,
    /// Requests that wait, with their places in the order of arrival, which rise.
    waiting: VecDeque<(u64, RequestId)>,
    running: usize,
    /// Admissions of others since this one waits.
    overtaken: usize,
}

impl Account {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

/// Who waits, who runs, and what each was served.
#[derive(Default)]
pub(super) struct Turns {
    accounts: BTreeMap<Consumer, Account>,
    waiting: usize,
}

impl Turns {
    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests of one consumer that wait.
    pub(super) fn waiting_of(&self, consumer: Consumer) -> usize {
        let account = self.accounts.get(&consumer);
        account.map_or(0, |account| account.waiting.len())
    }

    /// Requests of one consumer that run.
    pub(super) fn running_of(&self, consumer: Consumer) -> usize {
        let account = self.accounts.get(&consumer);
        account.map_or(0, |account| account.running)
    }

    /// Consumers that wait.
    pub(super) fn waiting_consumers(&self) -> usize {
        let accounts = self.accounts.values();
        accounts
            .filter(|account| !account.waiting.is_empty())
            .count()
    }

    /// A request arrives.
    pub(super) fn arrive(&mut self, consumer: Consumer, place: u64, id: RequestId) {
        let active = self.accounts.values().filter(|account| account.is_active());
        let least = active.map(|account| account.served).min();
        let account = self.accounts.entry(consumer).or_default();
        if !account.is_active() {
            account.served = account.served.max(least.unwrap_or(0));
            account.overtaken = 0;
        }
        account.waiting.push_back((place, id));
        self.waiting += 1;
    }

    /// The request that is admitted next.
    pub(super) fn next(&self) -> Option<(Consumer, RequestId)> {
        let heads = self.accounts.iter().filter_map(|(consumer, account)| {
            let (place, id) = account.waiting.front()?;
            Some((consumer, account, *place, *id))
        });
        let first = heads.min_by_key(|(_, account, place, _)| {
            let is_overdue = account.overtaken >= MOST_OVERTAKEN;
            let served = if is_overdue { 0 } else { account.served };
            (!is_overdue, served, account.running, *place)
        });
        first.map(|(consumer, _, _, id)| (*consumer, id))
    }

    /// The consumer's first waiting request runs from now on.
    pub(super) fn admit(&mut self, consumer: Consumer) {
        for account in self.accounts.values_mut() {
            if !account.waiting.is_empty() {
                account.overtaken += 1;
            }
        }
        let account = self.account(consumer);
        account.waiting.pop_front().expect("it waits");
        account.running += 1;
        account.overtaken = 0;
        self.waiting -= 1;
    }

    /// The youngest running request of a consumer waits again, before all others of it.
    pub(super) fn put_back(&mut self, consumer: Consumer, place: u64, id: RequestId) {
        let account = self.account(consumer);
        assert!(
            account
                .waiting
                .front()
                .is_none_or(|(next, _)| place < *next)
        );
        account.running -= 1;
        account.waiting.push_front((place, id));
        self.waiting += 1;
    }

    /// A running request ended.
    pub(super) fn end_running(&mut self, consumer: Consumer) {
        self.account(consumer).running -= 1;
        self.forget();
    }

    /// A waiting request ended.
    pub(super) fn end_waiting(&mut self, consumer: Consumer, id: RequestId) {
        let account = self.account(consumer);
        let before = account.waiting.len();
        account.waiting.retain(|(_, waiting)| *waiting != id);
        assert_eq!(account.waiting.len() + 1, before);
        self.waiting -= 1;
        self.forget();
    }

    /// What a consumer was served.
    pub(super) fn served(&self, consumer: Consumer) -> u64 {
        self.accounts[&consumer].served
    }

    /// Counts work for an active consumer.
    pub(super) fn charge(&mut self, consumer: Consumer, cost: u64) {
        self.account(consumer).served += cost;
    }

    /// Takes back what was counted for work that the cache saved.
    pub(super) fn refund(&mut self, consumer: Consumer, cost: u64) {
        let account = self.account(consumer);
        account.served = account.served.saturating_sub(cost);
    }

    /// Drops accounts that make no difference.
    fn forget(&mut self) {
        let active = self.accounts.values().filter(|account| account.is_active());
        let Some(least) = active.map(|account| account.served).min() else {
            // Nobody wanted what anybody was served: all begin anew.
            self.accounts.clear();
            return;
        };
        (self.accounts).retain(|_, account| account.is_active() || account.served > least);
        let debtors = self
            .accounts
            .iter()
            .filter(|(_, account)| !account.is_active());
        if debtors.clone().count() > MOST_DEBTORS {
            let smallest = debtors.min_by_key(|(_, account)| account.served);
            let smallest = *smallest.expect("there are many").0;
            self.accounts.remove(&smallest);
        }
    }

    fn account(&mut self, consumer: Consumer) -> &mut Account {
        (self.accounts.get_mut(&consumer)).expect("a consumer with requests has an account")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(number: u16) -> Consumer {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Consumer(bytes)
    }

    fn arrive(turns: &mut Turns, who: u16, place: u64) {
        turns.arrive(consumer(who), place, RequestId(place));
    }

    #[test]
    fn the_least_served_goes_next_and_within_a_consumer_the_first() {
        let mut turns = Turns::default();
        for (who, place) in [(1, 0), (1, 1), (2, 2), (2, 3)] {
            arrive(&mut turns, who, place);
        }
        let mut order = Vec::new();
        while let Some((who, id)) = turns.next() {
            turns.admit(who);
            turns.charge(who, 10);
            order.push(id.0);
        }
        assert_eq!(order, [0, 2, 1, 3]);
    }

    #[test]
    fn idling_saves_nothing_up_and_forgives_nothing_while_others_wait() {
        let mut turns = Turns::default();
        arrive(&mut turns, 1, 0);
        turns.charge(consumer(1), 100);
        // A newcomer starts where the least served one is.
        arrive(&mut turns, 2, 1);
        assert_eq!(turns.served(consumer(2)), 100);
        turns.charge(consumer(2), 500);
        turns.end_waiting(consumer(2), RequestId(1));
        arrive(&mut turns, 2, 2);
        assert_eq!(turns.served(consumer(2)), 600);
        // With nobody left, all begin anew.
        turns.end_waiting(consumer(2), RequestId(2));
        turns.end_waiting(consumer(1), RequestId(0));
        assert!(turns.accounts.is_empty());
    }

    #[test]
    fn an_endless_row_of_newcomers_holds_nobody_up_for_ever() {
        let mut turns = Turns::default();
        arrive(&mut turns, 1, 0);
        arrive(&mut turns, 2, 1);
        turns.charge(consumer(1), 1_000_000);
        for place in 2.. {
            // Somebody is always active at the lowest level.
            arrive(&mut turns, place as u16 + 1, place);
            let (who, id) = turns.next().unwrap();
            turns.admit(who);
            if id == RequestId(0) {
                assert_eq!(place as usize, MOST_OVERTAKEN + 2);
                return;
            }
            assert!(turns.served(who) == 0);
            turns.end_running(who);
        }
    }

    #[test]
    fn debts_are_remembered_of_so_many_consumers_only() {
        let mut turns = Turns::default();
        arrive(&mut turns, 0, 0);
        for who in 1..2000 {
            arrive(&mut turns, who, u64::from(who));
            turns.charge(consumer(who), 10 + u64::from(who));
            turns.end_waiting(consumer(who), RequestId(u64::from(who)));
        }
        assert_eq!(turns.accounts.len(), MOST_DEBTORS + 1);
        assert!(turns.accounts.contains_key(&consumer(1999)));
    }
}
