//! Dishonest participants: a real node whose facts and words are bent.
//!
//! A liar runs the same [`Node`] as everybody and signs with its own key, so whatever it says is as
//! plausible as a real attacker can make it. A [`Behaviour`] sees what goes into that node and what
//! comes out, and may change, drop or add on either side; it is called before the disk, so a liar is
//! free to say what it never kept. Who is a liar is drawn by the world; that nobody honest suffers
//! from it is for the oracle to say. One file per kind.

mod broken_update;
mod contradict;
mod copy_update;
mod double_proposal;
mod double_vote;
mod flood_invalid;
mod flood_valid;
mod forge_history;
mod fork_log;
mod garbage;
mod grind;
mod instead;
mod lie_sketch;
mod lying_receipt;
mod omit;
mod pick_sheets;
mod replay;
mod second_receipt;
mod silent_seat;
mod stage;
mod strangers;
mod sybils;
pub mod update;
mod vanish;
mod withhold;

pub(crate) use grind::key as ground_key;
pub use stage::Stage;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tributary_protocol::event::{Effect, Input, Timer};
use tributary_protocol::id::{BlobHash, PeerId};
use tributary_protocol::sign::SecretKey;

/// What a scenario can call a liar.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two blocks at one place of its log.
    ForkLog,
    /// Two votes in one attempt.
    DoubleVote,
    /// Two proposals in one attempt.
    DoubleProposal,
    /// Takes its seat in the committee and says nothing there.
    SilentSeat,
    /// Falls silent for good after some round.
    Vanish,
    /// Announces updates and serves them to nobody, or to a few.
    Withhold,
    /// Receipts of wrong sizes, hashes, weights, rounds and shards.
    LyingReceipt,
    /// Updates of the right size that do not decode or are not finite.
    BrokenUpdate,
    /// Waits for an update of somebody else and publishes it as its own.
    CopyUpdate,
    /// As many well-signed blocks, votes and requests as it can.
    FloodValid,
    /// As many blocks, votes and certificates that fail one check each.
    FloodInvalid,
    /// What it heard before, again and much later.
    Replay,
    /// Joins under many names.
    Sybils,
    /// Random bytes and damaged messages.
    Garbage,
    /// Proposals that leave others' contributions out.
    Omit,
    /// A second receipt, for an update of somebody else that it has seen.
    SecondReceipt,
    /// Speaks under ever new names that nobody admits.
    Strangers,
    /// As the creator a second genesis; as a member second certificates, with the keys of its friends.
    Contradict,
    /// Score sheets that favour its friends: as an evaluator it writes them, as a proposer it leaves others out.
    PickSheets,
    /// The key and the values, of many, that draw best for itself.
    Grind,
    /// Forged certificates, blocks and heads for those that are behind.
    ForgeHistory,
    /// The sketch of a text that it does not have.
    LieSketch,
}

impl Kind {
    /// The kinds that break the protocol, whatever they contribute.
    pub const PROTOCOL: [Self; 22] = [
        Self::ForkLog,
        Self::DoubleVote,
        Self::DoubleProposal,
        Self::SilentSeat,
        Self::Vanish,
        Self::Withhold,
        Self::LyingReceipt,
        Self::BrokenUpdate,
        Self::CopyUpdate,
        Self::FloodValid,
        Self::FloodInvalid,
        Self::Replay,
        Self::Sybils,
        Self::Garbage,
        Self::Omit,
        Self::SecondReceipt,
        Self::Strangers,
        Self::Contradict,
        Self::PickSheets,
        Self::Grind,
        Self::ForgeHistory,
        Self::LieSketch,
    ];

    fn behaviour(self, rng: &mut ChaCha8Rng) -> Box<dyn Behaviour> {
        match self {
            Self::ForkLog => Box::new(fork_log::ForkLog::new(rng)),
            Self::DoubleVote => Box::new(double_vote::DoubleVote::new(rng)),
            Self::DoubleProposal => Box::new(double_proposal::DoubleProposal::new(rng)),
            Self::SilentSeat => Box::new(silent_seat::SilentSeat),
            Self::Vanish => Box::new(vanish::Vanish::new(rng)),
            Self::Withhold => Box::new(withhold::Withhold::new(rng)),
            Self::LyingReceipt => Box::new(lying_receipt::LyingReceipt),
            Self::BrokenUpdate => Box::new(broken_update::BrokenUpdate),
            Self::CopyUpdate => Box::new(copy_update::CopyUpdate::default()),
            Self::FloodValid => Box::new(flood_valid::FloodValid::default()),
            Self::FloodInvalid => Box::new(flood_invalid::FloodInvalid),
            Self::Replay => Box::new(replay::Replay::default()),
            Self::Sybils => Box::new(sybils::Sybils::new(rng)),
            Self::Garbage => Box::new(garbage::Garbage::default()),
            Self::Omit => Box::new(omit::Omit::default()),
            Self::SecondReceipt => Box::new(second_receipt::SecondReceipt::default()),
            Self::Strangers => Box::new(strangers::Strangers::new(rng)),
            Self::Contradict => Box::new(contradict::Contradict::default()),
            Self::PickSheets => Box::new(pick_sheets::PickSheets::default()),
            Self::Grind => Box::new(grind::Grind::default()),
            Self::ForgeHistory => Box::new(forge_history::ForgeHistory::default()),
            Self::LieSketch => Box::new(lie_sketch::LieSketch::new(rng)),
        }
    }
}

/// How one kind of liar bends what its node hears and says. Every method starts out honest.
pub trait Behaviour {
    /// Something is about to reach the node; `None` keeps it away.
    fn input(&mut self, _stage: &mut Stage<'_>, input: Input) -> Option<Input> {
        Some(input)
    }

    /// The node wants something done; what is done is what is put on the stage.
    fn effect(&mut self, stage: &mut Stage<'_>, effect: Effect) {
        stage.act(effect);
    }

    /// The node's tick: time to do something unprovoked.
    fn tick(&mut self, _stage: &mut Stage<'_>) {}

    /// Whether `to` gets a blob that lies on this machine's disk.
    fn serves(&self, _hash: &BlobHash, _to: &PeerId) -> bool {
        true
    }

    /// Other names under which it acts.
    fn aliases(&self, _me: &SecretKey) -> Vec<PeerId> {
        Vec::new()
    }
}

/// One dishonest participant.
pub struct Liar {
    /// What it does.
    pub kind: Kind,
    key: SecretKey,
    rng: ChaCha8Rng,
    behaviour: Box<dyn Behaviour>,
}

impl Liar {
    /// A liar with the key of its machine.
    pub fn new(kind: Kind, key: SecretKey, mut rng: ChaCha8Rng) -> Self {
        let behaviour = kind.behaviour(&mut rng);
        Self {
            kind,
            key,
            rng,
            behaviour,
        }
    }

    /// Every name it goes by.
    pub fn names(&self) -> Vec<PeerId> {
        let mut names = self.behaviour.aliases(&self.key);
        names.push(self.key.peer_id());
        names
    }

    /// Whether it gives a blob out.
    pub fn serves(&self, hash: &BlobHash, to: &PeerId) -> bool {
        self.behaviour.serves(hash, to)
    }

    /// Bends what is about to reach its node.
    pub fn input(
        &mut self,
        scene: &stage::Scene<'_>,
        input: Input,
    ) -> (Option<Input>, stage::Acts) {
        let mut acts = stage::Acts::default();
        let mut stage = Stage::new(&self.key, &mut self.rng, scene, &mut acts);
        let is_tick = matches!(input, Input::Timer(Timer::Tick(_)));
        let input = self.behaviour.input(&mut stage, input);
        if is_tick {
            self.behaviour.tick(&mut stage);
        }
        (input, acts)
    }

    /// Bends what its node wants done.
    pub fn effects(&mut self, scene: &stage::Scene<'_>, effects: Vec<Effect>) -> stage::Acts {
        let mut acts = stage::Acts::default();
        for effect in effects {
            let mut stage = Stage::new(&self.key, &mut self.rng, scene, &mut acts);
            self.behaviour.effect(&mut stage, effect);
        }
        acts
    }
}

pub use stage::{Acts, Scene};
