//! Announces updates and withholds them: from everybody, or from all but a few, so that some members of a committee
//! can judge values that others cannot.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::id::{BlobHash, PeerId};

use super::Behaviour;

/// Announces updates and serves them to nobody, or to a few.
pub(super) struct Withhold {
    /// Peers whose id's first byte is below this get blobs.
    below: u8,
}

impl Withhold {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let below = if rng.random() { 0 } else { rng.random() };
        Self { below }
    }
}

impl Behaviour for Withhold {
    fn serves(&self, _hash: &BlobHash, to: &PeerId) -> bool {
        to.as_bytes()[0] < self.below
    }
}
