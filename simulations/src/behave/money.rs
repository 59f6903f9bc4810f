//! What strategies about money share: own filings on their way to the node, calls of contracts, and one look a height.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::Address;
use tributary_attribution::settlement::calls::{Call, Settlement};
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::{EvmAddress, Transaction};

use super::LiarContext;

/// Bytes of calldata that name the function.
const SELECTOR: usize = 4;

/// An input, each of its filings replaced by what `change` makes of it.
pub(super) fn refile(input: Input, change: impl FnMut(Entry) -> Vec<Entry>) -> Input {
    match input {
        Input::Command(Command::File { run, filings }) => {
            let filings = filings.into_iter().flat_map(change).collect();
            Input::Command(Command::File { run, filings })
        }
        other => other,
    }
}

/// A call, as it is filed.
pub(super) fn transaction(call: Call) -> Entry {
    Entry::Transaction(Transaction {
        to: EvmAddress(call.to.0),
        data: call.data,
    })
}

/// Whether a filing calls the same function of the same contract.
pub(super) fn is_like(filing: &Entry, call: &Call) -> bool {
    let name = |data: &[u8]| data.get(..SELECTOR).map(<[u8]>::to_vec);
    matches!(filing, Entry::Transaction(Transaction { to, data })
        if to.0 == call.to.0 && name(data) == name(&call.data))
}

/// The contract that holds the runs' money.
pub(super) fn contract() -> Settlement {
    Settlement(TestChain::deployed().settlement)
}

/// Whether a filing posts a root.
pub(super) fn is_post(filing: &Entry, books: &RunBooks) -> bool {
    let Some(settled) = books.settled() else {
        return false;
    };
    let mut roots = settled.roots().values();
    roots
        .next_back()
        .is_some_and(|root| is_like(filing, &contract().post(settled.terms(), &root.root, &[])))
}

/// Whether a filing is for the contract that holds channels.
pub(super) fn is_of_channels(filing: &Entry) -> bool {
    let channels = TestChain::deployed().channels;
    matches!(filing, Entry::Transaction(call) if Address(call.to.0) == channels)
}

/// Whether a height was looked at, so that something is filed once for each.
#[derive(Default)]
pub(super) struct EachHeight(Option<u32>);

impl EachHeight {
    /// The books of a height that is new since the last look.
    pub(super) fn look<'a>(&mut self, cx: &LiarContext<'a>) -> Option<&'a RunBooks> {
        let books = cx.world.books?;
        let at = books.expected().0;
        (self.0.replace(at) != Some(at)).then_some(books)
    }
}
