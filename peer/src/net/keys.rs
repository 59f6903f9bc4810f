//! One seed, three libraries: the same ed25519 key as libp2p and as iroh see it.

use libp2p::identity::{Keypair, PublicKey, ed25519};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::PeerId;

/// Multihash code of `identity`: the digest is the content.
const IDENTITY_MULTIHASH: u64 = 0;

/// The key pair of the control plane.
pub(crate) fn libp2p_keypair(seed: &[u8; 32]) -> Keypair {
    let mut copy = *seed;
    Keypair::ed25519_from_bytes(&mut copy).expect("every 32 bytes are an ed25519 seed")
}

/// The key of the data plane.
pub(crate) fn iroh_key(seed: &[u8; 32]) -> iroh::SecretKey {
    iroh::SecretKey::from_bytes(seed)
}

/// Our name of a libp2p peer; `None` when its key is not ed25519.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    let key = key.try_into_ed25519().ok()?;
    Some(PeerId(Digest::from_bytes(key.to_bytes())))
}

/// libp2p's name of a peer; `None` when the 32 bytes are no point of the curve.
pub(crate) fn to_libp2p(peer: PeerId) -> Option<libp2p::PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(peer.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// iroh's name of a peer; `None` when the 32 bytes are no point of the curve.
pub(crate) fn to_iroh(peer: PeerId) -> Option<iroh::EndpointId> {
    iroh::EndpointId::from_bytes(peer.as_bytes()).ok()
}

/// Our name of an iroh endpoint.
pub(crate) fn from_iroh(id: &iroh::EndpointId) -> PeerId {
    PeerId(Digest::from_bytes(*id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn one_seed_is_one_name_everywhere() {
        let identity = Identity::generate();
        let peer = identity.peer_id();
        let libp2p = libp2p_keypair(identity.seed()).public().to_peer_id();
        assert_eq!(from_libp2p(&libp2p), Some(peer));
        assert_eq!(to_libp2p(peer), Some(libp2p));
        let iroh = iroh_key(identity.seed()).public();
        assert_eq!(from_iroh(&iroh), peer);
        assert_eq!(to_iroh(peer), Some(iroh));
    }
}
