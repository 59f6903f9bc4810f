//! A voucher: how much of a channel a server may take, signed by its consumer.
//!
//! A channel's id is the hash of server, consumer and a number that the consumer chooses, so that a voucher for one server
//! says nothing to another.

use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{MicroOpen, PeerId};
use tributary_protocol::sign::{self, SecretKey, Signature};

use crate::NETWORK;

/// What one consumer pays one server through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Who is paid.
    pub server: PeerId,
    /// Who pays.
    pub consumer: PeerId,
    /// Which of their channels; a later one has a higher number.
    pub number: u64,
}

impl Channel {
    /// Its name.
    pub fn id(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Channel);
        hasher
            .update(self.server.as_bytes())
            .update(self.consumer.as_bytes())
            .update(&self.number.to_le_bytes());
        hasher.finalize()
    }

    /// Signs that the channel may be charged `total`, all before included.
    pub fn sign(&self, key: &SecretKey, total: MicroOpen) -> Signature {
        key.sign(NETWORK, Domain::Voucher, &self.voucher(total))
    }

    /// Whether the consumer signed that.
    pub fn is_signed(&self, total: MicroOpen, signature: &Signature) -> bool {
        let voucher = self.voucher(total);
        sign::verify(self.consumer, NETWORK, Domain::Voucher, &voucher, signature).is_ok()
    }

    fn voucher(&self, total: MicroOpen) -> Vec<u8> {
        let mut bytes = self.id().as_bytes().to_vec();
        bytes.extend_from_slice(&total.0.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voucher_is_good_for_its_channel_and_its_total_alone() {
        let key = SecretKey::from_seed([1; 32]);
        let server = SecretKey::from_seed([2; 32]).peer_id();
        let channel = Channel {
            server,
            consumer: key.peer_id(),
            number: 7,
        };
        let total = MicroOpen(1 << 80);
        let signature = channel.sign(&key, total);
        assert!(channel.is_signed(total, &signature));
        assert!(!channel.is_signed(MicroOpen(total.0 + 1), &signature));
        let next = Channel {
            number: 8,
            ..channel
        };
        let other = Channel {
            server: key.peer_id(),
            ..channel
        };
        assert!(!next.is_signed(total, &signature) && !other.is_signed(total, &signature));
        assert!(!channel.is_signed(total, &channel.sign(&SecretKey::from_seed([3; 32]), total)));
    }
}
