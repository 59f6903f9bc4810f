//! One owner under several names. Its stake is split over them in equal parts, and all of them hold its text; under one name
//! the owner is a member like others, and that is what it is compared with.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::BaseUnits;
use tributary_attribution::settlement::calls::Token;
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::id::MicroOpen;

use super::money::{contract, is_like, transaction};
use super::{Behaviour, LiarContext};

/// The stake that an owner has, micro-OPEN: what every member bonds on the test chain.
pub(super) const STAKE_MICRO: u128 = 1_000_000;

/// How many times as long stretched updates are: so many that they outweigh all others and do not yet overshoot.
const STRETCH: f32 = 4.0;

/// One of the names of an owner, whose names are all that lie.
pub(super) struct Name {
    /// Whether it sends longer updates than its training gave.
    is_stretched: bool,
}

impl Name {
    /// One that follows the protocol but for its stake.
    pub(super) fn plain() -> Self {
        Self {
            is_stretched: false,
        }
    }

    /// One that stretches its updates as well: where its owner's names are most of a round's, theirs is the median length.
    pub(super) fn stretched() -> Self {
        Self { is_stretched: true }
    }
}

/// What a name files in place of the bond of a whole stake.
fn split(books: &RunBooks, cx: &LiarContext<'_>, filings: Vec<Entry>) -> Vec<Entry> {
    let Some(settled) = books.settled() else {
        return filings;
    };
    let part = micro(STAKE_MICRO / cx.world.friends.len() as u128);
    let (token, me) = (Token(TestChain::deployed().token), cx.account().address());
    let bond = contract().bond(settled.terms(), part);
    if !filings.iter().any(|filing| is_like(filing, &bond)) {
        return filings;
    }
    let own = [
        token.mint(me, part),
        token.approve(contract().0, part),
        bond,
    ];
    let part = |filing| match own.iter().find(|call| is_like(&filing, call)) {
        Some(call) => transaction(call.clone()),
        None => filing,
    };
    filings.into_iter().map(part).collect()
}

/// Base units of so many micro-OPEN.
pub(super) fn micro(amount: u128) -> BaseUnits {
    BaseUnits::from_micro(MicroOpen(amount)).expect("small amounts")
}

impl Behaviour for Name {
    fn input(&mut self, cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Trained(trained) = &mut input
            && self.is_stretched
        {
            trained
                .delta
                .iter_mut()
                .for_each(|number| *number *= STRETCH);
        }
        match (input, cx.world.books) {
            (Input::Command(Command::File { run, filings }), Some(books)) => {
                let filings = split(books, cx, filings);
                Some(Input::Command(Command::File { run, filings }))
            }
            (input, _) => Some(input),
        }
    }
}
