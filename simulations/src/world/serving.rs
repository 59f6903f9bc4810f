//! A member that serves paid answers after the run is closed, and a consumer that pays it through a channel. The consumer is
//! no member: it signs, and the server files.

use tributary_attribution::run_books::{RunBooks, Served};
use tributary_attribution::settlement::{Address, BaseUnits, EvmKey};
use tributary_attribution::test_chain::TestChain;
use tributary_attribution::voucher::{
    Authorization, ChannelConfig, ChannelId, Claim, OnChain, Voucher,
};
use tributary_protocol::entry::Entry;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MicroOpen;

use crate::consumer;

/// What the consumer is charged for one answer.
const FEE: MicroOpen = MicroOpen(10_000);
/// Answers of one batch.
const BATCH: u32 = 40;

/// Where the server stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    /// The machine that serves.
    pub(super) server: usize,
    /// Batches to go.
    left: u32,
    charged: MicroOpen,
    has_deposited: bool,
}

impl Serving {
    pub(super) fn new(server: usize, batches: u32) -> Self {
        Self {
            server,
            left: batches,
            charged: MicroOpen(0),
            has_deposited: false,
        }
    }

    /// Whether everything was served, and claimed on the chain that these books follow.
    pub(super) fn is_over(&self, books: &RunBooks, server: &EvmKey) -> bool {
        let seen =
            channel(books, server.address()).map(|(_, _, seen)| seen.claimed.to_micro_floor());
        self.left == 0 && seen >= Some(self.charged)
    }

    /// What the server files now: the consumer's deposit, and then batch after batch of answers with their claim.
    pub(super) fn filings(&mut self, books: &RunBooks, server: &EvmKey) -> Vec<Entry> {
        let Some((config, id, seen)) = channel(books, server.address()) else {
            return Vec::new();
        };
        let Some(settled) = books.settled() else {
            return Vec::new();
        };
        if !self.has_deposited {
            self.has_deposited = true;
            let amount = units(FEE.0 * u128::from(BATCH * self.left));
            let deployed = TestChain::deployed();
            let authorization = Authorization::sign(
                &consumer::key(),
                &config,
                amount,
                &deployed.channels_deployment(),
                &deployed.token_domain(),
                0..u64::MAX,
                [0; 32],
            );
            return settled.deposit(&config, amount, &authorization);
        }
        let has_all = seen.claimed.to_micro_floor() >= self.charged;
        if seen.deposit == BaseUnits(0) || !has_all || self.left == 0 {
            return Vec::new();
        }
        let served: Vec<Served> = (0..BATCH).map(|n| self.answer(n)).collect();
        self.left -= 1;
        self.charged.0 += FEE.0 * u128::from(BATCH);
        settled.collect(&served, &claim(config, id, units(self.charged.0)))
    }

    fn answer(&self, n: u32) -> Served {
        Served {
            adapter: Digest::default(),
            request: Digest::default(),
            response: Digest::default(),
            prompt_tokens: 100,
            answer_tokens: 50,
            charged_before: MicroOpen(self.charged.0 + FEE.0 * u128::from(n)),
            fee: FEE,
            shares: None,
        }
    }
}

fn units(micro: u128) -> BaseUnits {
    BaseUnits::from_micro(MicroOpen(micro)).expect("small amounts")
}

/// The consumer's channel at the server, once the server's account is bound.
pub(super) fn channel(
    books: &RunBooks,
    server: Address,
) -> Option<(ChannelConfig, ChannelId, OnChain)> {
    let settled = books.settled()?;
    let (wanted, scheme) = settled.requirements(server)?;
    let config = ChannelConfig {
        payer: consumer::key().address(),
        payer_authorizer: consumer::key().address(),
        receiver: wanted.receiver,
        receiver_authorizer: wanted.receiver_authorizer,
        token: wanted.token,
        withdraw_delay_s: wanted.withdraw_delay_s,
        salt: [0; 32],
    };
    let id = config.id(&scheme);
    Some((config, id, settled.chain()?.channel(id)))
}

fn claim(config: ChannelConfig, id: ChannelId, total: BaseUnits) -> Claim {
    let scheme = TestChain::deployed().channels_deployment();
    Claim {
        config,
        voucher: Voucher {
            channel: id,
            max: total,
            signature: consumer::key().sign(&Voucher::digest(id, total, &scheme)),
        },
        total_claimed: total,
    }
}
