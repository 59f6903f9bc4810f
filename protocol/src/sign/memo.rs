//! Remembers signatures that were found good, for simulations.
//!
//! Thirty nodes in one process check the same signature thirty times, which is more than half of what a
//! simulated second costs. Verification is a pure function, so remembering its successes changes no
//! outcome, only the time it takes: the name of an entry is a hash of everything that the check looks
//! at, and failures are checked anew each time. A peer checks a signature about once and has no use for
//! it: nothing is remembered on a thread unless [`remember_checks`] was called there.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::Signature;
use crate::hash::{Digest, Domain, Hasher};
use crate::id::PeerId;
use crate::reject::Rejection;

/// Signatures remembered before all are forgotten: 64 Ki names are 3 MiB.
const MAX_REMEMBERED: usize = 1 << 16;

thread_local! {
    static GOOD: RefCell<Option<BTreeSet<Digest>>> = const { RefCell::new(None) };
}

/// Remembers good signatures on this thread from now on, or forgets all and stops.
pub fn remember_checks(on: bool) {
    GOOD.set(on.then(BTreeSet::new));
}

/// The outcome of `check`, from memory if it is known to be good.
pub(super) fn checked(
    peer: &PeerId,
    message: &[u8],
    signature: &Signature,
    check: impl FnOnce() -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let known = GOOD.with_borrow(|good| {
        let good = good.as_ref()?;
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(peer.as_bytes()).update(&signature.0);
        let name = hasher.update(message).finalize();
        Some((name, good.contains(&name)))
    });
    match known {
        None => check(),
        Some((_, true)) => Ok(()),
        Some((name, false)) => {
            check()?;
            GOOD.with_borrow_mut(|good| {
                if let Some(good) = good {
                    if good.len() >= MAX_REMEMBERED {
                        good.clear();
                    }
                    good.insert(name);
                }
            });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SecretKey, verify};
    use super::*;
    use crate::id::NetworkId;

    /// Every single changed byte of key, message or signature is refused as before.
    #[test]
    fn what_is_remembered_is_exactly_what_was_checked() {
        let key = SecretKey::from_seed([3; 32]);
        let (me, net) = (key.peer_id(), NetworkId(1));
        let signature = key.sign(net, Domain::Vote, b"yes");
        let other = SecretKey::from_seed([4; 32]).peer_id();
        let mut damaged = signature;
        damaged.0[63] ^= 1;
        remember_checks(true);
        for _ in 0..3 {
            let check = |peer, net, domain, bytes: &[u8], signature| {
                verify(peer, net, domain, bytes, &signature)
            };
            assert_eq!(check(me, net, Domain::Vote, b"yes", signature), Ok(()));
            for outcome in [
                check(other, net, Domain::Vote, b"yes", signature),
                check(me, NetworkId(2), Domain::Vote, b"yes", signature),
                check(me, net, Domain::Proposal, b"yes", signature),
                check(me, net, Domain::Vote, b"yez", signature),
                check(me, net, Domain::Vote, b"yes", damaged),
            ] {
                assert_eq!(outcome, Err(Rejection::Signature));
            }
        }
        let remembered = || GOOD.with_borrow(|good| good.as_ref().map(BTreeSet::len));
        assert_eq!(remembered(), Some(1));
        remember_checks(false);
        assert_eq!(remembered(), None);
    }

    #[test]
    fn memory_is_bounded() {
        remember_checks(true);
        let signature = Signature([0; 64]);
        for nth in 0..MAX_REMEMBERED as u32 + 10 {
            let good = checked(
                &PeerId::default(),
                &nth.to_le_bytes(),
                &signature,
                || Ok(()),
            );
            assert_eq!(good, Ok(()));
        }
        let remembered = GOOD.with_borrow(|good| good.as_ref().map(BTreeSet::len));
        assert_eq!(remembered, Some(10));
        remember_checks(false);
    }
}
