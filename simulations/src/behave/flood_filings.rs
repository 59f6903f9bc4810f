//! A member that files as much as it can, so that others wait for their place in the order.

use rand::Rng;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::{EvmAddress, Transaction};

use super::{Behaviour, LiarContext};

/// Filings of each tick.
const EACH_TICK: usize = 8;

/// Files transactions that come to nothing.
pub(super) struct FloodFilings;

impl Behaviour for FloodFilings {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let mut junk = || {
            let data = (0..64).map(|_| cx.rng.random()).collect();
            let to = EvmAddress(cx.rng.random());
            Entry::Transaction(Transaction { to, data })
        };
        let filings = (0..EACH_TICK).map(|_| junk()).collect();
        let run = cx.world.run;
        cx.tell(Input::Command(Command::File { run, filings }));
    }
}
