//! Text domains, and which member holds which part of them.
//!
//! Eight domains: the seven shards that the trainer carries, of which `nature` is two (animals, then
//! plants). Each is cut in windows; a tenth, as pages, is held out. Members get windows of one domain each,
//! or of a mix drawn from a Dirichlet distribution: the smaller its concentration, the less the members
//! have in common (Hsu et al., arXiv:1909.06335).

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_trainer::shards::{DEMO_SHARDS, split};
use tributary_trainer::{BaseModel, DataError, Windows};

use tributary_simulations::learner::normal;

/// First words of the shard `nature` that are about plants; what is before them is about animals.
const FIRST_PLANT: &str = "A tepal is an undifferentiated part";

/// One domain.
#[derive(Clone, Debug)]
pub struct TextDomain {
    /// Short name.
    pub name: String,
    /// Tokens of its training windows, in the text's order.
    pub training: Vec<Vec<u32>>,
    /// What nobody trains on.
    pub hold_out: Windows,
}

/// How domains are dealt out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Member `i` holds domain `first + i` (modulo their number) and nothing else.
    Domains {
        /// The first member's domain.
        first: usize,
    },
    /// Members `2 i` and `2 i + 1` both hold domain `first + i` and nothing else.
    Pairs {
        /// The first pair's domain.
        first: usize,
    },
    /// Each member's proportions are drawn from a symmetric Dirichlet distribution.
    Dirichlet {
        /// Its concentration, above zero.
        concentration: f64,
    },
}

/// What one member holds.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Proportion of each domain.
    pub proportions: Vec<f64>,
    /// The windows.
    pub windows: Windows,
}

/// Domains cut for one base model.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The domains.
    pub domains: Vec<TextDomain>,
    context: usize,
    vocab: usize,
}

impl Corpus {
    /// All eight domains in windows of `context` tokens. Of each hold-out, `held` windows are kept, the
    /// same ones always.
    ///
    /// # Errors
    /// When the base cannot express a text.
    pub fn new(base: &BaseModel, context: usize, held: usize) -> Result<Self, DataError> {
        let texts = texts().into_iter();
        let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self::of(base, texts.collect(), context, held)
    }

    /// One domain for each text, by name.
    ///
    /// # Errors
    /// When the base cannot express a text, or one is too short to hold two windows of it out.
    pub fn of(
        base: &BaseModel,
        texts: Vec<(String, String)>,
        context: usize,
        held: usize,
    ) -> Result<Self, DataError> {
        let domains: Result<Vec<TextDomain>, DataError> = (texts.into_iter())
            .map(|(name, text)| {
                let parts = split(&text);
                let training = Windows::from_text(base, &parts.training, context)?;
                let hold_out = Windows::from_text(base, &parts.hold_out, context)?;
                if hold_out.len() < 2 {
                    let tokens = hold_out.tokens() as usize;
                    return Err(DataError::Empty { tokens });
                }
                Ok(TextDomain {
                    name,
                    training: training.iter().map(<[u32]>::to_vec).collect(),
                    hold_out: hold_out.sample(&[0; 32], held),
                })
            })
            .collect();
        Ok(Self {
            domains: domains?,
            context,
            vocab: base.config().vocab,
        })
    }

    /// Keeps the domains whose names `keep` accepts.
    pub fn retain(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.domains.retain(|domain| keep(&domain.name));
        self
    }

    /// Gives each of `members` members `count` windows. No window is given out twice before its domain is
    /// used up. The same seed deals the same.
    ///
    /// # Panics
    /// If `count` is zero or the concentration is not above zero.
    pub fn deal(&self, mix: Mix, members: usize, count: usize, seed: u64) -> Vec<Holding> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut decks: Vec<Deck> = (self.domains.iter())
            .map(|domain| Deck::new(domain.training.len(), &mut rng))
            .collect();
        (0..members)
            .map(|member| {
                let proportions = self.proportions(mix, member, &mut rng);
                let counts = apportion(&proportions, count);
                let mut windows = Vec::with_capacity(count);
                for (at, (deck, count)) in decks.iter_mut().zip(counts).enumerate() {
                    let drawn = (0..count).map(|_| self.domains[at].training[deck.next()].clone());
                    windows.extend(drawn);
                }
                let windows = Windows::from_tokens(windows, self.context, self.vocab);
                Holding {
                    proportions,
                    windows: windows.expect("windows of a corpus are windows"),
                }
            })
            .collect()
    }

    fn proportions(&self, mix: Mix, member: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let domains = self.domains.len();
        let only = |held: usize| {
            (0..domains)
                .map(|at| f64::from(u8::from(at == held)))
                .collect()
        };
        match mix {
            Mix::Domains { first } => only((first + member) % domains),
            Mix::Pairs { first } => only((first + member / 2) % domains),
            Mix::Dirichlet { concentration } => {
                let draws: Vec<f64> = (0..domains)
                    .map(|_| ln_gamma_draw(concentration, rng))
                    .collect();
                let most = draws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let parts: Vec<f64> = draws.iter().map(|ln| (ln - most).exp()).collect();
                let sum: f64 = parts.iter().sum();
                parts.into_iter().map(|part| part / sum).collect()
            }
        }
    }
}

/// Name and text of each domain.
fn texts() -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    for shard in DEMO_SHARDS {
        let plants = format!("\n\n{FIRST_PLANT}");
        match (shard.name, shard.text.find(&plants)) {
            ("nature", Some(at)) => {
                out.push(("animals", &shard.text[..at]));
                out.push(("plants", &shard.text[at + 2..]));
            }
            (name, _) => out.push((name, shard.text)),
        }
    }
    out
}

/// Places in a random order, over again when all were drawn.
struct Deck {
    order: Vec<usize>,
    next: usize,
}

impl Deck {
    fn new(size: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<usize> = (0..size).collect();
        order.shuffle(rng);
        Self { order, next: 0 }
    }

    fn next(&mut self) -> usize {
        let drawn = self.order[self.next % self.order.len()];
        self.next += 1;
        drawn
    }
}

/// `count` in whole parts by largest remainder.
fn apportion(proportions: &[f64], count: usize) -> Vec<usize> {
    let exact: Vec<f64> = proportions.iter().map(|p| p * count as f64).collect();
    let mut parts: Vec<usize> = exact.iter().map(|e| e.floor() as usize).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    let remainder = |at: &usize| exact[*at] - exact[*at].floor();
    order.sort_by(|a, b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(b)));
    let missing = count - parts.iter().sum::<usize>();
    for at in order.into_iter().cycle().take(missing) {
        parts[at] += 1;
    }
    parts
}

/// The logarithm of a gamma draw of this shape: below shape one nearly all draws are too small for their
/// own value. Marsaglia and Tsang (2000), with their step from `shape` to `shape + 1`.
fn ln_gamma_draw(shape: f64, rng: &mut ChaCha8Rng) -> f64 {
    assert!(shape > 0.0, "a concentration above zero");
    if shape < 1.0 {
        let uniform = 1.0 - rng.random::<f64>();
        return ln_gamma_draw(shape + 1.0, rng) + uniform.ln() / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        let uniform = 1.0 - rng.random::<f64>();
        if v > 0.0 && uniform.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eight_domains_and_plants_begin_where_animals_end() {
        let texts = texts();
        assert_eq!(texts.len(), 8);
        let of = |name: &str| texts.iter().find(|(n, _)| *n == name).expect("a domain").1;
        let (animals, plants) = (of("animals"), of("plants"));
        assert!(animals.len() > 100_000 && plants.len() > 100_000);
        let share = |text: &str, word: &str| text.matches(word).count() as f64 / text.len() as f64;
        for word in ["flower", "leaves", "shrub"] {
            assert!(share(plants, word) > 20.0 * share(animals, word), "{word}");
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        assert_eq!(apportion(&[0.5, 0.25, 0.25], 7), [3, 2, 2]);
        assert_eq!(apportion(&[0.75, 0.25], 3), [2, 1]);
        assert_eq!(apportion(&[0.0, 1.0], 3), [0, 3]);
        let third = 1.0 / 3.0;
        assert_eq!(apportion(&[third; 3], 10).iter().sum::<usize>(), 10);
    }

    #[test]
    fn gamma_draws_have_their_shapes_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for shape in [0.1, 0.5, 2.0] {
            let draws = 20_000;
            let sum: f64 = (0..draws)
                .map(|_| ln_gamma_draw(shape, &mut rng).exp())
                .sum();
            let mean = sum / f64::from(draws);
            // The standard error of the mean is sqrt(shape / draws).
            let error = 4.0 * (shape / f64::from(draws)).sqrt();
            assert!((mean - shape).abs() < error, "{shape}: {mean}");
        }
    }

    #[test]
    fn less_concentration_leaves_members_less_in_common() {
        let base = BaseModel::brook().unwrap();
        let corpus = Corpus::new(&base, 64, 4).unwrap();
        let largest = |concentration| {
            let mix = Mix::Dirichlet { concentration };
            let dealt = corpus.deal(mix, 40, 16, 3);
            let most = |h: &Holding| h.proportions.iter().copied().fold(0.0, f64::max);
            dealt.iter().map(most).sum::<f64>() / 40.0
        };
        assert!(largest(0.1) > 0.6);
        assert!(largest(100.0) < 0.25);
        let dealt = corpus.deal(Mix::Domains { first: 0 }, 8, 16, 3);
        for (member, holding) in dealt.iter().enumerate() {
            assert_eq!(holding.windows.len(), 16);
            assert_eq!(holding.proportions[member], 1.0);
        }
        let again = corpus.deal(Mix::Domains { first: 0 }, 8, 16, 3);
        assert_eq!(dealt[7].windows, again[7].windows);
    }
}
