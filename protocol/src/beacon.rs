//! The run's beacon: for every height a number that nobody could choose.
//!
//! Seats, participants, hold-out windows and places at admission are drawn by it. Each member commits, when it
//! joins, to the end of a chain of hashes that only its key can make, and reveals one link of it with every value
//! that it proposes:
//!
//! ```text
//!   committed ◀─hash─ link 0 ◀─hash─ link 1 ◀─hash─ ... ◀─hash─ link `closing`      (link r belongs to height r)
//!   beacon of r + 1  =  hash(run, r, beacon of r, link r of the member whose value was certified)
//! ```
//! A link is fixed before anybody knows at which height it will count, so a proposer has one number to offer, and the
//! choice to keep silent: then another member's number counts, which it does not know. That is the remaining bias: the
//! member first in turn may exchange the next beacon for one blind draw, at the price of the round's own attempt. A
//! joiner cannot aim either: seats and places in a draw go to members that were admitted before the beacon's last link
//! was revealed ([`crate::state::Head::electorate`], [`crate::roster::Roster::seated`]). A member that leaves gives
//! its own seat up and moves no other.
//!
//! The genesis is its creator's alone, and so is the link in it. Chains end with the closing: epochs behind it reveal
//! nothing, and their beacons follow from its own.

use crate::hash::{Digest, Domain, Hasher};
use crate::id::{Round, RunId};
use crate::sign::SecretKey;

/// The links of one member in one run.
#[derive(Clone)]
pub struct Chain {
    last: Digest,
    closing: Round,
}

impl Chain {
    /// The chain of `key` in a run that closes with the height `closing`.
    pub fn new(key: &SecretKey, run: &RunId, closing: Round) -> Self {
        let last = key.derive(Domain::Beacon, run.as_bytes());
        Self { last, closing }
    }

    /// What a join entry commits to.
    pub fn commitment(&self) -> Digest {
        hash_times(self.last, self.closing.0 + 1)
    }

    /// The link of a height; none, all zero, after the closing.
    pub fn link(&self, round: Round) -> Digest {
        let before_last = self.closing.0.checked_sub(round.0);
        before_last.map_or_else(Digest::default, |times| hash_times(self.last, times))
    }
}

/// Whether `link` is that of `round` on the chain whose link before `open` hashes to `known`: the commitment for
/// `open` 0, the last link that was revealed otherwise.
pub fn is_link(known: &Digest, open: Round, link: &Digest, round: Round) -> bool {
    (round.0.checked_sub(open.0)).is_some_and(|ahead| hash_times(*link, ahead + 1) == *known)
}

/// The beacon after `round`, whose certified value reveals `link`.
pub fn follow(run: &RunId, round: Round, before: &Digest, link: &Digest) -> Digest {
    let mut hasher = Hasher::new(Domain::Beacon);
    hasher.update(run.as_bytes());
    hasher.update(&round.0.to_le_bytes());
    hasher.update(before.as_bytes());
    hasher.update(link.as_bytes());
    hasher.finalize()
}

fn hash_times(mut link: Digest, times: u32) -> Digest {
    for _ in 0..times {
        link = crate::hash::digest(Domain::BeaconLink, link.as_bytes());
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSING: Round = Round(9);

    fn chain(seed: u8) -> Chain {
        Chain::new(
            &SecretKey::from_seed([seed; 32]),
            &RunId::default(),
            CLOSING,
        )
    }

    #[test]
    fn every_link_is_known_by_what_was_known_before() {
        let chain = chain(1);
        let mut known = (chain.commitment(), Round(0));
        for round in [0, 1, 4, 9].map(Round) {
            let link = chain.link(round);
            assert!(is_link(&chain.commitment(), Round(0), &link, round));
            assert!(is_link(&known.0, known.1, &link, round));
            known = (link, round.next());
        }
    }

    #[test]
    fn a_link_belongs_to_one_height_and_one_member() {
        let chain = chain(1);
        let (known, open) = (chain.link(Round(3)), Round(4));
        for round in (0..=9).filter(|round| *round != 6).map(Round) {
            assert!(
                !is_link(&known, open, &chain.link(Round(6)), round),
                "{round}"
            );
        }
        let other = super::tests::chain(2);
        assert!(!is_link(&known, open, &other.link(Round(6)), Round(6)));
        assert!(!is_link(
            &Digest::default(),
            Round(0),
            &Digest::default(),
            Round(0)
        ));
    }

    #[test]
    fn a_run_and_a_key_have_a_chain_of_their_own() {
        let key = SecretKey::from_seed([1; 32]);
        let there = Chain::new(&key, &RunId(key.peer_id().0), CLOSING);
        assert_ne!(there.commitment(), chain(1).commitment());
        assert_ne!(chain(2).commitment(), chain(1).commitment());
    }
}
