//! Sends back the past: the run's last step of the same factors, scaled to an honest update's length, is likely to
//! point the right way and costs nothing.

use super::{Sight, length, scaled};

pub(super) fn echo(sight: &Sight<'_>) -> Vec<f32> {
    match length(sight.last_step) {
        0.0 => sight.last_step.to_vec(),
        long => scaled(sight.last_step, sight.honest_length() / long),
    }
}
