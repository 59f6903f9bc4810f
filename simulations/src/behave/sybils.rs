//! Joins under many names at once: as contributors that never contribute, and as evaluators that the
//! manifest does not name.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::beacon::Chain;
use tributary_protocol::entry::{Entry, Join, Role};
use tributary_protocol::hash::{self, Domain, Hasher};
use tributary_protocol::id::{MerkleRoot, PeerId};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::sketch::Sketch;

use super::{Behaviour, LiarContext};

/// Names that ask to become members.
const MOST_MEMBERS: u64 = 2;
/// Names that ask for what nobody gives them.
const REFUSED: u64 = 3;
/// Ticks between two rounds of knocking at the door.
const TICKS_BETWEEN: u32 = 4;

/// Joins under many names.
pub(super) struct Sybils {
    members: u64,
    ticks: u32,
}

impl Sybils {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            members: rng.random_range(1..=MOST_MEMBERS),
            ticks: 0,
        }
    }
}

fn key(me: &PeerId, nth: u64) -> SecretKey {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"sybil").update(me.as_bytes());
    hasher.update(&nth.to_le_bytes());
    SecretKey::from_seed(*hasher.finalize().as_bytes())
}

impl Behaviour for Sybils {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        self.ticks += 1;
        if self.ticks % TICKS_BETWEEN != 1 {
            return;
        }
        for nth in 0..self.members + REFUSED {
            let key = key(&cx.me, nth);
            let closing = cx.world.manifest.closing_round();
            let chain = Chain::new(&key, &cx.world.run, closing);
            // Text that it made up: nobody can tell.
            let sketch = Sketch::keeping([u64::MAX / 2 + nth]);
            let join = Join {
                name: format!("sybil-{nth}"),
                role: if nth < self.members {
                    Role::Contributor
                } else {
                    Role::Both
                },
                root: MerkleRoot(hash::digest(Domain::Simulation, &nth.to_le_bytes())),
                tokens: 1,
                fingerprints: None,
                beacon: chain.commitment(),
                sketch: Some(sketch.commit(&key.peer_id())),
                bind: None,
            };
            // The same block each time: an equivocation would cost the name.
            let says = vec![Entry::Join(join), Entry::Opening(sketch)];
            cx.flood_first(&key, nth, says);
        }
    }

    fn aliases(&self, me: &SecretKey) -> Vec<PeerId> {
        let me = me.peer_id();
        let names = 0..self.members + REFUSED;
        names.map(|nth| key(&me, nth).peer_id()).collect()
    }
}
