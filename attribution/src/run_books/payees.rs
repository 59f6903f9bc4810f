//! Where each peer is paid, and what each account is paid all together.
//!
//! Evaluators' lines are held for as long as their sheets can be disputed ([`super::disputes`]), and no longer than to the
//! closing height.
//!
//! What a peer earns before it has said where waits for its first bind. A later bind counts for what is earned
//! [`BIND_COOLDOWN`] heights on: whoever steals a peer's key can redirect nothing that was earned, and the owner has the
//! time to see it and bind again.
//!
//! The closing root promises the last of the deposit. What a peer earned of it and has not said by then where to pay goes back
//! to the sponsor; a root that promised it later would be refused, and everybody's fees with it.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::id::{MicroOpen, PeerId, Round};

use super::disputes::DISPUTE_HEIGHTS;
use super::line::{Capacity, StatementLine};
use crate::settlement::{Address, LineSum};

/// Heights until a changed account counts.
pub const BIND_COOLDOWN: u32 = 16;

#[derive(Clone, Copy)]
struct Binding {
    account: Address,
    /// What replaces it, and from which height on.
    next: Option<(Address, Round)>,
}

#[derive(Clone, Default)]
pub(super) struct Payees {
    bound: BTreeMap<PeerId, Binding>,
    /// Whose stake an account's is: the peer that bound it first, as long as it does.
    staked_by: BTreeMap<Address, PeerId>,
    paid: BTreeMap<Address, MicroOpen>,
    lines: Vec<StatementLine>,
    sum: LineSum,
    /// The part of what is paid that fees cover.
    from_fees: MicroOpen,
    /// Lines of who has not said where it is paid, or too late; their account is zero.
    waiting: BTreeMap<PeerId, Vec<StatementLine>>,
    /// Evaluators' lines, and from which height on they are paid. The account is zero where none was bound.
    held: Vec<(Round, StatementLine)>,
    /// The height.
    now: Round,
    /// The closing root is made.
    is_closed: bool,
}

impl Payees {
    /// A height begins.
    pub(super) fn begin(&mut self, round: Round) {
        self.now = round;
        let mut moved = Vec::new();
        for (peer, binding) in &mut self.bound {
            if let Some((account, from)) = binding.next
                && round >= from
            {
                *binding = Binding {
                    account,
                    next: None,
                };
                moved.push((*peer, account));
            }
        }
        for (peer, account) in moved {
            self.stake(peer, account);
        }
    }

    /// An account's stake is one peer's, however many are paid there, or it would count for each.
    fn stake(&mut self, peer: PeerId, account: Address) {
        let holder = self.staked_by.get(&account);
        if holder.is_none_or(|holder| self.account(holder) != Some(account)) {
            self.staked_by.insert(account, peer);
        }
    }

    /// Each peer with the account whose stake is its own, ordered by peer.
    pub(super) fn stakers(&self) -> impl Iterator<Item = (PeerId, Address)> {
        let own = |(peer, account): &(PeerId, Address)| self.staked_by.get(account) == Some(peer);
        self.bound().filter(own)
    }

    /// A peer says at a height where it is paid.
    pub(super) fn bind(&mut self, peer: PeerId, account: Address, round: Round) {
        if let Some(binding) = self.bound.get_mut(&peer) {
            let from = Round(round.0.saturating_add(BIND_COOLDOWN));
            binding.next = (binding.account != account).then_some((account, from));
            return;
        }
        let binding = Binding {
            account,
            next: None,
        };
        self.bound.insert(peer, binding);
        self.stake(peer, account);
        let waited = self.waiting.remove(&peer).unwrap_or_default();
        let (payable, late): (Vec<_>, Vec<_>) =
            (waited.into_iter()).partition(|line| !self.is_closed || line.capacity.is_of_fees());
        for line in payable {
            self.push(StatementLine { account, ..line });
        }
        if !late.is_empty() {
            self.waiting.insert(peer, late);
        }
    }

    /// The closing root is made: from here on nothing more of the deposit is paid.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// A peer earns something.
    pub(super) fn earn(
        &mut self,
        peer: PeerId,
        (round, capacity): (Round, Capacity),
        amount: MicroOpen,
    ) {
        assert!(
            !self.is_closed || capacity.is_of_fees(),
            "rounds pay no later than at the closing height"
        );
        let account = self.account(&peer);
        let line = StatementLine {
            round,
            peer,
            capacity,
            amount,
            account: account.unwrap_or_default(),
        };
        if capacity == Capacity::Evaluator {
            let until = Round(self.now.0.saturating_add(DISPUTE_HEIGHTS));
            return self.held.push((until, line));
        }
        self.pay(line);
    }

    fn pay(&mut self, line: StatementLine) {
        match line.account == Address::ZERO {
            false => self.push(line),
            true => self.waiting.entry(line.peer).or_default().push(line),
        }
    }

    /// Pays held lines whose time has come and that `is_disputed` does not name, at the closing height all.
    pub(super) fn release(
        &mut self,
        is_closing: bool,
        is_disputed: impl Fn(&PeerId, Round) -> bool,
    ) {
        let now = self.now;
        let (due, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(until, line)| {
                is_closing || *until <= now && !is_disputed(&line.peer, line.round)
            });
        self.held = held;
        let due: Vec<(Round, StatementLine)> = due;
        for (_, mut line) in due {
            if line.account == Address::ZERO {
                line.account = self.account(&line.peer).unwrap_or_default();
            }
            self.pay(line);
        }
    }

    /// Takes a held line back; how much it was, if it was still held.
    pub(super) fn forfeit(&mut self, evaluator: &PeerId, round: Round) -> Option<MicroOpen> {
        let is_it = |line: &StatementLine| (&line.peer, line.round) == (evaluator, round);
        let at = self.held.iter().position(|(_, line)| is_it(line))?;
        Some(self.held.remove(at).1.amount)
    }

    /// Whether a line waits until its sheet can no longer be disputed.
    pub(super) fn is_held(&self, peer: &PeerId, round: Round, capacity: Capacity) -> bool {
        let mut held = self.held.iter();
        held.any(|(_, line)| (&line.peer, line.round, line.capacity) == (peer, round, capacity))
    }

    /// What all held lines come to.
    pub(super) fn held(&self) -> MicroOpen {
        MicroOpen(self.held.iter().map(|(_, line)| line.amount.0).sum())
    }

    fn push(&mut self, line: StatementLine) {
        let paid = self.paid.entry(line.account).or_default();
        // All that is ever paid was deposited or swept: base units of the whole supply fit 128 bits a million times over.
        paid.0 += line.amount.0;
        if line.capacity.is_of_fees() {
            self.from_fees.0 += line.amount.0;
        }
        self.sum.push(&line.encode());
        self.lines.push(line);
    }

    pub(super) fn account(&self, peer: &PeerId) -> Option<Address> {
        self.bound.get(peer).map(|binding| binding.account)
    }

    /// Where each peer is paid now, ordered by peer.
    pub(super) fn bound(&self) -> impl Iterator<Item = (PeerId, Address)> {
        self.bound
            .iter()
            .map(|(peer, binding)| (*peer, binding.account))
    }

    /// Every account that a peer is or was paid at, or is to be.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Address> {
        let bound = self.bound.values();
        let named = bound.flat_map(|b| b.next.map(|(next, _)| next).into_iter().chain([b.account]));
        let all: BTreeSet<Address> = named.chain(self.paid.keys().copied()).collect();
        all.into_iter()
    }

    pub(super) fn paid(&self) -> &BTreeMap<Address, MicroOpen> {
        &self.paid
    }

    /// The part of what is paid that fees cover. What burns of fees is nobody's, and in no root.
    pub(super) fn of_fees(&self) -> MicroOpen {
        self.from_fees
    }

    /// Whether a peer that is bound earned something of the deposit and bound too late to be paid for it.
    pub(super) fn is_late(&self, peer: &PeerId, round: Round, capacity: Capacity) -> bool {
        let mut waiting = self.waiting.get(peer).into_iter().flatten();
        self.bound.contains_key(peer)
            && waiting.any(|line| (line.round, line.capacity) == (round, capacity))
    }

    pub(super) fn lines(&self) -> &[StatementLine] {
        &self.lines
    }

    pub(super) fn line_sum(&self) -> &LineSum {
        &self.sum
    }

    pub(super) fn unbound(&self) -> MicroOpen {
        let waiting = self.waiting.values().flatten();
        MicroOpen(waiting.map(|line| line.amount.0).sum())
    }
}
