//! ed25519: who said it.
//!
//! A signature covers `domain || network id || BLAKE3(bytes)`, so that bytes signed for one purpose or
//! one network say nothing in another, and so that a signer never has to hold a long message. The
//! inner hash is taken under the same domain as the outer tag. Only strict verification is used: it
//! refuses small-order keys and the encodings on which verifiers disagree.
//!
//! Where a seed is kept is the peer's business; here it only lives until its key is dropped, and is
//! wiped then.

mod memo;

use std::fmt;

use bincode::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::hash::{self, Digest, Domain};
use crate::id::{NetworkId, PeerId};
use crate::reject::Rejection;

pub use memo::remember_checks;

/// An ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// A peer's signing key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.peer_id().short())
    }
}

impl SecretKey {
    /// The key of a 32-byte seed. The same seed makes the libp2p and the iroh key.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public half: this peer's one name.
    pub fn peer_id(&self) -> PeerId {
        PeerId(Digest::from_bytes(self.0.verifying_key().to_bytes()))
    }

    /// Signs `bytes` for one purpose and one network.
    pub fn sign(&self, network: NetworkId, domain: Domain, bytes: &[u8]) -> Signature {
        self.sign_digest(network, domain, &hash::digest(domain, bytes))
    }

    /// The secret of the account that the peer is paid at, where its owner names no other: who has the seed has both.
    pub fn payout_secret(&self) -> Digest {
        self.derive(Domain::Payout, &[0; 32])
    }

    /// A secret of this key's own for one purpose and one subject.
    pub(crate) fn derive(&self, domain: Domain, subject: &[u8; 32]) -> Digest {
        let mut hasher = hash::Hasher::new(domain);
        hasher.update(self.0.as_bytes()).update(subject);
        hasher.finalize()
    }

    /// Signs bytes whose hash under `domain` is already at hand.
    pub(crate) fn sign_digest(
        &self,
        network: NetworkId,
        domain: Domain,
        digest: &Digest,
    ) -> Signature {
        Signature(self.0.sign(&message(network, domain, digest)).to_bytes())
    }
}

/// Checks that `peer` signed `bytes` for this purpose and network.
///
/// # Errors
/// [`Rejection::Signature`] when the key is not a usable ed25519 key or the signature is not its.
pub fn verify(
    peer: PeerId,
    network: NetworkId,
    domain: Domain,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), Rejection> {
    verify_digest(
        peer,
        network,
        domain,
        &hash::digest(domain, bytes),
        signature,
    )
}

/// As [`verify`], for bytes whose hash under `domain` is already at hand.
pub(crate) fn verify_digest(
    peer: PeerId,
    network: NetworkId,
    domain: Domain,
    digest: &Digest,
    signature: &Signature,
) -> Result<(), Rejection> {
    let message = message(network, domain, digest);
    memo::checked(&peer, &message, signature, || {
        let key = VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| Rejection::Signature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&message, &signature)
            .map_err(|_| Rejection::Signature)
    })
}

/// What is signed. The last 36 bytes have a fixed meaning, so the tag needs no length.
fn message(network: NetworkId, domain: Domain, digest: &Digest) -> Vec<u8> {
    let tag = domain.context().as_bytes();
    let mut message = Vec::with_capacity(tag.len() + 36);
    message.extend_from_slice(tag);
    message.extend_from_slice(&network.0.to_le_bytes());
    message.extend_from_slice(digest.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: NetworkId = NetworkId(7);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    #[test]
    fn a_signature_verifies_under_its_own_key_domain_and_network_only() {
        let signature = key(1).sign(NET, Domain::Block, b"text");
        let me = key(1).peer_id();
        assert_eq!(verify(me, NET, Domain::Block, b"text", &signature), Ok(()));
        let refused = Err(Rejection::Signature);
        let other = key(2).peer_id();
        assert_eq!(
            verify(other, NET, Domain::Block, b"text", &signature),
            refused
        );
        assert_eq!(
            verify(me, NetworkId(8), Domain::Block, b"text", &signature),
            refused
        );
        assert_eq!(
            verify(me, NET, Domain::RoundValue, b"text", &signature),
            refused
        );
        assert_eq!(verify(me, NET, Domain::Block, b"texu", &signature), refused);
        for bit in 0..512 {
            let mut bad = signature;
            bad.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(me, NET, Domain::Block, b"text", &bad), refused);
        }
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        // The neutral element: plain verification would accept an all-zero `s` for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = Signature([0; 64]);
        signature.0[0] = 1;
        let peer = PeerId(Digest::from_bytes(neutral));
        assert_eq!(
            verify(peer, NET, Domain::Block, b"anything", &signature),
            Err(Rejection::Signature)
        );
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let peer = PeerId(Digest::from_bytes([2; 32]));
        let signature = key(1).sign(NET, Domain::Block, b"text");
        assert_eq!(
            verify(peer, NET, Domain::Block, b"text", &signature),
            Err(Rejection::Signature)
        );
    }

    #[test]
    fn printing_a_key_shows_no_secret() {
        let shown = format!("{:?}", key(9));
        assert!(shown.contains(&key(9).peer_id().short()));
        assert!(!shown.contains("0909"));
    }
}
