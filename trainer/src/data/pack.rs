//! Documents into windows.
//!
//! A document longer than a window is cut; the first token of each piece is not predicted. Short ones
//! then either get a window each, most of it padding, or share windows in which none attends to
//! another. Rotary positions count on through a window: attention only knows their differences.

use std::fmt;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::document::Document;
use super::{DataError, MAX_CONTEXT, Parts, Window, Windows};

/// Which documents share a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// None: each piece has a window of its own, padded in a batch to the longest.
    Apart,
    /// Longest first, each into the first window with room (first-fit decreasing). Wastes least: never
    /// more than 11/9 of the fewest possible windows and one more (Dosa, 2007).
    #[default]
    Fit,
    /// In an order shuffled by the seed, each into the open window or, when it does not fit, the next.
    /// Windows then mix lengths, at the price of more padding.
    Shuffled(u64),
}

/// What packing made of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PackReport {
    /// Documents given.
    pub documents: u64,
    /// Documents longer than a window, which were cut.
    pub cut: u64,
    /// Pieces left out because they hold nothing to predict, such as a long prompt's beginning.
    pub empty: u64,
    /// Windows made.
    pub windows: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens that are predicted.
    pub predicted: u64,
    /// Share of the windows' room that holds tokens.
    pub fill: f64,
}

impl fmt::Display for PackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} documents in {} windows, {:.0} % full: {} tokens, {} of them predicted",
            self.documents,
            self.windows,
            self.fill * 100.0,
            self.tokens,
            self.predicted
        )?;
        match self.cut {
            0 => Ok(()),
            cut => write!(f, "; {cut} documents were longer than a window and cut"),
        }
    }
}

impl Windows {
    /// Puts documents in windows of at most `context` tokens.
    ///
    /// # Errors
    /// [`DataError::Context`], or [`DataError::Empty`] when nothing can be predicted.
    pub fn pack(
        documents: Vec<Document>,
        context: usize,
        packing: Packing,
    ) -> Result<(Self, PackReport), DataError> {
        if !(2..=MAX_CONTEXT).contains(&context) {
            return Err(DataError::Context(context));
        }
        let given = documents.len() as u64;
        let total = documents.iter().map(|d| d.tokens.len()).sum();
        let cut = documents
            .iter()
            .filter(|d| d.tokens.len() > context)
            .count() as u64;
        let mut pieces: Vec<Document> = (documents.into_iter())
            .flat_map(|document| document.cut(context))
            .collect();
        let before = pieces.len();
        pieces.retain(|piece| piece.predicted() > 0);
        let empty = (before - pieces.len()) as u64;
        if pieces.is_empty() {
            return Err(DataError::Empty { tokens: total });
        }
        let lengths: Vec<usize> = pieces.iter().map(|p| p.tokens.len()).collect();
        let windows: Vec<Window> = (shares(&lengths, context, packing).into_iter())
            .map(|share| window(share.into_iter().map(|at| std::mem::take(&mut pieces[at]))))
            .collect();
        let windows = Self { context, windows };
        let report = PackReport {
            documents: given,
            cut,
            empty,
            windows: windows.len() as u64,
            tokens: windows.tokens(),
            predicted: windows.predicted(),
            fill: windows.tokens() as f64 / (windows.len() * context) as f64,
        };
        Ok((windows, report))
    }
}

/// The pieces of each window, by their places in `lengths`.
fn shares(lengths: &[usize], context: usize, packing: Packing) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    match packing {
        Packing::Apart => order.into_iter().map(|at| vec![at]).collect(),
        Packing::Fit => {
            // Stable: equal lengths keep their order.
            order.sort_by_key(|at| std::cmp::Reverse(lengths[*at]));
            first_fit(&order, lengths, context)
        }
        Packing::Shuffled(seed) => {
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let mut shares: Vec<Vec<usize>> = Vec::new();
            let mut room = 0;
            for at in order {
                if lengths[at] > room {
                    shares.push(Vec::new());
                    room = context;
                }
                room -= lengths[at];
                shares.last_mut().expect("one is open").push(at);
            }
            shares
        }
    }
}

/// Each piece goes into the first window that has room. A tree over the windows holds the most room
/// below each of its nodes, so the first is found by walking down.
fn first_fit(order: &[usize], lengths: &[usize], context: usize) -> Vec<Vec<usize>> {
    let leaves = order.len().next_power_of_two();
    let mut room = vec![context; 2 * leaves];
    let mut shares: Vec<Vec<usize>> = Vec::new();
    for at in order {
        let length = lengths[*at];
        let mut node = 1;
        while node < leaves {
            node = match room[2 * node] >= length {
                true => 2 * node,
                false => 2 * node + 1,
            };
        }
        let place = node - leaves;
        if place == shares.len() {
            shares.push(Vec::new());
        }
        shares[place].push(*at);
        room[node] -= length;
        while node > 1 {
            node /= 2;
            room[node] = room[2 * node].max(room[2 * node + 1]);
        }
    }
    shares
}

fn window(pieces: impl Iterator<Item = Document>) -> Window {
    let mut tokens = Vec::new();
    let mut learned = Vec::new();
    let mut starts = Vec::new();
    for piece in pieces {
        starts.push(tokens.len() as u32);
        learned.extend((0..piece.tokens.len()).map(|at| piece.learns(at)));
        tokens.extend(piece.tokens);
    }
    let plain = starts.len() == 1 && learned[1..].iter().all(|l| *l);
    Window {
        tokens,
        parts: (!plain).then(|| Box::new(Parts { learned, starts })),
    }
}

#[cfg(test)]
mod tests;
