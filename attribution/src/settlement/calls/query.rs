//! What contracts are asked without a transaction, and what they answer.

use alloy_primitives::U256;
use alloy_primitives::aliases::U40;
use alloy_sol_types::{SolCall, SolValue};

use super::Call;
use crate::settlement::abi::sol::{self, ISettlement as I};
use crate::settlement::{Address, BaseUnits, Keccak};

/// A question to a contract. It changes nothing and costs nothing (`eth_call`).
#[derive(Clone, Debug)]
pub struct Query<T> {
    /// What the contract is sent.
    pub call: Call,
    read: fn(&[u8]) -> Option<T>,
}

/// An answer is none of the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{contract} answered {bytes} bytes that do not fit the question; check that Tributary's contract is deployed there"
)]
pub struct AnswerError {
    /// What was asked.
    pub contract: Address,
    /// How long the answer is.
    pub bytes: usize,
}

impl<T> Query<T> {
    pub(crate) fn of(to: Address, call: &impl SolCall, read: fn(&[u8]) -> Option<T>) -> Self {
        let call = Call::new(to, call);
        Self { call, read }
    }

    /// Reads what the contract answered.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn decode(&self, answer: &[u8]) -> Result<T, AnswerError> {
        (self.read)(answer).ok_or(AnswerError {
            contract: self.call.to,
            bytes: answer.len(),
        })
    }
}

/// A root as the contract has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootView {
    /// Its height; 0: there is none.
    pub height: u64,
    /// Hash of the tree of balances.
    pub balances: Keccak,
    /// Everything that it promises.
    pub total: BaseUnits,
    /// The part of it that fees cover, as it was signed.
    pub from_fees: BaseUnits,
    /// When it was posted, seconds; for the accepted root of a run without any, when the first deposit came.
    pub time_s: u64,
    /// Of the accepted root: whether it or one before closed the run. Of the pending one: whether it says so.
    pub closed: bool,
}

/// A root that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRoot {
    /// The root.
    pub root: RootView,
    /// What members signed.
    pub digest: Keccak,
    /// When it is accepted, or void if it is challenged: seconds.
    pub due_s: u64,
    /// Who challenged it, while nobody has answered.
    pub challenger: Option<Address>,
    /// Whether a challenge was answered.
    pub confirmed: bool,
}

/// A run as the contract has it, with what time has decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunView {
    /// Everything deposited.
    pub deposited: BaseUnits,
    /// Everything swept from the till.
    pub fees: BaseUnits,
    /// Everything paid to accounts.
    pub paid: BaseUnits,
    /// Everything that went back to the sponsor.
    pub reclaimed: BaseUnits,
    /// Stake that counts.
    pub stake: BaseUnits,
    /// When the sponsor halted it, seconds.
    pub halted_s: Option<u64>,
    /// The accepted root.
    pub accepted: RootView,
    /// The root that waits.
    pub pending: Option<PendingRoot>,
}

/// A slash that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// How much it takes at most.
    pub amount: BaseUnits,
    /// When it may be carried out, seconds.
    pub due_s: u64,
}

/// Stake of one account in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StakeView {
    /// What counts for roots.
    pub counting: BaseUnits,
    /// What does not count yet.
    pub maturing: BaseUnits,
    /// What waits to leave.
    pub leaving: BaseUnits,
    /// When the maturing part may be activated, seconds.
    pub mature_s: u64,
    /// When the leaving part may be withdrawn, seconds.
    pub leaves_s: u64,
    /// The slash that waits.
    pub sentence: Option<Sentence>,
}

impl StakeView {
    /// All of it: what a slash can take.
    pub fn all(&self) -> BaseUnits {
        let parts = [self.counting, self.maturing, self.leaving];
        BaseUnits(parts.iter().fold(0, |sum, part| sum.saturating_add(part.0)))
    }
}

/// An amount; beyond 128 bits, all 128.
pub(crate) fn units(answer: &[u8]) -> Option<BaseUnits> {
    let amount = U256::abi_decode_validate(answer).ok()?;
    Some(BaseUnits(amount.saturating_to()))
}

pub(super) fn truth(answer: &[u8]) -> Option<bool> {
    bool::abi_decode_validate(answer).ok()
}

pub(super) fn address(answer: &[u8]) -> Option<Address> {
    let address = alloy_primitives::Address::abi_decode_validate(answer).ok()?;
    Some(Address(address.into()))
}

pub(super) fn run(answer: &[u8]) -> Option<RunView> {
    let view = I::runsCall::abi_decode_returns_validate(answer).ok()?;
    let pending = PendingRoot {
        root: root(&view.pending),
        digest: Keccak(view.digest.0),
        due_s: seconds(view.due),
        challenger: view.challenged.then(|| Address(view.challenger.into())),
        confirmed: view.confirmed,
    };
    let halted_s = seconds(view.haltedAt);
    Some(RunView {
        deposited: BaseUnits(view.deposited),
        fees: BaseUnits(view.fees),
        paid: BaseUnits(view.paid),
        reclaimed: BaseUnits(view.reclaimed),
        stake: BaseUnits(view.stake),
        halted_s: (halted_s != 0).then_some(halted_s),
        accepted: root(&view.accepted),
        pending: (view.pending.height != 0).then_some(pending),
    })
}

fn root(view: &sol::RootView) -> RootView {
    RootView {
        height: view.height,
        balances: Keccak(view.balances.0),
        total: BaseUnits(view.total),
        from_fees: BaseUnits(view.fromFees),
        time_s: seconds(view.time),
        closed: view.closed,
    }
}

pub(super) fn stake(answer: &[u8]) -> Option<StakeView> {
    let both = I::stakesCall::abi_decode_returns_validate(answer).ok()?;
    let (stake, sentence) = (both._0, both._1);
    let waits = Sentence {
        amount: BaseUnits(sentence.amount),
        due_s: seconds(sentence.due),
    };
    Some(StakeView {
        counting: BaseUnits(stake.counting),
        maturing: BaseUnits(stake.maturing),
        leaving: BaseUnits(stake.leaving),
        mature_s: seconds(stake.matureAt),
        leaves_s: seconds(stake.leavesAt),
        sentence: (waits.amount.0 != 0).then_some(waits),
    })
}

pub(crate) fn seconds(time: U40) -> u64 {
    time.to()
}
