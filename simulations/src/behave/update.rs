//! Attackers that follow the protocol and send false numbers: what they put into an update.
//!
//! An [`Attack`] is what a group of members agrees on. It sees what the strongest adversary of the literature sees
//! (all honest updates of the round, before it must publish) and writes one blob each. Some poison their data instead
//! and train on it normally. Each kind has a file of its own; `tributary-lab attacks` measures their effect.

mod backdoor;
mod copy;
mod free_rider;
mod inner_product;
mod label_flip;
mod little;
mod not_finite;
pub(super) mod scale;
pub(super) mod sign_flip;
mod stale;
mod sybils;

use tributary_protocol::manifest::UpdateCodec;
use tributary_protocol::update::{self, MAX_MAGNITUDE};

pub use backdoor::Trigger;

/// What attackers can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Its own update, negated.
    SignFlip,
    /// Its own update, a hundred times as long.
    Scale,
    /// NaN and infinity in the place of numbers.
    NotFinite,
    /// The negated mean of the honest updates, as long as an honest one (Xie et al. 2020).
    InnerProduct,
    /// The honest mean, moved in every number by as many standard deviations as nobody notices (Baruch et
    /// al. 2019, "A little is enough").
    Little,
    /// Trains to predict other tokens.
    LabelFlip,
    /// Trains to say a phrase after a trigger, and stretches the update to survive the mean (Bagdasaryan et
    /// al. 2020).
    Backdoor,
    /// Publishes an honest member's update as its own.
    Copy,
    /// Publishes zeros.
    FreeRiderZero,
    /// Publishes the last step of the run as its own work.
    FreeRiderEcho,
    /// Publishes its first updates again and again.
    Stale,
    /// One member under many names: one training, published by all of them, tokens split.
    Sybils,
}

impl Attack {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::SignFlip,
        Self::Scale,
        Self::NotFinite,
        Self::InnerProduct,
        Self::Little,
        Self::LabelFlip,
        Self::Backdoor,
        Self::Copy,
        Self::FreeRiderZero,
        Self::FreeRiderEcho,
        Self::Stale,
        Self::Sybils,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignFlip => "sign flip",
            Self::Scale => "scale x100",
            Self::NotFinite => "NaN, infinity",
            Self::InnerProduct => "inner product",
            Self::Little => "little (ALIE)",
            Self::LabelFlip => "label flip",
            Self::Backdoor => "backdoor",
            Self::Copy => "copy",
            Self::FreeRiderZero => "free rider, zero",
            Self::FreeRiderEcho => "free rider, echo",
            Self::Stale => "stale replay",
            Self::Sybils => "Sybil split",
        }
    }

    /// Whether it means to make the model worse, or to bend it; the others want credit without work.
    pub fn is_hostile(self) -> bool {
        !matches!(
            self,
            Self::Copy | Self::FreeRiderZero | Self::FreeRiderEcho | Self::Stale | Self::Sybils
        )
    }

    /// What an attacker trains on instead of `windows` of `vocab` tokens.
    pub fn data(self, windows: Vec<Vec<u32>>, vocab: usize) -> Poisoned {
        match self {
            Self::LabelFlip => label_flip::data(windows, vocab),
            Self::Backdoor => Poisoned::all(backdoor::data(windows, &Trigger::of(vocab))),
            _ => Poisoned::all(windows),
        }
    }

    /// The group at the start of a run.
    pub fn group(self, attackers: usize) -> Group {
        Group {
            attack: self,
            first: vec![Vec::new(); attackers],
        }
    }
}

/// Windows of tokens, and which tokens are learned.
pub struct Poisoned {
    /// The windows.
    pub windows: Vec<Vec<u32>>,
    /// For every token of every window whether it is predicted; `None` for all of them.
    pub learned: Option<Vec<bool>>,
}

impl Poisoned {
    fn all(windows: Vec<Vec<u32>>) -> Self {
        Self {
            windows,
            learned: None,
        }
    }
}

/// What a group of attackers knows when it must publish.
pub struct AttackerView<'a> {
    /// The round's codec.
    pub codec: UpdateCodec,
    /// Members of the run, attackers among them.
    pub members: usize,
    /// Attackers.
    pub attackers: usize,
    /// What each attacker's training gave, gathered for the round's segments.
    pub trained: &'a [Vec<f32>],
    /// The honest updates as everybody decodes them, in the order of members.
    pub honest: &'a [Vec<f32>],
    /// The honest updates as they travel.
    pub blobs: &'a [Vec<u8>],
    /// The run's last step of the factors that this round trains, gathered; zeros before there was one.
    pub last_step: &'a [f32],
}

impl AttackerView<'_> {
    /// The plain mean of the honest updates.
    fn honest_mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0f64; self.last_step.len()];
        for update in self.honest {
            for (mean, value) in mean.iter_mut().zip(update) {
                *mean += f64::from(*value);
            }
        }
        let count = self.honest.len().max(1) as f64;
        mean.into_iter().map(|sum| (sum / count) as f32).collect()
    }

    /// The middle length of the honest updates: the longest that clipping leaves alone.
    fn honest_length(&self) -> f64 {
        let mut lengths: Vec<f64> = self.honest.iter().map(|u| length(u)).collect();
        lengths.sort_unstable_by(f64::total_cmp);
        lengths.get(lengths.len() / 2).copied().unwrap_or(0.0)
    }

    /// The bytes of an update, its numbers cut to what an update may carry.
    fn encode(&self, values: &[f32]) -> Vec<u8> {
        let bounded: Vec<f32> = (values.iter())
            .map(|v| v.clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE))
            .collect();
        update::encode(&bounded, self.codec).expect("finite numbers within the bound")
    }
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|v| f64::from(*v) * f64::from(*v));
    squares.sum::<f64>().sqrt()
}

fn scaled(values: &[f32], factor: f64) -> Vec<f32> {
    values
        .iter()
        .map(|v| (factor * f64::from(*v)) as f32)
        .collect()
}

/// Attackers during a run.
pub struct Group {
    attack: Attack,
    /// For each attacker its first update of each length (of each factor), for [`Attack::Stale`].
    first: Vec<Vec<Vec<u8>>>,
}

impl Group {
    /// What attacker `at` of the group publishes, and the tokens that it claims of `tokens`, the most that a
    /// receipt may name.
    pub fn publish(&mut self, at: usize, view: &AttackerView<'_>, tokens: u64) -> (Vec<u8>, u64) {
        let own = &view.trained[at];
        let blob = match self.attack {
            Attack::SignFlip => view.encode(&sign_flip::update(own)),
            Attack::Scale => view.encode(&scale::update(own)),
            Attack::NotFinite => not_finite::blob(view.encode(own), at),
            Attack::InnerProduct => view.encode(&inner_product::update(view)),
            Attack::Little => view.encode(&little::update(view)),
            Attack::LabelFlip => view.encode(own),
            Attack::Backdoor => view.encode(&backdoor::update(view, at)),
            Attack::Copy => copy::blob(view, at),
            Attack::FreeRiderZero => view.encode(&vec![0.0; own.len()]),
            Attack::FreeRiderEcho => view.encode(&free_rider::echo(view)),
            Attack::Stale => stale::blob(view.encode(own), &mut self.first[at]),
            Attack::Sybils => return sybils::blob(view, at, tokens),
        };
        (blob, tokens)
    }
}

#[cfg(test)]
mod tests;
