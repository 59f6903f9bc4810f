//! What each account of a run is worth when a world ends, read from the chain: what it holds and may still take, less what
//! it drew from the faucet. Payments, stake, bonds, deposits and fees are all in it, so no strategy can hide a cost.

use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::run_books::{RunBooks, Settled};
use tributary_attribution::settlement::calls::Token;
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::entry::Entry;
use tributary_protocol::node::RunView;
use tributary_protocol::round::EntryRef;

use super::super::serving;
use crate::consumer;

/// Calldata of `mint(address,uint256)` up to its arguments, and where they lie.
const SELECTOR: usize = 4;
const WORD: usize = 32;

/// One account at the end of a run, micro-OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// Drawn from the faucet: everything that it ever put in.
    pub drawn: u128,
    /// What it holds of the token.
    pub held: u128,
    /// Its stake that was not slashed, bonds of challenges that came back, and what is left of its channels.
    pub staked: u128,
    /// What the accepted root promises it beyond what it was paid.
    pub owed: u128,
    /// What it was paid out of the run.
    pub paid: u128,
}

impl Worth {
    /// What it has more than it put in; less than nothing where it paid.
    pub fn net(&self) -> i128 {
        let has = self.held + self.staked + self.owed;
        // Test OPEN of a run is far below half of 128 bits.
        has as i128 - self.drawn as i128
    }
}

/// What the faucet gave to each account, by the transactions that certificates have put in order.
#[derive(Default)]
pub(super) struct Drawn {
    of: BTreeMap<Address, u128>,
    seen: BTreeSet<EntryRef>,
}

impl Drawn {
    /// Adds up a machine's chain. The faucet refuses nobody whose account is bound.
    pub(super) fn follow(view: &RunView<'_>) -> Self {
        let mut drawn = Self::default();
        let mut bound = BTreeSet::new();
        for certificate in view.chain() {
            let filings = &certificate.value.filings;
            let entry = |at: &EntryRef| Some((*at, view.log().entry(at)?));
            for (at, entry) in filings.iter().filter_map(entry) {
                if matches!(entry, Entry::Bind(_)) {
                    bound.insert(at.author);
                }
            }
            for (at, entry) in filings.iter().filter_map(entry) {
                if let Entry::Transaction(call) = entry
                    && bound.contains(&at.author)
                    && drawn.seen.insert(at)
                {
                    drawn.draw(Address(call.to.0), &call.data);
                }
            }
        }
        drawn
    }

    fn draw(&mut self, to: Address, data: &[u8]) {
        let token = TestChain::deployed().token;
        let like = Token(token).mint(Address::ZERO, BaseUnits(0));
        let is_mint = to == token && data.get(..SELECTOR) == like.data.get(..SELECTOR);
        let Some(words) = data.get(SELECTOR..).filter(|_| is_mint) else {
            return;
        };
        let [account, amount] = [words.get(..WORD), words.get(WORD..2 * WORD)];
        if let (Some(account), Some(amount)) = (account, amount) {
            let account: [u8; 20] = account[12..].try_into().expect("twenty of thirty-two");
            let amount: [u8; 16] = amount[16..].try_into().expect("half of a word");
            *self.of.entry(Address(account)).or_default() += u128::from_be_bytes(amount);
        }
    }

    /// What one account is worth; its channel at a server, if it pays through one.
    pub(super) fn worth(&self, settled: &Settled, account: Address) -> Option<Worth> {
        let chain = settled.chain()?;
        let key = settled.key();
        let micro = |units: BaseUnits| units.to_micro_floor().0;
        let claimed = chain.claimed(key, account);
        let accepted = chain.run(key).accepted;
        let root = (settled.roots().values())
            .find(|root| root.root.height == accepted.height)
            .filter(|root| root.root.balances == accepted.balances);
        let promised = root.and_then(|root| root.accounts.get(&account));
        let staked = chain.stake(key, account).all().0 + chain.credits(account).0;
        Some(Worth {
            drawn: micro(BaseUnits(
                self.of.get(&account).copied().unwrap_or_default(),
            )),
            held: micro(chain.balance(account)),
            staked: micro(BaseUnits(staked)),
            owed: promised.map_or(0, |promised| micro(promised.saturating_sub(claimed))),
            paid: micro(claimed),
        })
    }

    /// What the consumer of a server's answers is worth, the rest of its channel with it.
    pub(super) fn consumer(&self, books: &RunBooks, server: Address) -> Option<Worth> {
        let mut worth = self.worth(books.settled()?, consumer::key().address())?;
        if let Some((_, _, seen)) = serving::channel(books, server) {
            let left = seen.deposit.saturating_sub(seen.claimed);
            worth.staked += left.to_micro_floor().0;
        }
        Some(worth)
    }
}
