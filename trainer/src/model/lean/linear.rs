//! Linears that share an input, each with an optional bias and low-rank pair.
//!
//! `y = x W^T + b + n B^T` with `n = scale x A^T`. The wide products and the low-rank ones are terms of
//! one sum, so no intermediate as wide as the output is ever made. The base weights are frozen: only
//! the pairs have gradients.

use std::ops::Range;

use rayon::prelude::*;
use tributary_protocol::adapter::Factor;

use super::contract::{Contraction, contract};
use super::panels::{Panels, rows_mut};
use super::product::{Job, Left, Term, multiply};
use super::weights::{Factors, LayerWeights};
use crate::model::vector::fast;

/// `scale x A^T` of each of a layer's seven linears, where it has a pair.
pub(super) type Narrow = [Option<Panels>; 7];

/// Some linears of one layer.
#[derive(Clone)]
pub(super) struct Linears<'a> {
    pub(super) layer: usize,
    /// Indices of `parameters::LINEARS`.
    pub(super) which: Range<usize>,
    pub(super) weights: &'a LayerWeights,
    pub(super) factors: &'a Factors<'a>,
}

impl Linears<'_> {
    /// One output for each linear, written over or, with `add`, added to. Fills `narrow`.
    pub(super) fn forward(&self, x: &Panels, outs: &mut [Panels], add: bool, narrow: &mut Narrow) {
        let pair = |which| self.factors.pair(self.layer, which);
        for which in self.which.clone() {
            narrow[which] = pair(which).map(|pair| x.beside(pair.rank));
        }
        let narrow_jobs = (self.which.clone()).zip(&mut narrow[self.which.clone()]);
        let narrow_jobs = narrow_jobs.filter_map(|(which, out)| {
            let left = Left::new(pair(which)?.a, x.features());
            Some(Job {
                terms: vec![Term { left, right: x }],
                out: out.as_mut()?,
                add: false,
            })
        });
        multiply(narrow_jobs.collect());
        for out in narrow[self.which.clone()].iter_mut().flatten() {
            out.scale(self.factors.scale);
        }
        let jobs = self.which.clone().zip(&mut *outs).map(|(which, out)| {
            let left = Left::new(self.weights.linears[which].values(), x.features());
            let mut terms = vec![Term { left, right: x }];
            if let (Some(pair), Some(narrow)) = (pair(which), &narrow[which]) {
                let left = Left::new(pair.b, pair.rank);
                terms.push(Term {
                    left,
                    right: narrow,
                });
            }
            Job { terms, out, add }
        });
        multiply(jobs.collect());
        for (which, out) in self.which.clone().zip(outs) {
            if let Some(bias) = &self.weights.biases[which] {
                add_bias(out, bias.values());
            }
        }
    }

    /// Puts the gradients of the pairs in `flat`, and in `dx`, where given, that of the input: added
    /// to what is there with `add`.
    ///
    /// With upstream `g`: `dn = scale g B`, `dx = g W + dn A`, `dA = dn^T x`, `dB = g^T n`.
    pub(super) fn backward(
        &self,
        upstream: &[&Panels],
        x: &Panels,
        narrow: &Narrow,
        dx: Option<(&mut Panels, bool)>,
        flat: &mut [f32],
    ) {
        let dnarrow = self.narrow_gradients(upstream);
        if let Some((out, add)) = dx {
            let mut terms = Vec::new();
            for ((which, upstream), dnarrow) in self.which.clone().zip(upstream).zip(&dnarrow) {
                let weight = Left::new(self.weights.linears[which].values(), x.features());
                terms.push(Term {
                    left: weight.transposed(),
                    right: upstream,
                });
                if let (Some(pair), Some(dnarrow)) = (self.factors.pair(self.layer, which), dnarrow)
                {
                    let left = Left::new(pair.a, x.features()).transposed();
                    terms.push(Term {
                        left,
                        right: dnarrow,
                    });
                }
            }
            multiply(vec![Job { terms, out, add }]);
        }
        self.factor_gradients(upstream, x, narrow, &dnarrow, flat);
    }

    /// `scale g B` of each linear that has a pair.
    fn narrow_gradients(&self, upstream: &[&Panels]) -> Vec<Option<Panels>> {
        let pair = |which| self.factors.pair(self.layer, which);
        let mut dnarrow: Vec<Option<Panels>> = (self.which.clone().zip(upstream))
            .map(|(which, upstream)| pair(which).map(|pair| upstream.beside(pair.rank)))
            .collect();
        let jobs = (self.which.clone().zip(upstream)).zip(&mut dnarrow);
        let jobs = jobs.filter_map(|((which, right), out)| {
            let pair = pair(which)?;
            let left = Left::new(pair.b, pair.rank).transposed();
            Some(Job {
                terms: vec![Term { left, right }],
                out: out.as_mut()?,
                add: false,
            })
        });
        multiply(jobs.collect());
        for out in dnarrow.iter_mut().flatten() {
            out.scale(self.factors.scale);
        }
        dnarrow
    }

    fn factor_gradients(
        &self,
        upstream: &[&Panels],
        x: &Panels,
        narrow: &Narrow,
        dnarrow: &[Option<Panels>],
        flat: &mut [f32],
    ) {
        let (mut jobs, mut places) = (Vec::new(), Vec::new());
        for ((which, upstream), dnarrow) in self.which.clone().zip(upstream).zip(dnarrow) {
            let pair = self.factors.pair(self.layer, which);
            let (Some(pair), Some(dnarrow), Some(narrow)) = (pair, dnarrow, &narrow[which]) else {
                continue;
            };
            if self.factors.trains(Factor::A) {
                jobs.push(Contraction::new(x, dnarrow));
                places.push((Factor::A, pair));
            }
            if self.factors.trains(Factor::B) {
                jobs.push(Contraction::new(upstream, narrow));
                places.push((Factor::B, pair));
            }
        }
        contract(&mut jobs);
        for (job, (factor, pair)) in jobs.into_iter().zip(places) {
            let [a, b] = pair.starts;
            match factor {
                // `[inputs, rank]` turned over.
                Factor::A => {
                    let inputs = job.out.len() / pair.rank;
                    for (row, to) in flat[a..a + job.out.len()]
                        .chunks_exact_mut(inputs)
                        .enumerate()
                    {
                        let from = job.out[row..].iter().step_by(pair.rank);
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
                Factor::B => flat[b..b + job.out.len()].copy_from_slice(&job.out),
            }
        }
    }
}

fn add_bias(out: &mut Panels, bias: &[f32]) {
    out.par_panels_mut().for_each(|panel| {
        fast(
            #[inline(always)]
            || {
                for (row, bias) in rows_mut(panel).zip(bias) {
                    row.iter_mut().for_each(|value| *value += bias);
                }
            },
        );
    });
}
