//! Speaks under ever new names that nobody admits: it joins for roles that the manifest does not grant, and leaves.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::{Entry, Join, Role};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{MerkleRoot, PeerId};
use tributary_protocol::sign::SecretKey;

use super::{Behaviour, LiarContext};

/// Names that it has; after the last it begins again.
const NAMES: u64 = 400;

/// Speaks under ever new names that nobody admits.
pub(super) struct Strangers {
    next: u64,
    a_tick: u64,
}

impl Strangers {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            next: 0,
            a_tick: rng.random_range(1..=8),
        }
    }
}

fn key(me: &PeerId, nth: u64) -> SecretKey {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"stranger").update(me.as_bytes());
    hasher.update(&nth.to_le_bytes());
    SecretKey::from_seed(*hasher.finalize().as_bytes())
}

fn wish(nth: u64) -> Vec<Entry> {
    let join = Entry::Join(Join {
        name: format!("stranger-{nth}"),
        role: Role::Evaluator,
        root: MerkleRoot::default(),
        tokens: 1,
        fingerprints: None,
        beacon: Digest::default(),
        sketch: None,
        bind: None,
    });
    match nth % 3 {
        0 => vec![join],
        1 => vec![Entry::Leave, join],
        _ => vec![join, Entry::Leave],
    }
}

impl Behaviour for Strangers {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        for _ in 0..self.a_tick {
            let nth = self.next % NAMES;
            self.next += 1;
            let key = key(&cx.me, nth);
            cx.flood_first(&key, nth, wish(nth));
        }
    }

    fn aliases(&self, me: &SecretKey) -> Vec<PeerId> {
        let me = me.peer_id();
        (0..NAMES).map(|nth| key(&me, nth).peer_id()).collect()
    }
}
