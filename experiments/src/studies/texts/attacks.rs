//! What an attacker does with texts, its own and others'.
//!
//! Four owners are members from the genesis on. The fifth, the victim, asks for admission at height 1 and opens its
//! sketch at height 2, and so does the attacker with its own text. An answer to an open sketch therefore commits at
//! height 2 and opens at height 3.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::id::RunId;
use tributary_protocol::limits::MAX_SKETCH;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::sketch::Sketch;

use super::run::{self, Plan, key};
use super::text::Text;

/// Names that the attacker has at most.
const NAMES: usize = 64;
/// Keys of which it takes the smallest ones.
const GROUND: u64 = 1_024;
/// The claim of tokens that no text stands behind.
const CLAIM: u64 = 10_000_000;
/// Words of a scrap.
const SCRAP: usize = 40;

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextAttack {
    /// Its own text under so many names.
    Split(usize),
    /// Its own text, whole, under so many names.
    Same(usize),
    /// Its own text with so many percent of the victim's behind it, committed after the victim.
    Appended(usize),
    /// So many percent of the victim's text under a second name, committed after the victim.
    Alone(usize),
    /// The victim's sketch, as it was opened, with another last print, under a second name.
    OnePrint,
    /// The victim's commitment, repeated by keys that come before its own.
    Repeated,
    /// The victim's open sketch, committed to under many names.
    Opened,
    /// A sixth owner has the victim's text and commits at the same height.
    Accident,
    /// The smallest prints that there are, with a claim of tokens, before anybody else joins.
    Forged,
    /// A claim of tokens that its own text does not have.
    Claimed,
    /// Scraps of the owners' texts, one for each of many names.
    Scraps,
    /// The victim's text with a word changed at each print of its open sketch.
    Reworded,
    /// As many words as the victim has, drawn at random.
    Invented,
    /// So many percent of the victim's text, committed before the victim.
    Earlier(usize),
    /// The victim's opening is kept out of the values of two heights, and its sketch committed to under many names.
    Withheld,
}

/// What no rule rewards: what is claimed, split or copied.
pub(super) const HOLDING: [TextAttack; 16] = [
    TextAttack::Split(2),
    TextAttack::Split(16),
    TextAttack::Split(NAMES),
    TextAttack::Same(16),
    TextAttack::Appended(1),
    TextAttack::Appended(3),
    TextAttack::Appended(10),
    TextAttack::Appended(30),
    TextAttack::Alone(1),
    TextAttack::Alone(3),
    TextAttack::Alone(10),
    TextAttack::Alone(30),
    TextAttack::OnePrint,
    TextAttack::Repeated,
    TextAttack::Opened,
    TextAttack::Accident,
];

/// What the rule cannot tell from honest new text, and what it only bounds.
pub(super) const FAILING: [TextAttack; 7] = [
    TextAttack::Claimed,
    TextAttack::Forged,
    TextAttack::Invented,
    TextAttack::Reworded,
    TextAttack::Scraps,
    TextAttack::Earlier(30),
    TextAttack::Withheld,
];

/// Texts of one run.
pub(super) struct Scene {
    pub(super) number: u64,
    pub(super) run: RunId,
    /// The honest owners'; the last is the victim's.
    pub(super) owners: Vec<Text>,
    /// Their sketches.
    sketches: Vec<Sketch>,
    /// The attacker's own.
    pub(super) own: Text,
}

impl Scene {
    pub(super) fn new(number: u64, owners: Vec<Text>, own: Text) -> Self {
        let run = run::manifest(number).run_id();
        Self {
            sketches: owners.iter().map(|text| text.sketch(run)).collect(),
            number,
            run,
            owners,
            own,
        }
    }

    fn victim(&self) -> (&Text, &Sketch) {
        let last = self.owners.len() - 1;
        (&self.owners[last], &self.sketches[last])
    }

    /// The key of an owner.
    pub(super) fn owner(&self, nth: usize) -> SecretKey {
        key("owner", self.number << 8 | nth as u64)
    }

    /// What the owners do. The victim's opening may be kept out of values.
    pub(super) fn honest(&self, victim_opens: u32) -> Vec<Plan> {
        let last = self.owners.len() - 1;
        (self.owners.iter().zip(&self.sketches).enumerate())
            .map(|(nth, (text, sketch))| {
                let (joins, opens) = if nth == last {
                    (1, victim_opens)
                } else {
                    (0, 0)
                };
                let key = self.owner(nth);
                plan(key, text.tokens(), sketch.clone(), joins, opens)
            })
            .collect()
    }

    /// The attacker with its own text and one name.
    pub(super) fn fair(&self) -> Plan {
        self.shows(0, &self.own, 1)
    }

    /// A name of the attacker with a text, admitted at this height and open at the next.
    fn shows(&self, nth: usize, text: &Text, joins: u32) -> Plan {
        let tokens = text.tokens().max(1);
        let opens = if joins == 0 { 0 } else { joins + 1 };
        plan(self.name(nth), tokens, text.sketch(self.run), joins, opens)
    }

    fn name(&self, nth: usize) -> SecretKey {
        key("attacker", self.number << 8 | nth as u64)
    }

    /// Many names with the victim's sketch, admitted at this height.
    fn thieves(&self, joins: u32) -> impl Iterator<Item = Plan> + '_ {
        let (text, sketch) = self.victim();
        let thief = move |nth| {
            plan(
                self.name(nth),
                text.tokens(),
                sketch.clone(),
                joins,
                joins + 1,
            )
        };
        (1..=NAMES).map(thief)
    }

    /// Part of the victim's words that rewording changes.
    pub(super) fn changed(&self) -> f64 {
        let (text, sketch) = self.victim();
        text.reworded(self.run, sketch).1 as f64 / text.len() as f64
    }

    /// So many percent of the victim's text, from a place that the run's number gives.
    fn excerpt(&self, percent: usize) -> Text {
        let (text, _) = self.victim();
        let words = text.len() * percent / 100;
        let from = (text.len() - words) * (self.number as usize % 7) / 7;
        text.part(from..from + words)
    }

    fn repeated(&self) -> Vec<Plan> {
        let (text, sketch) = self.victim();
        let commitment = sketch.commit(&self.owner(self.owners.len() - 1).peer_id());
        let mut keys: Vec<SecretKey> = (0..GROUND)
            .map(|nth| key("ground", self.number << 16 | nth))
            .collect();
        keys.sort_by_key(SecretKey::peer_id);
        keys.truncate(NAMES);
        let repeats = |key: SecretKey| Plan {
            commitment,
            ..plan(key, text.tokens(), sketch.clone(), 1, 2)
        };
        keys.into_iter().map(repeats).collect()
    }

    /// One scrap a name, of all owners in turns, each from another place.
    fn scraps(&self) -> Vec<Plan> {
        (0..NAMES)
            .map(|nth| {
                let text = &self.owners[nth % self.owners.len()];
                let from = (text.len() - SCRAP) * (nth + 1) / (NAMES + 1);
                self.shows(1 + nth, &text.part(from..from + SCRAP), 2)
            })
            .collect()
    }

    /// Words of five letters, as many tokens each as the victim's have on average.
    fn invented(&self) -> Text {
        let (text, _) = self.victim();
        let mut rng = ChaCha8Rng::seed_from_u64(self.number);
        let mut word = || (0..5).map(|_| rng.random_range('a'..='z')).collect();
        let words: Vec<String> = (0..text.len()).map(|_| word()).collect();
        Text::made(words, text.tokens().div_ceil(text.len() as u64))
    }

    /// The names of an attack.
    pub(super) fn attack(&self, play: TextAttack) -> Vec<Plan> {
        let beside = |more: Vec<Plan>| [vec![self.fair()], more].concat();
        let (text, sketch) = self.victim();
        let second = |sketch: Sketch, tokens, joins, opens| {
            beside(vec![plan(self.name(1), tokens, sketch, joins, opens)])
        };
        match play {
            TextAttack::Split(names) => {
                let parts = self.own.cut(names).into_iter().enumerate();
                parts.map(|(nth, part)| self.shows(nth, &part, 1)).collect()
            }
            TextAttack::Same(names) => (0..names)
                .map(|nth| self.shows(nth, &self.own, 1))
                .collect(),
            TextAttack::Appended(percent) => {
                vec![self.shows(0, &self.own.and(&self.excerpt(percent)), 2)]
            }
            TextAttack::Alone(percent) => beside(vec![self.shows(1, &self.excerpt(percent), 2)]),
            TextAttack::OnePrint => second(one_print(sketch), text.tokens(), 2, 3),
            TextAttack::Repeated => beside(self.repeated()),
            TextAttack::Opened | TextAttack::Withheld => beside(self.thieves(2).collect()),
            TextAttack::Accident => vec![self.shows(0, text, 1)],
            TextAttack::Forged => second(Sketch::keeping(0..MAX_SKETCH as u64), CLAIM, 0, 0),
            TextAttack::Claimed => vec![Plan {
                tokens: CLAIM,
                ..self.fair()
            }],
            TextAttack::Scraps => beside(self.scraps()),
            TextAttack::Reworded => {
                let (reworded, _) = text.reworded(self.run, sketch);
                beside(vec![self.shows(1, &reworded, 2)])
            }
            TextAttack::Invented => beside(vec![self.shows(1, &self.invented(), 1)]),
            TextAttack::Earlier(percent) => beside(vec![self.shows(1, &self.excerpt(percent), 0)]),
        }
    }
}

fn plan(key: SecretKey, tokens: u64, sketch: Sketch, joins: u32, opens: u32) -> Plan {
    Plan {
        commitment: sketch.commit(&key.peer_id()),
        key,
        tokens,
        sketch,
        joins,
        opens,
    }
}

/// All prints but the last, and one that nobody has.
fn one_print(sketch: &Sketch) -> Sketch {
    let (last, kept) = sketch.prints().split_last().expect("a text with prints");
    Sketch::keeping(kept.iter().copied().chain([last - 1]))
}

impl TextAttack {
    /// For people.
    pub(super) fn name(self) -> String {
        match self {
            Self::Split(names) => format!("its own text, split over {names} names"),
            Self::Same(names) => format!("its own text, whole, under {names} names"),
            Self::Appended(percent) => {
                format!("{percent} % of the victim's text behind its own, under one name")
            }
            Self::Alone(percent) => {
                format!("{percent} % of the victim's text, under a second name")
            }
            Self::OnePrint => {
                "the victim's open sketch with one new print, under a second name".into()
            }
            Self::Repeated => format!(
                "the victim's commitment as it was seen, repeated by {NAMES} ground keys at the same height"
            ),
            Self::Opened => format!("the victim's open sketch, committed to under {NAMES} names"),
            Self::Accident => {
                "no attack: a sixth owner has the victim's text and commits at the same height"
                    .into()
            }
            Self::Forged => format!(
                "a second name with the {MAX_SKETCH} smallest prints there are and a claim of {CLAIM} tokens"
            ),
            Self::Claimed => format!("its own text with a claim of {CLAIM} tokens"),
            Self::Scraps => format!("{NAMES} names with {SCRAP} words of others' texts each"),
            Self::Reworded => {
                "the victim's text with a word changed at each print of its open sketch".into()
            }
            Self::Invented => "invented words, as many as the victim has".into(),
            Self::Earlier(percent) => {
                format!("{percent} % of the victim's text, committed before the victim")
            }
            Self::Withheld => format!(
                "the victim's opening kept out of two values, its sketch committed to under {NAMES} names"
            ),
        }
    }

    /// At which height the victim's opening is certified.
    pub(super) fn victim_opens(self) -> u32 {
        match self {
            Self::Withheld => 4,
            _ => 2,
        }
    }
}
