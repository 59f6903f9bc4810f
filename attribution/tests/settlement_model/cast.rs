//! Who takes part: keys from seeds, the two runs and the channels between them.

use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::settlement::{Address, BaseUnits, EvmKey, Keccak, Terms};
use tributary_attribution::test_chain::TestChain;
use tributary_attribution::voucher::ChannelConfig;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::RunId;

use crate::channels::Channel;

/// Seconds of a challenge.
pub(crate) const WINDOW_S: u64 = 100;

pub(crate) struct Cast {
    keys: BTreeMap<Address, EvmKey>,
    pub(crate) members: Vec<Address>,
    pub(crate) payees: Vec<Address>,
    pub(crate) payers: Vec<Address>,
    pub(crate) sponsors: Vec<Address>,
    pub(crate) arbiter: Address,
    /// Speaks for every receiver.
    pub(crate) authorizer: Address,
    /// Signs vouchers for the payer of the last channel.
    pub(crate) signer: Address,
    /// A receiver that is no till.
    pub(crate) seller: Address,
    pub(crate) stranger: Address,
}

impl Cast {
    pub(crate) fn new() -> Self {
        let mut keys = BTreeMap::new();
        let mut next = || {
            let seed = Keccak::of(&[b"cast", &[keys.len() as u8]]);
            let key = EvmKey::from_bytes(&seed.0).expect("a key");
            let address = key.address();
            keys.insert(address, key);
            address
        };
        let mut some = |count: usize| (0..count).map(|_| next()).collect::<Vec<_>>();
        let (members, payees, payers, sponsors) = (some(4), some(3), some(2), some(2));
        let rest = some(5);
        Self {
            keys,
            members,
            payees,
            payers,
            sponsors,
            arbiter: rest[0],
            authorizer: rest[1],
            signer: rest[2],
            seller: rest[3],
            stranger: rest[4],
        }
    }

    pub(crate) fn key(&self, account: Address) -> &EvmKey {
        &self.keys[&account]
    }

    /// Everybody that sends transactions.
    pub(crate) fn everybody(&self) -> Vec<Address> {
        self.keys.keys().copied().collect()
    }

    /// Terms of both runs: the second has an arbiter. `strict` asks for stake and bonds.
    pub(crate) fn terms(&self, strict: bool) -> [Terms; 2] {
        let of = |run: usize| Terms {
            run: RunId(Digest::from_bytes([run as u8; 32])),
            sponsor: self.sponsors[run],
            arbiter: [None, Some(self.arbiter)][run],
            rate_per_s: BaseUnits([3, 40][run]),
            challenge_bond: BaseUnits(if strict { 7 } else { 0 }),
            min_stake: BaseUnits(if strict { 50 } else { 0 }),
            window_s: WINDOW_S,
            cooldown_s: 3 * WINDOW_S,
            halt_s: 4 * WINDOW_S,
        };
        [of(0), of(1)]
    }

    /// Channels to both tills and to a seller.
    pub(crate) fn channels(&self, tills: [Address; 2]) -> Vec<Channel> {
        let of = |payer, payer_authorizer, receiver| Channel {
            config: ChannelConfig {
                payer,
                payer_authorizer,
                receiver,
                receiver_authorizer: self.authorizer,
                token: TestChain::deployed().token,
                withdraw_delay_s: 900,
                salt: [0; 32],
            },
            balance: 0,
            claimed: 0,
            withdrawal: None,
            refunds: 0,
            salts: BTreeSet::new(),
        };
        vec![
            of(self.payers[0], Address::ZERO, tills[0]),
            of(self.payers[1], Address::ZERO, tills[1]),
            of(self.payers[0], Address::ZERO, self.seller),
            of(self.payers[1], self.signer, tills[0]),
        ]
    }
}
