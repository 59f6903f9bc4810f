//! What top-k, top-p and min-p leave, without sorting the vocabulary.
//!
//! All three keep a prefix of the same order, likeliest first, so each pass works on what the one before left. Masses are
//! integers: the same tokens have the same mass in whatever order a selection left them.

use super::Sampler;
use super::math::{ONE, key, ln, score_of, tempered, total, total_of_keys};

impl Sampler {
    /// Leaves in `keys` the tokens that may be drawn, in no order. Does nothing when that is all that the mask allows.
    pub(super) fn keep(&mut self, most: f32) {
        if self.sampling.keeps_all() {
            return;
        }
        let inverse = self.inverse;
        let top_p = f64::from(self.sampling.top_p);
        let is_nucleus = top_p < 1.0;
        let mut sum = 0;
        if self.sampling.top_k > 0 {
            self.gather(f32::MIN);
            self.keep_top_k();
            if is_nucleus {
                sum = total_of_keys(&self.keys, most, inverse);
            }
        } else if is_nucleus {
            sum = total(&self.scores, most, inverse);
            // Tokens below this have less than half of the mass that may be left out, however many they are.
            let least = sum as f64 / ONE * (1.0 - top_p) / (2 * self.vocab) as f64;
            self.gather(((f64::from(most) + ln(least) / inverse) as f32).next_down());
        } else {
            self.gather(f32::MIN);
        }
        if is_nucleus {
            let enough = ((sum as f64 * top_p).ceil() as u64).clamp(1, sum);
            let count = nucleus(&mut self.keys, enough, most, inverse);
            self.keys.truncate(count);
        }
        if self.sampling.min_p > 0.0 {
            let bound = ln(f64::from(self.sampling.min_p));
            (self.keys).retain(|key| tempered(score_of(*key), most, inverse) >= bound);
        }
        assert!(!self.keys.is_empty(), "the likeliest token is always left");
    }

    /// Writes the keys of tokens that are allowed and have at least this score.
    pub(super) fn gather(&mut self, least: f32) {
        // Not an infinite one, which marks those that are forbidden.
        let least = least.max(f32::MIN);
        self.keys.clear();
        for (token, score) in (0u32..).zip(&self.scores) {
            if *score >= least {
                self.keys.push(key(*score, token));
            }
        }
    }

    fn keep_top_k(&mut self) {
        let count = self.sampling.top_k;
        if count < self.keys.len() {
            (self.keys).select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
            self.keys.truncate(count);
        }
    }
}

/// How many of the likeliest have `enough` mass together; afterwards they come first. Halves what is in question, so it
/// takes linear time on average.
fn nucleus(keys: &mut [u64], enough: u64, most: f32, inverse: f64) -> usize {
    let (mut low, mut high) = (0, keys.len());
    // Keys before `low` are inside and have the mass `before`, which is not enough; those from `high` are outside.
    let mut before = 0;
    while high - low > 1 {
        let half = (high - low) / 2;
        keys[low..high].select_nth_unstable_by(half, |a, b| b.cmp(a));
        let sum = before + total_of_keys(&keys[low..low + half], most, inverse);
        if sum >= enough {
            high = low + half;
        } else {
            before = sum;
            low += half;
        }
    }
    high
}
