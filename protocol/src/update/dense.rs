//! Every number of a chunk: as f32, or as int8 under one scale.
//!
//! Int8: scale = greatest magnitude / 127, number = round(x / scale), halves away from zero. A scale
//! below the least normal f32 is written as zero and the chunk as zeros. So a chunk is all zero with
//! scale zero, or its greatest int has magnitude 127; the decoder takes nothing else, and -128 never
//! occurs.

pub(super) fn write_f32(chunk: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
}

pub(super) fn read_f32(bytes: &[u8], chunk: &mut [f32]) -> Result<(), &'static str> {
    visit_f32(bytes, |at, value| chunk[at] = value)
}

/// Tells every number of a chunk.
pub(super) fn visit_f32(
    bytes: &[u8],
    mut tell: impl FnMut(usize, f32),
) -> Result<(), &'static str> {
    for (at, b) in bytes.chunks_exact(4).enumerate() {
        tell(at, f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    }
    Ok(())
}

pub(super) fn write_int8(chunk: &[f32], bytes: &mut Vec<u8>) {
    let greatest = chunk.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let mut scale = greatest / 127.0;
    if scale < f32::MIN_POSITIVE {
        scale = 0.0;
    }
    bytes.extend(scale.to_le_bytes());
    bytes.extend(chunk.iter().map(|v| quantise(*v, scale) as u8));
}

fn quantise(value: f32, scale: f32) -> i8 {
    if scale == 0.0 {
        return 0;
    }
    (value / scale).round().clamp(-127.0, 127.0) as i8
}

pub(super) fn read_int8(bytes: &[u8], chunk: &mut [f32]) -> Result<(), &'static str> {
    visit_int8(bytes, |at, value| chunk[at] = value)
}

/// Tells every number of a chunk. What it told before an error means nothing.
pub(super) fn visit_int8(
    bytes: &[u8],
    mut tell: impl FnMut(usize, f32),
) -> Result<(), &'static str> {
    let (scale, ints) = bytes.split_at(4);
    let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
    let zero = scale.to_bits() == 0;
    let normal = scale.is_finite() && scale >= f32::MIN_POSITIVE;
    if !zero && !normal {
        return Err("a scale that is negative, tiny or not finite");
    }
    let mut greatest = 0;
    for (at, byte) in ints.iter().enumerate() {
        let int = *byte as i8;
        greatest = greatest.max(int.unsigned_abs());
        tell(at, f32::from(int) * scale);
    }
    match (zero, greatest) {
        (true, 0) | (false, 127) => Ok(()),
        _ => Err("a scale that does not fit its numbers"),
    }
}
