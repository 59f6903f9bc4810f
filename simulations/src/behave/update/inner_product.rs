//! Pushes the step against the honest direction, all attackers in one direction, no update longer than an
//! honest one. Xie, Koyejo and Gupta 2020, "Fall of empires".

use super::{AttackerView, length, scaled};

pub(super) fn update(view: &AttackerView<'_>) -> Vec<f32> {
    let mean = view.honest_mean();
    match length(&mean) {
        0.0 => mean,
        long => scaled(&mean, -view.honest_length() / long),
    }
}
