//! How similar updates of one round, and of a whole run, are: those of different owners, and those of names of one
//! owner.

use serde::{Deserialize, Serialize};

use super::payments::cosine;
use tributary_simulations::federation::{Closed, peer};

/// Cosines of contributions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Likeness {
    /// Within a round.
    pub(super) round: Pairs,
    /// Of sums over the run.
    pub(super) run: Pairs,
}

/// Cosines of pairs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pairs {
    /// Honest members: median and largest.
    pub(super) strangers: [f64; 2],
    /// Names of one owner: smallest and median; `None` where there is one name.
    pub(super) names: Option<[f64; 2]>,
}

impl Likeness {
    /// Of the honest members, who come first, and of the cheater's names.
    pub(super) fn of(honest: usize, history: &[Closed]) -> Self {
        let mut round = Pairing::default();
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for closed in history {
            let vectors = by_member(closed);
            round.add(honest, &vectors);
            sums.resize(vectors.len(), vec![0.0; closed.step.len()]);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v);
            }
        }
        let mut run = Pairing::default();
        run.add(honest, &sums.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Self {
            round: round.pairs(),
            run: run.pairs(),
        }
    }
}

/// Contributions in the order of members: honest ones, then the cheater's names.
fn by_member(closed: &Closed) -> Vec<&[f32]> {
    let of = |member: usize| {
        let found = closed
            .contributions
            .iter()
            .find(|(id, _)| *id == peer(member));
        found.map(|(_, vector)| vector.as_slice())
    };
    (0..closed.contributions.len()).filter_map(of).collect()
}

#[derive(Default)]
struct Pairing {
    strangers: Vec<f64>,
    names: Vec<f64>,
}

impl Pairing {
    fn add(&mut self, honest: usize, vectors: &[&[f32]]) {
        for (at, one) in vectors.iter().enumerate() {
            for (before, other) in vectors[..at].iter().enumerate() {
                let cosine = cosine(one, other);
                match (before < honest, at < honest) {
                    (true, true) => self.strangers.push(cosine),
                    (false, false) => self.names.push(cosine),
                    _ => {}
                }
            }
        }
    }

    fn pairs(mut self) -> Pairs {
        self.strangers.sort_unstable_by(f64::total_cmp);
        self.names.sort_unstable_by(f64::total_cmp);
        let middle = |sorted: &[f64]| sorted[sorted.len() / 2];
        Pairs {
            strangers: [
                middle(&self.strangers),
                *self.strangers.last().expect("two honest members"),
            ],
            names: (self.names.first()).map(|least| [*least, middle(&self.names)]),
        }
    }
}
