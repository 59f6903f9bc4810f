//! Challenges every root that is posted, right or not, with the bond that the terms ask for.
//!
//! It files a challenge for every height; those that find no root to challenge are refused, and cost nothing on the test chain.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::calls::{Call, Token};
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_attribution::test_chain::TestChain;

use super::money::{EachHeight, contract, transaction};
use super::{Behaviour, LiarContext};

/// Bonds that it draws from the faucet at once.
const BONDS: u128 = 1_000;

/// A member that challenges at every height.
#[derive(Default)]
pub(super) struct Challenge {
    heights: EachHeight,
}

/// What a challenger calls next.
pub(super) fn calls(books: &RunBooks, me: Address) -> Option<Vec<Call>> {
    let settled = books.settled()?;
    let (chain, terms) = (settled.chain()?, settled.terms());
    let (token, contract) = (Token(TestChain::deployed().token), contract());
    if chain.run(settled.key()).deposited == BaseUnits(0) {
        return None;
    }
    let allowed = chain.read(&token.allowance(me, contract.0)).ok()?;
    let mut calls = Vec::new();
    if allowed < terms.challenge_bond {
        let bonds = BaseUnits(terms.challenge_bond.0.checked_mul(BONDS)?);
        calls.extend([token.mint(me, bonds), token.approve(contract.0, bonds)]);
    }
    if chain.credits(me) > BaseUnits(0) {
        calls.push(contract.collect(me));
    }
    calls.push(contract.challenge(terms));
    Some(calls)
}

impl Behaviour for Challenge {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let Some(books) = self.heights.look(cx) else {
            return;
        };
        let calls = calls(books, cx.account().address()).unwrap_or_default();
        cx.file(calls.into_iter().map(transaction).collect());
    }
}
