//! A server that claims first and files its answers some heights later.

use std::collections::VecDeque;

use tributary_protocol::entry::Entry;
use tributary_protocol::event::Input;

use super::money::{self, EachHeight};
use super::{Behaviour, LiarContext};

/// Heights by which answers come late.
const LATE: u32 = 3;

/// Holds its answers back while their money is claimed.
#[derive(Default)]
pub(super) struct LateServer {
    held: VecDeque<(u32, Entry)>,
    heights: EachHeight,
}

impl Behaviour for LateServer {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let at = cx.world.books.map_or(0, |books| books.expected().0);
        let input = money::refile(input, |filing| match filing {
            Entry::Answers(_) => {
                self.held.push_back((at + LATE, filing));
                Vec::new()
            }
            other => vec![other],
        });
        Some(input)
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let Some(books) = self.heights.look(cx) else {
            return;
        };
        let at = books.expected().0;
        let mut due = Vec::new();
        while let Some((_, answers)) = self.held.pop_front_if(|(from, _)| *from <= at) {
            due.push(answers);
        }
        cx.file(due);
    }
}
