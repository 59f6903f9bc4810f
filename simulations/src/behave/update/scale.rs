//! Shouts: its own text shall count a hundred times.

const FACTOR: f64 = 100.0;

pub(super) fn update(own: &[f32]) -> Vec<f32> {
    super::scaled(own, FACTOR)
}
