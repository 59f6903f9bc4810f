//! What a chain is sent, and what it is asked about runs: the bytes of every call of `Settlement` and its token, with our
//! types. Those of channels stand beside the vouchers.
//!
//! ```text
//!   Settlement(address).post(..) ──► Call { to, data } ──► a transaction of any chain
//!   Settlement(address).runs(..) ──► Query { call, .. } ──► eth_call ──► decode ──► RunView
//! ```
//!
//! Nothing is sent or signed here. What a contract answers when it does nothing is [`super::Refused`]. Amounts are base
//! units, times are seconds of the chain's clock. Who may call what, and when, stands in `contracts/README.md`.

pub(crate) mod query;

use alloy_primitives::U256;
use alloy_sol_types::{SolCall, SolValue};

use super::abi::sol::{self, ISettlement as I, IToken};
use super::abi::steps;
use super::{
    Address, BalanceProof, BaseUnits, Keccak, Key, Root, Signature, SignatureError, Slash, Terms,
};

pub use query::{AnswerError, PendingRoot, Query, RootView, RunView, Sentence, StakeView};

/// A call of a contract: what a transaction carries, but for its sender and its fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// Function and arguments.
    pub data: Vec<u8>,
}

impl Call {
    pub(crate) fn new(to: Address, call: &impl SolCall) -> Self {
        let data = call.abi_encode();
        Self { to, data }
    }
}

/// Signatures of one statement in the order in which contracts take them: ascending by signer, each signer once. It costs
/// one recovery of a key each.
///
/// # Errors
/// [`SignatureError::NoKey`].
pub fn ascending(
    digest: &Keccak,
    signatures: &[Signature],
) -> Result<Vec<Signature>, SignatureError> {
    let signed = signatures
        .iter()
        .map(|one| Ok((one.recover(digest)?, *one)));
    let mut signed = signed.collect::<Result<Vec<_>, _>>()?;
    signed.sort();
    signed.dedup_by_key(|(signer, _)| *signer);
    Ok(signed.into_iter().map(|(_, one)| one).collect())
}

pub(crate) fn concat(signatures: &[Signature]) -> alloy_primitives::Bytes {
    let bytes: Vec<u8> = signatures.iter().flat_map(|one| *one.as_bytes()).collect();
    bytes.into()
}

/// An ERC-20 token; [`Token::mint`] is of the test chain's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub Address);

impl Token {
    /// Gives `to` new test OPEN: the faucet.
    pub fn mint(&self, to: Address, amount: BaseUnits) -> Call {
        let amount = U256::from(amount.0);
        Call::new(
            self.0,
            &IToken::mintCall {
                to: to.into(),
                amount,
            },
        )
    }

    /// Lets `spender` take up to `amount` of the caller's.
    pub fn approve(&self, spender: Address, amount: BaseUnits) -> Call {
        let (spender, value) = (spender.into(), U256::from(amount.0));
        Call::new(self.0, &IToken::approveCall { spender, value })
    }

    /// Sends `amount` of the caller's.
    pub fn transfer(&self, to: Address, amount: BaseUnits) -> Call {
        let (to, value) = (to.into(), U256::from(amount.0));
        Call::new(self.0, &IToken::transferCall { to, value })
    }

    /// What an account holds.
    pub fn balance_of(&self, account: Address) -> Query<BaseUnits> {
        let account = account.into();
        Query::of(self.0, &IToken::balanceOfCall { account }, query::units)
    }

    /// What `spender` may take of the owner's.
    pub fn allowance(&self, owner: Address, spender: Address) -> Query<BaseUnits> {
        let (owner, spender) = (owner.into(), spender.into());
        Query::of(
            self.0,
            &IToken::allowanceCall { owner, spender },
            query::units,
        )
    }
}

/// One payment out of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The run.
    pub run: Key,
    /// The account's balance under the run's accepted root.
    pub proof: BalanceProof,
    /// Whether to pay in the native coin; only the account itself may ask for it.
    pub unwrap: bool,
}

impl From<&Payment> for sol::Claim {
    fn from(payment: &Payment) -> Self {
        Self {
            run: payment.run.0.into(),
            account: payment.proof.address.into(),
            balance: payment.proof.balance.0,
            index: U256::from(payment.proof.index),
            proof: steps(&payment.proof),
            unwrap: payment.unwrap,
        }
    }
}

/// The contract `Settlement` at an address. Signatures are in the order of their signers ([`ascending`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement(pub Address);

/// Money of runs.
impl Settlement {
    /// Pays into a run; the token has to be approved.
    pub fn deposit(&self, terms: &Terms, amount: BaseUnits) -> Call {
        let (terms, amount) = (terms.into(), amount.0);
        Call::new(self.0, &I::depositCall { terms, amount })
    }

    /// Moves what lies in the run's till into its fees.
    pub fn sweep(&self, run: Key) -> Call {
        Call::new(self.0, &I::sweepCall { key: run.0.into() })
    }

    /// Posts a root of a greater height.
    pub fn post(&self, terms: &Terms, root: &Root, signatures: &[Signature]) -> Call {
        let (terms, root) = (terms.into(), root.into());
        let signatures = concat(signatures);
        Call::new(
            self.0,
            &I::postCall {
                terms,
                root,
                signatures,
            },
        )
    }

    /// Freezes the pending root for the terms' bond; the token has to be approved.
    pub fn challenge(&self, terms: &Terms) -> Call {
        let terms = terms.into();
        Call::new(self.0, &I::challengeCall { terms })
    }

    /// Answers a challenge by signatures of [`super::Confirm`] over the pending root.
    pub fn confirm(&self, terms: &Terms, root: &Root, signatures: &[Signature]) -> Call {
        let (terms, root) = (terms.into(), root.into());
        let signatures = concat(signatures);
        Call::new(
            self.0,
            &I::confirmCall {
                terms,
                root,
                signatures,
            },
        )
    }

    /// Answers a challenge as the arbiter: whether the root stands.
    pub fn decide(&self, terms: &Terms, uphold: bool) -> Call {
        let terms = terms.into();
        Call::new(self.0, &I::decideCall { terms, uphold })
    }

    /// Pays what accepted roots promise, out of several runs at once.
    pub fn claim(&self, payments: &[Payment]) -> Call {
        let claims = payments.iter().map(sol::Claim::from).collect();
        Call::new(self.0, &I::claimCall { claims })
    }

    /// Begins the end of a run that has accepted no root for the terms' time, as its sponsor.
    pub fn halt(&self, terms: &Terms) -> Call {
        let terms = terms.into();
        Call::new(self.0, &I::haltCall { terms })
    }

    /// Gives the sponsor of an ended run what no root promised; `unwrap`: in the native coin, as the sponsor.
    pub fn reclaim(&self, terms: &Terms, unwrap: bool) -> Call {
        let terms = terms.into();
        Call::new(self.0, &I::reclaimCall { terms, unwrap })
    }

    /// Pays an account the bonds that came back to it.
    pub fn collect(&self, account: Address) -> Call {
        let account = account.into();
        Call::new(self.0, &I::collectCall { account })
    }

    /// The address where a run's fees arrive.
    pub fn till(&self, run: Key) -> Query<Address> {
        let key = run.0.into();
        Query::of(self.0, &I::tillCall { key }, query::address)
    }

    /// A run now, with what time has decided.
    pub fn runs(&self, run: Key) -> Query<RunView> {
        let key = run.0.into();
        Query::of(self.0, &I::runsCall { key }, query::run)
    }

    /// What an account was paid out of a run, ever.
    pub fn claimed(&self, run: Key, account: Address) -> Query<BaseUnits> {
        let (run, account) = (run.0.into(), account.into());
        Query::of(self.0, &I::claimedCall { run, account }, query::units)
    }

    /// Whether the root with this digest was posted and then replaced or void.
    pub fn dropped(&self, digest: Keccak) -> Query<bool> {
        let digest = digest.into();
        Query::of(self.0, &I::droppedCall { digest }, query::truth)
    }

    /// Bonds that came back to an account and were not collected.
    pub fn credits(&self, account: Address) -> Query<BaseUnits> {
        let account = account.into();
        Query::of(self.0, &I::creditsCall { account }, query::units)
    }
}

/// Stake of runs.
impl Settlement {
    /// Puts up stake of the caller; the token has to be approved. It counts after a window and [`Settlement::activate`].
    pub fn bond(&self, terms: &Terms, amount: BaseUnits) -> Call {
        let (terms, amount) = (terms.into(), amount.0);
        Call::new(self.0, &I::bondCall { terms, amount })
    }

    /// Makes stake count that has waited its window.
    pub fn activate(&self, run: Key, account: Address) -> Call {
        let (run, account) = (run.0.into(), account.into());
        Call::new(self.0, &I::activateCall { run, account })
    }

    /// Stops stake of the caller from counting; it may leave after the cool-down.
    pub fn unbond(&self, terms: &Terms, amount: BaseUnits) -> Call {
        let (terms, amount) = (terms.into(), amount.0);
        Call::new(self.0, &I::unbondCall { terms, amount })
    }

    /// Pays out stake of the caller whose cool-down is over.
    pub fn withdraw(&self, run: Key) -> Call {
        let run = run.0.into();
        Call::new(self.0, &I::withdrawCall { run })
    }

    /// Sentences an account by the quorum's signatures of the slash.
    pub fn slash(&self, terms: &Terms, slash: &Slash, signatures: &[Signature]) -> Call {
        let call = I::slashCall {
            terms: terms.into(),
            account: slash.account.into(),
            amount: slash.amount.0,
            evidence: slash.evidence.into(),
            signatures: concat(signatures),
        };
        Call::new(self.0, &call)
    }

    /// Carries out a slash that has waited its window.
    pub fn execute_slash(&self, run: Key, account: Address) -> Call {
        let (run, account) = (run.0.into(), account.into());
        Call::new(self.0, &I::executeSlashCall { run, account })
    }

    /// Slashes the signer of two roots of one height.
    pub fn slash_fork(&self, one: (&Root, &Signature), other: (&Root, &Signature)) -> Call {
        let call = I::slashForkCall {
            one: one.0.into(),
            signedOne: concat(&[*one.1]),
            other: other.0.into(),
            signedOther: concat(&[*other.1]),
        };
        Call::new(self.0, &call)
    }

    /// Voids a posted root that promises an account less than the accepted one, and slashes those whose signatures are
    /// shown. `shown` in the posted root: the account's lower leaf, or both leaves of an [`super::AbsenceProof`], or the
    /// first or last leaf if the account would stand outside of it.
    pub fn slash_lowered(
        &self,
        root: &Root,
        signatures: &[Signature],
        accepted: &BalanceProof,
        shown: &[BalanceProof],
    ) -> Call {
        let call = I::slashLoweredCall {
            root: root.into(),
            signatures: concat(signatures),
            accepted: accepted.into(),
            shown: shown.iter().map(sol::Leaf::from).collect(),
        };
        Call::new(self.0, &call)
    }

    /// Stake of an account in a run, and the slash that waits for it.
    pub fn stakes(&self, run: Key, account: Address) -> Query<StakeView> {
        let (run, account) = (run.0.into(), account.into());
        Query::of(self.0, &I::stakesCall { run, account }, query::stake)
    }
}

/// The sentence that a call of [`Settlement::slash`] brings under these terms; none of another call.
pub fn slash_of(terms: &Terms, data: &[u8]) -> Option<Slash> {
    let call = I::slashCall::abi_decode_validate(data).ok()?;
    let own = sol::Terms::from(terms);
    (call.terms.abi_encode() == own.abi_encode()).then_some(Slash {
        run: terms.key(),
        account: Address(call.account.into()),
        amount: BaseUnits(call.amount),
        evidence: Keccak(call.evidence.0),
    })
}

#[cfg(test)]
pub(crate) mod tests;
