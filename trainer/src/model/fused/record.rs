//! How a fused operation enters autodiff's record.
//!
//! An operation computes on host matrices and hands over a state from which it can later pull a
//! gradient back to its inputs. Everything that knows burn's back-end interface is in this file.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use crate::model::vector::row_times_transposed;

/// A row-major f32 matrix in host memory. Cloning shares the numbers.
#[derive(Clone, Debug)]
pub(super) struct Matrix(FlexTensor);

impl Matrix {
    /// Takes `rows * cols` numbers.
    pub(super) fn new(values: Vec<f32>, rows: usize, cols: usize) -> Self {
        debug_assert_eq!(values.len(), rows * cols);
        Self(FlexTensor::from_data(TensorData::new(values, [rows, cols])))
    }

    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        Self::new(vec![0.0; rows * cols], rows, cols)
    }

    pub(super) fn rows(&self) -> usize {
        self.0.layout().shape()[0]
    }

    pub(super) fn cols(&self) -> usize {
        self.0.layout().shape()[1]
    }

    /// The numbers, row-major.
    pub(super) fn values(&self) -> &[f32] {
        self.0.as_slice().expect("matrices are contiguous f32")
    }

    /// The numbers for writing; copies first when they are shared.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        if self.0.layout().start_offset() != 0
            || self.0.layout().num_elements() * 4 != self.0.bytes().len()
        {
            *self = Self::new(self.values().to_vec(), self.rows(), self.cols());
        }
        self.0.storage_mut()
    }

    /// Rows `start..start + count`, sharing the numbers.
    pub(super) fn narrow(&self, start: usize, count: usize) -> Self {
        let cols = self.cols();
        let offset = self.0.layout().start_offset() + start * cols;
        let shape = Shape::from(vec![count, cols]);
        let layout = Layout::new(shape, vec![cols as isize, 1], offset);
        Self(FlexTensor::from_arc(self.0.data_arc(), layout, DType::F32))
    }

    /// `self * other`.
    pub(super) fn times(&self, other: &Self) -> Self {
        Self(Flex::float_matmul(self.0.clone(), other.0.clone()))
    }

    /// `self * other^T`, without transposing anything in memory.
    pub(super) fn times_transposed(&self, other: &Self) -> Self {
        if self.rows() == 1 {
            let values = row_times_transposed(self.values(), other.values());
            return Self::new(values, 1, other.rows());
        }
        let transposed = Flex::float_transpose(other.0.clone());
        Self(Flex::float_matmul(self.0.clone(), transposed))
    }

    /// `self^T * other`, without transposing anything in memory.
    pub(super) fn transposed_times(&self, other: &Self) -> Self {
        let transposed = Flex::float_transpose(self.0.clone());
        Self(Flex::float_matmul(transposed, other.0.clone()))
    }

    fn contiguous(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }
}

/// What an operation keeps for its backward pass.
pub(super) trait Pull<const N: usize>: Clone + Send + Debug + 'static {
    /// The gradient of each wanted input, from that of the output.
    fn pull(self, upstream: Matrix, wanted: [bool; N]) -> [Option<Matrix>; N];
}

#[derive(Debug)]
struct Step<S>(PhantomData<S>);

impl<S: Pull<N>, const N: usize> Backward<Flex, N> for Step<S> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = Matrix::contiguous(&gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let pulled = ops.state.pull(upstream, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(pulled) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient.0);
            }
        }
    }
}

/// Runs `forward` on the inputs and records its state when any input is tracked. `forward` learns
/// which inputs are, so that it can leave out what only their gradients need.
pub(super) fn apply<S: Pull<N>, const N: usize>(
    inputs: [Tensor<2>; N],
    forward: impl FnOnce(&[Matrix; N], [bool; N]) -> (Matrix, S),
) -> Tensor<2> {
    let tracked = inputs.each_ref().map(Tensor::is_tracked);
    if !inputs.iter().any(Tensor::is_autodiff) {
        let values = inputs.map(|t| {
            let tensor = t.try_into_primitive::<Flex>();
            Matrix::contiguous(&tensor.expect("`supports` was asked"))
        });
        return Tensor::from_primitive::<Flex>(forward(&values, tracked).0.0);
    }
    let inputs = inputs.map(|t| {
        let tensor = t.autodiff().try_into_primitive::<Autodiff<Flex>>();
        tensor.expect("`supports` was asked")
    });
    let values = (inputs.each_ref()).map(|t| Matrix::contiguous(t.primitive()));
    let nodes = inputs.each_ref().map(|t| t.node());
    let (output, state) = forward(&values, tracked);
    let step = Step::<S>(PhantomData).prepare::<NoCheckpointing>(nodes);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, output.0),
        OpsKind::UnTracked(step) => step.finish(output.0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// Whether the tensor lives on the CPU back end.
pub(super) fn on_cpu(tensor: &Tensor<2>) -> bool {
    let inner = tensor.clone().without_autodiff();
    inner.try_into_primitive::<Flex>().is_ok()
}
