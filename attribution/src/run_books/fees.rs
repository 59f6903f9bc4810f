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
//!
//! Shares that payers agreed to are the server's computation. They wait for the next height, which draws those that a jury
//! computes again ([`super::disputes`]); answers with one of these wait for its ruling, and follow the run's credits if it is
//! not that the shares are right.

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
    /// By the shares that payers agreed to.
    shaped: Shaped,
    /// Those answers, by place and fee.
    agreed: Vec<(u8, MicroOpen)>,
    check: Check,
    until: Round,
}

/// How far the check of agreed shares is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// The certificate behind this height draws what is checked.
    Undrawn(Round),
    /// A jury checks.
    Drawn,
    /// It has ruled, and its ruling is carried out with the next height.
    Ruled,
    /// Nothing is to be checked.
    None,
}

impl Announced {
    fn waits(&self) -> bool {
        matches!(self.check, Check::Undrawn(_) | Check::Drawn)
    }

    /// The shares do not count: the run's credits decide.
    fn follow_credits(&mut self) {
        self.shaped = Shaped {
            by_credits: 1,
            ..Shaped::default()
        };
    }
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
    ) -> (Shaped, Vec<(u8, MicroOpen)>) {
        let mut shaped = Shaped::default();
        let mut agreed = BTreeMap::<PeerId, u128>::new();
        let mut places = Vec::new();
        let mut charged = answers.before;
        for (place, answer) in (0..).zip(&answers.answers) {
            charged.0 += answer.fee.0;
            let shares = self.agreed(config, channel, answer, charged);
            let Some(shares) = shares else {
                shaped.by_credits += answer.fee.0 * u128::from(Ppb::ONE.0);
                continue;
            };
            places.push((place, answer.fee));
            let mut named = 0;
            for (peer, share) in shares.iter().filter(|(peer, _)| scored.contains(peer)) {
                *agreed.entry(*peer).or_default() += answer.fee.0 * u128::from(share.0);
                named += share.0;
            }
            shaped.nobody += answer.fee.0 * u128::from(Ppb::ONE.0 - named);
        }
        shaped.agreed = agreed.into_iter().collect();
        (shaped, places)
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
            request: answer.request,
            text: agreed.text,
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
        let (shaped, agreed) = settled.shaped(&config, channel, answers, scored);
        self.announced.push(Announced {
            at,
            payer: config.payer,
            channel,
            from: answers.before,
            to: answers.after(),
            shaped,
            check: match agreed.is_empty() {
                true => Check::None,
                false => Check::Undrawn(round),
            },
            agreed,
            until: Round(round.0.saturating_add(ANNOUNCED_HEIGHTS)),
        });
    }

    /// Draws, of answers that were filed before a height, what is checked: `draw` is given an entry with the places and fees of
    /// its agreed shares, and says whether any of them is.
    pub(super) fn draw(
        &mut self,
        round: Round,
        mut draw: impl FnMut(EntryRef, &[(u8, MicroOpen)]) -> bool,
    ) {
        for one in &mut self.announced {
            if matches!(one.check, Check::Undrawn(since) if since < round) {
                one.check = match draw(one.at, &one.agreed) {
                    true => Check::Drawn,
                    false => Check::None,
                };
            }
        }
    }

    /// Takes a jury's ruling about the agreed shares of an entry.
    pub(super) fn rule(&mut self, at: EntryRef, counts: bool) {
        let mut drawn = self.announced.iter_mut();
        let drawn = drawn.find(|one| one.at == at && one.check == Check::Drawn);
        if let Some(one) = drawn {
            one.check = Check::Ruled;
            if !counts {
                one.follow_credits();
            }
        }
    }

    /// Whether a further height changes what becomes of filed answers.
    pub(super) fn waits(&self) -> bool {
        (self.announced.iter()).any(|one| matches!(one.check, Check::Undrawn(_) | Check::Ruled))
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
            let payable = if one.waits() { 0 } else { covered };
            if one.check == Check::Ruled {
                one.check = Check::None;
            }
            let amount = payable.min(free).min(MAX_AMOUNT.0);
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
            .retain(|one| one.from < one.to && (round < one.until || one.waits()));
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
