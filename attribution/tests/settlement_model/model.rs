//! What `Settlement` and its token promise, written down once more and plainly: every rule with the sentence of
//! `contracts/README.md` that it follows from.
//!
//! A function changes the model and returns `None` where the contract has to refuse; the driver then throws the changed copy
//! away, as the contract undoes everything. Errors are not told apart: that a call is refused is the promise.

use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::settlement::calls::{PendingRoot, RootView, RunView};
use tributary_attribution::settlement::{
    Address, BalanceProof, BaseUnits, Deployment, Keccak, Root, Terms,
};

use crate::channels::Channels;
use crate::stake::Stake;

/// Where burned tokens go.
pub(crate) const BURNED: Address = Address([
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad,
]);

/// A balance of the token for each address.
#[derive(Clone, Default)]
pub(crate) struct Purse {
    pub(crate) held: BTreeMap<Address, u128>,
    pub(crate) minted: u128,
}

impl Purse {
    pub(crate) fn of(&self, account: Address) -> u128 {
        self.held.get(&account).copied().unwrap_or_default()
    }

    pub(crate) fn mint(&mut self, to: Address, amount: u128) {
        self.minted += amount;
        *self.held.entry(to).or_default() += amount;
    }

    pub(crate) fn send(&mut self, from: Address, to: Address, amount: u128) -> Option<()> {
        let left = self.of(from).checked_sub(amount)?;
        self.held.insert(from, left);
        *self.held.entry(to).or_default() += amount;
        Some(())
    }
}

/// A root that was posted.
#[derive(Clone, Copy)]
pub(crate) struct Posted {
    pub(crate) root: Root,
    time_s: u64,
}

#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) posted: Posted,
    pub(crate) due_s: u64,
    /// Challenger and bond, until somebody answers.
    pub(crate) challenge: Option<(Address, u128)>,
    confirmed: bool,
}

#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) terms: Terms,
    pub(crate) till: Address,
    pub(crate) deposited: u128,
    pub(crate) fees: u128,
    pub(crate) paid: u128,
    pub(crate) reclaimed: u128,
    pub(crate) accepted: Option<Posted>,
    /// A closing root was accepted, which stays so: no root promises any more of the deposit.
    pub(crate) closed: bool,
    pub(crate) pending: Option<Pending>,
    /// When the place of the pending root was taken while free.
    since_s: u64,
    /// From when the rate releases: the first deposit, then the accepted root.
    pub(crate) clock_s: Option<u64>,
    pub(crate) halted_s: Option<u64>,
    pub(crate) stakes: BTreeMap<Address, Stake>,
    pub(crate) claimed: BTreeMap<Address, u128>,
    pub(crate) dropped: BTreeSet<Keccak>,
    pub(crate) slashes: BTreeSet<Keccak>,
}

/// Which signatures a call carries.
#[derive(Clone, Debug)]
pub(crate) struct Signers {
    pub(crate) accounts: Vec<Address>,
    /// Ascending, and over what the call says. Signatures of anything else are nobody's with stake.
    pub(crate) sound: bool,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) now_s: u64,
    pub(crate) purse: Purse,
    pub(crate) settlement: Deployment,
    pub(crate) runs: Vec<Run>,
    pub(crate) credits: BTreeMap<Address, u128>,
    pub(crate) channels: Channels,
}

impl Run {
    pub(crate) fn new(terms: Terms, till: Address) -> Self {
        Self {
            terms,
            till,
            deposited: 0,
            fees: 0,
            paid: 0,
            reclaimed: 0,
            accepted: None,
            closed: false,
            pending: None,
            since_s: 0,
            clock_s: None,
            halted_s: None,
            stakes: BTreeMap::new(),
            claimed: BTreeMap::new(),
            dropped: BTreeSet::new(),
            slashes: BTreeSet::new(),
        }
    }

    pub(crate) fn counting(&self) -> u128 {
        self.stakes.values().map(|stake| stake.counting).sum()
    }

    pub(crate) fn total(&self) -> u128 {
        self.accepted.map_or(0, |posted| posted.root.total.0)
    }

    pub(crate) fn height(&self) -> u64 {
        self.accepted.map_or(0, |posted| posted.root.height)
    }

    /// The part of the total that the deposit covers.
    pub(crate) fn of_deposit(&self) -> u128 {
        self.total() - self.of_fees()
    }

    /// When the sponsor ended it, unless it was closed after that: then it goes on with fees.
    pub(crate) fn ended_s(&self) -> Option<u64> {
        self.halted_s.filter(|_| !self.closed)
    }

    /// The part of the total that fees cover, as its root says.
    pub(crate) fn of_fees(&self) -> u128 {
        self.accepted.map_or(0, |posted| posted.root.fees.0)
    }

    /// Fees that no root has promised.
    pub(crate) fn free_fees(&self) -> u128 {
        self.fees - self.of_fees()
    }

    /// By how much what a root promises of the deposit may rise now: by what the rate released, until the run is closed.
    pub(crate) fn room(&self, now_s: u64) -> u128 {
        if self.closed {
            return 0;
        }
        let seconds = self.clock_s.map_or(0, |clock_s| now_s - clock_s);
        let released = self.terms.rate_per_s.0 * u128::from(seconds);
        released.min(self.deposited - self.of_deposit())
    }

    /// What the run still holds for accounts and sponsor.
    pub(crate) fn inside(&self) -> u128 {
        self.deposited + self.fees - self.paid - self.reclaimed
    }

    pub(crate) fn signed(&self, signers: &Signers, except: Option<Address>) -> u128 {
        let accounts = signers.accounts.iter().filter(|one| Some(**one) != except);
        let stakes = accounts.filter_map(|one| self.stakes.get(one));
        stakes.map(|stake| stake.counting).sum()
    }

    /// More than two thirds of what counts, and at least what the terms ask for.
    fn has_quorum(&self, signers: &Signers) -> bool {
        let all = self.counting();
        signers.sound && all >= self.terms.min_stake.0 && 3 * self.signed(signers, None) > 2 * all
    }

    pub(crate) fn void(&mut self, settlement: &Deployment) -> Option<(Address, u128)> {
        let pending = self.pending.take().expect("a pending root");
        self.dropped.insert(pending.posted.root.digest(settlement));
        pending.challenge
    }

    /// What time has decided: accepted, or void if a challenge was not answered. Returns the bond that came back.
    fn advance(&mut self, now_s: u64, settlement: &Deployment) -> Option<(Address, u128)> {
        let pending = self.pending.as_ref().filter(|one| now_s >= one.due_s)?;
        if pending.challenge.is_some() {
            return self.void(settlement);
        }
        self.clock_s = Some(pending.posted.time_s);
        self.accepted = Some(pending.posted);
        self.closed |= pending.posted.root.closed;
        self.pending = None;
        None
    }

    /// As readers see it, whether or not a call has written it down.
    pub(crate) fn view(&self, now_s: u64, settlement: &Deployment) -> RunView {
        let mut run = self.clone();
        run.advance(now_s, settlement);
        let root = |posted: &Posted| RootView {
            height: posted.root.height,
            balances: posted.root.balances,
            total: posted.root.total,
            from_fees: posted.root.fees,
            time_s: posted.time_s,
            closed: posted.root.closed,
        };
        let opened = RootView {
            time_s: run.clock_s.unwrap_or_default(),
            ..RootView::default()
        };
        let pending = run.pending.as_ref().map(|pending| PendingRoot {
            root: root(&pending.posted),
            digest: pending.posted.root.digest(settlement),
            due_s: pending.due_s,
            challenger: pending.challenge.map(|(who, _)| who),
            confirmed: pending.confirmed,
        });
        RunView {
            deposited: BaseUnits(run.deposited),
            fees: BaseUnits(run.fees),
            paid: BaseUnits(run.paid),
            reclaimed: BaseUnits(run.reclaimed),
            stake: BaseUnits(run.counting()),
            halted_s: run.halted_s,
            accepted: RootView {
                closed: run.closed,
                ..run.accepted.as_ref().map_or(opened, root)
            },
            pending,
        }
    }
}

/// Calls that begin by writing down what time has decided.
impl Model {
    pub(crate) fn credit(&mut self, bond: Option<(Address, u128)>) {
        if let Some((challenger, amount)) = bond.filter(|(_, amount)| *amount > 0) {
            *self.credits.entry(challenger).or_default() += amount;
        }
    }

    pub(crate) fn advance(&mut self, run: usize) {
        let bond = self.runs[run].advance(self.now_s, &self.settlement);
        self.credit(bond);
    }

    pub(crate) fn pull(&mut self, from: Address, amount: u128) -> Option<()> {
        self.purse.send(from, self.settlement.contract, amount)
    }

    pub(crate) fn pay(&mut self, to: Address, amount: u128) -> Option<()> {
        self.purse.send(self.settlement.contract, to, amount)
    }

    pub(crate) fn deposit(&mut self, from: Address, run: usize, amount: u128) -> Option<()> {
        self.advance(run);
        let its = &self.runs[run];
        if amount == 0 || its.closed || its.halted_s.is_some() {
            return None;
        }
        self.pull(from, amount)?;
        let its = &mut self.runs[run];
        its.clock_s.get_or_insert(self.now_s);
        its.deposited += amount;
        Some(())
    }

    pub(crate) fn sweep(&mut self, run: usize) -> Option<()> {
        let till = self.runs[run].till;
        let amount = self.purse.of(till);
        self.runs[run].fees += amount;
        self.pull(till, amount)?;
        (amount > 0).then_some(())
    }

    pub(crate) fn post(&mut self, run: usize, root: &Root, signers: &Signers) -> Option<()> {
        self.advance(run);
        let (now_s, settlement) = (self.now_s, self.settlement);
        let its = &mut self.runs[run];
        let window_s = its.terms.window_s;
        let over = its
            .ended_s()
            .is_some_and(|halted_s| now_s >= halted_s + window_s);
        if root.run != its.terms.key() || over {
            return None;
        }
        match &its.pending {
            // Once its place has been taken for a window, it is not replaced; in a halted run, the last window is the limit.
            Some(pending) => {
                let fixed = its.ended_s().is_none() && now_s >= its.since_s + window_s;
                let higher = root.height > pending.posted.root.height;
                if pending.challenge.is_some() || !higher || fixed {
                    return None;
                }
                its.void(&settlement);
            }
            None if root.height <= its.height() => return None,
            None => its.since_s = now_s,
        }
        // Both parts of what it promises never fall: fees rise by what came, the deposit's by what the rate released.
        let fees = root.fees.0.checked_sub(its.of_fees())?;
        let of_deposit = root.total.0.checked_sub(root.fees.0)?;
        let rise = of_deposit.checked_sub(its.of_deposit())?;
        if fees > its.free_fees() || rise > its.room(now_s) || !its.has_quorum(signers) {
            return None;
        }
        let posted = Posted {
            root: *root,
            time_s: now_s,
        };
        its.pending = Some(Pending {
            posted,
            due_s: now_s + window_s,
            challenge: None,
            confirmed: false,
        });
        Some(())
    }

    pub(crate) fn challenge(&mut self, from: Address, run: usize) -> Option<()> {
        self.advance(run);
        let its = &mut self.runs[run];
        let nobody = its.ended_s().is_some() && its.terms.arbiter.is_none();
        let pending = its.pending.as_mut()?;
        if pending.challenge.is_some() || pending.confirmed || nobody {
            return None;
        }
        let bond = its.terms.challenge_bond.0;
        pending.challenge = Some((from, bond));
        pending.due_s = self.now_s + its.terms.window_s;
        self.pull(from, bond)
    }

    fn uphold(&mut self, run: usize) -> Option<()> {
        let its = &mut self.runs[run];
        let pending = its.pending.as_mut()?;
        let (_, bond) = pending.challenge.take()?;
        // It waits for the rest of its own window.
        pending.due_s = self.now_s.max(pending.posted.time_s + its.terms.window_s);
        pending.confirmed = true;
        self.pay(BURNED, bond)
    }

    pub(crate) fn confirm(&mut self, run: usize, root: &Root, signers: &Signers) -> Option<()> {
        self.advance(run);
        let its = &self.runs[run];
        let pending = its.pending.as_ref()?;
        let same = pending.posted.root.digest(&self.settlement) == root.digest(&self.settlement);
        if its.terms.arbiter.is_some() || !same || !its.has_quorum(signers) {
            return None;
        }
        self.uphold(run)
    }

    pub(crate) fn decide(&mut self, from: Address, run: usize, uphold: bool) -> Option<()> {
        self.advance(run);
        let its = &mut self.runs[run];
        its.pending.as_ref()?.challenge?;
        if its.terms.arbiter != Some(from) {
            return None;
        }
        if uphold {
            return self.uphold(run);
        }
        let bond = its.void(&self.settlement);
        self.credit(bond);
        Some(())
    }

    /// One payment; nothing is wrapped here, so the native coin is never paid.
    pub(crate) fn claim(&mut self, run: usize, proof: &BalanceProof, unwrap: bool) -> Option<()> {
        self.advance(run);
        let its = &mut self.runs[run];
        let root = its.accepted?.root;
        proof.check(&root.balances, root.total).ok()?;
        let before = its.claimed.entry(proof.address).or_default();
        let due = proof.balance.0.saturating_sub(*before);
        let amount = due.min(root.total.0 - its.paid);
        *before += amount;
        its.paid += amount;
        if unwrap && amount > 0 {
            return None;
        }
        self.pay(proof.address, amount)
    }

    pub(crate) fn halt(&mut self, from: Address, run: usize) -> Option<()> {
        self.advance(run);
        let now_s = self.now_s;
        let its = &mut self.runs[run];
        let due_s = its.clock_s? + its.terms.halt_s;
        if from != its.terms.sponsor || its.closed || its.halted_s.is_some() || now_s < due_s {
            return None;
        }
        its.halted_s = Some(now_s);
        if its.terms.arbiter.is_some() {
            return Some(());
        }
        // A challenge that nobody would answer any more is lifted.
        let window_s = its.terms.window_s;
        let bond = its.pending.as_mut().and_then(|pending| {
            let bond = pending.challenge.take()?;
            pending.due_s = now_s + window_s;
            Some(bond)
        });
        self.credit(bond);
        Some(())
    }

    pub(crate) fn reclaim(&mut self, run: usize, unwrap: bool) -> Option<()> {
        self.advance(run);
        let its = &mut self.runs[run];
        let window_s = its.terms.window_s;
        let over = its
            .ended_s()
            .is_some_and(|halted_s| self.now_s >= halted_s + window_s);
        let ended = its.closed || (over && its.pending.is_none());
        // Fees of a closed run are its members', whether or not a root promised them yet.
        let left = match its.closed {
            true => its.deposited - its.of_deposit(),
            false => its.deposited + its.fees - its.total(),
        };
        let amount = left - its.reclaimed;
        if !ended || amount == 0 || unwrap {
            return None;
        }
        its.reclaimed += amount;
        let sponsor = its.terms.sponsor;
        self.pay(sponsor, amount)
    }

    pub(crate) fn collect(&mut self, account: Address) -> Option<()> {
        let amount = self.credits.remove(&account).filter(|amount| *amount > 0)?;
        self.pay(account, amount)
    }
}
