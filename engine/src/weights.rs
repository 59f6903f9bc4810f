//! Weights as the engine computes with them: packed in panels, as f32 or as bytes.
//!
//! Bytes: 64 inputs of one output share a scale, their largest magnitude divided by 127, and each number becomes the
//! nearest of 255 steps. The inputs of a product are quantised in the same way, 64 features of a row at a time. What is
//! multiplied are whole numbers, exactly; only the sum over groups is rounded, from the first group to the last.

use crate::config::Config;
use crate::engine::Precision;
use crate::kernel::{BLOCK, BLOCK_BYTES, bytes_product, in_large_pages};
use crate::model::parameters::Parameter;
use crate::model::vector::fast;
use crate::panel::{Lanes, PANEL, Product, panels};

/// What a byte of a weight is more than the number it stands for.
const OFFSET: f32 = 128.0;
/// The largest magnitude of a quantised number.
const STEPS: f32 = 127.0;

/// A matrix `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    /// `[panel of outputs][input][64]`.
    F32(Vec<f32>),
    /// `[panel of outputs][panel of inputs]`: a block of bytes as [`bytes_product`] takes it, and 64 scales.
    Int8 { blocks: Vec<u8>, scales: Vec<f32> },
}

/// Rows as inputs of a product.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) rows: usize,
    /// `[panel][row][64]`.
    pub(crate) x: &'a [f32],
    /// The same numbers quantised; empty where no product needs them.
    pub(crate) quantised: &'a [i8],
    /// For each panel and row, the scale and the sum of the quantised numbers.
    pub(crate) scales: &'a [f32],
}

impl Matrix {
    /// Packs a row-major matrix.
    pub(crate) fn new(values: &[f32], inputs: usize, precision: Precision) -> Self {
        let outputs = values.len() / inputs;
        let packed = match precision {
            Precision::F32 => Packed::F32(packed(values, outputs, inputs)),
            Precision::Int8 => in_bytes(values, outputs, inputs),
        };
        Self {
            outputs,
            inputs,
            packed,
        }
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.packed {
            Packed::F32(values) => 4 * values.len(),
            Packed::Int8 { blocks, scales } => blocks.len() + 4 * scales.len(),
        }
    }

    /// `out = W x` for the outputs of one panel, `[rows][64]`.
    pub(crate) fn multiply(&self, panel: usize, inputs: Inputs<'_>, out: &mut [f32]) {
        match &self.packed {
            Packed::F32(values) => {
                let size = self.inputs * PANEL;
                let product = Product {
                    weights: &values[panel * size..][..size],
                    inputs: self.inputs,
                    x: inputs.x,
                    x_rows: inputs.rows,
                    first: 0,
                    out,
                    add: false,
                };
                product.run();
            }
            Packed::Int8 { blocks, scales } => {
                let count = panels(self.inputs);
                let blocks = &blocks[panel * count * BLOCK_BYTES..][..count * BLOCK_BYTES];
                let scales = &scales[panel * count * PANEL..][..count * PANEL];
                bytes(blocks, scales, inputs, out);
            }
        }
    }

    /// One row of the matrix, `[panel of inputs][64]`.
    pub(crate) fn row(&self, row: usize, out: &mut [Lanes]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        match &self.packed {
            Packed::F32(values) => {
                let values = &values[panel * self.inputs * PANEL..];
                out.as_flattened_mut().fill(0.0);
                for (to, from) in out.as_flattened_mut()[..self.inputs]
                    .iter_mut()
                    .zip(values.as_chunks::<PANEL>().0)
                {
                    *to = from[lane];
                }
            }
            Packed::Int8 { blocks, scales } => {
                let count = panels(self.inputs);
                for (group, out) in out.iter_mut().enumerate() {
                    let at = panel * count + group;
                    let scale = scales[at * PANEL + lane];
                    let block = &blocks[at * BLOCK_BYTES..][..BLOCK_BYTES];
                    for (input, out) in out.iter_mut().enumerate() {
                        let byte = block[place(lane, input)];
                        *out = (f32::from(byte) - OFFSET) * scale;
                    }
                }
            }
        }
    }
}

/// Where the weight of an output and an input lies in a block.
fn place(output: usize, input: usize) -> usize {
    input / 4 * 4 * BLOCK + output * 4 + input % 4
}

fn packed(values: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let mut out = in_large_pages(panels(outputs) * inputs * PANEL);
    out.resize(panels(outputs) * inputs * PANEL, 0.0);
    for (panel, out) in out.chunks_exact_mut(inputs * PANEL).enumerate() {
        let rows = values[panel * PANEL * inputs..].chunks_exact(inputs);
        for (lane, row) in rows.take(PANEL).enumerate() {
            for (out, value) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(row) {
                out[lane] = *value;
            }
        }
    }
    out
}

fn in_bytes(values: &[f32], outputs: usize, inputs: usize) -> Packed {
    let count = panels(outputs) * panels(inputs);
    let mut blocks = in_large_pages(count * BLOCK_BYTES);
    blocks.resize(count * BLOCK_BYTES, OFFSET as u8);
    let mut scales = vec![0.0; count * PANEL];
    for (output, row) in values.chunks_exact(inputs).enumerate() {
        for (group, numbers) in row.chunks(PANEL).enumerate() {
            let at = output / PANEL * panels(inputs) + group;
            let lane = output % PANEL;
            let largest = numbers.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let scale = largest / STEPS;
            scales[at * PANEL + lane] = scale;
            if scale == 0.0 {
                continue;
            }
            let block = &mut blocks[at * BLOCK_BYTES..][..BLOCK_BYTES];
            for (input, value) in numbers.iter().enumerate() {
                block[place(lane, input)] = ((value / scale).round() + OFFSET) as u8;
            }
        }
    }
    Packed::Int8 { blocks, scales }
}

/// `out = sum over groups of scale_w scale_x (bytes - offsets)`.
fn bytes(blocks: &[u8], scales: &[f32], inputs: Inputs<'_>, out: &mut [f32]) {
    /// Rows whose sums are on the stack at the same time.
    const ROWS: usize = 6;
    let out: &mut [Lanes] = out.as_chunks_mut().0;
    let rows = inputs.rows;
    let quantised: &[[i8; BLOCK]] = inputs.quantised.as_chunks().0;
    let x_scales: &[[f32; 2]] = inputs.scales.as_chunks().0;
    let scales: &[Lanes] = scales.as_chunks().0;
    for first in (0..rows).step_by(ROWS) {
        let count = (rows - first).min(ROWS);
        let out = &mut out[first..first + count];
        let mut sums = [[0i32; BLOCK]; ROWS];
        for (group, block) in blocks.chunks_exact(BLOCK_BYTES).enumerate() {
            let from = group * rows + first;
            bytes_product(block, &quantised[from..from + count], &mut sums[..count]);
            let x_scales = &x_scales[from..from + count];
            fast(
                #[inline(always)]
                || add_group(&sums[..count], &scales[group], x_scales, out, group == 0),
            );
        }
    }
}

#[inline(always)]
fn add_group(
    sums: &[[i32; BLOCK]],
    scales: &Lanes,
    x_scales: &[[f32; 2]],
    out: &mut [Lanes],
    first: bool,
) {
    for ((sums, [x_scale, x_sum]), out) in sums.iter().zip(x_scales).zip(out) {
        let more = (*x_sum * OFFSET) as i32;
        for lane in 0..BLOCK {
            let sum = (sums[lane] - more) as f32;
            let start = if first { 0.0 } else { out[lane] };
            out[lane] = sum.mul_add(scales[lane] * x_scale, start);
        }
    }
}

/// Quantises 64 features of some rows; `scales` gets the scale and the sum of each.
pub(crate) fn quantise(x: &[f32], quantised: &mut [i8], scales: &mut [f32]) {
    let rows = x.as_chunks::<PANEL>().0.iter();
    let out = quantised.as_chunks_mut::<PANEL>().0.iter_mut();
    for ((x, out), scale) in rows.zip(out).zip(scales.as_chunks_mut::<2>().0) {
        fast(
            #[inline(always)]
            || *scale = quantise_row(x, out),
        );
    }
}

#[inline(always)]
fn quantise_row(x: &Lanes, out: &mut [i8; PANEL]) -> [f32; 2] {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let mut largest = 0.0f32;
    for value in x {
        let size = value.abs();
        largest = if size > largest { size } else { largest };
    }
    let scale = largest / STEPS;
    let inverse = if largest > 0.0 { STEPS / largest } else { 0.0 };
    let mut sum = 0;
    for (value, out) in x.iter().zip(out) {
        let step = (value * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i32;
        *out = step as i8;
        sum += step;
    }
    [scale, sum as f32]
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// Gains before attention and before the feed-forward block, padded to panels.
    pub(crate) norms: [Vec<f32>; 2],
    /// Gains of the heads of queries and keys.
    pub(crate) head_norms: Option<[Vec<f32>; 2]>,
    /// In the order of `parameters::LINEARS`.
    pub(crate) linears: [Matrix; 7],
    /// Padded to panels.
    pub(crate) biases: [Option<Vec<f32>>; 7],
}

/// One parameter as the engine keeps it.
#[derive(Debug)]
pub(crate) enum PackedParameter {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

impl PackedParameter {
    pub(crate) fn new(parameter: Parameter, precision: Precision) -> Self {
        match parameter.shape[..] {
            [_, inputs] => Self::Matrix(Matrix::new(&parameter.values, inputs, precision)),
            _ => Self::Vector(parameter.values),
        }
    }

    fn matrix(self) -> Matrix {
        match self {
            Self::Matrix(matrix) => matrix,
            Self::Vector(_) => panic!("a linear has two dimensions"),
        }
    }

    fn vector(self) -> Vec<f32> {
        match self {
            Self::Vector(values) => values,
            Self::Matrix(_) => panic!("a gain or bias has one dimension"),
        }
    }

    /// Padded to panels.
    fn padded(self) -> Vec<f32> {
        let mut values = self.vector();
        values.resize(panels(values.len()) * PANEL, 0.0);
        values
    }
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) norm: Vec<f32>,
    /// None when the head is the embedding.
    pub(crate) head: Option<Matrix>,
}

impl Weights {
    /// Takes a model's parameters in canonical order.
    ///
    /// # Panics
    /// If `parameters` are not those of `config`.
    pub(crate) fn new(
        config: &Config,
        mut parameters: impl Iterator<Item = PackedParameter>,
    ) -> Self {
        let mut next = || parameters.next().expect("one parameter for every slot");
        let embedding = next().matrix();
        let layers = (0..config.layers).map(|_| {
            let norms = [next().padded(), next().padded()];
            let head_norms = (config.head_norms).then(|| [next().vector(), next().vector()]);
            let mut biases = [const { None }; 7];
            let linears = std::array::from_fn(|which| {
                let weight = next().matrix();
                biases[which] = config.biases.of(which).then(|| next().padded());
                weight
            });
            LayerWeights {
                norms,
                head_norms,
                linears,
                biases,
            }
        });
        Self {
            embedding,
            layers: layers.collect(),
            norm: next().padded(),
            head: (!config.tied).then(|| next().matrix()),
        }
    }

    /// What gives logits.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes that one token reads.
    pub(crate) fn bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(|layer| &layer.linears);
        layers.map(Matrix::bytes).sum::<usize>() + self.head().bytes()
    }
}
