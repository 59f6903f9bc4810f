//! The twelve federations: which member holds which text.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_trainer::Windows;
use tributary_trainer::data::{Document, Packing};

use super::MEMBERS;
use crate::learner::{Corpus, Mix};
use tributary_simulations::behave::update::Attack;

/// Windows that a member holds.
const HELD: usize = 64;
/// Windows of a tiny member.
const TINY: usize = 6;

/// A federation.
pub(super) struct FederationSpec {
    pub(super) name: &'static str,
    mix: Mix,
    /// What is out of the ordinary, by member of six; the last ones are cast the same among any other number.
    twists: &'static [(usize, Twist)],
}

/// What is out of the ordinary about a member's data.
#[derive(Clone, Copy, Debug)]
enum Twist {
    /// A few windows only.
    Tiny,
    /// Half of the tokens are drawn at random.
    Noisy,
    /// Learns wrong continuations.
    Mislabelled,
    /// The very windows of another member.
    CopyOf(usize),
}

const fn dirichlet(concentration: f64) -> Mix {
    Mix::Dirichlet { concentration }
}

/// All federations, in the order of the bank.
pub(super) const FEDERATIONS: [FederationSpec; 12] = [
    FederationSpec {
        name: "alike",
        mix: dirichlet(100.0),
        twists: &[],
    },
    FederationSpec {
        name: "one domain each",
        mix: Mix::Domains { first: 0 },
        twists: &[],
    },
    FederationSpec {
        name: "one domain each, others",
        mix: Mix::Domains { first: 1 },
        twists: &[],
    },
    FederationSpec {
        name: "pairs",
        mix: Mix::Pairs { first: 0 },
        twists: &[],
    },
    FederationSpec {
        name: "pairs, other domains",
        mix: Mix::Pairs { first: 3 },
        twists: &[],
    },
    FederationSpec {
        name: "skewed",
        mix: dirichlet(0.5),
        twists: &[],
    },
    FederationSpec {
        name: "very skewed",
        mix: dirichlet(0.1),
        twists: &[],
    },
    FederationSpec {
        name: "duplicated",
        mix: Mix::Domains { first: 0 },
        twists: &[(5, Twist::CopyOf(0))],
    },
    FederationSpec {
        name: "tiny",
        mix: dirichlet(0.5),
        twists: &[(4, Twist::Tiny), (5, Twist::Tiny)],
    },
    FederationSpec {
        name: "noisy",
        mix: dirichlet(0.5),
        twists: &[(4, Twist::Noisy), (5, Twist::Noisy)],
    },
    FederationSpec {
        name: "mislabelled",
        mix: dirichlet(0.5),
        twists: &[(5, Twist::Mislabelled)],
    },
    FederationSpec {
        name: "everything",
        mix: Mix::Domains { first: 2 },
        twists: &[
            (2, Twist::Tiny),
            (3, Twist::Noisy),
            (4, Twist::Mislabelled),
            (5, Twist::CopyOf(0)),
        ],
    },
];

impl FederationSpec {
    /// Every member's windows; the same for all seeds.
    pub(super) fn deal(
        &self,
        corpus: &Corpus,
        members: usize,
        vocab: usize,
        nth: u64,
    ) -> Vec<Windows> {
        let dealt = corpus.deal(self.mix, members, HELD, nth);
        let mut held: Vec<Windows> = dealt.into_iter().map(|holding| holding.windows).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(nth);
        for (member, twist) in self.twists {
            let member = member + members - MEMBERS;
            held[member] = match twist {
                Twist::CopyOf(other) => held[*other].clone(),
                twist => twisted(*twist, &held[member], vocab, &mut rng),
            };
        }
        held
    }
}

fn twisted(twist: Twist, windows: &Windows, vocab: usize, rng: &mut ChaCha8Rng) -> Windows {
    let mut tokens: Vec<Vec<u32>> = windows.iter().map(<[u32]>::to_vec).collect();
    let context = windows.context();
    let found = match twist {
        Twist::CopyOf(_) => return windows.clone(),
        Twist::Tiny => {
            tokens.truncate(TINY);
            Windows::from_tokens(tokens, context, vocab)
        }
        Twist::Noisy => {
            for token in tokens.iter_mut().flatten() {
                if rng.random::<bool>() {
                    *token = rng.random_range(0..vocab as u32);
                }
            }
            Windows::from_tokens(tokens, context, vocab)
        }
        Twist::Mislabelled => {
            let poisoned = Attack::LabelFlip.data(tokens, vocab);
            let learned = poisoned.learned.unwrap_or_default();
            let document = |tokens: Vec<u32>| Document {
                learned: Some(learned[..tokens.len()].to_vec()),
                tokens,
            };
            let documents = poisoned.windows.into_iter().map(document).collect();
            Windows::pack(documents, context, Packing::Apart).map(|(windows, _)| windows)
        }
    };
    found.expect("twisted windows are windows")
}
