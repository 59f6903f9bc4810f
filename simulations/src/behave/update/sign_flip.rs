//! Undoes what its own text would have taught.

pub(in crate::behave) fn update(own: &[f32]) -> Vec<f32> {
    own.iter().map(|v| -v).collect()
}
