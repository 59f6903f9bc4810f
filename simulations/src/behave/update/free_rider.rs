//! Sends back the past: the run's last step of the same factors, scaled to an honest update's length, is likely to
//! point the right way and costs nothing.

use super::{AttackerView, length, scaled};

pub(super) fn echo(view: &AttackerView<'_>) -> Vec<f32> {
    match length(view.last_step) {
        0.0 => view.last_step.to_vec(),
        long => scaled(view.last_step, view.honest_length() / long),
    }
}
