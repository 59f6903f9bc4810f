//! Real LoRA on a base model: each peer trains on windows of its own, evaluators score on held-out ones.
//!
//! It does what the daemon's learner does with the trainer, without a home, a commitment or a thread.

use std::sync::Arc;

use tributary_attribution::{Gradient, LossGradient, Vector, path};
use tributary_protocol::adapter::{Adapter, AdapterError, AdapterShape, Trainable};
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::{PeerId, StateHash};
use tributary_trainer::gradient::partial_loss_and_gradient;
use tributary_trainer::lora::LoraError;
use tributary_trainer::{
    BaseModel, GradientError, Session, SessionError, TrainConfig, Windows, evaluate,
};

use tributary_simulations::learner::{Learner, unscored};

/// Windows of one batch of the path integral, as in the daemon.
const BATCH_WINDOWS: usize = 4;

/// Members that train LoRA on a base model.
pub struct Language {
    base: BaseModel,
    shape: Arc<AdapterShape>,
    seed: u64,
    shares: Vec<Windows>,
    /// What losses are reported on, by domain.
    reported: Vec<Windows>,
    /// What rounds are scored on: other pages of the same domains.
    scored: Windows,
}

impl Language {
    /// Peer `i` trains on `shares[i]`. Every second window of each of the `hold_outs` (one a domain) is for
    /// scoring, the others for reporting. `seed` orders the windows of every training.
    ///
    /// # Panics
    /// If there is no hold-out, or one of fewer than two windows.
    pub fn new(
        base: BaseModel,
        shape: Arc<AdapterShape>,
        seed: u64,
        shares: Vec<Windows>,
        hold_outs: &[Windows],
    ) -> Self {
        let halves = hold_outs.iter().map(|all| all.clone().hold_out(2));
        let (reported, scored): (Vec<Windows>, Vec<Windows>) = halves.unzip();
        assert!(
            reported.iter().chain(&scored).all(|half| !half.is_empty()),
            "two hold-out windows of each domain at least"
        );
        let joined = scored.into_iter().reduce(|mut all, next| {
            all.join(next);
            all
        });
        Self {
            base,
            shape,
            seed,
            shares,
            reported,
            scored: joined.expect("a hold-out"),
        }
    }

    /// The base model.
    pub fn base(&self) -> &BaseModel {
        &self.base
    }

    /// The adapter's shape.
    pub fn shape(&self) -> &Arc<AdapterShape> {
        &self.shape
    }

    /// What rounds are scored on.
    pub fn scored(&self) -> &Windows {
        &self.scored
    }

    /// Losses and gradients of `windows`, by the factors that a round's contributions move.
    pub fn measure_round(
        &self,
        contributions: &[(PeerId, impl Vector)],
        windows: &Windows,
    ) -> Measure<'_> {
        let vocab = self.base.config().vocab;
        let tokens: Vec<Vec<u32>> = windows.iter().map(<[u32]>::to_vec).collect();
        let batches = tokens.chunks(BATCH_WINDOWS).map(|batch| {
            Windows::from_tokens(batch.to_vec(), windows.context(), vocab)
                .expect("they are windows")
        });
        Measure {
            learner: self,
            trainable: moved(&self.shape, contributions),
            batches: batches.collect(),
        }
    }

    /// Loss of the base (`None`) or with an adapter on each domain's reported windows, nats per token. NaN
    /// where the model computes none.
    pub fn domain_losses(&self, adapter: Option<&Adapter>) -> Vec<f64> {
        let loss = |windows| evaluate(&self.base, adapter, windows).map_or(f64::NAN, |e| e.nll);
        self.reported.iter().map(loss).collect()
    }

    /// The same peer, state and seed give the same order of windows.
    fn order(&self, peer: usize, state: &StateHash) -> u64 {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"order of windows");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&(peer as u64).to_le_bytes());
        hasher.update(state.as_bytes());
        hasher.finalize_xof().next_u64()
    }
}

/// The mean of losses by domain: every domain counts the same.
pub fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

impl Learner for Language {
    /// A step whose loss or gradient is not finite ends the training; what was done before it is given.
    fn train(&self, peer: usize, task: &TrainTask) -> Trained {
        let config = TrainConfig {
            steps: task.training.local_steps,
            batch: task.training.batch as usize,
            learning_rate: task.training.learning_rate.as_f64(),
            trainable: task.trainable,
            seed: self.order(peer, &task.base),
            ..TrainConfig::default()
        };
        let windows = self.shares[peer].clone();
        let mut session = Session::new(&self.base, &task.start(), windows, config)
            .expect("shares hold windows, and the adapter is of the base");
        while !session.is_done() {
            match session.step() {
                Ok(_) => {}
                Err(SessionError::Diverged { .. } | SessionError::NotFinite { .. }) => break,
                Err(why) => panic!("a prepared training failed: {why}"),
            }
        }
        Trained {
            run: task.run,
            round: task.round,
            base: task.base,
            tokens: session.predicted(),
            delta: session.finish(),
        }
    }

    /// A round that cannot be scored, because the model computes no loss before or after it, has a sheet
    /// without lines.
    fn score(&self, _peer: usize, task: &ScoreTask) -> ScoreSheet {
        let drawn = (self.scored).sample(task.seed.as_bytes(), task.windows as usize);
        let mut measure = self.measure_round(&task.contributions, &drawn);
        match path::score(
            task.before.values(),
            &task.contributions,
            &task.public,
            &mut measure,
        ) {
            Ok(scores) => scores.sheet(task.round, task.state),
            Err(_) => unscored(task),
        }
    }

    fn loss(&self, values: &[f32]) -> f64 {
        match Adapter::new(self.shape.clone(), values.to_vec()) {
            Ok(adapter) => mean(&self.domain_losses(Some(&adapter))),
            Err(_) => f64::NAN,
        }
    }

    fn loss_unit(&self) -> &'static str {
        "nats a token"
    }
}

/// The factors that the contributions move.
fn moved(shape: &AdapterShape, contributions: &[(PeerId, impl Vector)]) -> Trainable {
    let mut sizes = vec![0.0f64; shape.parameters()];
    for (_, contribution) in contributions {
        contribution.visit(&mut |at, value| sizes[at] += f64::from(value.abs()));
    }
    let moves = |trainable| {
        let segments = shape.trainable_segments(trainable);
        segments
            .iter()
            .any(|segment| sizes[segment.range()].iter().any(|size| *size > 0.0))
    };
    match (moves(Trainable::A), moves(Trainable::B)) {
        (true, false) => Trainable::A,
        (false, true) => Trainable::B,
        _ => Trainable::Both,
    }
}

/// Losses and gradients of drawn windows, for the path integral.
pub struct Measure<'a> {
    learner: &'a Language,
    trainable: Trainable,
    batches: Vec<Windows>,
}

/// Why a batch could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A point of the path is not an adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// It does not fit the base.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// No gradient.
    #[error(transparent)]
    Gradient(#[from] GradientError),
}

impl Measure<'_> {
    fn at(&self, point: &[f32]) -> Result<Adapter, AdapterError> {
        Adapter::new(self.learner.shape.clone(), point.to_vec())
    }
}

impl Gradient for Measure<'_> {
    type Error = PassError;

    fn batches(&self) -> Vec<u64> {
        self.batches.iter().map(Windows::predicted).collect()
    }

    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, PassError> {
        let adapter = self.at(point)?;
        Ok(evaluate(&self.learner.base, Some(&adapter), &self.batches[batch])?.nll)
    }

    fn loss_gradient(&mut self, batch: usize, point: &[f32]) -> Result<LossGradient, PassError> {
        let (adapter, windows) = (self.at(point)?, &self.batches[batch]);
        let base = &self.learner.base;
        let found = partial_loss_and_gradient(base, &adapter, self.trainable, windows)?;
        Ok(LossGradient {
            loss: found.loss,
            gradient: found.gradient,
        })
    }
}
