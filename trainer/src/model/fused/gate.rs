//! The gated activation of the feed-forward block.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Matrix, Pull, apply};
use crate::model::vector::{TASK, exp, fast};

#[derive(Clone, Debug)]
struct State {
    gate: Matrix,
    up: Matrix,
}

/// `silu(gate) * up`, element by element.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    apply([gate, up], |[gate, up], _| {
        let mut output = vec![0.0; gate.values().len()];
        (output.par_chunks_mut(TASK))
            .zip(gate.values().par_chunks(TASK))
            .zip(up.values().par_chunks(TASK))
            .for_each(|((output, gate), up)| {
                fast(
                    #[inline(always)]
                    || {
                        for ((output, gate), up) in output.iter_mut().zip(gate).zip(up) {
                            *output = gate / (1.0 + exp(-gate)) * up;
                        }
                    },
                );
            });
        let output = Matrix::new(output, gate.rows(), gate.cols());
        let state = State {
            gate: gate.clone(),
            up: up.clone(),
        };
        (output, state)
    })
}

impl Pull<2> for State {
    fn pull(self, upstream: Matrix, _: [bool; 2]) -> [Option<Matrix>; 2] {
        let (rows, cols) = (upstream.rows(), upstream.cols());
        let mut dgate = vec![0.0; rows * cols];
        let mut dup = vec![0.0; rows * cols];
        (dgate.par_chunks_mut(TASK))
            .zip(dup.par_chunks_mut(TASK))
            .zip(self.gate.values().par_chunks(TASK))
            .zip(self.up.values().par_chunks(TASK))
            .zip(upstream.values().par_chunks(TASK))
            .for_each(|((((dgate, dup), gate), up), upstream)| {
                fast(
                    #[inline(always)]
                    || {
                        let outputs = dgate.iter_mut().zip(dup);
                        let inputs = gate.iter().zip(up).zip(upstream);
                        for ((dgate, dup), ((gate, up), upstream)) in outputs.zip(inputs) {
                            let sigmoid = 1.0 / (1.0 + exp(-gate));
                            let silu = gate * sigmoid;
                            *dup = upstream * silu;
                            // d silu = sigmoid (1 + gate (1 - sigmoid))
                            *dgate = upstream * up * (sigmoid + silu * (1.0 - sigmoid));
                        }
                    },
                );
            });
        [
            Some(Matrix::new(dgate, rows, cols)),
            Some(Matrix::new(dup, rows, cols)),
        ]
    }
}
