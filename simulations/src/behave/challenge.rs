//! Challenges every root that is posted, right or not, with the bond that the terms ask for.
//!
//! On the test chain a root waits for one height, so a challenge counts only in the block of the posting, behind it. The
//! challenger cannot know when that is; it files one for every height, and those that are refused cost nothing there.
//! Transactions of one block come in the order of their authors, so its key is of those that come last.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::calls::{Call, Token};
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::sign::SecretKey;

use super::money::{EachHeight, contract, transaction};
use super::{Behaviour, LiarContext};

/// Bonds that it draws from the faucet at once.
const BONDS: u128 = 1_000;

/// Keys that it tries.
const KEYS: u64 = 256;

/// Of many keys that follow from `seed` the one whose name comes last.
pub(crate) fn key(_run: &RunId, seed: &[u8; 32], _others: &[PeerId]) -> [u8; 32] {
    let nth = |nth: u64| {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"last").update(seed);
        hasher.update(&nth.to_le_bytes());
        *hasher.finalize().as_bytes()
    };
    let last = (0..KEYS).map(nth);
    let last = last.max_by_key(|seed| SecretKey::from_seed(*seed).peer_id());
    last.expect("it tries at least one key")
}

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
