//! Stake that jumps in: a member with the stake of others bonds many times as much beside it, lets that count for one height
//! and takes it out again, as often as the contract allows. Where a height's stake were what the last anchor says, it would be
//! drawn for that height as if all of it were there for good.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::calls::{Call, Token};
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_attribution::test_chain::TestChain;

use super::money::{EachHeight, contract, transaction};
use super::names::{STAKE_MICRO, micro};
use super::{Behaviour, LiarContext};

/// What jumps in, micro-OPEN: nine times the stake of a member.
const JUMP_MICRO: u128 = 9_000_000;

/// A member whose stake jumps in and out.
#[derive(Default)]
pub(super) struct JumpIn {
    heights: EachHeight,
}

/// What it calls next: the way in while nothing of it is there, and the way out as soon as it counts.
fn calls(books: &RunBooks, me: Address) -> Option<Vec<Call>> {
    let settled = books.settled()?;
    let (jump, token) = (micro(JUMP_MICRO), Token(TestChain::deployed().token));
    let stake = settled.chain()?.stake(settled.key(), me);
    if stake.counting >= jump {
        // All of it, however often it was filed before it came to be.
        let out = stake.counting.saturating_sub(micro(STAKE_MICRO));
        return Some(vec![contract().unbond(settled.terms(), out)]);
    }
    let is_in = stake.counting > BaseUnits(0) && stake.maturing == BaseUnits(0);
    is_in.then(|| {
        vec![
            token.mint(me, jump),
            token.approve(contract().0, jump),
            contract().bond(settled.terms(), jump),
        ]
    })
}

impl Behaviour for JumpIn {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let Some(books) = self.heights.look(cx) else {
            return;
        };
        let calls = calls(books, cx.account().address()).unwrap_or_default();
        cx.file(calls.into_iter().map(transaction).collect());
    }
}
