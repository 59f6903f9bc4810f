//! What may be spent at this server and what was spent: pure accounting, whoever owns an account.
//!
//! ```text
//!   granted = charged + reserved + left                          (of each owner, over all its channels)
//!   an admitted voucher >= the channel's charged + reserved + what this request may cost
//! ```
//!
//! An owner is a consumer that was granted an allowance, over all its channels, or one channel with its deposit. A channel's
//! vouchers name a total that never falls, and each total pays for one request: somebody who listened and sends the same
//! voucher with words of their own is refused. The same voucher with the same request is a repeat and is charged once. What
//! is stored of an owner is its whole [`Account`]; whatever was being answered when the server stopped counts as failed, and
//! failures cost nothing.

mod file;

use std::collections::BTreeMap;

use tributary_attribution::settlement::Signature;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MicroOpen;

pub(super) use file::AccountFile;

/// Tells the channels of one owner apart. A later one has a higher number, read with its first byte as the highest.
pub type Salt = [u8; 32];

/// Requests of one consumer that are answered at the same time: what the engine itself answers at once.
const MOST_OPEN: usize = 32;
/// Channels of one owner. A program opens one at each start; the oldest one is closed for a new one.
const MOST_CHANNELS: usize = 8;
/// Settled requests of a channel by which a repeat is told. A client repeats within seconds.
const MOST_REMEMBERED: usize = 16;
/// Repeats of a request that was answered: what OpenAI's clients do. Each is computed again for nothing.
const MOST_REPEATS: u8 = 2;
/// Tokens that a price is for.
const PRICED_TOKENS: u128 = 1000;

/// What an answer costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// For 1,000 tokens of prompts.
    pub prompt: MicroOpen,
    /// For 1,000 tokens of answers.
    pub answer: MicroOpen,
}

impl Prices {
    /// What so many tokens cost, rounded up.
    pub fn cost(&self, prompt_tokens: usize, answer_tokens: usize) -> MicroOpen {
        let prompt = self.prompt.0.saturating_mul(prompt_tokens as u128);
        let answer = self.answer.0.saturating_mul(answer_tokens as u128);
        MicroOpen(prompt.saturating_add(answer).div_ceil(PRICED_TOKENS))
    }
}

/// A voucher whose signature is good, with the request that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<K> {
    /// Whose account it draws on.
    pub owner: K,
    /// Which of the owner's channels.
    pub channel: Salt,
    /// The total that the channel may be charged.
    pub total: MicroOpen,
    /// The signature.
    pub signature: Signature,
    /// Hash of the request's body.
    pub body: Digest,
}

/// A request that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted<K> {
    /// Whose account pays.
    pub owner: K,
    /// Through which channel.
    pub channel: Salt,
    /// With which voucher.
    pub total: MicroOpen,
}

/// Why a voucher pays for nothing. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No allowance.
    #[error("this server grants the payer nothing; ask its owner for an allowance")]
    Unknown,
    /// Newer channels took its place.
    #[error(
        "this channel is closed, because newer ones of the same key took its place; open a new one"
    )]
    ChannelClosed,
    /// More requests at once than are answered.
    #[error("{MOST_OPEN} requests of this key are being answered; wait for one of them")]
    TooManyOpen,
    /// A total below an earlier one.
    #[error(
        "the voucher's total is not above {highest} micro-OPEN, which an earlier one has; sign a higher one"
    )]
    Falling {
        /// The earlier one.
        highest: u128,
    },
    /// It paid for another request.
    #[error(
        "this voucher came with another request before; sign one with a higher total for this request"
    )]
    Replayed,
    /// The same request was repeated too often.
    #[error(
        "this request was answered {MOST_REPEATS} times more for the same voucher; sign a new one"
    )]
    RepeatedTooOften,
    /// The same request is being answered.
    #[error(
        "the same request with the same voucher is being answered; wait for it, or repeat it in a second"
    )]
    InFlight,
    /// The voucher does not cover the request.
    #[error(
        "the voucher's total must be at least {needed} micro-OPEN: what the channel owes, what open requests may cost, and this one"
    )]
    TooLow {
        /// The least total that would do.
        needed: u128,
    },
    /// The grant is spent.
    #[error(
        "the request may cost {price} micro-OPEN, and {left} are left of what this server grants; ask for fewer tokens, wait for \
             open requests, or ask the server's owner for more"
    )]
    Exhausted {
        /// What the request may cost.
        price: u128,
        /// What is left.
        left: u128,
    },
}

impl Denied {
    /// Stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_consumer",
            Self::ChannelClosed => "channel_closed",
            Self::TooManyOpen => "too_many_open",
            Self::Falling { .. } => "voucher_falling",
            Self::Replayed => "voucher_replayed",
            Self::RepeatedTooOften => "repeated_too_often",
            Self::InFlight => "repeat_in_flight",
            Self::TooLow { .. } => "voucher_too_low",
            Self::Exhausted { .. } => "allowance_exhausted",
        }
    }
}

/// One request of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) body: Digest,
    /// What it may still cost.
    pub(super) reserved: MicroOpen,
    /// What it cost.
    pub(super) charged: MicroOpen,
    /// How often it was answered again.
    pub(super) repeats: u8,
    pub(super) is_open: bool,
    /// Whether it was ever answered, so that another answer is a repeat.
    pub(super) was_answered: bool,
}

/// What one owner pays through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) charged: MicroOpen,
    /// Total of the highest voucher, and its signature: what the server can show.
    pub(super) highest: MicroOpen,
    pub(super) signature: Option<Signature>,
    /// By the totals of their vouchers.
    pub(super) attempts: BTreeMap<MicroOpen, Attempt>,
}

impl Channel {
    fn reserved(&self) -> u128 {
        self.attempts.values().map(|one| one.reserved.0).sum()
    }

    fn open(&self) -> usize {
        self.attempts.values().filter(|one| one.is_open).count()
    }

    /// Forgets the oldest settled requests.
    fn forget(&mut self) {
        let settled = self.attempts.iter().filter(|(_, one)| !one.is_open);
        let settled: Vec<MicroOpen> = settled.map(|(total, _)| *total).collect();
        for total in settled
            .iter()
            .take(settled.len().saturating_sub(MOST_REMEMBERED))
        {
            self.attempts.remove(total);
        }
    }
}

/// What a channel stands at, for its payer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What the owner may spend in all.
    pub granted: MicroOpen,
    /// Of it, what is neither charged nor reserved.
    pub left: MicroOpen,
    /// What this channel was charged.
    pub charged: MicroOpen,
    /// What its open requests may cost.
    pub reserved: MicroOpen,
    /// Total of its highest voucher.
    pub highest: MicroOpen,
    /// Signature of that voucher; none where there is no voucher.
    pub signature: Option<Signature>,
}

/// All of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) granted: MicroOpen,
    pub(super) charged: MicroOpen,
    /// This channel and those below it are closed.
    pub(super) closed: Option<Salt>,
    pub(super) channels: BTreeMap<Salt, Channel>,
}

impl Account {
    fn reserved(&self) -> u128 {
        self.channels.values().map(Channel::reserved).sum()
    }

    fn left(&self) -> u128 {
        // An owner may grant less than was spent already.
        (self.granted.0).saturating_sub(self.charged.0 + self.reserved())
    }

    /// Whether a request is admitted, and what it may cost beyond what it cost before.
    fn check<K>(&self, offer: &Offer<K>, price: MicroOpen) -> Result<MicroOpen, Denied> {
        let is_closed = self.closed.is_some_and(|closed| offer.channel <= closed);
        if is_closed || (self.is_full() && !self.makes_room_for(offer.channel)) {
            return Err(Denied::ChannelClosed);
        }
        let none = Channel::default();
        let channel = self.channels.get(&offer.channel).unwrap_or(&none);
        let before = channel.attempts.get(&offer.total);
        let paid = match before {
            Some(before) if before.body != offer.body => return Err(Denied::Replayed),
            Some(before) if before.is_open => return Err(Denied::InFlight),
            Some(before) if before.repeats >= MOST_REPEATS => return Err(Denied::RepeatedTooOften),
            Some(before) => before.charged,
            None if offer.total <= channel.highest => {
                let highest = channel.highest.0;
                return Err(Denied::Falling { highest });
            }
            None => MicroOpen(0),
        };
        if self.channels.values().map(Channel::open).sum::<usize>() >= MOST_OPEN {
            return Err(Denied::TooManyOpen);
        }
        let reserved = MicroOpen(price.0.saturating_sub(paid.0));
        let needed = (channel.charged.0 + channel.reserved()).saturating_add(reserved.0);
        if offer.total.max(channel.highest).0 < needed {
            return Err(Denied::TooLow { needed });
        }
        let left = self.left();
        match left < reserved.0 {
            true => Err(Denied::Exhausted {
                price: reserved.0,
                left,
            }),
            false => Ok(reserved),
        }
    }

    fn is_full(&self) -> bool {
        self.channels.len() >= MOST_CHANNELS
    }

    /// Whether the oldest channel can give way to this one.
    fn makes_room_for(&self, channel: Salt) -> bool {
        let oldest = self.channels.first_key_value();
        self.channels.contains_key(&channel)
            || oldest.is_some_and(|(number, oldest)| *number < channel && oldest.open() == 0)
    }

    fn take<K>(&mut self, offer: &Offer<K>, reserved: MicroOpen) {
        if self.is_full() && !self.channels.contains_key(&offer.channel) {
            let (oldest, _) = self.channels.pop_first().expect("it is full");
            self.closed = Some(oldest);
        }
        let channel = self.channels.entry(offer.channel).or_default();
        if offer.total > channel.highest {
            channel.highest = offer.total;
            channel.signature = Some(offer.signature);
        }
        let attempt = channel.attempts.entry(offer.total).or_insert(Attempt {
            body: offer.body,
            reserved: MicroOpen(0),
            charged: MicroOpen(0),
            repeats: 0,
            is_open: false,
            was_answered: false,
        });
        attempt.repeats += u8::from(attempt.was_answered);
        attempt.reserved = reserved;
        attempt.is_open = true;
    }

    /// Frees what open requests hold; they count as failed.
    fn close_all(&mut self) {
        for attempt in
            (self.channels.values_mut()).flat_map(|channel| channel.attempts.values_mut())
        {
            attempt.is_open = false;
            attempt.reserved = MicroOpen(0);
        }
    }
}

/// The accounts of all owners.
#[derive(Clone, Debug)]
pub struct Book<K> {
    pub(super) accounts: BTreeMap<K, Account>,
}

impl<K> Default for Book<K> {
    fn default() -> Self {
        Self {
            accounts: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Book<K> {
    /// Takes what was stored of an owner. Until it is granted something, nothing is left to spend.
    pub(super) fn restore(&mut self, owner: K, mut account: Account) {
        account.close_all();
        account.granted = MicroOpen(0);
        self.accounts.insert(owner, account);
    }

    /// What is kept of an owner now, for [`Book::put_back`].
    pub(super) fn clone_account(&self, owner: K) -> Option<Account> {
        self.accounts.get(&owner).cloned()
    }

    /// Undoes what was changed since.
    pub(super) fn put_back(&mut self, owner: K, before: Option<Account>) {
        if let Some(before) = before {
            self.accounts.insert(owner, before);
        }
    }

    /// Lets an owner spend so much in all, what it spent before included.
    pub fn grant(&mut self, owner: K, total: MicroOpen) {
        self.accounts.entry(owner).or_default().granted = total;
    }

    /// Counts at least `claimed` as charged to a channel: what was claimed of it by somebody whose records are not here is
    /// spent, and no voucher up to it is good.
    pub(super) fn raise(&mut self, owner: K, channel: Salt, claimed: MicroOpen) {
        let account = self.accounts.entry(owner).or_default();
        let channel = account.channels.entry(channel).or_default();
        if claimed <= channel.charged {
            return;
        }
        account.charged.0 += claimed.0 - channel.charged.0;
        channel.charged = claimed;
        if claimed > channel.highest {
            channel.highest = claimed;
            channel.signature = None;
        }
    }

    /// Whether a request of an owner is being answered.
    pub(super) fn is_open(&self, owner: K) -> bool {
        let account = self.accounts.get(&owner);
        account.is_some_and(|account| account.channels.values().any(|one| one.open() > 0))
    }

    /// Whether a request that may cost `price` would be admitted.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn check(&self, offer: &Offer<K>, price: MicroOpen) -> Result<(), Denied> {
        let account = self.accounts.get(&offer.owner);
        let account = account.filter(|account| account.granted.0 > 0);
        account
            .ok_or(Denied::Unknown)?
            .check(offer, price)
            .map(drop)
    }

    /// Admits a request that may cost `price`, and reserves that.
    ///
    /// # Errors
    /// See [`Denied`]; nothing was changed then.
    pub fn admit(&mut self, offer: &Offer<K>, price: MicroOpen) -> Result<Admitted<K>, Denied> {
        let account = self.accounts.get_mut(&offer.owner);
        let account = account.filter(|account| account.granted.0 > 0);
        let account = account.ok_or(Denied::Unknown)?;
        let reserved = account.check(offer, price)?;
        account.take(offer, reserved);
        // An owner may have been granted less than was spent already, and then what costs nothing is answered still.
        let spent = account.charged.0 + account.reserved();
        assert!(reserved.0 == 0 || spent <= account.granted.0);
        Ok(Admitted {
            owner: offer.owner,
            channel: offer.channel,
            total: offer.total,
        })
    }

    /// Ends a request that cost `cost` in all its tries together, or None where it failed. Gives what it cost.
    ///
    /// # Panics
    /// When the request is not open.
    pub fn settle(&mut self, admitted: &Admitted<K>, cost: Option<MicroOpen>) -> MicroOpen {
        let account =
            (self.accounts.get_mut(&admitted.owner)).expect("admitted requests have an account");
        let channel = (account.channels.get_mut(&admitted.channel)).expect("open channels stay");
        let attempt = (channel.attempts.get_mut(&admitted.total)).expect("open requests stay");
        assert!(attempt.is_open, "a request ends once");
        if let Some(cost) = cost {
            // Never more than what it was admitted for.
            let more = cost
                .0
                .saturating_sub(attempt.charged.0)
                .min(attempt.reserved.0);
            attempt.charged.0 += more;
            attempt.was_answered = true;
            channel.charged.0 += more;
            account.charged.0 += more;
        }
        attempt.is_open = false;
        attempt.reserved = MicroOpen(0);
        let charged = attempt.charged;
        assert!(channel.charged <= channel.highest, "no voucher covers this");
        channel.forget();
        charged
    }

    /// What a channel stands at.
    pub fn standing(&self, owner: K, channel: Salt) -> Standing {
        let Some(account) = self.accounts.get(&owner) else {
            return Standing::default();
        };
        let standing = Standing {
            granted: account.granted,
            left: MicroOpen(account.left()),
            ..Standing::default()
        };
        match account.channels.get(&channel) {
            Some(channel) => Standing {
                charged: channel.charged,
                reserved: MicroOpen(channel.reserved()),
                highest: channel.highest,
                signature: channel.signature,
                ..standing
            },
            None => standing,
        }
    }
}

#[cfg(test)]
mod tests;
