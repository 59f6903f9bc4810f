//! The network between peers: latency, loss, duplicates, reordering, replays, partitions, bandwidth.
//!
//! A [`Link`] only answers "when, if at all, does this arrive"; carrying it there is the world's work. It keeps the
//! partitions and asks a [`LinkModel`], which a scenario chooses by name, about everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::clock::{Micros, ms};
use crate::named::Named;

/// How messages and blobs travel.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlan {
    /// The name of the model, see [`Catalogue::links`](crate::catalogue::Catalogue::links).
    #[serde(default = "uniform")]
    pub model: String,
    /// Least time from one peer to another.
    pub latency_ms: u64,
    /// Drawn on top, 0 to this.
    pub jitter_ms: u64,
    /// Share of messages (and of blob transfers) lost.
    #[serde(default)]
    pub loss: f64,
    /// Share of messages delivered twice.
    #[serde(default)]
    pub duplicate: f64,
    /// Share of messages held back so that later ones overtake them.
    #[serde(default)]
    pub reorder: f64,
    /// For how long at most.
    #[serde(default)]
    pub reorder_ms: u64,
    /// Share of messages delivered once more, long after everybody has forgotten them.
    #[serde(default)]
    pub replay: f64,
    /// How long after, at most.
    #[serde(default)]
    pub replay_ms: u64,
    /// Blob transfers.
    pub bandwidth_kib_s: u64,
    /// Whether peers know their bandwidth and make sparse updates thinner to fit it.
    #[serde(default)]
    pub adapt: bool,
    /// Connections that each peer opens.
    pub degree: usize,
    /// What the model asks for beyond that.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

fn uniform() -> String {
    "uniform".to_owned()
}

/// Makes a model from its plan; an error says what to write instead.
pub type MakeLink = dyn Fn(&LinkPlan) -> Result<Box<dyn LinkModel>, String> + Send + Sync;

/// From one peer to another, by their indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The sender of a message, the provider of a blob.
    pub from: usize,
    /// Where it arrives.
    pub to: usize,
}

/// When, if at all, something arrives on a network that is whole.
pub trait LinkModel {
    /// When a control message sent at `at` arrives.
    fn message(&self, way: Way, at: Micros, rng: &mut ChaCha8Rng) -> Arrivals;

    /// When a blob of `size` bytes asked for at `at` is here; `None` if the transfer fails.
    fn transfer(&self, way: Way, size: u64, at: Micros, rng: &mut ChaCha8Rng) -> Option<Micros>;

    /// How long a receiver waits before it gives a provider up.
    fn give_up(&self) -> Micros;

    /// No faults from now on: whatever is sent arrives once, in a time that has a bound. A model without faults has
    /// nothing to do.
    fn calm(&mut self) {}
}

/// The built-in models.
pub(crate) fn built_in() -> Named<MakeLink> {
    let mut links: Named<MakeLink> = Named::new("link model");
    links.add(
        "uniform",
        "every pair of peers alike",
        Arc::new(|plan: &LinkPlan| match plan.options.is_empty() {
            true => Ok(Box::new(Uniform::new(plan.clone())) as Box<dyn LinkModel>),
            false => Err("`link.options` must be empty: `uniform` has none".into()),
        }),
    );
    links
}

/// The state of the network.
pub struct Link {
    model: Box<dyn LinkModel>,
    /// Splits in force, by their place in the scenario.
    splits: BTreeMap<usize, Split>,
}

/// The network is split in two.
struct Split {
    /// Which peers stand on the smaller side.
    apart: Vec<bool>,
    /// They hear the others and are not heard by them.
    one_way: bool,
}

impl Split {
    fn lets_through(&self, from: usize, to: usize) -> bool {
        self.apart[from] == self.apart[to] || (self.one_way && self.apart[to])
    }
}

/// Arrival times of one message: none (lost), one, doubled, and once more long after.
pub type Arrivals = [Option<Micros>; 3];

impl Link {
    /// A whole network.
    pub fn new(model: Box<dyn LinkModel>) -> Self {
        Self {
            model,
            splits: BTreeMap::new(),
        }
    }

    /// No faults from now on: latency stays, everything else ends.
    pub fn calm(&mut self) {
        self.model.calm();
        self.splits.clear();
    }

    /// Splits the network for the `nth` time; `apart[i]` says whether peer `i` is on the smaller side.
    /// One way, that side goes on hearing the other.
    pub fn split(&mut self, nth: usize, apart: Vec<bool>, one_way: bool) {
        self.splits.insert(nth, Split { apart, one_way });
    }

    /// Heals the `nth` split.
    pub fn heal(&mut self, nth: usize) {
        self.splits.remove(&nth);
    }

    /// Whether anything can get from one peer to another at all.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        (self.splits.values()).all(|split| split.lets_through(from, to))
    }

    /// When a control message sent at `at` arrives.
    pub fn message(&self, from: usize, to: usize, at: Micros, rng: &mut ChaCha8Rng) -> Arrivals {
        match self.reaches(from, to) {
            true => self.model.message(Way { from, to }, at, rng),
            false => [None; 3],
        }
    }

    /// When a blob of `size` bytes asked for at `at` is here; `None` if the transfer fails.
    pub fn transfer(
        &self,
        provider: usize,
        receiver: usize,
        size: u64,
        at: Micros,
        rng: &mut ChaCha8Rng,
    ) -> Option<Micros> {
        // A request has to get there, the bytes have to get back.
        let reached = self.reaches(provider, receiver) && self.reaches(receiver, provider);
        let way = Way {
            from: provider,
            to: receiver,
        };
        match reached {
            true => self.model.transfer(way, size, at, rng),
            false => None,
        }
    }

    /// How long a receiver waits before it gives a provider up.
    pub fn give_up(&self) -> Micros {
        self.model.give_up()
    }
}

/// Every pair of peers alike: a latency, drawn jitter, and shares of messages that are lost, doubled, held back or
/// replayed.
struct Uniform {
    plan: LinkPlan,
    calm: bool,
}

impl Uniform {
    fn new(plan: LinkPlan) -> Self {
        Self { plan, calm: false }
    }

    fn arrival(&self, at: Micros, rng: &mut ChaCha8Rng) -> Micros {
        let jitter_us = rng.random_range(0..=ms(self.plan.jitter_ms));
        let held_us = match self.happens(self.plan.reorder, rng) {
            true => rng.random_range(0..=ms(self.plan.reorder_ms)),
            false => 0,
        };
        at + ms(self.plan.latency_ms) + jitter_us + held_us
    }

    fn happens(&self, share: f64, rng: &mut ChaCha8Rng) -> bool {
        !self.calm && share > 0.0 && rng.random::<f64>() < share
    }
}

impl LinkModel for Uniform {
    fn message(&self, _way: Way, at: Micros, rng: &mut ChaCha8Rng) -> Arrivals {
        if self.happens(self.plan.loss, rng) {
            return [None; 3];
        }
        let first = Some(self.arrival(at, rng));
        let second = match self.happens(self.plan.duplicate, rng) {
            true => Some(self.arrival(at, rng)),
            false => None,
        };
        let much_later = match self.happens(self.plan.replay, rng) {
            true => Some(self.arrival(at, rng) + rng.random_range(0..=ms(self.plan.replay_ms))),
            false => None,
        };
        [first, second, much_later]
    }

    fn transfer(&self, _way: Way, size: u64, at: Micros, rng: &mut ChaCha8Rng) -> Option<Micros> {
        if self.happens(self.plan.loss, rng) {
            return None;
        }
        let sending = size * 1_000_000 / (self.plan.bandwidth_kib_s * 1024);
        let round_trip = 2 * ms(self.plan.latency_ms + rng.random_range(0..=self.plan.jitter_ms));
        Some(at + round_trip + sending)
    }

    fn give_up(&self) -> Micros {
        4 * ms(self.plan.latency_ms + self.plan.jitter_ms) + ms(500)
    }

    fn calm(&mut self) {
        self.calm = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn link(loss: f64, duplicate: f64) -> Link {
        let plan = LinkPlan {
            model: uniform(),
            latency_ms: 10,
            jitter_ms: 5,
            loss,
            duplicate,
            reorder: 0.5,
            reorder_ms: 100,
            replay: 0.5,
            replay_ms: 60_000,
            bandwidth_kib_s: 1,
            adapt: false,
            degree: 1,
            options: toml::Table::new(),
        };
        Link::new(Box::new(Uniform::new(plan)))
    }

    #[test]
    fn the_share_of_lost_and_doubled_messages_is_what_the_plan_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let link = link(0.2, 0.1);
        let fates: Vec<_> = (0..20_000)
            .map(|_| link.message(0, 1, 0, &mut rng))
            .collect();
        let lost = fates.iter().filter(|f| f[0].is_none()).count() as f64 / 20_000.0;
        let doubled = fates.iter().filter(|f| f[1].is_some()).count() as f64 / 20_000.0;
        assert!((lost - 0.2).abs() < 0.01, "{lost}");
        assert!((doubled - 0.08).abs() < 0.01, "{doubled}");
        let replayed: Vec<_> = fates.iter().filter_map(|f| f[2]).collect();
        assert!((replayed.len() as f64 / 20_000.0 - 0.4).abs() < 0.01);
        let late = replayed.iter().filter(|at| **at > 30_000_000).count();
        assert!(
            late * 3 > replayed.len(),
            "{late} of {} are much later",
            replayed.len()
        );
    }

    #[test]
    fn nothing_crosses_a_split_and_everything_does_once_calm() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut link = link(0.0, 0.0);
        link.split(0, vec![true, false], false);
        assert_eq!(link.message(0, 1, 0, &mut rng), [None; 3]);
        assert_eq!(link.transfer(0, 1, 1, 0, &mut rng), None);
        link.calm();
        assert!(link.message(0, 1, 0, &mut rng)[0].is_some());
    }

    #[test]
    fn a_one_way_split_lets_the_smaller_side_hear_and_not_be_heard() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut link = link(0.0, 0.0);
        link.split(0, vec![true, false], true);
        assert_eq!(link.message(0, 1, 0, &mut rng), [None; 3]);
        assert!(link.message(1, 0, 0, &mut rng)[0].is_some());
        assert_eq!(link.transfer(0, 1, 1, 0, &mut rng), None);
        assert_eq!(link.transfer(1, 0, 1, 0, &mut rng), None);
        link.split(1, vec![false, true], true);
        assert_eq!(link.message(1, 0, 0, &mut rng), [None; 3]);
        link.heal(1);
        assert!(link.message(1, 0, 0, &mut rng)[0].is_some());
    }

    #[test]
    fn a_transfer_takes_its_size_over_the_bandwidth() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let at = link(0.0, 0.0).transfer(0, 1, 2048, 0, &mut rng).unwrap();
        assert!(
            (2_000_000 + 20_000..=2_000_000 + 30_000).contains(&at),
            "{at}"
        );
    }
}
