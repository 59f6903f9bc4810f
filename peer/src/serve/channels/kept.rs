//! What is kept of all channels, in memory and on the disk alike, and what of their deposits counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use axum::http::StatusCode;
use tributary_attribution::settlement::{BaseUnits, Signature};
use tributary_attribution::voucher::{ChannelId, OnChain, VoucherError};
use tributary_protocol::id::MicroOpen;

use super::super::Refusal;
use super::super::agreements::{self, Agreement};
use super::super::book::{Book, Denied, Offer, Salt};
use super::super::folder::{DiskError, Folder};
use super::super::head::now;
use super::super::quote::{self, Hints, State, Why};
use super::super::said::{Said, SaidFolder};
use super::super::x402::Kind;
use super::Ask;
use super::record::{MOST_SERVED, Record, RecordFile};
use tributary_attribution::voucher::Authorization;

/// Channels that are remembered. Each takes some kilobytes; one that holds nothing makes room for a new one.
const MOST_CHANNELS: usize = 4096;
/// Deposits of all channels that the chain does not show yet: each is an entry of this peer's log.
const MOST_PENDING: usize = 256;
/// What may be granted on unseen deposits of all channels together: so many times what one channel is.
const MOST_EXPOSED: u128 = 16;

/// What is in memory and on the disk alike, and which channel each client used last.
pub(super) struct Kept {
    pub(super) book: Book<ChannelId>,
    pub(super) records: BTreeMap<ChannelId, Record>,
    pub(super) hints: Hints<(ChannelId, Salt)>,
    folder: Folder,
    /// What juries may ask for.
    said: SaidFolder,
}

impl Kept {
    /// Reads what is kept.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let folder = Folder::open(path)?;
        let said = SaidFolder::beside(path);
        said.forget_old(SystemTime::now());
        let (mut book, mut records) = (Book::default(), BTreeMap::new());
        for (name, file) in folder.read::<RecordFile>()? {
            let damaged = |why: String| folder.damaged(&name, why);
            let id = name.parse().map(ChannelId);
            let id = id.map_err(|_| damaged("its name is no channel".into()))?;
            let (record, account) = file.read().map_err(damaged)?;
            book.restore(id, account);
            records.insert(id, record);
        }
        Ok(Self {
            book,
            records,
            hints: Hints::default(),
            folder,
            said,
        })
    }

    /// Takes in what the chain says of the channel of a request, which may be a new one.
    pub(super) fn enter(&mut self, ask: &Ask, chain: OnChain) -> Result<ChannelId, Refusal> {
        let (id, config) = (ask.paid.voucher.channel, ask.paid.config);
        if !self.records.contains_key(&id) {
            // What holds nothing and is promised nothing leaves no trace.
            let is_empty = chain.deposit == BaseUnits(0) && ask.paid.kind == Kind::Voucher;
            if !is_empty && self.records.len() >= MOST_CHANNELS && !self.make_room() {
                let message =
                    "the server keeps as many channels as it can; ask another server, or later";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Err(Refusal::new(status, "too_many_channels", message));
            }
            if is_empty {
                let at = State {
                    channel: id,
                    standing: self.book.standing(id, config.salt),
                    chain,
                };
                let (total, deposit) = (ask.total, chain.deposit);
                let why = VoucherError::AboveDeposit { total, deposit }.into();
                return Err(ask.quote.refused(&ask.payee, why, Some(&at)));
            }
            let record = Record::new(ask.origin.run, config);
            self.records.insert(id, record);
        }
        let record = self.records.get_mut(&id).expect("it is there now");
        record.see(chain, now());
        let is_full = record.served.len() >= MOST_SERVED;
        // Others may have claimed what no record here knows.
        self.book.raise(id, config.salt, ceil(chain.claimed));
        if let Some(withdrawal) = chain.withdrawal {
            let amount = withdrawal.amount;
            return Err(self.refused(ask, VoucherError::Closing { amount }.into()));
        }
        if is_full {
            let message = "the answers of this channel are not claimed yet, and the server takes no more of them; ask again later";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal::new(status, "answers_not_claimed", message));
        }
        Ok(id)
    }

    /// Takes shares of an answer that its payer signed, and keeps what was said for juries; on the disk when this returns.
    pub(super) fn agree(
        &mut self,
        (agreement, signature): &(Agreement, Signature),
        said: &Said,
    ) -> Result<(), Refusal> {
        let id = agreement.channel;
        let record = self.records.get_mut(&id).ok_or_else(agreements::unknown)?;
        let shares = agreement.checked(signature, record.config.voucher_signer());
        let shares = shares.ok_or_else(|| {
            let message = "the signature is not by the key that signs the channel's vouchers, or of other things than the channel, \
                           its charge, the request's body, the answer's text and the shares; sign these with it";
            Refusal::new(StatusCode::FORBIDDEN, "agreement_not_the_payers", message)
        })?;
        let served = record.served_at(agreement.charged);
        let served = served.ok_or_else(agreements::unknown)?;
        if (served.request, served.response) != (said.request(), said.response()) {
            let message = "the channel was charged so much with another answer; give the id of the one that it paid for";
            let status = StatusCode::CONFLICT;
            return Err(Refusal::new(status, "agreement_of_another", message));
        }
        let kept = self.said.keep((id, agreement.charged), said);
        if kept.is_ok() {
            served.shares = Some(shares);
        }
        kept.and_then(|()| self.store(id)).map_err(|error| {
            tracing::error!("shares cannot be kept, so they are refused: {error}");
            let message = "the server cannot write the shares down; agree again later";
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "agreement_not_kept",
                message,
            )
        })
    }

    /// Whether the voucher is good when all that was deposited is there, and `more`.
    pub(super) fn covers(
        &mut self,
        ask: &Ask,
        offer: &Offer<ChannelId>,
        more: BaseUnits,
    ) -> Result<(), Refusal> {
        let id = offer.owner;
        let full = self.records[&id].full();
        let full = BaseUnits(full.0.saturating_add(more.0));
        if ask.paid.voucher.max > full {
            let (total, deposit) = (ask.total, full);
            return Err(self.refused(ask, VoucherError::AboveDeposit { total, deposit }.into()));
        }
        self.book.grant(id, full.to_micro_floor());
        let checked = self.book.check(offer, ask.quote.price);
        checked.map_err(|denied| self.denied(ask, &denied))
    }

    /// Notes a deposit that is to be filed; on the disk when this returns. False for one that was filed before.
    pub(super) fn plan(
        &mut self,
        ask: &Ask,
        chain: OnChain,
        (amount, authorization): (BaseUnits, Authorization),
    ) -> Result<bool, Refusal> {
        let id = self.enter(ask, chain)?;
        if self.records[&id].knows(&authorization) {
            return Ok(false);
        }
        self.covers(ask, &ask.offer(), amount)?;
        let pending: usize = self.records.values().map(|one| one.pending.len()).sum();
        let record = self.records.get_mut(&id).expect("it was entered");
        if pending >= MOST_PENDING || !record.takes_deposits() {
            let message = "too many deposits wait until the chain shows them; ask again later";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal {
                retry_after_s: Some(30),
                ..Refusal::new(status, "too_many_deposits", message)
            });
        }
        record.expect(amount, authorization);
        if let Err(error) = self.store(id) {
            let record = self.records.get_mut(&id).expect("it was entered");
            record.forget(&authorization.salt);
            tracing::error!("a deposit cannot be kept, so it is refused: {error}");
            return Err(quote::not_kept());
        }
        Ok(true)
    }

    /// What a channel may spend: what lies in it, and of what is filed as much as the server risks.
    pub(super) fn granted(&self, id: ChannelId, exposure: MicroOpen) -> MicroOpen {
        let risked = |record: &Record| record.filed_unseen().to_micro_floor().min(exposure).0;
        let others = self.records.iter().filter(|(other, _)| **other != id);
        let others: u128 = others.map(|(_, record)| risked(record)).sum();
        let room = exposure
            .0
            .saturating_mul(MOST_EXPOSED)
            .saturating_sub(others);
        let record = &self.records[&id];
        let here = record.seen.deposit.to_micro_floor().0;
        MicroOpen(here + risked(record).min(room))
    }

    /// Forgets a channel that holds nothing. Whether there was one.
    fn make_room(&mut self) -> bool {
        let over =
            (self.records.iter()).find(|(id, record)| record.is_over() && !self.book.is_open(**id));
        let Some(id) = over.map(|(id, _)| *id) else {
            return false;
        };
        self.records.remove(&id);
        self.book.accounts.remove(&id);
        if let Err(error) = self.folder.remove(&id.to_string()) {
            tracing::warn!("a channel that is over is not removed: {error}");
        }
        true
    }

    pub(super) fn store(&self, id: ChannelId) -> Result<(), DiskError> {
        let account = self.book.accounts.get(&id).cloned().unwrap_or_default();
        match self.records.get(&id) {
            Some(record) => self
                .folder
                .write(&id.to_string(), &RecordFile::of(record, &account)),
            None => Ok(()),
        }
    }

    /// What a channel stands at, its deposits on the way included.
    pub(super) fn state(&self, id: ChannelId, salt: Salt) -> State {
        let record = self.records.get(&id);
        let chain = record.map_or_else(OnChain::default, |record| OnChain {
            deposit: record.full(),
            ..record.seen
        });
        State {
            channel: id,
            standing: self.book.standing(id, salt),
            chain,
        }
    }

    fn refused(&self, ask: &Ask, why: Why) -> Refusal {
        let at = self.state(ask.paid.voucher.channel, ask.paid.config.salt);
        ask.quote.refused(&ask.payee, why, Some(&at))
    }

    pub(super) fn denied(&self, ask: &Ask, denied: &Denied) -> Refusal {
        let mut why = Why::from(*denied);
        if let Denied::Exhausted { price, left } = denied {
            why.code = "deposit_exhausted";
            why.message = format!(
                "the request may cost {price} micro-OPEN, and {left} are left of the channel's deposit; deposit more, or ask for \
                 fewer tokens"
            );
        }
        let at = self.state(ask.paid.voucher.channel, ask.paid.config.salt);
        quote::denied(&ask.quote, &ask.payee, (denied, why), &at)
    }
}

/// Whole micro-OPEN that are at least this.
fn ceil(amount: BaseUnits) -> MicroOpen {
    let floor = amount.to_micro_floor();
    MicroOpen(floor.0 + u128::from(amount.to_micro().is_err()))
}
