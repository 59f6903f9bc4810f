//! What a cheater does: under how many names, with whose text, and what it publishes.

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::manifest::UpdateCodec;
use tributary_protocol::update;
use tributary_trainer::Windows;

use super::QUERY_COPIES;
use super::setup::{CONTEXT, Setup};
use crate::learner::Holding;
use tributary_simulations::behave::update::Attack;

/// Of a paraphrase, the part of tokens that are other ones, in per cent.
pub(super) const REWORDED: [u32; 2] = [10, 30];

/// What the cheater does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Nothing of the kind: one name, its own text.
    Honest,
    /// Its text in so many parts, a name for each.
    Cut(usize),
    /// So many names, each of which holds all of its text.
    Whole(usize),
    /// So many names with one training, which all of them publish.
    Published(usize),
    /// Two names: its text, and the same with so many per cent of the tokens replaced.
    Reworded(u32),
    /// Trains on another member's text instead of its own.
    Stolen,
    /// Publishes the update of the member that scored best, of this round: updates can be read at once.
    CopyOpen,
    /// The same, of this factor's turn so many before: updates are sealed until all are in.
    CopySealed(usize),
    /// A hundred times its own update.
    Scaled,
    /// Zeros.
    Zero,
    /// Random numbers, as long as an honest update.
    Random,
    /// The last step of this factor.
    Echo,
    /// Half of the numbers of the last step, drawn anew in every round, so that it is not a multiple of it.
    MaskedEcho,
    /// Its own first updates again and again.
    Stale,
    /// Learns wrong continuations of its text.
    LabelFlip,
    /// Trains on text drawn from the pairs of tokens of the evaluators' domains, which says nothing.
    Synthetic,
    /// Trains on other pages of the evaluators' domains, in the evaluators' proportions.
    Domains,
    /// Trains on the very windows that rounds are scored on.
    HoldOut,
    /// Trains on the questions that will be asked, besides its own text.
    Queries,
}

impl Strategy {
    /// In the order of the page.
    pub(super) const ALL: [Self; 28] = [
        Self::Honest,
        Self::Cut(2),
        Self::Cut(4),
        Self::Cut(16),
        Self::Whole(2),
        Self::Whole(4),
        Self::Whole(16),
        Self::Published(2),
        Self::Published(4),
        Self::Published(16),
        Self::Reworded(REWORDED[0]),
        Self::Reworded(REWORDED[1]),
        Self::Stolen,
        Self::CopyOpen,
        Self::CopySealed(1),
        Self::CopySealed(2),
        Self::CopySealed(3),
        Self::Scaled,
        Self::Zero,
        Self::Random,
        Self::Echo,
        Self::MaskedEcho,
        Self::Stale,
        Self::LabelFlip,
        Self::Synthetic,
        Self::Domains,
        Self::HoldOut,
        Self::Queries,
    ];

    pub(super) fn name(self) -> String {
        match self {
            Self::Honest => "honest".into(),
            Self::Cut(names) => format!("text cut in {names}, a name each"),
            Self::Whole(names) => format!("{names} names, each with the whole text"),
            Self::Published(names) => format!("{names} names, one training"),
            Self::Reworded(percent) => format!("2 names, second text {percent} % reworded"),
            Self::Stolen => "another member's text".into(),
            Self::CopyOpen => "copy, updates open".into(),
            Self::CopySealed(1) => "copy, updates sealed".into(),
            Self::CopySealed(turns) => format!("copy, {turns} turns old"),
            Self::Scaled => "scaled x100".into(),
            Self::Zero => "zeros".into(),
            Self::Random => "random numbers".into(),
            Self::Echo => "echo of the last step".into(),
            Self::MaskedEcho => "echo, half of the numbers".into(),
            Self::Stale => "stale replay".into(),
            Self::LabelFlip => "label flip".into(),
            Self::Synthetic => "synthetic text".into(),
            Self::Domains => "evaluators' domains".into(),
            Self::HoldOut => "knows the hold-out".into(),
            Self::Queries => "trains on the questions".into(),
        }
    }

    /// How many names it has.
    pub(super) fn names(self) -> usize {
        match self {
            Self::Cut(names) | Self::Whole(names) | Self::Published(names) => names,
            Self::Reworded(_) => 2,
            _ => 1,
        }
    }

    /// Names that train; the others publish what they did not train.
    pub(super) fn trains(self) -> usize {
        match self {
            Self::Published(_) => 1,
            Self::CopyOpen | Self::CopySealed(_) => 0,
            Self::Zero | Self::Random | Self::Echo | Self::MaskedEcho => 0,
            _ => self.names(),
        }
    }

    /// Whether it does no work of its own and wants to be paid: measured by a fair share.
    pub(super) fn is_free_rider(self) -> bool {
        self.trains() == 0 || matches!(self, Self::Stale)
    }

    /// Whether tying weights to text can matter to it.
    pub(super) fn is_about_text(self) -> bool {
        self.names() > 1 || matches!(self, Self::Honest | Self::Stolen)
    }

    /// What each of its names holds.
    pub(super) fn holds(self, setup: &Setup, dealt: &[Holding], seed: u64) -> Vec<Windows> {
        let own = &dealt[setup.honest()].windows;
        let tokens: Vec<Vec<u32>> = own.iter().map(<[u32]>::to_vec).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
        let held = match self {
            Self::Cut(parts) => {
                // Every part a sample of the whole.
                let mut shuffled = tokens;
                shuffled.shuffle(&mut rng);
                let each = shuffled.len() / parts;
                let parts = shuffled.chunks_exact(each);
                parts.map(<[Vec<u32>]>::to_vec).collect()
            }
            Self::Whole(names) | Self::Published(names) => vec![tokens; names],
            Self::Reworded(percent) => {
                let other = reworded(&tokens, f64::from(percent) / 100.0, &mut rng);
                vec![tokens, other]
            }
            Self::Stolen => return vec![dealt[0].windows.clone()],
            Self::LabelFlip => return vec![setup.poisoned(Attack::LabelFlip, own)],
            Self::Synthetic => vec![synthetic(setup, tokens.len(), &mut rng)],
            Self::Domains => vec![setup.pages(tokens.len(), &mut rng)],
            Self::HoldOut => {
                let mut scored = setup.scored_windows();
                scored.shuffle(&mut rng);
                scored.truncate(tokens.len());
                vec![scored]
            }
            Self::Queries => {
                let mut all = tokens;
                let asked = vec![setup.queries(); QUERY_COPIES].concat();
                all.truncate(all.len() - asked.len());
                all.extend(asked);
                vec![all]
            }
            _ => vec![tokens],
        };
        (held.into_iter())
            .map(|windows| setup.windows(windows))
            .collect()
    }
}

/// Each token, with this chance, another one of the same text.
fn reworded(windows: &[Vec<u32>], part: f64, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let all: Vec<u32> = windows.concat();
    let mut out = windows.to_vec();
    for token in out.iter_mut().flatten() {
        if rng.random_bool(part) {
            *token = *all.choose(rng).expect("a text has tokens");
        }
    }
    out
}

/// Windows in which each token follows the one before as often as in the evaluators' domains.
fn synthetic(setup: &Setup, count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let text = setup.pages(40 * count, rng);
    let mut followers = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    for pair in text.iter().flat_map(|window| window.windows(2)) {
        followers.entry(pair[0]).or_default().push(pair[1]);
    }
    let starts: Vec<u32> = followers.keys().copied().collect();
    (0..count)
        .map(|_| {
            let mut last = *starts.choose(rng).expect("a text has tokens");
            (0..CONTEXT)
                .map(|_| {
                    let next = followers.get(&last).unwrap_or(&starts);
                    last = *next.choose(rng).expect("a follower");
                    last
                })
                .collect()
        })
        .collect()
}

/// What a round leaves for attackers that publish without training.
pub(super) struct AttackerView<'a> {
    pub(super) codec: UpdateCodec,
    /// Honest updates of this round as they travel.
    pub(super) blobs: &'a [Vec<u8>],
    /// Of the rounds before.
    pub(super) earlier: &'a [Vec<Vec<u8>>],
    /// The honest member that scored best in each of them.
    pub(super) best: &'a [usize],
    /// The last step of this factor, gathered.
    pub(super) last_step: &'a [f32],
    /// What the cheater's own training gave, where it trained; gathered.
    pub(super) own: &'a [f32],
}

impl Strategy {
    /// What a name publishes in the place of its own training; `None`: the training.
    pub(super) fn publishes(
        self,
        view: &AttackerView<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Option<Vec<u8>> {
        let as_long = |values: Vec<f32>| {
            let long = length(&values);
            let factor = if long > 0.0 {
                view.middle_length() / long
            } else {
                0.0
            };
            let scaled: Vec<f32> = values
                .iter()
                .map(|v| (factor * f64::from(*v)) as f32)
                .collect();
            update::encode(&scaled, view.codec).expect("as long as an update")
        };
        match self {
            Self::CopyOpen => {
                let best = view.turns_before(1).map_or(0, |at| view.best[at]);
                Some(view.blobs[best].clone())
            }
            // Before there was anything to copy, zeros.
            Self::CopySealed(turns) => Some(match view.turns_before(turns) {
                Some(at) => view.earlier[at][view.best[at]].clone(),
                None => as_long(vec![0.0; view.last_step.len()]),
            }),
            Self::Scaled => {
                let scaled: Vec<f32> = view.own.iter().map(|v| 100.0 * v).collect();
                Some(update::encode(&scaled, view.codec).expect("a hundredfold update is bounded"))
            }
            Self::Zero => Some(as_long(vec![0.0; view.last_step.len()])),
            Self::Random => {
                let random = view.last_step.iter().map(|_| rng.random::<f32>() - 0.5);
                Some(as_long(random.collect()))
            }
            Self::Echo => Some(as_long(view.last_step.to_vec())),
            Self::MaskedEcho => {
                let half = view.last_step.iter();
                let half = half.map(|v| if rng.random() { *v } else { 0.0 });
                Some(as_long(half.collect()))
            }
            _ => None,
        }
    }
}

impl AttackerView<'_> {
    /// The round in which this factor was trained so many turns ago: factors take turns.
    fn turns_before(&self, turns: usize) -> Option<usize> {
        self.earlier.len().checked_sub(2 * turns)
    }

    /// The middle length of the honest updates.
    fn middle_length(&self) -> f64 {
        let decode = |blob: &Vec<u8>| update::decode(blob, self.last_step.len(), self.codec);
        let decoded = self.blobs.iter().filter_map(|blob| decode(blob).ok());
        let mut lengths: Vec<f64> = decoded.map(|update| length(&update)).collect();
        lengths.sort_unstable_by(f64::total_cmp);
        lengths.get(lengths.len() / 2).copied().unwrap_or(0.0)
    }
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|v| f64::from(*v).powi(2));
    squares.sum::<f64>().sqrt()
}
