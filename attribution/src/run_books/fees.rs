//! Fees: which answers were filed, what of their money has come, and what came without any.
//!
//! ```text
//!   Answers (filed) ──► announced ──┐
//!   claim of the channel, on chain ─┴─► covered ──┐
//!   swept into the run's fees ────────────────────┴─► Fees of that entry
//!                            └─ the rest, for which nothing is announced ──► Fees of nobody's answers
//! ```
//!
//! A server files answers before it claims their money; what is claimed without is given out by the run's credits at once. So
//! a server can keep a consumer's money from no contributor: it files, or it loses its own portion. What is announced counts for
//! money that its channel is claimed for, and for no other, and only within [`ANNOUNCED_HEIGHTS`].

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::filing::{Answers, PaidAnswer};
use tributary_protocol::id::{MicroOpen, PeerId, Ppb, Round};
use tributary_protocol::round::EntryRef;

use super::settled::Settled;
use crate::fee::{Shaped, Source};
use crate::money::MAX_AMOUNT;
use crate::settlement::{Address, Agreement, BaseUnits, Signature};
use crate::voucher::{ChannelConfig, ChannelId};

/// Heights within which a channel is claimed for answers that were filed. Then their server files them again.
pub const ANNOUNCED_HEIGHTS: u32 = 16;

/// Answers that were filed, and whose money has not all come.
#[derive(Clone)]
struct Announced {
    at: EntryRef,
    payer: Address,
    channel: ChannelId,
    /// Of the channel's total: what was given out of it, or lies before these answers.
    from: MicroOpen,
    to: MicroOpen,
    shaped: Shaped,
    until: Round,
}

/// A run's fees.
#[derive(Clone, Default)]
pub(super) struct FeeQueue {
    /// In the order in which they were filed.
    announced: Vec<Announced>,
    /// What was given out of the run's fees, ever.
    spent: MicroOpen,
}

impl Settled {
    /// The channel that answers of a server name, if it pays this run's till.
    pub fn channel_of(&self, server: Address, answers: &Answers) -> Option<ChannelConfig> {
        Some(ChannelConfig {
            payer: Address(answers.payer.0),
            payer_authorizer: Address(answers.payer_authorizer.0),
            receiver: self.till(),
            receiver_authorizer: server,
            token: self.token(),
            withdraw_delay_s: answers.withdraw_delay_s,
            salt: answers.salt,
        })
    }

    /// What weights the shares of answers come to: of each that its payer agreed to, where they are of members that were
    /// scored; the rest follows the run's credits.
    fn shaped(
        &self,
        config: &ChannelConfig,
        channel: ChannelId,
        answers: &Answers,
        scored: &BTreeSet<PeerId>,
    ) -> Shaped {
        let mut shaped = Shaped::default();
        let mut agreed = BTreeMap::<PeerId, u128>::new();
        let mut charged = answers.before;
        for answer in &answers.answers {
            charged.0 += answer.fee.0;
            let shares = self.agreed(config, channel, answer, charged);
            let Some(shares) = shares else {
                shaped.by_credits += answer.fee.0 * u128::from(Ppb::ONE.0);
                continue;
            };
            let mut named = 0;
            for (peer, share) in shares.iter().filter(|(peer, _)| scored.contains(peer)) {
                *agreed.entry(*peer).or_default() += answer.fee.0 * u128::from(share.0);
                named += share.0;
            }
            shaped.nobody += answer.fee.0 * u128::from(Ppb::ONE.0 - named);
        }
        shaped.agreed = agreed.into_iter().collect();
        shaped
    }

    fn agreed<'a>(
        &self,
        config: &ChannelConfig,
        channel: ChannelId,
        answer: &'a PaidAnswer,
        charged: MicroOpen,
    ) -> Option<&'a [(PeerId, Ppb)]> {
        let agreed = answer.shares.as_ref()?;
        let signature = Signature::from_bytes(&agreed.signature.0).ok()?;
        let agreement = Agreement {
            channel: channel.0,
            charged: BaseUnits::from_micro(charged).ok()?,
            shares: &agreed.shares,
        };
        let signer = signature.recover(&agreement.digest(self.deployment()));
        (signer == Ok(config.voucher_signer())).then_some(&agreed.shares)
    }
}

impl FeeQueue {
    /// Channels that filed answers name whose money has not all come.
    pub(super) fn channels(&self) -> BTreeSet<ChannelId> {
        self.announced.iter().map(|one| one.channel).collect()
    }

    /// Takes answers that a server filed, before the transactions of the same height. Such as overlap with what was filed,
    /// or was claimed before, come to nothing.
    pub(super) fn announce(
        &mut self,
        settled: &Settled,
        (at, server): (EntryRef, Address),
        answers: &Answers,
        (round, scored): (Round, &BTreeSet<PeerId>),
    ) {
        let Some(config) = settled.channel_of(server, answers) else {
            return;
        };
        let channel = config.id(&settled.channels());
        let live = self.announced.iter().filter(|one| one.channel == channel);
        let filed = live.map(|one| one.to).max().unwrap_or_default();
        if answers.before < filed || answers.before < settled.claimed(channel) {
            return;
        }
        self.announced.push(Announced {
            at,
            payer: config.payer,
            channel,
            from: answers.before,
            to: answers.after(),
            shaped: settled.shaped(&config, channel, answers, scored),
            until: Round(round.0.saturating_add(ANNOUNCED_HEIGHTS)),
        });
    }

    /// After the transactions of a height: what of the run's fees is given out now, and whose it is.
    pub(super) fn collect(
        &mut self,
        settled: &Settled,
        round: Round,
    ) -> Vec<(Source, MicroOpen, Shaped)> {
        let swept = settled.swept();
        let mut free = swept.0.saturating_sub(self.spent.0);
        let mut out = Vec::new();
        let mut reserved = 0;
        for one in &mut self.announced {
            let claimed = settled.claimed(one.channel).min(one.to);
            let covered = claimed.0.saturating_sub(one.from.0);
            let amount = covered.min(free).min(MAX_AMOUNT.0);
            reserved += covered - amount;
            if amount > 0 {
                free -= amount;
                one.from.0 += amount;
                let source = Source::Answers {
                    at: one.at,
                    server: one.at.author,
                    payer: one.payer,
                };
                out.push((source, MicroOpen(amount), one.shaped.clone()));
            }
        }
        self.announced
            .retain(|one| one.from < one.to && round < one.until);
        let unexplained = free.saturating_sub(reserved).min(MAX_AMOUNT.0);
        if unexplained > 0 {
            let shaped = Shaped {
                by_credits: 1,
                ..Shaped::default()
            };
            out.push((Source::Unexplained, MicroOpen(unexplained), shaped));
        }
        let given: u128 = out.iter().map(|(_, amount, _)| amount.0).sum();
        self.spent.0 += given;
        out
    }
}
