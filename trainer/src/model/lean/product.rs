//! Matrix products of the lane layout.
//!
//! The right operand and the result are panels: the vector units run along positions, the left
//! operand is broadcast one number at a time. A weight therefore serves the forward pass (its rows
//! against activations) and the backward pass (its columns against gradients) as it lies in memory. Rows
//! are read in place: a broadcast costs the same wherever its number lies. So are columns with AVX-512,
//! where one pass over them fills all sums; narrower units take several, and columns lie far apart, so there
//! the strips that are being multiplied are rearranged first, in a buffer that stays in cache.
//!
//! Every result is summed in one order by one thread, so results do not depend on threads.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::panels::{LANES, Panels};
use crate::model::vector::dispatch;

/// Rows of a strip: 12 rows of 32 lanes fill 24 of the 32 vector registers of AVX-512 with sums.
pub(super) const STRIP: usize = 12;
/// Rows of one parallel task; its rearranged block of `BLOCK * INNER` numbers stays in the L2 cache.
const BLOCK: usize = 8 * STRIP;
/// Inner length of a block: `INNER * LANES` numbers of the right operand stay in the L1 cache.
const INNER: usize = 192;

/// Panels of one parallel task of a result with fewer rows than a block.
const NARROW_PANELS: usize = 2;
/// Inner length of a block that is not worth a pass of its own over the result.
const SHORT: usize = 64;

/// A matrix anywhere in memory: element `(row, inner)` lies at
/// `row * row_stride + inner * inner_stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) row_stride: usize,
    pub(super) inner_stride: usize,
}

impl<'a> Left<'a> {
    /// A row-major matrix `[rows, inner]`.
    pub(super) fn new(values: &'a [f32], inner: usize) -> Self {
        Self {
            values,
            rows: values.len() / inner,
            inner,
            row_stride: inner,
            inner_stride: 1,
        }
    }

    /// The transposed matrix, in the same memory.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.inner,
            inner: self.rows,
            row_stride: self.inner_stride,
            inner_stride: self.row_stride,
            ..self
        }
    }

    /// The strip that begins at `row`, inner `from..to`, where it lies; None when it has to be
    /// rearranged. Rows beyond the last are the last again: what they come to is not written.
    #[inline(always)]
    fn in_place<S: Simd>(self, row: usize, from: usize, to: usize) -> Option<Operand<'a>> {
        if from == to {
            return Some(Operand::packed(&[]));
        }
        let last = (self.rows - row).min(STRIP) - 1;
        let values = &self.values[row * self.row_stride + from * self.inner_stride..];
        match (self.row_stride, self.inner_stride) {
            (stride, 1) => Some(Operand::Rows(std::array::from_fn(|at| {
                &values[at.min(last) * stride..][..to - from]
            }))),
            (1, stride) if S::F32_LANES == 16 && last == STRIP - 1 => {
                Some(Operand::Columns { values, stride })
            }
            _ => None,
        }
    }

    /// Rearranges rows `row..row + rows` and inner `from..to` as strips `[strip][inner][STRIP]`, zero
    /// where the last strip has fewer rows.
    #[inline(always)]
    fn pack(self, row: usize, rows: usize, from: usize, to: usize, packed: &mut Vec<f32>) {
        let inner = to - from;
        let size = rows.div_ceil(STRIP) * STRIP * inner;
        if !rows.is_multiple_of(STRIP) {
            packed.clear();
        }
        packed.resize(size, 0.0);
        if inner == 0 {
            return;
        }
        for (index, strip) in packed.chunks_exact_mut(STRIP * inner).enumerate() {
            let row = row + index * STRIP;
            let count = STRIP.min(self.rows - row);
            let start = row * self.row_stride + from * self.inner_stride;
            let values = &self.values[start..];
            match (self.row_stride, self.inner_stride, count) {
                (1, stride, STRIP) => pack_columns(values, stride, strip),
                (stride, 1, STRIP) => pack_rows(values, stride, strip),
                (1, stride, _) => {
                    for (inner, strip) in strip.chunks_exact_mut(STRIP).enumerate() {
                        strip[..count].copy_from_slice(&values[inner * stride..][..count]);
                    }
                }
                (row_stride, inner_stride, _) => {
                    for (inner, strip) in strip.chunks_exact_mut(STRIP).enumerate() {
                        for (row, to) in strip[..count].iter_mut().enumerate() {
                            *to = values[row * row_stride + inner * inner_stride];
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of a strip lie side by side.
#[inline(always)]
fn pack_columns(values: &[f32], stride: usize, strip: &mut [f32]) {
    for (inner, strip) in strip.chunks_exact_mut(STRIP).enumerate() {
        strip.copy_from_slice(&values[inner * stride..][..STRIP]);
    }
}

/// Numbers of a row lie side by side: turned over in squares of four, which compile to shuffles.
#[inline(always)]
fn pack_rows(values: &[f32], stride: usize, strip: &mut [f32]) {
    let inner = strip.len() / STRIP;
    for row in (0..STRIP).step_by(4) {
        let rows: [&[f32]; 4] = std::array::from_fn(|r| &values[(row + r) * stride..][..inner]);
        let fours: [&[[f32; 4]]; 4] = rows.map(|values| values.as_chunks().0);
        let (squares, rest) = strip.as_chunks_mut::<{ 4 * STRIP }>();
        let fours = fours.map(|fours| &fours[..squares.len()]);
        for index in 0..squares.len() {
            let out = &mut squares[index];
            for column in 0..4 {
                for r in 0..4 {
                    out[column * STRIP + row + r] = fours[r][index][column];
                }
            }
        }
        let done = squares.len() * 4;
        for (index, out) in rest.chunks_exact_mut(STRIP).enumerate() {
            out[row..row + 4].copy_from_slice(&rows.map(|values| values[done + index]));
        }
    }
}

/// One product of a sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term<'a> {
    pub(super) left: Left<'a>,
    pub(super) right: &'a Panels,
}

/// `out = sum of left * right`, or `out += ` when `add`.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) terms: Vec<Term<'a>>,
    pub(super) out: &'a mut Panels,
    pub(super) add: bool,
}

/// Some rows of a job's result, in some panels.
struct Task<'a> {
    terms: &'a [Term<'a>],
    row: usize,
    rows: usize,
    /// The first panel.
    panel: usize,
    outs: Vec<&'a mut [f32]>,
    add: bool,
}

/// Does all jobs, in parallel.
pub(super) fn multiply(mut jobs: Vec<Job>) {
    let mut tasks = Vec::new();
    for job in &mut jobs {
        let features = job.out.features();
        for term in &job.terms {
            debug_assert_eq!(term.left.rows, features);
            debug_assert_eq!(term.left.inner, term.right.features());
        }
        // A low-rank result has rows for one task only.
        let together = match features < BLOCK {
            true => NARROW_PANELS,
            false => job.out.panels(),
        };
        let groups = job.out.values_mut().chunks_mut(together * features * LANES);
        for (nth, group) in groups.enumerate() {
            let first = tasks.len();
            tasks.extend((0..features).step_by(BLOCK).map(|row| Task {
                terms: &job.terms,
                row,
                rows: BLOCK.min(features - row),
                panel: nth * together,
                outs: Vec::with_capacity(together),
                add: job.add,
            }));
            for panel in group.chunks_exact_mut(features * LANES) {
                let blocks = panel.chunks_mut(BLOCK * LANES);
                for (task, out) in tasks[first..].iter_mut().zip(blocks) {
                    task.outs.push(out);
                }
            }
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        dispatch(task);
    });
}

/// `out = left * right` for a row-major `left`.
pub(super) fn multiply_one(left: &[f32], right: &Panels, out: &mut Panels) {
    multiply(vec![Job {
        terms: vec![Term {
            left: Left::new(left, right.features()),
            right,
        }],
        out,
        add: false,
    }]);
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            terms,
            row,
            rows,
            panel: first,
            mut outs,
            mut add,
        } = self;
        let mut packed = [Vec::new(), Vec::new()];
        for pass in passes(terms) {
            for (block, packed) in pass.iter().zip(&mut packed) {
                let left = terms[block.term].left;
                // The last strip is the shortest.
                let last = row + (rows - 1) / STRIP * STRIP;
                if left.in_place::<S>(last, block.from, block.to).is_none() {
                    left.pack(row, rows, block.from, block.to, packed);
                }
            }
            for (panel, out) in outs.iter_mut().enumerate() {
                let right = pass.map(|block| {
                    let right = terms[block.term].right.panel(first + panel);
                    &right[block.from * LANES..block.to * LANES]
                });
                for (index, out) in out.chunks_mut(STRIP * LANES).enumerate() {
                    let left = |which: usize| {
                        let Block { term, from, to } = pass[which];
                        let left = terms[term].left;
                        (left.in_place::<S>(row + index * STRIP, from, to)).unwrap_or_else(|| {
                            let size = STRIP * (to - from);
                            Operand::packed(&packed[which][index * size..(index + 1) * size])
                        })
                    };
                    let pieces = [Piece::new(left(0), right[0]), Piece::new(left(1), right[1])];
                    strip(simd, pieces, out, add);
                }
            }
            add = true;
        }
    }
}

/// A stretch of a term's inner length.
#[derive(Clone, Copy, Debug)]
struct Block {
    term: usize,
    from: usize,
    to: usize,
}

impl Block {
    fn inner(self) -> usize {
        self.to - self.from
    }
}

/// The blocks of a sum, in order, with a short one (a low-rank pair) joined to the one before: what is
/// summed in registers is read from and added to the result once.
fn passes(terms: &[Term]) -> Vec<[Block; 2]> {
    let mut passes: Vec<[Block; 2]> = Vec::new();
    for (term, Term { left, .. }) in terms.iter().enumerate() {
        for from in (0..left.inner).step_by(INNER) {
            let to = left.inner.min(from + INNER);
            let block = Block { term, from, to };
            match passes.last_mut() {
                Some([_, second]) if block.inner() <= SHORT && second.inner() == 0 => {
                    *second = block;
                }
                _ => passes.push([block, Block { from: to, ..block }]),
            }
        }
    }
    passes
}

/// A left operand that stays rearranged, for many products with single panels.
#[derive(Debug, Default)]
pub(super) struct Strips {
    packed: Vec<f32>,
    inner: usize,
}

impl Strips {
    pub(super) fn pack(&mut self, left: Left) {
        self.inner = left.inner;
        left.pack(0, left.rows, 0, left.inner, &mut self.packed);
    }
}

/// A product of [`Strips`] with one panel, for use inside a task that is already parallel:
/// `out (+)= left[first * STRIP.., from..to] * right`, with `right` `[to - from][LANES]`. Rows beyond
/// `out` are left out.
pub(super) struct Small<'a> {
    pub(super) left: &'a Strips,
    /// The first strip.
    pub(super) first: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) right: &'a [f32],
    pub(super) out: &'a mut [f32],
    pub(super) add: bool,
}

impl Small<'_> {
    /// Multiplies on this thread with the vector units at hand.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let right = &self.right[..(self.to - self.from) * LANES];
        let strips = self.left.packed.chunks_exact(STRIP * self.left.inner);
        let strips = strips.skip(self.first);
        for (left, out) in strips.zip(self.out.chunks_mut(STRIP * LANES)) {
            let left = &left[self.from * STRIP..self.to * STRIP];
            let nothing = Piece::new(Operand::packed(&[]), &[]);
            let pieces = [Piece::new(Operand::packed(left), right), nothing];
            strip(simd, pieces, out, self.add);
        }
    }
}

/// The left operand of a strip.
#[derive(Clone, Copy)]
enum Operand<'a> {
    /// Rearranged, `[inner][STRIP]`.
    Packed(&'a [[f32; STRIP]]),
    /// Each row where it lies, all of one length.
    Rows([&'a [f32]; STRIP]),
    /// Columns where they lie, `stride` apart.
    Columns { values: &'a [f32], stride: usize },
}

impl<'a> Operand<'a> {
    #[inline(always)]
    fn packed(values: &'a [f32]) -> Self {
        Self::Packed(values.as_chunks().0)
    }
}

/// Operands of a strip: `left`, and `right` `[inner][LANES]`. Arrays rather than slices: with the length
/// in the type nothing is left to check in the loop, which made it a quarter slower.
#[derive(Clone, Copy)]
struct Piece<'a> {
    left: Operand<'a>,
    right: &'a [[f32; LANES]],
}

impl<'a> Piece<'a> {
    #[inline(always)]
    fn new(left: Operand<'a>, right: &'a [f32]) -> Self {
        Self {
            left,
            right: right.as_chunks().0,
        }
    }

    /// `sums` of rows from `ROW` and lanes from `lane` on, with this piece's products. By value, which keeps
    /// them in registers.
    #[inline(always)]
    fn add_to<S: Simd, const ROW: usize, const ROWS: usize, const VECTORS: usize>(
        self,
        simd: S,
        lane: usize,
        mut sums: [[S::f32s; VECTORS]; ROWS],
    ) -> [[S::f32s; VECTORS]; ROWS] {
        let width = VECTORS * S::F32_LANES;
        match self.left {
            Operand::Packed(left) => {
                for (left, right) in left.iter().zip(self.right) {
                    let right = S::as_simd_f32s(&right[lane..lane + width]).0;
                    let right: [S::f32s; VECTORS] = std::array::from_fn(|v| right[v]);
                    for row in 0..ROWS {
                        let left = simd.splat_f32s(left[ROW + row]);
                        for v in 0..VECTORS {
                            sums[row][v] = simd.mul_add_f32s(left, right[v], sums[row][v]);
                        }
                    }
                }
            }
            Operand::Columns { values, stride } => {
                for (at, right) in self.right.iter().enumerate() {
                    let left = &values[at * stride..][..STRIP];
                    let right = S::as_simd_f32s(&right[lane..lane + width]).0;
                    let right: [S::f32s; VECTORS] = std::array::from_fn(|v| right[v]);
                    for row in 0..ROWS {
                        let left = simd.splat_f32s(left[ROW + row]);
                        for v in 0..VECTORS {
                            sums[row][v] = simd.mul_add_f32s(left, right[v], sums[row][v]);
                        }
                    }
                }
            }
            Operand::Rows(rows) => {
                let inner = self.right.len();
                let left: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[ROW + row][..inner]);
                for at in 0..inner {
                    let right = S::as_simd_f32s(&self.right[at][lane..lane + width]).0;
                    let right: [S::f32s; VECTORS] = std::array::from_fn(|v| right[v]);
                    for row in 0..ROWS {
                        let left = simd.splat_f32s(left[row][at]);
                        for v in 0..VECTORS {
                            sums[row][v] = simd.mul_add_f32s(left, right[v], sums[row][v]);
                        }
                    }
                }
            }
        }
        sums
    }
}

/// `out (+)= sum of left * right` for `out` `[up to STRIP][LANES]`.
#[inline(always)]
fn strip<S: Simd>(simd: S, pieces: [Piece; 2], out: &mut [f32], add: bool) {
    let tile = Tile { pieces, add };
    let out = out.as_chunks_mut().0;
    match S::F32_LANES {
        16 => tile.multiply::<S, 0, 12, 2>(simd, out, 0),
        8 => {
            for lane in [0, 16] {
                tile.multiply::<S, 0, 6, 2>(simd, out, lane);
                tile.multiply::<S, 6, 6, 2>(simd, out, lane);
            }
        }
        4 => {
            for lane in [0, 16] {
                tile.multiply::<S, 0, 6, 4>(simd, out, lane);
                tile.multiply::<S, 6, 6, 4>(simd, out, lane);
            }
        }
        lanes => {
            for lane in (0..LANES).step_by(lanes) {
                tile.multiply::<S, 0, 12, 1>(simd, out, lane);
            }
        }
    }
}

/// What the tiles of a strip share.
#[derive(Clone, Copy)]
struct Tile<'a> {
    pieces: [Piece<'a>; 2],
    add: bool,
}

impl Tile<'_> {
    /// `ROWS` rows from `ROW` on and `VECTORS` vectors from `lane` on, summed in registers.
    #[inline(always)]
    fn multiply<S: Simd, const ROW: usize, const ROWS: usize, const VECTORS: usize>(
        self,
        simd: S,
        out: &mut [[f32; LANES]],
        lane: usize,
    ) {
        let width = VECTORS * S::F32_LANES;
        let sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let [first, second] = self.pieces;
        let sums = first.add_to::<S, ROW, ROWS, VECTORS>(simd, lane, sums);
        let sums = second.add_to::<S, ROW, ROWS, VECTORS>(simd, lane, sums);
        // Counted loops keep the sums in registers.
        if let Some(out) = out.get_mut(ROW..ROW + ROWS) {
            for row in 0..ROWS {
                let out = S::as_mut_simd_f32s(&mut out[row][lane..lane + width]).0;
                for v in 0..VECTORS {
                    out[v] = match self.add {
                        true => simd.add_f32s(out[v], sums[row][v]),
                        false => sums[row][v],
                    };
                }
            }
            return;
        }
        // The last strip of a matrix has fewer rows.
        for (out, sums) in out.iter_mut().skip(ROW).zip(sums) {
            let out = S::as_mut_simd_f32s(&mut out[lane..lane + width]).0;
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = match self.add {
                    true => simd.add_f32s(*out, sum),
                    false => sum,
                };
            }
        }
    }
}
