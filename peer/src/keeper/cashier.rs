//! What a daemon does for its server: it shows what the chains of its runs say of channels, and files deposits, answers and
//! claims in their logs.

use std::sync::Arc;

use futures::future::BoxFuture;
use tributary_attribution::run_books::{self, RunBooks, Settled};
use tributary_attribution::settlement::Deployment;
use tributary_attribution::voucher::{ChannelId, Claim, OnChain, Requirements};
use tributary_protocol::entry::Entry;
use tributary_protocol::id::RunId;

use super::Keeper;
use crate::serve::cashier::{Cashier, CashierError, Cashiers, Deposit, Served};

/// The cashiers of the runs that a daemon follows.
pub(crate) struct Desk(pub(crate) Keeper);

impl Cashiers for Desk {
    fn of(&self, run: RunId) -> Option<Arc<dyn Cashier>> {
        let keeper = self.0.clone();
        Some(Arc::new(RunCashier { keeper, run }))
    }
}

/// The cashier of one run.
struct RunCashier {
    keeper: Keeper,
    run: RunId,
}

impl RunCashier {
    /// What `ask` answers about the run's books, as far as they are.
    fn look<T>(&self, ask: impl FnOnce(&RunBooks, &Settled) -> Option<T>) -> Option<T> {
        self.keeper
            .with_books(&self.run, |books| ask(books, books.settled()?))
    }

    async fn file(&self, make: impl FnOnce(&Settled) -> Vec<Entry>) -> Result<(), CashierError> {
        let filings = self.look(|_, settled| Some(make(settled)));
        let filings = filings.ok_or_else(|| {
            let run = self.run.short();
            CashierError(format!(
                "the books of run {run} are not here any more; start the daemon in its home again"
            ))
        })?;
        let filed = self.keeper.file(self.run, filings).await;
        filed.map_err(|why| {
            CashierError(format!(
                "nothing could be filed in run {}: {why}",
                self.run.short()
            ))
        })
    }
}

impl Cashier for RunCashier {
    fn requirements(&self) -> Option<(Requirements, Deployment)> {
        let (peer, account) = (self.keeper.peer(), self.keeper.account());
        self.look(|books, settled| {
            let is_bound = books.account(&peer) == Some(account);
            // Channels of a real chain are not seen here yet, so nothing is taken through them.
            let is_seen = settled.chain().is_some();
            settled
                .requirements(account)
                .filter(|_| is_bound && is_seen)
        })
    }

    fn channel(&self, id: ChannelId) -> OnChain {
        let seen = self.look(|_, settled| Some(settled.chain()?.channel(id)));
        seen.unwrap_or_default()
    }

    fn deposit<'a>(&'a self, deposit: Deposit) -> BoxFuture<'a, Result<(), CashierError>> {
        Box::pin(self.file(move |settled| {
            settled.deposit(&deposit.config, deposit.amount, &deposit.authorization)
        }))
    }

    fn collect<'a>(
        &'a self,
        answers: Vec<Served>,
        claim: Claim,
    ) -> BoxFuture<'a, Result<(), CashierError>> {
        let answers: Vec<run_books::Served> = answers.into_iter().map(of_books).collect();
        Box::pin(self.file(move |settled| settled.collect(&answers, &claim)))
    }
}

fn of_books(one: Served) -> run_books::Served {
    run_books::Served {
        adapter: one.adapter,
        request: one.request,
        response: one.response,
        prompt_tokens: one.prompt_tokens,
        answer_tokens: one.answer_tokens,
        charged_before: one.charged_before,
        fee: one.fee,
        shares: one.shares,
    }
}
