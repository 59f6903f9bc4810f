//! The demo's shards: seven clearly different texts that brook has never seen, and how any text is split
//! in training text and hold-out.
//!
//! Why it exists: `tributary demo` must show on a fresh machine, without downloads, that contributors
//! with different texts improve one adapter, each on its own domain. Sources and licences are in
//! `trainer/assets/DATA.md`; `trainer/assets/text.py` makes the files.
//!
//! Left to others: turning text into windows (`data`) and giving shards to peers (the demo).

/// One contributor's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoShard {
    /// Short name, also the contributor's name in the demo.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// The whole text: paragraphs between blank lines.
    pub text: &'static str,
}

/// The demo's six shards in the order they are given out, then one to spare: `genesis` is the closest to
/// what brook was trained on and has the least to teach it.
pub const DEMO_SHARDS: [DemoShard; 7] = [
    DemoShard {
        name: "shakespeare",
        title: "Hamlet, Macbeth and Twelfth Night by William Shakespeare",
        text: include_str!("../assets/shards/shakespeare.txt"),
    },
    DemoShard {
        name: "hackers",
        title: "the Jargon File, a lexicon of hacker slang",
        text: include_str!("../assets/shards/hackers.txt"),
    },
    DemoShard {
        name: "nature",
        title: "animals and plants, from WordNet",
        text: include_str!("../assets/shards/nature.txt"),
    },
    DemoShard {
        name: "atlas",
        title: "countries of the world, from The World Factbook",
        text: include_str!("../assets/shards/atlas.txt"),
    },
    DemoShard {
        name: "opticks",
        title: "Opticks by Isaac Newton",
        text: include_str!("../assets/shards/opticks.txt"),
    },
    DemoShard {
        name: "devil",
        title: "The Devil's Dictionary by Ambrose Bierce",
        text: include_str!("../assets/shards/devil.txt"),
    },
    DemoShard {
        name: "genesis",
        title: "Genesis and Exodus in the King James version",
        text: include_str!("../assets/shards/genesis.txt"),
    },
];

/// Bytes that a piece of text has at least when it is split: a page or so, longer than the windows
/// that are scored, so that a hold-out window seldom continues a sentence of the training text.
pub(crate) const PIECE_BYTES: usize = 2_000;

/// One piece in so many is held out.
pub(crate) const HOLD_OUT_EVERY: usize = 10;

/// A text in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What the contributor trains on.
    pub training: String,
    /// What the contributor does not train on and evaluators may score on.
    pub hold_out: String,
}

/// Cuts `text` between paragraphs in pieces of [`PIECE_BYTES`] or more and holds the middle one of each
/// ten out. A text of fewer than three pieces is cut between sentences or, failing that, between words
/// instead, so that any text of some hundred bytes has both parts.
pub fn split(text: &str) -> Split {
    let mut pieces = pieces(text, "\n\n", PIECE_BYTES);
    if pieces.len() < 3 {
        let smaller = (text.len() / (2 * HOLD_OUT_EVERY)).max(1);
        for separator in [". ", " "] {
            pieces = self::pieces(text, separator, smaller);
            if pieces.len() >= 3 {
                break;
            }
        }
    }
    // Short texts: the middle of what there is.
    let middle = (HOLD_OUT_EVERY / 2).min(pieces.len() / 2);
    let (mut training, mut hold_out) = (String::new(), String::new());
    for (index, piece) in pieces.iter().enumerate() {
        let part = if index % HOLD_OUT_EVERY == middle && pieces.len() >= 2 {
            &mut hold_out
        } else {
            &mut training
        };
        part.push_str(piece);
    }
    Split { training, hold_out }
}

/// Runs of whole `separator`-ended parts, each run `least` bytes or more except the last. Together they
/// are the text.
fn pieces<'a>(text: &'a str, separator: &str, least: usize) -> Vec<&'a str> {
    let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
    for part in text.split_inclusive(separator) {
        at += part.len();
        if at - start >= least {
            pieces.push(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn shards_are_large_enough_to_learn_from_and_small_enough_to_carry() {
        let total: usize = DEMO_SHARDS.iter().map(|s| s.text.len()).sum();
        assert!(total <= 3_000_000, "{total} bytes");
        for shard in DEMO_SHARDS {
            assert!(
                (100_000..=400_000).contains(&shard.text.len()),
                "{}",
                shard.name
            );
        }
    }

    #[test]
    fn a_tenth_of_each_shard_is_held_out_and_no_page_is_in_both_parts() {
        for shard in DEMO_SHARDS {
            let split = split(shard.text);
            let share = split.hold_out.len() as f64 / shard.text.len() as f64;
            assert!((0.07..0.13).contains(&share), "{}: {share}", shard.name);
            assert_eq!(
                split.training.len() + split.hold_out.len(),
                shard.text.len()
            );
            let long = |text: &str| -> HashSet<String> {
                let paragraphs = text.split("\n\n").filter(|p| p.len() > 200);
                paragraphs.map(str::to_owned).collect()
            };
            let both = long(&split.training)
                .intersection(&long(&split.hold_out))
                .count();
            assert_eq!(both, 0, "{}", shard.name);
        }
    }

    /// Shards in different words are what makes attribution meaningful: of the words in one shard's
    /// hold-out, fewer must be known from any other shard than from its own training text.
    #[test]
    fn each_hold_out_is_closest_to_its_own_shard() {
        let words = |text: &str| -> HashSet<String> {
            let words = text
                .split(|c: char| !c.is_alphanumeric())
                .filter(|w| w.len() > 4);
            words.map(str::to_lowercase).collect()
        };
        let splits: Vec<Split> = DEMO_SHARDS.iter().map(|s| split(s.text)).collect();
        let known: Vec<HashSet<String>> = splits.iter().map(|s| words(&s.training)).collect();
        for (own, held) in splits.iter().enumerate() {
            let held = words(&held.hold_out);
            let shared = |other: usize| held.intersection(&known[other]).count();
            for other in (0..splits.len()).filter(|o| *o != own) {
                assert!(
                    shared(own) as f64 > 1.1 * shared(other) as f64,
                    "{} and {}",
                    DEMO_SHARDS[own].name,
                    DEMO_SHARDS[other].name
                );
            }
        }
    }

    #[test]
    fn short_text_still_has_both_parts() {
        let text = "One sentence is here. Another one follows it. ".repeat(8);
        let parts = split(&text);
        assert!(!parts.hold_out.is_empty() && parts.training.len() > parts.hold_out.len());
        let unbroken = "word ".repeat(60);
        let parts = split(&unbroken);
        assert!(!parts.hold_out.is_empty() && parts.training.len() > parts.hold_out.len());
    }

    #[test]
    fn splitting_keeps_every_byte_whatever_the_characters() {
        for text in ["", "a", "żółw\n\nżółw", "\n\n\n\n"] {
            let parts = split(text);
            assert_eq!(parts.training.len() + parts.hold_out.len(), text.len());
        }
    }
}
