//! What a server files: deposits that payers signed, and answers together with the claim that pays them.

use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{AgreedShares, Answers, EvmAddress, PaidAnswer};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MicroOpen;
use tributary_protocol::limits;

use super::keeper::entry;
use super::settled::Settled;
use crate::settlement::calls::Token;
use crate::settlement::{Address, BaseUnits, Deployment};
use crate::test_chain::TestChain;
use crate::voucher::calls::Channels;
use crate::voucher::{Authorization, ChannelConfig, Claim, MIN_WITHDRAW_DELAY_S, Requirements};

/// One answer that a channel was charged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The adapter that answered: hash of its numbers.
    pub adapter: Digest,
    /// Hash of the request.
    pub request: Digest,
    /// Hash of the response.
    pub response: Digest,
    /// Tokens that were read.
    pub prompt_tokens: u32,
    /// Tokens that were written.
    pub answer_tokens: u32,
    /// What the channel was charged before it.
    pub charged_before: MicroOpen,
    /// What the channel was charged for it.
    pub fee: MicroOpen,
    /// Whose data shaped it, if whoever paid agreed.
    pub shares: Option<AgreedShares>,
}

impl Settled {
    /// What channels have to be so that a server is paid through them for the run's adapters, and the contract that holds
    /// them. None where the run settles on no chain that is known here.
    pub fn requirements(&self, server: Address) -> Option<(Requirements, Deployment)> {
        let requirements = Requirements {
            receiver: self.till(),
            receiver_authorizer: server,
            token: self.token(),
            withdraw_delay_s: MIN_WITHDRAW_DELAY_S,
        };
        Some((requirements, self.channels()))
    }

    /// What a server files so that a channel has the `amount` that its payer signed for. The payer's test OPEN comes from the
    /// faucet: a stranger files nothing, and there is nothing to be won by it.
    pub fn deposit(
        &self,
        config: &ChannelConfig,
        amount: BaseUnits,
        authorization: &Authorization,
    ) -> Vec<Entry> {
        let deployed = TestChain::deployed();
        let calls = [
            Token(deployed.token).mint(config.payer, amount),
            Channels(deployed.channels).deposit_authorized(config, amount, authorization),
        ];
        calls.map(entry).into()
    }

    /// What a server files to be paid by a channel for `served`, which are in the order in which they were charged: first
    /// the answers, then the claim. Answers that cost nothing are left out.
    pub fn collect(&self, served: &[Served], claim: &Claim) -> Vec<Entry> {
        let paid = served.iter().filter(|one| one.fee > MicroOpen(0));
        let paid: Vec<&Served> = paid.collect();
        let mut filings = Vec::new();
        let mut from = 0;
        for to in 1..=paid.len() {
            if to < paid.len() && fits(&paid[from..=to]) {
                continue;
            }
            filings.push(answers(&claim.config, &paid[from..to]));
            from = to;
        }
        let channels = Channels(TestChain::deployed().channels);
        filings.push(entry(channels.claim(std::slice::from_ref(claim))));
        filings
    }
}

/// Whether answers can stand in one entry: few enough, and each charged right behind the one before.
fn fits(served: &[&Served]) -> bool {
    let shares = served.iter().filter_map(|one| one.shares.as_ref());
    let lines: usize = shares.map(|agreed| agreed.shares.len()).sum();
    let follows =
        |pair: &[&Served]| pair[0].charged_before.0 + pair[0].fee.0 == pair[1].charged_before.0;
    served.len() <= limits::MAX_ANSWERS
        && lines <= limits::MAX_ANSWER_SHARES
        && served.windows(2).all(follows)
}

fn answers(config: &ChannelConfig, served: &[&Served]) -> Entry {
    let answer = |one: &&Served| PaidAnswer {
        adapter: one.adapter,
        request: one.request,
        response: one.response,
        prompt_tokens: one.prompt_tokens,
        answer_tokens: one.answer_tokens,
        fee: one.fee,
        shares: one.shares.clone(),
    };
    Entry::Answers(Answers {
        payer: EvmAddress(config.payer.0),
        payer_authorizer: EvmAddress(config.payer_authorizer.0),
        withdraw_delay_s: config.withdraw_delay_s,
        salt: config.salt,
        before: served
            .first()
            .map_or(MicroOpen(0), |one| one.charged_before),
        answers: served.iter().map(answer).collect(),
    })
}
