//! What an entry of a log can say.
//!
//! Entries state facts about their author's doings; they never change the past. Signatures, order and
//! links belong to the block that carries them (`log`).

use bincode::{Decode, Encode};

use crate::hash::Digest;
use crate::id::{BlobRef, MerkleRoot, NanoNats, PeerId, Round, StateHash};
use crate::limits;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::sketch::Sketch;

/// One statement of a log's author.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Entry {
    /// Opens a run. Only as the first entry of the creator's log in that run's scope.
    Create(Box<Manifest>),
    /// Asks to become a member at the next round.
    Join(Join),
    /// Asks to be a member no longer, from the next round.
    Leave,
    /// A contribution receipt: this update was made by the author, for this round, from this shard.
    Contribution(Contribution),
    /// An evaluator's judgement of a certified round.
    ScoreSheet(ScoreSheet),
}

/// A membership request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Join {
    /// Name for people; ids decide.
    pub name: String,
    /// What the author will do. A contributor trains; an evaluator scores.
    pub role: Role,
    /// Merkle root of the shard (contributor) or of the sealed hold-out (evaluator).
    pub root: MerkleRoot,
    /// Tokens behind the root.
    pub tokens: u64,
    /// Root over the words that the author trains on ([`crate::fingerprint`]), so that spans of them can be
    /// proven later. Who trains on no words has none.
    pub fingerprints: Option<MerkleRoot>,
    /// What the links that the author reveals with its proposals are checked against ([`crate::beacon`]). The node
    /// fills it in: it follows from key and run.
    pub beacon: Digest,
    /// By which others' text is told from the author's own. Needed where updates weigh by own text.
    pub sketch: Option<Sketch>,
}

/// What a member does in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Trains on its shard.
    Contributor,
    /// Scores rounds on its hold-out. Must be named in the manifest.
    Evaluator,
    /// Both: trains on its shard and scores on a part it does not train on.
    Both,
}

impl Role {
    /// Whether such a member sends updates.
    pub fn contributes(self) -> bool {
        matches!(self, Self::Contributor | Self::Both)
    }
    /// Whether such a member signs score sheets.
    pub fn evaluates(self) -> bool {
        matches!(self, Self::Evaluator | Self::Both)
    }
}

/// A contribution receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Contribution {
    /// The round it is for.
    pub round: Round,
    /// The state it was trained from.
    pub base: StateHash,
    /// The encoded update.
    pub update: BlobRef,
    /// Tokens trained on, the weight of the update.
    pub tokens: u64,
    /// The shard it was trained on.
    pub shard: MerkleRoot,
}

/// An evaluator's judgement of one certified round.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScoreSheet {
    /// The round that is judged.
    pub round: Round,
    /// Its certified state.
    pub state: StateHash,
    /// Tokens predicted.
    pub predicted: u64,
    /// Mean loss on the drawn hold-out windows before the round, per predicted token.
    pub loss_before: NanoNats,
    /// And after it.
    pub loss_after: NanoNats,
    /// One line per included contribution, ordered by peer.
    pub scores: Vec<Score>,
}

/// What one contribution did to the loss: positive lowered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Score {
    /// Whose contribution.
    pub peer: PeerId,
    /// The path integral, nats per predicted token.
    pub score: NanoNats,
    /// Lower end of the evaluator's interval.
    pub low: NanoNats,
    /// Upper end of the evaluator's interval.
    pub high: NanoNats,
    /// Standard deviation of the score were the signs of the contribution's numbers drawn by lot.
    pub luck: NanoNats,
}

impl Entry {
    /// Checks every bound that needs nothing but the entry itself. Where it may stand is checked by
    /// [`crate::log::Block::check`], what it may say in a given round by the round.
    ///
    /// # Errors
    /// [`Rejection::Limit`] names a bound, [`Rejection::Contradiction`] what cannot be meant.
    pub fn check(&self) -> Result<(), Rejection> {
        match self {
            Self::Create(manifest) => manifest.check().map_err(Rejection::from),
            Self::Join(join) => join.check(),
            Self::Leave => Ok(()),
            Self::Contribution(contribution) => contribution.check(),
            Self::ScoreSheet(sheet) => sheet.check(),
        }
    }
}

fn check_tokens(tokens: u64) -> Result<(), Rejection> {
    match tokens {
        0 => Err(Rejection::Contradiction("no tokens")),
        1..=limits::MAX_TOKENS => Ok(()),
        _ => Err(Rejection::Limit("tokens")),
    }
}

/// A name for people: 1 to [`limits::MAX_NAME_BYTES`] bytes, no control characters (it is printed on
/// other people's terminals).
pub(crate) fn is_name(name: &str) -> bool {
    (1..=limits::MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

impl Join {
    /// Checks the name, the tokens and the sketch.
    ///
    /// # Errors
    /// [`Rejection`] names what is out of bounds.
    pub fn check(&self) -> Result<(), Rejection> {
        if !is_name(&self.name) {
            return Err(Rejection::Limit("name of a member"));
        }
        self.sketch.iter().try_for_each(Sketch::check)?;
        check_tokens(self.tokens)
    }
}

impl Contribution {
    fn check(&self) -> Result<(), Rejection> {
        if self.round.0 == 0 {
            return Err(Rejection::Contradiction("the genesis has no contributions"));
        }
        if self.round.0 > limits::MAX_ROUNDS {
            return Err(Rejection::Limit("round of a contribution"));
        }
        if self.update.size == 0 || self.update.size > limits::MAX_UPDATE_BYTES {
            return Err(Rejection::Limit("bytes of an update"));
        }
        check_tokens(self.tokens)
    }
}

impl ScoreSheet {
    fn check(&self) -> Result<(), Rejection> {
        if self.round.0 == 0 {
            return Err(Rejection::Contradiction("the genesis is not scored"));
        }
        if self.round.0 > limits::MAX_ROUNDS {
            return Err(Rejection::Limit("round of a score sheet"));
        }
        check_tokens(self.predicted)?;
        let losses = [self.loss_before, self.loss_after];
        if (losses.iter()).any(|loss| !(0..=limits::MAX_NANO_NATS).contains(&loss.0)) {
            return Err(Rejection::Limit("loss of a score sheet"));
        }
        if self.scores.len() > limits::MAX_INCLUDED {
            return Err(Rejection::Limit("scores of a sheet"));
        }
        if self.scores.windows(2).any(|w| w[0].peer >= w[1].peer) {
            return Err(Rejection::Contradiction("scores out of order"));
        }
        self.scores.iter().try_for_each(Score::check)
    }
}

impl Score {
    fn check(&self) -> Result<(), Rejection> {
        let bound = -limits::MAX_NANO_NATS..=limits::MAX_NANO_NATS;
        if ![self.low, self.score, self.high]
            .iter()
            .all(|n| bound.contains(&n.0))
        {
            return Err(Rejection::Limit("score"));
        }
        if !(0..=limits::MAX_NANO_NATS).contains(&self.luck.0) {
            return Err(Rejection::Limit("luck of a score"));
        }
        if self.low > self.score || self.score > self.high {
            return Err(Rejection::Contradiction("score outside of its interval"));
        }
        Ok(())
    }
}
