//! The network between peers: latency, loss, duplicates, overtaking, splits, bandwidth.
//!
//! A [`Link`] only answers "when, if at all, does this arrive"; carrying it there is the world's work.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::clock::{Micros, ms};
use crate::scenario::LinkPlan;

/// The state of the network.
pub struct Link {
    plan: LinkPlan,
    /// Side of each peer while the network is split.
    side: Option<Vec<bool>>,
    calm: bool,
}

/// Arrival times of one message: none (lost), one, or two (duplicated).
pub type Arrivals = [Option<Micros>; 2];

impl Link {
    /// A whole network.
    pub fn new(plan: LinkPlan) -> Self {
        Self {
            plan,
            side: None,
            calm: false,
        }
    }

    /// No faults from now on: latency stays, everything else ends.
    pub fn calm(&mut self) {
        self.calm = true;
        self.side = None;
    }

    /// Splits the network; `side[i]` is where peer `i` stands.
    pub fn split(&mut self, side: Vec<bool>) {
        self.side = Some(side);
    }

    /// Heals the split.
    pub fn heal(&mut self) {
        self.side = None;
    }

    /// Whether anything can get from one peer to another at all.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.side.as_ref().is_none_or(|side| side[from] == side[to])
    }

    /// When a control message sent at `at` arrives.
    pub fn message(&self, from: usize, to: usize, at: Micros, rng: &mut ChaCha8Rng) -> Arrivals {
        if !self.reaches(from, to) || self.happens(self.plan.loss, rng) {
            return [None, None];
        }
        let first = Some(self.arrival(at, rng));
        let second = match self.happens(self.plan.duplicate, rng) {
            true => Some(self.arrival(at, rng)),
            false => None,
        };
        [first, second]
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
        if !self.reaches(provider, receiver) || self.happens(self.plan.loss, rng) {
            return None;
        }
        let sending = size * 1_000_000 / (self.plan.bandwidth_kib_s * 1024);
        let round_trip = 2 * ms(self.plan.latency_ms + rng.random_range(0..=self.plan.jitter_ms));
        Some(at + round_trip + sending)
    }

    /// How long a receiver waits before it gives a provider up.
    pub fn give_up(&self) -> Micros {
        4 * ms(self.plan.latency_ms + self.plan.jitter_ms) + ms(500)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn link(loss: f64, duplicate: f64) -> Link {
        Link::new(LinkPlan {
            latency_ms: 10,
            jitter_ms: 5,
            loss,
            duplicate,
            reorder: 0.5,
            reorder_ms: 100,
            bandwidth_kib_s: 1,
            degree: 1,
        })
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
    }

    #[test]
    fn nothing_crosses_a_split_and_everything_does_once_calm() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut link = link(0.0, 0.0);
        link.split(vec![true, false]);
        assert_eq!(link.message(0, 1, 0, &mut rng), [None, None]);
        assert_eq!(link.transfer(0, 1, 1, 0, &mut rng), None);
        link.calm();
        assert!(link.message(0, 1, 0, &mut rng)[0].is_some());
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
