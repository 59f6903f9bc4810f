//! The rounds of a run without its network: train, encode, decode, combine, step.
//!
//! Experiments ask what a federation *learns*: which schedule, which codec, which rule, under which
//! liars. Messages, votes and crashes say nothing about that and cost time, so here a round is one call
//! in one process. Every piece of it is the protocol's own (`FactorSchedule`, `Feedback`, `update`,
//! `aggregate`), in the order in which `protocol::state` uses them; there is no copy of any.
//!
//! A member may put any bytes in the place of its update ([`Federation::close`] takes blobs), which is how
//! attackers come in. Two things exist here that the protocol does not have, for the sake of measuring
//! them: an outer momentum ([`Outer::Nesterov`]) and equal weights whatever was trained on.

use std::sync::Arc;

use tributary_protocol::adapter::{Adapter, AdapterShape, Segment, Trainable};
use tributary_protocol::aggregate::{self, ContributionVector, Rule, Weighted};
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::{PeerId, Round, RunId, StateHash};
use tributary_protocol::manifest::{Training, UpdateCodec};
use tributary_protocol::reject::Rejection;
use tributary_protocol::update::{self, Feedback, UpdateError};

use crate::learner::Learner;

/// What the members agree on: the settings of a manifest that shape a round.
#[derive(Clone)]
pub struct Terms {
    /// Local steps, batch, context, learning rate, factor schedule.
    pub training: Training,
    /// How updates travel.
    pub codec: UpdateCodec,
    /// How updates are combined; an `Aggregation` of the manifest, or a rule that no run can certify.
    pub rule: Arc<dyn Rule>,
    /// What is done with the combined step.
    pub outer: Outer,
    /// What an update weighs.
    pub weight: Weight,
}

/// What is done with the combined step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outer {
    /// It is added: learning rate one, as in the protocol.
    Plain,
    /// Nesterov momentum over rounds, as DiLoCo (arXiv:2311.08105) has it: `v <- m v + s`, then
    /// `rate (s + m v)` is added. Each factor has its own `v`, which waits while the other is trained.
    Nesterov {
        /// `m`.
        momentum: f64,
        /// The outer learning rate.
        rate: f64,
    },
}

/// What an update weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The tokens it was trained on, as in the protocol.
    Tokens,
    /// The same for everyone.
    Equal,
}

/// An update on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Index of the member.
    pub member: usize,
    /// Tokens that its receipt names.
    pub tokens: u64,
    /// The encoded update.
    pub blob: Vec<u8>,
}

/// What a round came to.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The round.
    pub round: Round,
    /// Which factors it moved.
    pub trainable: Trainable,
    /// The adapter before it.
    pub before: Adapter,
    /// Contribution vectors in the flat layout, ordered by peer.
    pub contributions: Vec<(PeerId, Vec<f32>)>,
    /// Updates that the decoder refused.
    pub refused: Vec<(usize, Rejection)>,
    /// What was added to the adapter, flat.
    pub step: Vec<f32>,
}

/// Members that share an adapter, and their private residuals.
pub struct Federation {
    terms: Terms,
    adapter: Adapter,
    feedback: Vec<Feedback>,
    velocity: Vec<f64>,
    /// Shapes of members that train the first components only.
    narrow: Vec<Option<Arc<AdapterShape>>>,
    /// The round that is open.
    round: Round,
}

impl Federation {
    /// `members` members at the start of a run; `seed` draws the first adapter.
    pub fn new(shape: Arc<AdapterShape>, seed: u64, members: usize, terms: Terms) -> Self {
        let parameters = shape.parameters();
        Self {
            adapter: Adapter::init(
                shape,
                &hash::digest(Domain::Simulation, &seed.to_le_bytes()),
            ),
            feedback: vec![Feedback::new(parameters); members],
            velocity: vec![0.0; parameters],
            narrow: vec![None; members],
            round: Round(1),
            terms,
        }
    }

    /// Some members train the first components only, so many each; more than there are means all.
    pub fn with_ranks(mut self, ranks: impl IntoIterator<Item = u32>) -> Self {
        let shape = self.adapter.shape();
        let narrow = ranks
            .into_iter()
            .map(|rank| shape.narrow(rank).map(Arc::new));
        self.narrow = narrow.collect();
        self
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.feedback.len()
    }

    /// What was agreed on.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The round that is open.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The adapter that it starts from.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The factors that it trains.
    pub fn trainable(&self) -> Trainable {
        self.terms.training.schedule.trainable(self.round)
    }

    /// Their places in the flat layout.
    pub fn segments(&self) -> Vec<Segment> {
        self.adapter.shape().trainable_segments(self.trainable())
    }

    /// Numbers of an update of the open round.
    pub fn update_len(&self) -> usize {
        self.segments().iter().map(Segment::len).sum()
    }

    /// The open round's work for a member that does `local_steps` of its steps.
    pub fn task(&self, local_steps: u32) -> TrainTask {
        TrainTask {
            run: RunId::default(),
            round: self.round,
            base: self.state(),
            adapter: self.adapter.clone().into(),
            shape: self.adapter.shape().clone(),
            trainable: self.trainable(),
            training: Training {
                local_steps,
                ..self.terms.training.clone()
            },
        }
    }

    /// Names the state by its adapter: there is no roster and no run to name it by.
    fn state(&self) -> StateHash {
        StateHash(hash::digest(Domain::Simulation, &self.adapter.to_bytes()))
    }

    /// A member's update as its bytes travel, what the encoding leaves out kept for later.
    ///
    /// # Errors
    /// [`UpdateError`] when the training diverged.
    pub fn publish(&mut self, member: usize, trained: &Trained) -> Result<Sent, UpdateError> {
        let segments = self.segments();
        let blob = self.feedback[member].prepare(&trained.delta, &segments, self.terms.codec)?;
        Ok(Sent {
            member,
            tokens: trained.tokens,
            blob,
        })
    }

    /// Decodes and combines what arrived, moves the adapter and opens the next round. Updates without
    /// tokens are left out as their receipts would be; updates that no encoder writes are refused.
    ///
    /// # Panics
    /// If the step leaves the range of f32; a bounded number of bounded updates cannot.
    pub fn close(&mut self, sent: &[Sent]) -> Closed {
        let (len, segments) = (self.update_len(), self.segments());
        let (mut weighted, mut refused) = (Vec::new(), Vec::new());
        for sent in sent.iter().filter(|sent| sent.tokens > 0) {
            match update::decode(&sent.blob, len, self.terms.codec) {
                Ok(update) => weighted.push(Weighted {
                    peer: peer(sent.member),
                    weight: match self.terms.weight {
                        Weight::Tokens => sent.tokens,
                        Weight::Equal => 1,
                    },
                    update,
                }),
                Err(why) => refused.push((sent.member, why)),
            }
        }
        let parameters = self.adapter.values().len();
        let contributions: Vec<(PeerId, Vec<f32>)> =
            (aggregate::combine_by(&*self.terms.rule, &weighted).into_iter())
                .map(|(peer, update)| (peer, update::scatter(&update, &segments, parameters)))
                .collect();
        let before = self.adapter.clone();
        let after = match self.terms.outer {
            Outer::Plain => aggregate::step(before.values(), &contributions),
            Outer::Nesterov { momentum, rate } => {
                self.nesterov(&contributions, &segments, momentum, rate)
            }
        };
        let pairs = after.iter().zip(before.values());
        let step = pairs.map(|(after, before)| after - before).collect();
        self.adapter = Adapter::new(before.shape().clone(), after)
            .expect("bounded updates keep the adapter finite");
        let (round, trainable) = (self.round, self.trainable());
        self.round = round.next();
        Closed {
            round,
            trainable,
            before,
            contributions,
            refused,
            step,
        }
    }

    fn nesterov(
        &mut self,
        contributions: &[(PeerId, Vec<f32>)],
        segments: &[Segment],
        momentum: f64,
        rate: f64,
    ) -> Vec<f32> {
        let mut values = self.adapter.values().to_vec();
        for at in segments.iter().flat_map(Segment::range) {
            let step: f64 = contributions.iter().map(|(_, c)| f64::from(c[at])).sum();
            self.velocity[at] = momentum * self.velocity[at] + step;
            let moved = f64::from(values[at]) + rate * (step + momentum * self.velocity[at]);
            values[at] = moved as f32;
        }
        values
    }

    /// One round of honest members: each trains `pace(member)` steps, publishes, and all are combined.
    pub fn play(&mut self, learner: &dyn Learner, pace: impl Fn(usize) -> u32) -> Closed {
        let sent = self.train(learner, 0..self.members(), pace);
        self.close(&sent.into_iter().map(|(_, sent)| sent).collect::<Vec<_>>())
    }

    /// What honest `members` train and publish. A training that diverged publishes nothing, as a peer
    /// that reports an error to its owner would.
    pub fn train(
        &mut self,
        learner: &dyn Learner,
        members: impl IntoIterator<Item = usize>,
        pace: impl Fn(usize) -> u32,
    ) -> Vec<(Trained, Sent)> {
        let mut out = Vec::new();
        for member in members {
            let trained = self.train_one(learner, member, pace(member));
            if let Ok(sent) = self.publish(member, &trained) {
                out.push((trained, sent));
            }
        }
        out
    }

    fn train_one(&self, learner: &dyn Learner, member: usize, local_steps: u32) -> Trained {
        let mut task = self.task(local_steps);
        let Some(narrow) = &self.narrow[member] else {
            return learner.train(member, &task);
        };
        task.shape = narrow.clone();
        let mut trained = learner.train(member, &task);
        trained.delta = self.adapter.shape().widen(narrow, &trained.delta);
        trained
    }
}

impl Closed {
    /// What an evaluator scores, on `windows` windows that `seed` draws.
    /// `public` is what anyone could have read before the round: contributions of the rounds before.
    pub fn score_task(&self, public: Vec<Vec<f32>>, seed: Digest, windows: u32) -> ScoreTask {
        let contributions = (self.contributions.iter())
            .map(|(peer, vector)| (*peer, ContributionVector::of(vector)));
        ScoreTask {
            run: RunId::default(),
            round: self.round,
            state: StateHash::default(),
            before: self.before.clone().into(),
            trainable: self.trainable,
            contributions: contributions.collect(),
            public: public
                .iter()
                .map(|vector| ContributionVector::of(vector))
                .collect(),
            seed,
            windows,
        }
    }
}

/// The id of a member. Ids of ascending indices are in no order, as among strangers.
pub fn peer(member: usize) -> PeerId {
    PeerId(hash::digest(
        Domain::Simulation,
        &(member as u64).to_le_bytes(),
    ))
}

#[cfg(test)]
mod tests;
