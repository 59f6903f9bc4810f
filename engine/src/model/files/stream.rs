//! Tensors out of a safetensors file, one after the other, without holding the file.
//!
//! The header is read and checked first; then the numbers pass through one buffer of [`CHUNK`] bytes, where they are
//! turned into f32, checked to be finite and shown to the caller, which hashes them. So the bytes that are hashed are
//! the bytes that are used, and the peak is the f32 numbers and the buffer.

use std::io::Read;

use half::bf16;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::WeightsError;
use super::header::{Entry, Header, Kind};

/// Bytes read at a time: enough for sequential reads, small enough for the cache. A multiple of four.
const CHUNK: usize = 1 << 20;

/// What passes by while files are read, in order.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A file of so many bytes begins.
    File(u64),
    /// The next bytes of the file.
    Bytes(&'a [u8]),
}

/// A callback that sees the bytes as they pass by.
pub type Observer<'a> = dyn FnMut(Seen<'_>) + Send + 'a;

/// A safetensors file whose header is read and checked.
pub struct TensorFile<R> {
    /// Its name in errors.
    pub name: String,
    /// What it holds.
    pub header: Header,
    size: u64,
    source: R,
}

impl<R: Read> TensorFile<R> {
    /// Reads the header, of at most `limit` bytes, of a file of `size` bytes.
    pub fn new(mut source: R, size: u64, name: &str, limit: u64) -> Result<Self, WeightsError> {
        let header =
            Header::read(&mut source, size, limit).map_err(|why| WeightsError::Format {
                file: name.into(),
                why,
            })?;
        Ok(Self {
            name: name.into(),
            header,
            size,
            source,
        })
    }

    /// Reads the numbers of each entry for which `wanted` says so and hands them to `take` with the
    /// entry's place in the header; the bytes of the others only pass by. An observer sees all bytes, on a thread beside.
    pub fn tensors(
        mut self,
        mut seen: Option<&mut Observer<'_>>,
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Vec<f32>),
    ) -> Result<(), WeightsError> {
        if let Some(seen) = &mut seen {
            seen(Seen::File(self.size));
            seen(Seen::Bytes(&self.header.raw));
        }
        let mut buffer = vec![0; CHUNK.min(self.size as usize)];
        for (place, entry) in self.header.entries.iter().enumerate() {
            let wanted = wanted(place);
            let mut values = Vec::with_capacity(if wanted { entry.count() } else { 0 });
            let mut left = entry.bytes;
            while left > 0 {
                let bytes = &mut buffer[..left.min(CHUNK as u64) as usize];
                (self.source.read_exact(bytes)).map_err(|source| WeightsError::Read {
                    path: format!("{} of {}", entry.name, self.name),
                    source,
                })?;
                left -= bytes.len() as u64;
                let (bytes, values) = (&*bytes, &mut values);
                let mut convert = || match wanted {
                    true => append(values, bytes, entry, &self.name),
                    false => Ok(()),
                };
                match &mut seen {
                    Some(seen) => rayon::join(|| seen(Seen::Bytes(bytes)), convert).1?,
                    None => convert()?,
                }
            }
            if wanted {
                take(place, values);
            }
        }
        Ok(())
    }
}

/// Appends the numbers of `bytes` to `values`, all finite.
fn append(
    values: &mut Vec<f32>,
    bytes: &[u8],
    entry: &Entry,
    file: &str,
) -> Result<(), WeightsError> {
    let from = values.len();
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match &entry.kind {
        Kind::F32 => {
            let quads = bytes.chunks_exact(4);
            values.extend(quads.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        Kind::Bf16 => values.extend(pairs().map(|b| bf16::from_le_bytes(b).to_f32())),
        Kind::F16 => {
            let halves: Vec<f16> = pairs().map(f16::from_le_bytes).collect();
            values.resize(from + halves.len(), 0.0);
            // As a slice, so that the processor's own conversion is used.
            halves.convert_to_f32_slice(&mut values[from..]);
        }
        Kind::Other(found, _) => {
            return Err(WeightsError::Dtype {
                file: file.into(),
                tensor: entry.name.clone(),
                found: found.clone(),
            });
        }
    }
    let new = &values[from..];
    // Without an early end the loop runs on vectors.
    if new.iter().fold(true, |all, v| all & v.is_finite()) {
        return Ok(());
    }
    let at = new.iter().position(|v| !v.is_finite()).unwrap_or(0);
    Err(WeightsError::NotFinite {
        file: file.into(),
        tensor: entry.name.clone(),
        at: from + at,
    })
}
