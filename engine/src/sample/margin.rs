//! How far a token is from the one that is drawn, also next to the edge of a filter.
//!
//! Logits that were computed elsewhere differ a little from ours, and a filter may then keep one token more or less. So
//! a token outside has no infinite margin but the least difference between logits that lets it in:
//! - for `top_k`, the distance to the last token inside;
//! - for `min_p`, the distance to the bound;
//! - for `top_p`, the least `t` such that the tokens that are better by more than `t`, all of them lowered by `t` against
//!   the rest, have less than `top_p` of the mass: their log odds exceed those of `top_p` by at most `t`. A distance
//!   between logits would not do: where the masses 0.95, 0.03, 0.02 meet a `top_p` of 0.95, the second token is far
//!   below the first, yet any small shift lets it in.
//!
//! And a token that stands before ours, with more noise, may have been dropped elsewhere: it counts with what brings it
//! behind ours or, if less, with what puts it out. The margin is the most of all these. When all logits are within `e` of
//! ours, the margin of what they draw is at most `2 e`, whatever the filters.

use super::math::{Noise, ONE, ln, mass, score_of, tempered, token_of};
use super::{Sampler, Sampling};

/// Halvings in the search for a shift: enough for the last bit of an `f32`.
const HALVINGS: usize = 40;

/// All that the mask allows, likeliest first.
struct Ranking<'a> {
    sampling: &'a Sampling,
    /// Tempered scores, falling from 0.
    scores: Vec<f64>,
    /// Mass before each, and of all.
    before: Vec<u64>,
}

impl Sampler {
    /// The margin of an allowed token, in tempered scores, where filters are on.
    pub(super) fn margin_of_filtered(&mut self, most: f32, noise: Noise, token: u32) -> f64 {
        self.keep(most);
        if self.noisiest(most, noise).0 == token {
            return 0.0;
        }
        let kept = self.keys.len();
        self.gather(f32::MIN);
        self.keys.sort_unstable_by(|a, b| b.cmp(a));
        let ranking = Ranking::new(&self.sampling, &self.keys, most, self.inverse);
        let place = (self.keys.iter().position(|key| token_of(*key) == token))
            .expect("the token is allowed");
        let own = ranking.scores[place] + noise.of(token);
        let mut margin = 0f64;
        if place >= kept {
            margin = ranking.way_in(place);
        }
        for (other, key) in self.keys[..kept].iter().enumerate() {
            let ahead = ranking.scores[other] + noise.of(token_of(*key)) - own;
            if ahead > margin {
                margin = margin.max(ahead.min(ranking.way_out(other)));
            }
        }
        margin
    }
}

impl<'a> Ranking<'a> {
    fn new(sampling: &'a Sampling, keys: &[u64], most: f32, inverse: f64) -> Self {
        let scores = keys
            .iter()
            .map(|key| tempered(score_of(*key), most, inverse));
        let scores: Vec<f64> = scores.collect();
        let mut before = vec![0];
        let mut sum = 0;
        for score in &scores {
            sum += mass(*score);
            before.push(sum);
        }
        Self {
            sampling,
            scores,
            before,
        }
    }

    /// How many `top_k` leaves.
    fn top_k(&self) -> usize {
        match self.sampling.top_k {
            0 => self.scores.len(),
            count => count.min(self.scores.len()),
        }
    }

    /// Log odds of the tokens with scores above a bound, or also at it, without one of them, among those that `top_k`
    /// leaves.
    fn log_odds(&self, is_above: impl Fn(f64) -> bool, without: u64) -> f64 {
        let count = self.scores.partition_point(|score| is_above(*score));
        let count = count.min(self.top_k());
        let sum = self.before[self.top_k()];
        log_odds((self.before[count].saturating_sub(without)) as f64 / sum as f64)
    }

    /// What lets the token at a place in that is outside.
    fn way_in(&self, place: usize) -> f64 {
        let score = self.scores[place];
        let mut way = 0f64;
        if place >= self.top_k() {
            way = way.max(self.scores[self.top_k() - 1] - score);
        }
        if self.sampling.min_p > 0.0 {
            way = way.max(ln(f64::from(self.sampling.min_p)) - score);
        }
        if self.sampling.top_p < 1.0 {
            let edge = log_odds(f64::from(self.sampling.top_p));
            let is_in = |t: f64| self.log_odds(|s| s > score + t, 0) - edge <= t;
            // Nothing is better than the likeliest.
            way = way.max(least(-score, is_in));
        }
        way
    }

    /// What puts the token at a place out that is inside.
    fn way_out(&self, place: usize) -> f64 {
        let score = self.scores[place];
        let mut way = f64::INFINITY;
        if let Some(next) = self.scores.get(self.top_k()) {
            way = way.min(score - next);
        }
        if self.sampling.min_p > 0.0 {
            way = way.min(score - ln(f64::from(self.sampling.min_p)));
        }
        if self.sampling.top_p < 1.0 {
            let own = mass(score);
            let edge = log_odds(f64::from(self.sampling.top_p));
            let is_out = |t: f64| edge - self.log_odds(|s| s >= score - t, own) <= t;
            // Behind all others.
            let behind = score - self.scores[self.top_k() - 1];
            let most = behind.max(edge - self.log_odds(|_| true, own));
            if most.is_finite() {
                way = way.min(least(most, is_out));
            }
        }
        way.max(0.0)
    }
}

/// The least number up to `most` for which something holds that holds for `most` and for all above the least.
fn least(most: f64, holds: impl Fn(f64) -> bool) -> f64 {
    if holds(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, most);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn log_odds(share: f64) -> f64 {
    // A mass below the smallest counts as the smallest half.
    const LEAST: f64 = 0.5 / ONE;
    let share = share.clamp(LEAST * LEAST, 1.0);
    if share == 1.0 {
        return f64::INFINITY;
    }
    ln(share) - ln(1.0 - share)
}
