//! What goes into the node and what comes out of it.
//!
//! The node decides everything that a peer does, and does no IO: the daemon and the simulator feed it [`Input`]s and
//! carry out its [`Effect`]s **in order**. [`Effect::Persist`] is a barrier: what follows it in the list happens only
//! after its records are durable. That one rule makes every acknowledgement, vote and receipt survive a crash.

use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::adapter::{Adapter, AdapterShape, Trainable};
use crate::aggregate::ContributionVector;
use crate::anchor::ChainFacts;
use crate::entry::{Entry, Join, ScoreSheet};
use crate::hash::Digest;
use crate::id::{Blob, BlobHash, BlobRef, PeerId, Round, RunId, StateHash};
use crate::manifest::{Manifest, Training};
use crate::node::Excess;
use crate::reject::Rejection;
use crate::sketch::Sketch;
use crate::time::Instant;
use crate::work::{Computed, Work};

/// Names one gossip message until the node has judged it.
pub type GossipId = u64;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A timer set by [`Effect::SetTimer`] went off.
    Timer(Timer),
    /// A message that `from` sent to us alone. Bytes of a [`crate::wire::Message`].
    Direct {
        /// The authenticated sender.
        from: PeerId,
        /// Encoded message.
        bytes: Vec<u8>,
    },
    /// A message flooded through a run's topic; answered with one [`Effect::Verdict`].
    Gossip {
        /// The neighbour that handed it on (not necessarily its author).
        from: PeerId,
        /// To be named in the verdict.
        id: GossipId,
        /// Encoded message.
        bytes: Vec<u8>,
    },
    /// An authenticated connection to `peer` is up.
    Connected(PeerId),
    /// The last connection to `peer` is gone.
    Disconnected(PeerId),
    /// A blob asked for by [`Effect::FetchBlob`] is here.
    Blob(Blob),
    /// A blob could not be had from any of the providers; the node decides whether to ask again.
    BlobFailed(BlobHash),
    /// Local training asked for by [`Effect::Train`] is done.
    Trained(Trained),
    /// What [`Effect::Compute`] asked for is computed.
    Computed(Box<Computed>),
    /// Scoring asked for by [`Effect::Score`] is done.
    Scored {
        /// The run.
        run: RunId,
        /// The sheet to sign.
        sheet: ScoreSheet,
    },
    /// The owner's client has read the chain of a run's money, at a block that is final. Later blocks come later; the same
    /// may come again.
    Chain {
        /// The run.
        run: RunId,
        /// What it says.
        facts: ChainFacts,
    },
    /// The owner of the machine wants something.
    Command(Command),
}

/// The outcome of local training.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The run.
    pub run: RunId,
    /// The round it was for.
    pub round: Round,
    /// The state it started from.
    pub base: StateHash,
    /// New minus old values, in the flat layout of the task's shape, zero on factors that the round does not train.
    pub delta: Vec<f32>,
    /// Tokens trained on.
    pub tokens: u64,
}

/// A peer's request to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// What the join says. The node fills in its links and, of a sketch, the commitment.
    pub join: Join,
    /// The sketch that it commits to and later opens. Needed of contributors where updates weigh by own text.
    pub sketch: Option<Sketch>,
}

impl From<Join> for JoinRequest {
    fn from(join: Join) -> Self {
        Self { join, sketch: None }
    }
}

/// A command of the owner.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a run. The manifest's creator must be this peer.
    Create(Box<Manifest>),
    /// Follow a run and replicate its ledger, with or without taking part.
    Follow {
        /// The run.
        run: RunId,
        /// Membership asked for; `None` only replicates.
        join: Option<JoinRequest>,
    },
    /// Leave a run at the next round; go on replicating it.
    Leave(RunId),
    /// File something for a run's books ([`crate::filing`]), in one block.
    File {
        /// The run.
        run: RunId,
        /// Filings, in their order.
        filings: Vec<Entry>,
    },
}

/// Something to do. Effects are carried out in order, with [`Effect::Persist`] as a barrier.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make these durable before anything that follows.
    Persist(Vec<Record>),
    /// Flood to everyone who follows the run. At most `limits::MAX_GOSSIP_BYTES`.
    Gossip {
        /// The topic.
        run: RunId,
        /// Encoded message.
        bytes: Vec<u8>,
    },
    /// Send to one peer; may be lost. At most `limits::MAX_DIRECT_BYTES`.
    Send {
        /// The receiver.
        to: PeerId,
        /// Encoded message.
        bytes: Vec<u8>,
    },
    /// Judge a gossip message, so that the network layer forwards or drops it.
    Verdict {
        /// Which message.
        id: GossipId,
        /// How it is judged.
        verdict: Verdict,
    },
    /// Get a blob: from the local store, else from one of the providers in order.
    FetchBlob {
        /// What, with its exact size.
        blob: BlobRef,
        /// Peers that should have it.
        providers: Vec<PeerId>,
    },
    /// Offer a durable blob to others by its hash.
    OfferBlob(BlobHash),
    /// Train locally; answered by [`Input::Trained`]. Supersedes an unfinished one of the run.
    Train(Box<TrainTask>),
    /// Stop training of this run, its result is no longer wanted.
    CancelTrain(RunId),
    /// The round closes soon: end the run's training at its next step, and hand back what it gave.
    FinishTrain(RunId),
    /// Compute this away from the loop; answered by [`Input::Computed`] once. Nobody else sees that it is computed, so
    /// it waits for no barrier.
    Compute(Box<Work>),
    /// Score a certified round; answered by [`Input::Scored`].
    Score(Box<ScoreTask>),
    /// Call back with [`Input::Timer`] at `at`. Setting a timer again moves it.
    SetTimer {
        /// The timer.
        timer: Timer,
        /// The time, on the local monotonic clock.
        at: Instant,
    },
    /// Join the run's gossip topic.
    Subscribe(RunId),
    /// Tell the owner.
    Notify(Notice),
}

/// How a gossip message is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid and new: forward.
    Accept,
    /// Provably bad: drop and count against the neighbour.
    Reject,
    /// Late, known, or not decidable yet: drop without blame.
    Ignore,
}

/// A timer of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The round's collection ends.
    RoundDeadline(RunId, Round),
    /// The grace window after the minimum arrived ends.
    Grace(RunId, Round),
    /// Ask again for blobs that nobody had.
    Fetch(RunId),
    /// A consensus step took too long.
    Consensus {
        /// The run.
        run: RunId,
        /// The height.
        round: Round,
        /// The attempt within the height.
        attempt: u32,
        /// Which step.
        step: ConsensusStep,
    },
    /// Repeat what others may have missed, compare heads with some peer.
    Tick(RunId),
}

/// Steps of one consensus attempt that can time out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum ConsensusStep {
    /// Waiting for the proposal.
    Propose,
    /// Waiting for prevotes to agree.
    Prevote,
    /// Waiting for precommits to agree.
    Precommit,
}

/// What must survive a crash. The store keeps each kind in a table of its own, and gives all of them
/// back to `Node::restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A signed block, exactly as received. Key: its hash; written twice it is kept once.
    Block(Vec<u8>),
    /// A round's certificate, exactly as received. Key: run, round, hash; written twice it is kept once, and never
    /// overwritten by another of its round.
    Certificate {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// Encoded certificate.
        bytes: Vec<u8>,
    },
    /// A blob. Key: hash.
    Blob {
        /// Plain BLAKE3 of the bytes.
        hash: BlobHash,
        /// The content.
        bytes: Bytes,
    },
    /// What this committee member saw and said in an undecided height, in order; appended.
    Consensus {
        /// The run.
        run: RunId,
        /// The height.
        round: Round,
        /// Encoded step.
        bytes: Vec<u8>,
    },
    /// The height is decided: its `Consensus` records may go.
    ConsensusDone {
        /// The run.
        run: RunId,
        /// The height.
        round: Round,
    },
    /// Error feedback of this peer's updates; replaces the one before.
    Residual {
        /// The run.
        run: RunId,
        /// Everything before this round is accounted for, and what this peer sent in it is taken out.
        round: Round,
        /// The residual's numbers.
        bytes: Bytes,
    },
    /// The update that this peer sent last; replaces the one before. Where its round leaves it out, it goes back to error
    /// feedback.
    Sent {
        /// The run.
        run: RunId,
        /// Its round.
        round: Round,
        /// The encoded update.
        bytes: Bytes,
    },
    /// This peer follows the run (with the join it asked for); replaces the one before.
    Followed {
        /// The run.
        run: RunId,
        /// Encoded `Option<Join>`.
        bytes: Vec<u8>,
    },
    /// The owner had the run removed from this disk: of it only what this peer signed is left. Replaces the one before.
    /// Unless a `Followed` stands beside it the run is not followed.
    Forgotten {
        /// The run.
        run: RunId,
        /// The last certificate that was here, encoded: nobody else may have it yet. What this peer's seat said up to its
        /// round is not on the disk, so it says nothing more in those rounds.
        last: Option<Vec<u8>>,
    },
}

/// Work for a trainer thread.
#[derive(Clone, Debug)]
pub struct TrainTask {
    /// The run.
    pub run: RunId,
    /// The round to train for.
    pub round: Round,
    /// The state to start from.
    pub base: StateHash,
    /// The adapter of that state.
    pub adapter: Arc<Adapter>,
    /// The shape of what this peer trains: the adapter's, or its first components; see [`TrainTask::start`].
    pub shape: Arc<AdapterShape>,
    /// Which factors move.
    pub trainable: Trainable,
    /// Steps, batch, context, learning rate.
    pub training: Training,
}

impl TrainTask {
    /// What training starts from: the adapter, or its first components.
    pub fn start(&self) -> Arc<Adapter> {
        match self.shape == *self.adapter.shape() {
            true => Arc::clone(&self.adapter),
            false => Arc::new(self.adapter.narrowed(Arc::clone(&self.shape))),
        }
    }
}

/// Work for an evaluator.
#[derive(Clone, Debug)]
pub struct ScoreTask {
    /// The run.
    pub run: RunId,
    /// The certified round.
    pub round: Round,
    /// Its state.
    pub state: StateHash,
    /// The adapter before the round.
    pub before: Arc<Adapter>,
    /// Which factors the round moved.
    pub trainable: Trainable,
    /// Included contribution vectors, ordered by peer; `before + sum` is the adapter after the round.
    pub contributions: Arc<[(PeerId, ContributionVector)]>,
    /// What anyone could have read before the round: certified updates of the last turns of its factors,
    /// oldest round first and by peer within one. What a contribution has in common with their span is not new.
    pub public: Vec<ContributionVector>,
    /// Draws the hold-out windows; taken from the certificate, so nobody can train on them.
    pub seed: Digest,
    /// Windows to draw.
    pub windows: u32,
}

/// Something that the owner of the machine should hear of.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A run is known and followed.
    Following(RunId),
    /// A phase of a round began.
    Phase {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// The phase.
        phase: Phase,
    },
    /// An update arrived or was made here.
    Contributed {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// The contributor.
        peer: PeerId,
        /// Of how many expected this is the how-manieth.
        arrived: u32,
        /// Contributions expected.
        expected: u32,
    },
    /// A round is certified and its state derived here.
    Certified {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// The state.
        state: StateHash,
        /// Contributions included.
        included: u32,
        /// Milliseconds from the previous certificate, by the local clock.
        took_ms: u64,
    },
    /// The closing height is certified: nothing more will happen in this run.
    Finished(RunId),
    /// Remote input was refused.
    Refused {
        /// The peer that sent it.
        from: PeerId,
        /// The reason.
        why: Rejection,
    },
    /// Two blocks at one place of a log, or two votes: proof of equivocation by `author`.
    Equivocation {
        /// The run.
        run: RunId,
        /// The author.
        author: PeerId,
    },
    /// A certified value does not follow from what this peer holds: it is not followed, and this peer goes no further
    /// in the run; or nobody gives what it rests on, and this peer waits.
    Refuted {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// What does not follow.
        why: Rejection,
    },
    /// A run asks for more than this peer's means; nothing of it is allocated or fetched.
    Declined {
        /// The run.
        run: RunId,
        /// What it asks for.
        excess: Excess,
    },
    /// A command could not be carried out.
    CommandFailed {
        /// The run, if one was meant.
        run: Option<RunId>,
        /// What failed, why, what to do.
        why: String,
    },
}

/// Phases of a round, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waiting for enough members, before the genesis.
    Gather,
    /// Local training.
    Train,
    /// Waiting for updates of others.
    Collect,
    /// The committee decides.
    Agree,
    /// Fetching what is needed to derive the state.
    CatchUp,
    /// A certified value is refuted by what this peer holds: nothing more is done here.
    Stopped,
    /// Done.
    Finished,
}
