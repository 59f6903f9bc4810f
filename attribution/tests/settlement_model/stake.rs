//! Stake: it comes in, counts after a window, leaves after a cool-down, and can be slashed all the while.

use tributary_attribution::settlement::calls::{Sentence, StakeView};
use tributary_attribution::settlement::{Address, BalanceProof, BaseUnits, Keccak, Root};

use crate::model::{BURNED, Model, Signers};

#[derive(Clone, Default)]
pub(crate) struct Stake {
    pub(crate) counting: u128,
    maturing: u128,
    leaving: u128,
    mature_s: u64,
    leaves_s: u64,
    /// Amount, and when it may be carried out.
    sentence: Option<(u128, u64)>,
}

impl Stake {
    pub(crate) fn all(&self) -> u128 {
        self.counting + self.maturing + self.leaving
    }

    /// Takes up to `most`, what counts first.
    fn take(&mut self, most: u128) -> u128 {
        let mut left = most.min(self.all());
        let taken = left;
        for part in [&mut self.counting, &mut self.maturing, &mut self.leaving] {
            let gone = left.min(*part);
            *part -= gone;
            left -= gone;
        }
        taken
    }

    fn activate(&mut self) {
        self.counting += std::mem::take(&mut self.maturing);
    }

    pub(crate) fn view(&self) -> StakeView {
        let sentence = |(amount, due_s)| Sentence {
            amount: BaseUnits(amount),
            due_s,
        };
        StakeView {
            counting: BaseUnits(self.counting),
            maturing: BaseUnits(self.maturing),
            leaving: BaseUnits(self.leaving),
            mature_s: self.mature_s,
            leaves_s: self.leaves_s,
            sentence: self.sentence.map(sentence),
        }
    }
}

/// Stake.
impl Model {
    pub(crate) fn bond(&mut self, from: Address, run: usize, amount: u128) -> Option<()> {
        self.pull(from, amount)?;
        let its = &mut self.runs[run];
        let stake = its.stakes.entry(from).or_default();
        if self.now_s >= stake.mature_s {
            stake.activate();
        }
        stake.maturing += amount;
        stake.mature_s = self.now_s + its.terms.window_s;
        (amount > 0).then_some(())
    }

    pub(crate) fn activate(&mut self, run: usize, account: Address) -> Option<()> {
        let stake = self.runs[run].stakes.get_mut(&account)?;
        let is_due = stake.maturing > 0 && self.now_s >= stake.mature_s;
        stake.activate();
        is_due.then_some(())
    }

    pub(crate) fn unbond(&mut self, from: Address, run: usize, amount: u128) -> Option<()> {
        let its = &mut self.runs[run];
        let stake = its.stakes.get_mut(&from)?;
        let young = amount.min(stake.maturing);
        stake.maturing -= young;
        stake.counting = stake.counting.checked_sub(amount - young)?;
        stake.leaving += amount;
        stake.leaves_s = self.now_s + its.terms.cooldown_s;
        (amount > 0).then_some(())
    }

    pub(crate) fn withdraw(&mut self, from: Address, run: usize) -> Option<()> {
        if self.runs[run].stakes.get(&from)?.sentence.is_some() {
            self.execute(run, from)?;
        }
        let stake = self.runs[run].stakes.get_mut(&from)?;
        let amount = std::mem::take(&mut stake.leaving);
        if amount == 0 || self.now_s < stake.leaves_s {
            return None;
        }
        self.pay(from, amount)
    }

    /// It takes more than two thirds of the stake of the others, and more than a third of all.
    pub(crate) fn slash(
        &mut self,
        run: usize,
        slash: (Address, u128, Keccak),
        signers: &Signers,
    ) -> Option<()> {
        let (account, amount, digest) = slash;
        if self.runs[run].stakes.get(&account)?.sentence.is_some() {
            self.execute(run, account)?;
        }
        let its = &mut self.runs[run];
        let all = its.counting();
        let signed = its.signed(signers, Some(account));
        let stake = its.stakes.get_mut(&account)?;
        let enough = 3 * signed > 2 * (all - stake.counting) && 3 * signed > all;
        if amount == 0 || stake.all() == 0 || !signers.sound || !enough {
            return None;
        }
        stake.sentence = Some((amount, self.now_s + its.terms.window_s));
        its.slashes.insert(digest).then_some(())
    }

    pub(crate) fn execute(&mut self, run: usize, account: Address) -> Option<()> {
        let stake = self.runs[run].stakes.get_mut(&account)?;
        let (amount, due_s) = stake.sentence.take()?;
        if self.now_s < due_s {
            return None;
        }
        let taken = stake.take(amount);
        self.pay(BURNED, taken)
    }
}

/// Slashing from bytes.
impl Model {
    /// A tenth of what a proof takes to whoever brought it, the rest burned.
    fn pay_prover(&mut self, prover: Address, taken: u128) -> Option<()> {
        self.pay(prover, taken / 10)?;
        self.pay(BURNED, taken - taken / 10)
    }

    pub(crate) fn fork(
        &mut self,
        from: Address,
        roots: &[Root; 2],
        signers: [Address; 2],
    ) -> Option<()> {
        let [one, other] = roots;
        let same = one.run == other.run && one.height == other.height && one != other;
        if !same || signers[0] != signers[1] {
            return None;
        }
        let mut runs = self.runs.iter_mut();
        let run = runs.find(|run| run.terms.key() == one.run)?;
        let taken = run.stakes.get_mut(&signers[0])?.take(u128::MAX);
        if taken == 0 {
            return None;
        }
        self.pay_prover(from, taken)
    }

    /// `shown`: leaves of `root` that prove that it lowers or drops the account of the accepted leaf.
    pub(crate) fn lowered(
        &mut self,
        from: Address,
        run: usize,
        root: &Root,
        signers: &Signers,
        accepted: &BalanceProof,
        shown: &[BalanceProof],
    ) -> Option<()> {
        self.advance(run);
        let its = &self.runs[run];
        let digest = root.digest(&self.settlement);
        let pending = its
            .pending
            .as_ref()
            .map(|one| one.posted.root.digest(&self.settlement));
        let is_pending = pending == Some(digest);
        let standing = its.accepted?.root;
        if root.height <= standing.height || !(is_pending || its.dropped.contains(&digest)) {
            return None;
        }
        accepted.check(&standing.balances, standing.total).ok()?;
        for leaf in shown {
            leaf.check(&root.balances, root.total).ok()?;
        }
        if !signers.sound || !is_lower(accepted, shown) {
            return None;
        }
        if is_pending {
            let bond = self.runs[run].void(&self.settlement);
            self.credit(bond);
        }
        let stakes = &mut self.runs[run].stakes;
        let slash = |one: &Address| stakes.get_mut(one).map_or(0, |stake| stake.take(u128::MAX));
        let taken: u128 = signers.accounts.iter().map(slash).sum();
        if taken == 0 {
            return is_pending.then_some(());
        }
        self.pay_prover(from, taken)
    }
}

/// Every tree here begins and ends with a leaf of nobody, so an account that is missing stands between two.
fn is_lower(accepted: &BalanceProof, shown: &[BalanceProof]) -> bool {
    let account = accepted.address;
    if accepted.balance.0 == 0 {
        return false;
    }
    match shown {
        [leaf] => leaf.address == account && leaf.balance < accepted.balance,
        [below, above] => {
            above.index == below.index + 1 && below.address < account && account < above.address
        }
        _ => false,
    }
}
