//! Bytes of the right length whose first number is not finite. One such number in a sum would destroy the adapter, so
//! the decoder has to refuse the update.

/// Every codec begins with an f32: a number, a scale, or a level.
pub(super) fn blob(mut honest: Vec<u8>, at: usize) -> Vec<u8> {
    let number = if at.is_multiple_of(2) {
        f32::NAN
    } else {
        f32::INFINITY
    };
    honest[..4].copy_from_slice(&number.to_le_bytes());
    honest
}
