//! A stage as bytes, for callers that keep one: little-endian, numbers unchanged.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | numbers of a vector |
//! | 4 | rows |
//! | a row | 32 of the peer, 4 places or `u32::MAX` for a dense row, then places as u32 and values as f32 |

use std::collections::BTreeMap;

use tributary_protocol::hash::Digest;
use tributary_protocol::id::PeerId;

use super::{Row, Stage};

/// The number of places that marks a dense row.
const DENSE: u32 = u32::MAX;

impl Stage {
    /// Appends the stage.
    pub fn write(&self, out: &mut Vec<u8>) {
        let count = |n: usize| {
            u32::try_from(n)
                .expect("an adapter has fewer numbers")
                .to_le_bytes()
        };
        out.extend(count(self.len));
        out.extend(count(self.rows.len()));
        for (peer, row) in &self.rows {
            out.extend(peer.as_bytes());
            let values = match row {
                Row::Dense(values) => {
                    out.extend(DENSE.to_le_bytes());
                    values
                }
                Row::Sparse { places, values } => {
                    out.extend(count(places.len()));
                    out.extend(places.iter().flat_map(|at| at.to_le_bytes()));
                    values
                }
            };
            out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
    }

    /// Reads a stage off the front of `bytes`; `None` when they are not one. Allocates no more than they hold.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let len = number(bytes)? as usize;
        let mut rows = BTreeMap::new();
        for _ in 0..number(bytes)? {
            let peer = PeerId(Digest::from_bytes(take(bytes, 32)?.try_into().ok()?));
            let row = match number(bytes)? {
                DENSE => Row::Dense(values(bytes, len)?),
                moved => {
                    let places = take(bytes, 4 * moved as usize)?;
                    let places: Vec<u32> = places.chunks_exact(4).map(word).collect();
                    let in_order = places.windows(2).all(|pair| pair[0] < pair[1]);
                    if !in_order || places.last().is_some_and(|at| *at as usize >= len) {
                        return None;
                    }
                    let values = values(bytes, places.len())?;
                    Row::Sparse { places, values }
                }
            };
            if rows.last_key_value().is_some_and(|(last, _)| *last >= peer) {
                return None;
            }
            rows.insert(peer, row);
        }
        Some(Self { len, rows })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(count)?;
    *bytes = tail;
    Some(head)
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes, 4).map(word)
}

fn values(bytes: &mut &[u8], count: usize) -> Option<Vec<f32>> {
    let values = take(bytes, count.checked_mul(4)?)?.chunks_exact(4);
    let values: Vec<f32> = values.map(|v| f32::from_bits(word(v))).collect();
    values.iter().all(|v| v.is_finite()).then_some(values)
}
