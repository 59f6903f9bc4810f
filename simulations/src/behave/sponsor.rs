//! Sponsors that want their deposit back, or much of it for themselves. At every height each asks the contract to halt the
//! run and to give back what no root promised; they differ in what they do so that it comes to that.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::calls::Call;
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_protocol::event::{Effect, Input};

use super::collude::Collude;
use super::money::{EachHeight, contract, transaction};
use super::withheld_roots::WithheldRoots;
use super::{Behaviour, LiarContext};

/// How a sponsor works towards its money.
enum Plot {
    /// It is a contributor, and its friends are evaluators and contributors: they work together.
    Collude(Collude),
    /// It and its friends sign and post no root.
    Withhold(WithheldRoots),
    /// It is a member like others, and a friend challenges whatever is posted.
    Wait,
}

/// A sponsor that takes back what it can.
pub(super) struct Sponsor {
    plot: Plot,
    heights: EachHeight,
}

impl Sponsor {
    /// One that deals with itself.
    pub(super) fn colluding() -> Self {
        Self::by(Plot::Collude(Collude::default()))
    }

    /// One that keeps roots from being posted.
    pub(super) fn withholding() -> Self {
        Self::by(Plot::Withhold(WithheldRoots))
    }

    /// One whose friend keeps roots from being accepted.
    pub(super) fn waiting() -> Self {
        Self::by(Plot::Wait)
    }

    fn by(plot: Plot) -> Self {
        Self {
            plot,
            heights: EachHeight::default(),
        }
    }
}

/// What takes the deposit back, as soon as the contract allows it.
fn take_back(books: &RunBooks, me: Address) -> Vec<Call> {
    let Some(settled) = books.settled() else {
        return Vec::new();
    };
    let run = settled.chain().map(|chain| chain.run(settled.key()));
    let is_sponsor = settled.terms().sponsor == me;
    let Some(run) = run.filter(|run| is_sponsor && run.deposited > BaseUnits(0)) else {
        return Vec::new();
    };
    let mut calls = Vec::new();
    if run.halted_s.is_none() && !run.accepted.closed {
        calls.push(contract().halt(settled.terms()));
    }
    if run.reclaimed < run.deposited {
        calls.push(contract().reclaim(settled.terms(), false));
    }
    calls
}

impl Behaviour for Sponsor {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        match &mut self.plot {
            Plot::Collude(friends) => friends.input(cx, input),
            Plot::Withhold(roots) => roots.input(cx, input),
            Plot::Wait => Some(input),
        }
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        match &mut self.plot {
            Plot::Collude(friends) => friends.effect(cx, effect),
            Plot::Withhold(_) | Plot::Wait => cx.act(effect),
        }
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let Some(books) = self.heights.look(cx) else {
            return;
        };
        let me = cx.account().address();
        let calls = take_back(books, me);
        cx.file(calls.into_iter().map(transaction).collect());
    }
}
