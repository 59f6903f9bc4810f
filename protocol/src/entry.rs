//! What an entry of a log can say.
//!
//! Entries state facts about what their author did; they never change the past. Signatures, order and links belong to
//! the block that carries them (`log`).

use bincode::{Decode, Encode};

use crate::codec;
use crate::filing::{Answers, Bind, Confirm, DisputeStep, RootSignature, Transaction};
use crate::hash::{self, Digest, Domain};
use crate::id::{BlobRef, MerkleRoot, NanoNats, PeerId, Round, StateHash};
use crate::limits;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::EntryRef;
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
    /// An evaluator's judgement of a certified round, shown. Counts behind its seal only.
    ScoreSheet(ShownSheet),
    /// Asks the authors of these joins to open their sketches: they will be compared with each other, and not with
    /// what joins later. Only by the creator, for the genesis; ordered by author.
    Call(Vec<EntryRef>),
    /// Shows the sketch that the author's join committed to.
    Opening(Sketch),
    /// Names a blob that the author holds, for whoever replicates the scope. Only in scopes other than a run's.
    Publish(BlobRef),
    /// Commits an evaluator to its sheet before it has seen anybody's.
    SheetSeal(SheetSeal),
    /// Says where the author is paid.
    Bind(Bind),
    /// Signs what everybody earned.
    RootSignature(RootSignature),
    /// Calls a contract on the test chain.
    Transaction(Transaction),
    /// Answers that the author served for pay.
    Answers(Answers),
    /// Answers a challenge of a posted root.
    Confirm(Confirm),
    /// A step of a dispute about a score sheet.
    Dispute(DisputeStep),
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
    /// Root over the words that the author trains on ([`crate::fingerprint`]), so that spans of them can be proven
    /// later. A member that trains on no words has none.
    pub fingerprints: Option<MerkleRoot>,
    /// What the links that the author reveals with its proposals are checked against ([`crate::beacon`]). The node
    /// fills it in: it follows from key and run.
    pub beacon: Digest,
    /// Commitment to the sketch by which others' text is told from the author's own ([`Sketch::commit`]). Needed where
    /// updates weigh by own text. Opened once the join is certified or called, so that nobody can join with prints that
    /// it has seen.
    pub sketch: Option<Digest>,
    /// The account whose stake the author joins with, where stake is asked for before anybody is admitted.
    pub bind: Option<Bind>,
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
    /// Mean loss after the round.
    pub loss_after: NanoNats,
    /// One line per included contribution, ordered by peer.
    pub scores: Vec<Score>,
}

/// A commitment to a score sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SheetSeal {
    /// The round that is judged.
    pub round: Round,
    /// Its certified state.
    pub state: StateHash,
    /// [`ScoreSheet::commit`] of the sheet.
    pub sheet: Digest,
}

/// A score sheet as its author shows it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ShownSheet {
    /// The judgement that was sealed.
    pub sheet: ScoreSheet,
    /// Evaluators whose seals for the round its author had seen before it showed this: bit `n` is the `n`-th of the
    /// manifest. Whoever seals later may have read the sheet ([`crate::state::timely_sheets`]).
    pub seals: u32,
}

/// What one contribution did to the loss: positive lowered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Score {
    /// The contributor.
    pub peer: PeerId,
    /// The path integral, nats per predicted token.
    pub score: NanoNats,
    /// Lower end of the evaluator's interval.
    pub low: NanoNats,
    /// Upper end of the evaluator's interval.
    pub high: NanoNats,
    /// Standard deviation that the score would have if the contribution's numbers had random signs.
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
            Self::ScoreSheet(shown) => shown.sheet.check(),
            Self::Call(joins) => check_call(joins),
            Self::Opening(sketch) => sketch.check(),
            Self::Publish(blob) => check_published(blob),
            Self::SheetSeal(seal) => check_judged(seal.round),
            Self::Bind(_) => Ok(()),
            Self::RootSignature(signature) => signature.check(),
            Self::Transaction(transaction) => transaction.check(),
            Self::Answers(answers) => answers.check(),
            Self::Confirm(confirm) => confirm.check(),
            Self::Dispute(step) => step.check(),
        }
    }
}

fn check_call(joins: &[EntryRef]) -> Result<(), Rejection> {
    if !(1..=limits::MAX_CALLED).contains(&joins.len()) {
        return Err(Rejection::Limit("joins of a call"));
    }
    if joins.windows(2).any(|w| w[0].author >= w[1].author) {
        return Err(Rejection::Contradiction("joins of a call out of order"));
    }
    Ok(())
}

fn check_published(blob: &BlobRef) -> Result<(), Rejection> {
    match blob.size {
        1..=limits::MAX_UPDATE_BYTES => Ok(()),
        _ => Err(Rejection::Limit("bytes of a published blob")),
    }
}

fn check_tokens(tokens: u64) -> Result<(), Rejection> {
    match tokens {
        0 => Err(Rejection::Contradiction("no tokens")),
        1..=limits::MAX_TOKENS => Ok(()),
        _ => Err(Rejection::Limit("tokens")),
    }
}

/// A name for people: 1 to [`limits::MAX_NAME_BYTES`] bytes, not all blank, and nothing that other people's terminals
/// would not show as it stands: no control characters, and none that is invisible or turns the text around it.
pub fn is_name(name: &str) -> bool {
    is_shown(name, limits::MAX_NAME_BYTES)
}

/// As [`is_name`], for a line of at most `most` bytes.
pub fn is_shown(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && !text.trim().is_empty()
        && !text.chars().any(|c| c.is_control() || is_unseen(c))
}

/// Characters of Unicode's categories Cf, Zl and Zp, and the others that it ignores by default: marks of direction,
/// characters of no width, variation selectors, tags, fillers. Fixed here, as validity must not follow a library.
fn is_unseen(c: char) -> bool {
    matches!(u32::from(c), 0xAD | 0x34F | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2
        | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E
        | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1_10BD | 0x1_10CD
        | 0x1_3430..=0x1_343F | 0x1_BCA0..=0x1_BCA3 | 0x1_D173..=0x1_D17A | 0xE_0000..=0xE_0FFF)
}

impl Join {
    /// Checks the name and the tokens.
    ///
    /// # Errors
    /// [`Rejection`] names what is out of bounds.
    pub fn check(&self) -> Result<(), Rejection> {
        if !is_name(&self.name) {
            return Err(Rejection::Limit("name of a member"));
        }
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

fn check_judged(round: Round) -> Result<(), Rejection> {
    match round.0 {
        0 => Err(Rejection::Contradiction("the genesis is not scored")),
        1..=limits::MAX_ROUNDS => Ok(()),
        _ => Err(Rejection::Limit("round of a score sheet")),
    }
}

impl ScoreSheet {
    /// What `author` seals this sheet with. It names its author, so nobody else can show a sheet behind it.
    pub fn commit(&self, author: &PeerId) -> Digest {
        hash::digest(Domain::SheetSeal, &codec::encode(&(author, self)))
    }

    /// The seal of this sheet by `author`.
    pub fn seal(&self, author: &PeerId) -> SheetSeal {
        SheetSeal {
            round: self.round,
            state: self.state,
            sheet: self.commit(author),
        }
    }

    fn check(&self) -> Result<(), Rejection> {
        check_judged(self.round)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_names() {
        for name in [
            "ada",
            "Ada Lovelace-2",
            "Žofie",
            "水車",
            "سارة",
            "שרה",
            "नेहा",
            "🦀",
            "x".repeat(64).as_str(),
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn names_that_a_terminal_would_not_show_as_they_stand_are_refused() {
        for name in ["", " ", "\u{3000}", "x".repeat(65).as_str()] {
            assert!(!is_name(name), "{name:?}");
        }
        let unseen = [
            "\n\t\u{1b}\u{7f}\u{85}\u{9b}",
            // Embeddings, overrides, isolates and marks of direction.
            "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}",
            "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{34f}\u{180e}\u{3164}\u{ffa0}",
            "\u{2028}\u{2029}\u{fe0f}\u{e0001}\u{e0041}\u{e0100}\u{fff9}\u{1d173}",
        ];
        for c in unseen.concat().chars() {
            assert!(!is_name(&format!("ada{c}b")), "{:04x}", u32::from(c));
        }
    }

    #[test]
    fn a_join_under_a_refused_name_is_refused() {
        let join = |name: &str| Join {
            name: name.into(),
            ..crate::test_utils::fixture::join()
        };
        assert_eq!(join("ada").check(), Ok(()));
        let refused = Err(Rejection::Limit("name of a member"));
        assert_eq!(join("ada\u{202e}bob").check(), refused);
    }
}
