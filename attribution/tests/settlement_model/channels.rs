//! What `Channels` promises: a payer's money is its own until a voucher promises it, and each channel takes only what was
//! paid into it.

use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::settlement::{Address, BaseUnits, Deployment};
use tributary_attribution::voucher::calls::Received;
use tributary_attribution::voucher::{ChannelConfig, OnChain, Withdrawal};

use crate::model::Model;

#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) config: ChannelConfig,
    pub(crate) balance: u128,
    pub(crate) claimed: u128,
    /// Amount, and when it was announced.
    pub(crate) withdrawal: Option<(u128, u64)>,
    pub(crate) refunds: u64,
    /// Of signed deposits.
    pub(crate) salts: BTreeSet<u8>,
}

impl Channel {
    pub(crate) fn unclaimed(&self) -> u128 {
        self.balance - self.claimed
    }

    pub(crate) fn view(&self) -> OnChain {
        let withdrawal = |(amount, announced_s)| Withdrawal {
            amount: BaseUnits(amount),
            announced_s,
        };
        OnChain {
            deposit: BaseUnits(self.balance),
            claimed: BaseUnits(self.claimed),
            withdrawal: self.withdrawal.map(withdrawal),
            refund_nonce: self.refunds,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Channels {
    pub(crate) scheme: Deployment,
    pub(crate) all: Vec<Channel>,
    /// Claimed and settled of each receiver.
    pub(crate) received: BTreeMap<Address, (u128, u128)>,
}

impl Channels {
    pub(crate) fn received(&self, receiver: Address) -> Received {
        let (claimed, settled) = self.received.get(&receiver).copied().unwrap_or_default();
        Received {
            claimed: BaseUnits(claimed),
            settled: BaseUnits(settled),
        }
    }
}

/// A voucher as a receiver shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) channel: usize,
    pub(crate) max: u128,
    pub(crate) total: u128,
    /// Whether the payer's key signed it.
    pub(crate) sound: bool,
}

impl Model {
    pub(crate) fn fund(&mut self, from: Address, at: usize, amount: u128) -> Option<()> {
        let channel = &mut self.channels.all[at];
        if from != channel.config.payer || amount == 0 {
            return None;
        }
        let contract = self.channels.scheme.contract;
        self.purse.send(from, contract, amount)?;
        channel.balance += amount;
        Some(())
    }

    /// By the payer's signature, sent by anybody; each salt of a channel is good once.
    pub(crate) fn fund_signed(&mut self, at: usize, amount: u128, salt: u8) -> Option<()> {
        let payer = self.channels.all[at].config.payer;
        self.fund(payer, at, amount)?;
        self.channels.all[at].salts.insert(salt).then_some(())
    }

    /// One voucher; one that was counted already is skipped.
    pub(crate) fn count(&mut self, shown: &Shown) -> Option<()> {
        let channel = &mut self.channels.all[shown.channel];
        let Some(more) = shown
            .total
            .checked_sub(channel.claimed)
            .filter(|more| *more > 0)
        else {
            return Some(());
        };
        if shown.total > shown.max || shown.total > channel.balance || !shown.sound {
            return None;
        }
        channel.claimed = shown.total;
        let receiver = channel.config.receiver;
        self.channels.received.entry(receiver).or_default().0 += more;
        Some(())
    }

    pub(crate) fn speaks(&self, from: Address, at: usize) -> bool {
        let config = &self.channels.all[at].config;
        [config.receiver, config.receiver_authorizer].contains(&from)
    }

    pub(crate) fn settle(&mut self, receiver: Address) -> Option<()> {
        let (claimed, settled) = self.channels.received.entry(receiver).or_default();
        let amount = *claimed - *settled;
        *settled = *claimed;
        self.purse
            .send(self.channels.scheme.contract, receiver, amount)
    }

    fn is_payer(&self, from: Address, at: usize) -> bool {
        let config = &self.channels.all[at].config;
        [config.payer, config.payer_authorizer].contains(&from)
    }

    pub(crate) fn announce(&mut self, from: Address, at: usize, amount: u128) -> Option<()> {
        let allowed = self.is_payer(from, at);
        let channel = &mut self.channels.all[at];
        if !allowed || amount == 0 || channel.withdrawal.is_some() || amount > channel.unclaimed() {
            return None;
        }
        channel.withdrawal = Some((amount, self.now_s));
        Some(())
    }

    fn give_back(&mut self, at: usize, amount: u128) -> Option<()> {
        let channel = &mut self.channels.all[at];
        channel.balance -= amount;
        let payer = channel.config.payer;
        self.purse
            .send(self.channels.scheme.contract, payer, amount)
    }

    pub(crate) fn finish(&mut self, from: Address, at: usize) -> Option<()> {
        let allowed = self.is_payer(from, at);
        let channel = &mut self.channels.all[at];
        let (amount, announced_s) = channel.withdrawal.take()?;
        let delay_s = u64::from(channel.config.withdraw_delay_s);
        if !allowed || self.now_s < announced_s + delay_s {
            return None;
        }
        let amount = amount.min(channel.unclaimed());
        self.give_back(at, amount)
    }

    pub(crate) fn refund(&mut self, at: usize, most: u128) -> Option<()> {
        let channel = &mut self.channels.all[at];
        channel.refunds += 1;
        let amount = most.min(channel.unclaimed());
        // What comes back now need not come back later.
        let left = channel
            .withdrawal
            .map(|(waits, since)| (waits.saturating_sub(amount), since));
        channel.withdrawal = left.filter(|(waits, _)| *waits > 0);
        if most == 0 {
            return None;
        }
        self.give_back(at, amount)
    }
}
