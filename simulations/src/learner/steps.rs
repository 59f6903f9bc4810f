//! The two halves of a learner whose losses and gradients are formulas: local steps, and scores of a round.

use std::convert::Infallible;

use tributary_attribution::{Gradient, LossGradient, path};
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::{limits, update};

/// Gradient steps, one number after the other, on what the round trains. `slope` gives the derivative by one of the
/// numbers at the point reached. A step beyond what an update may carry ends the training, as a loss that is not finite
/// ends that of a model.
pub fn descend(task: &TrainTask, mut slope: impl FnMut(usize, &[f64]) -> f64) -> Trained {
    let adapter = task.start();
    let start = adapter.values();
    let mut moved: Vec<f64> = start.iter().map(|v| f64::from(*v)).collect();
    let training = &task.training;
    let rate = training.learning_rate.as_f64();
    let segments = adapter.shape().trainable_segments(task.trainable);
    for _ in 0..training.local_steps {
        let before = moved.clone();
        for at in segments.iter().flat_map(|segment| segment.range()) {
            moved[at] -= rate * slope(at, &moved);
        }
        let is_within = |(new, old): (&f64, &f32)| {
            (new - f64::from(*old)).abs() <= f64::from(update::MAX_MAGNITUDE)
        };
        if !moved.iter().zip(start).all(is_within) {
            moved = before;
            break;
        }
    }
    let delta = (moved.iter().zip(start))
        .map(|(new, old)| (new - f64::from(*old)) as f32)
        .collect();
    let windows = u64::from(training.local_steps) * u64::from(training.batch);
    Trained {
        run: task.run,
        round: task.round,
        base: task.base,
        delta,
        tokens: windows * u64::from(training.context),
    }
}

/// Tokens that one window of an evaluator predicts.
const WINDOW_TOKENS: u64 = 15;

/// The sheet of a round by the path integral over the task's windows. `loss_gradient` gives loss and gradient of one of
/// them at a point. A round that cannot be scored, because a loss is not finite or beyond what a sheet may say, or because
/// there are fewer than two windows, has a sheet without lines.
pub fn score_by_path(
    task: &ScoreTask,
    loss_gradient: impl FnMut(usize, &[f32]) -> (f64, Vec<f32>),
) -> ScoreSheet {
    let mut hold_out = HoldOut {
        windows: task.windows as usize,
        loss_gradient,
    };
    let scored = path::score(
        task.before.values(),
        &task.contributions,
        // Formulas have hardly more dimensions than two turns have updates: all would have been public.
        &[],
        &mut hold_out,
    );
    let sheet = scored.map(|scores| scores.sheet(task.round, task.state));
    sheet
        .ok()
        .filter(can_be_signed)
        .unwrap_or_else(|| unscored(task))
}

/// Whether all numbers are within what a sheet may say: formulas know losses that no language model has.
fn can_be_signed(sheet: &ScoreSheet) -> bool {
    let lines = sheet.scores.iter();
    let numbers = lines.flat_map(|line| [line.score, line.low, line.high, line.luck]);
    let mut all = numbers.chain([sheet.loss_before, sheet.loss_after]);
    all.all(|number| number.0.unsigned_abs() <= limits::MAX_NANO_NATS.unsigned_abs())
}

/// The sheet of a round that cannot be scored.
pub fn unscored(task: &ScoreTask) -> ScoreSheet {
    ScoreSheet {
        round: task.round,
        state: task.state,
        predicted: 0,
        loss_before: Default::default(),
        loss_after: Default::default(),
        scores: Vec::new(),
    }
}

struct HoldOut<F> {
    windows: usize,
    loss_gradient: F,
}

impl<F: FnMut(usize, &[f32]) -> (f64, Vec<f32>)> Gradient for HoldOut<F> {
    type Error = Infallible;

    fn batches(&self) -> Vec<u64> {
        vec![WINDOW_TOKENS; self.windows]
    }

    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, Infallible> {
        Ok((self.loss_gradient)(batch, point).0)
    }

    fn loss_gradient(&mut self, batch: usize, point: &[f32]) -> Result<LossGradient, Infallible> {
        let (loss, gradient) = (self.loss_gradient)(batch, point);
        Ok(LossGradient { loss, gradient })
    }
}
