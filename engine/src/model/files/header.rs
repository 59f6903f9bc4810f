//! The header of a safetensors file, checked against the file's true size.
//!
//! The format is eight bytes of length, that many bytes of JSON, and the tensors' bytes without gaps
//! (`safetensors`, "Format"). The `safetensors` crate parses only a file that lies in memory as a whole
//! and keeps the last of two tensors with one name; this parser needs the header alone, so that a model
//! can be read tensor by tensor, and it names the tensor that is at fault.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Error as _, Visitor};

use crate::json;

/// Most dimensions of a tensor; models have one or two.
const MAX_DIMENSIONS: usize = 8;
/// Longest name of a tensor, in bytes; they are repeated in errors, so control characters are refused.
const MAX_NAME_BYTES: usize = 512;

/// How a tensor's numbers are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Four bytes.
    F32,
    /// Two bytes with eleven significant bits.
    F16,
    /// Two bytes with the exponents of f32.
    Bf16,
    /// A kind that is not read, and the bytes of one number.
    Other(String, u64),
}

impl Kind {
    /// None for a name whose width is not known.
    fn of(name: &str) -> Option<Self> {
        let bytes = match name {
            "F32" => return Some(Self::F32),
            "F16" => return Some(Self::F16),
            "BF16" => return Some(Self::Bf16),
            "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
            "I16" | "U16" => 2,
            "I32" | "U32" => 4,
            "I64" | "U64" | "F64" | "C64" => 8,
            _ => return None,
        };
        Some(Self::Other(name.into(), bytes))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, bytes) => *bytes,
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What its numbers are.
    pub kind: Kind,
    /// Row-major dimensions.
    pub shape: Vec<usize>,
    /// Bytes it takes in the file.
    pub bytes: u64,
}

impl Entry {
    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        (self.bytes / self.kind.bytes()) as usize
    }
}

/// A header and the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Header {
    /// The tensors, in the order of their bytes, which follow the header without gaps.
    pub entries: Vec<Entry>,
    /// The length and the JSON, as they stand in the file.
    pub raw: Vec<u8>,
}

impl Header {
    /// Reads a header of at most `limit` bytes from the start of a file of `size` bytes. The error is
    /// a sentence.
    ///
    /// # Errors
    /// When the bytes cannot be read, are not a header, or ask for other bytes than the file has.
    pub fn read(source: &mut impl Read, size: u64, limit: u64) -> Result<Self, String> {
        if size < 8 {
            return Err(format!("it has {size} bytes, too few for a header"));
        }
        let mut raw = vec![0; 8];
        source.read_exact(&mut raw).map_err(|e| e.to_string())?;
        let length = u64::from_le_bytes([
            raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7],
        ]);
        if length > size - 8 {
            return Err(format!(
                "its header claims {length} bytes and the file has {size}"
            ));
        }
        if length > limit {
            return Err(format!(
                "its header has {length} bytes, more than the {limit} that any model needs"
            ));
        }
        raw.resize(8 + length as usize, 0);
        source
            .read_exact(&mut raw[8..])
            .map_err(|e| e.to_string())?;
        let listed: Listed = serde_json::from_slice(&raw[8..])
            .map_err(|e| format!("its header is not a list of tensors: {e}"))?;
        let entries = checked(listed.0, size - 8 - length)?;
        Ok(Self { entries, raw })
    }
}

/// Kinds, shapes and places agree, and the places cover `data` bytes without gap or overlap.
fn checked(mut listed: Vec<(String, Raw)>, data: u64) -> Result<Vec<Entry>, String> {
    listed.sort_by_key(|(_, raw)| raw.data_offsets);
    let mut entries = Vec::with_capacity(listed.len());
    let mut end = 0;
    for (name, raw) in listed {
        if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
            let shown: String = name.chars().take(40).collect();
            return Err(format!("{shown:?} is no tensor's name"));
        }
        let [from, to] = raw.data_offsets;
        if from != end {
            let what = if from < end {
                "overlaps"
            } else {
                "leaves a gap after"
            };
            return Err(format!(
                "{name} {what} the tensor before it, at byte {from}"
            ));
        }
        if to < from || to > data {
            return Err(format!(
                "{name} takes the bytes {from} to {to}, and the file has {data} bytes of numbers"
            ));
        }
        end = to;
        let kind = (Kind::of(&raw.dtype))
            .ok_or_else(|| format!("{name} is of the unknown kind {:?}", raw.dtype))?;
        let needed = (raw.shape.0.iter())
            .try_fold(kind.bytes(), |product, width| product.checked_mul(*width));
        if needed != Some(to - from) {
            let shape = &raw.shape.0;
            return Err(format!(
                "{name} of shape {shape:?} does not take the {} bytes it is given",
                to - from
            ));
        }
        entries.push(Entry {
            name,
            kind,
            shape: raw.shape.0.iter().map(|width| *width as usize).collect(),
            bytes: to - from,
        });
    }
    match end == data {
        true => Ok(entries),
        false => Err(format!(
            "its tensors take {end} bytes and the file has {data} bytes of numbers"
        )),
    }
}

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// At most [`MAX_DIMENSIONS`] widths, so that a long list costs no memory.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Widths;
        impl<'de> Visitor<'de> for Widths {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} widths")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Shape, A::Error> {
                let mut widths = Vec::new();
                while let Some(width) = list.next_element()? {
                    if widths.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    widths.push(width);
                }
                Ok(Shape(widths))
            }
        }
        deserializer.deserialize_seq(Widths)
    }
}

/// The tensors in the order of the JSON; two of one name are an error.
struct Listed(Vec<(String, Raw)>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::pairs(deserializer, |key| key == "__metadata__").map(Self)
    }
}
