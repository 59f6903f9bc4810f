//! An admitted request until it is settled: what it cost is charged, and becomes an answer that waits for its claim.

use std::sync::Arc;

use futures::future::BoxFuture;
use tributary_attribution::voucher::ChannelId;
use tributary_protocol::hash;
use tributary_protocol::id::MicroOpen;

use super::super::adapters::Origin;
use super::super::book::Admitted;
use super::super::cashier::Served;
use super::super::quote::{self, Payee, Quote};
use super::super::till::{Bill, Made, Receipt};
use super::Inner;

/// A request that is paid for.
pub(super) struct Due {
    pub(super) till: Arc<Inner>,
    pub(super) payee: Payee,
    pub(super) origin: Origin,
    pub(super) quote: Quote,
    /// None once it is settled.
    pub(super) admitted: Option<Admitted<ChannelId>>,
    pub(super) seed: u64,
}

impl Due {
    /// Charges what was made; on the disk when this returns.
    fn settled(&mut self, made: Made) -> Receipt {
        let Some(admitted) = self.admitted.take() else {
            return Receipt::default();
        };
        let (id, salt) = (admitted.owner, admitted.channel);
        let now_ms = self.till.now_ms();
        let mut kept = self.till.kept.lock();
        let charged_before = kept.book.standing(id, salt).charged;
        let charged = kept.book.settle(&admitted, self.quote.cost(&made));
        let fee = MicroOpen(kept.book.standing(id, salt).charged.0 - charged_before.0);
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        if let Some(record) = kept.records.get_mut(&id).filter(|_| fee.0 > 0) {
            let served = Served {
                adapter: self.origin.adapter,
                request: self.quote.body,
                response: made.response.unwrap_or_else(|| hash::blob(&[])),
                prompt_tokens: count(made.prompt_tokens),
                answer_tokens: count(made.answer_tokens),
                fee,
                charged_before,
                shares: None,
            };
            record.serve(served, now_ms);
        }
        if let Err(error) = kept.store(id) {
            tracing::error!(
                "a charge of {} micro-OPEN is kept in memory alone: {error}",
                fee.0
            );
        }
        let at = kept.state(id, salt);
        let record = kept
            .records
            .get(&id)
            .expect("a channel with an open request stays");
        let payer = record.config.payer;
        if record.presses(self.till.exposure) {
            self.till.called.notify_one();
        }
        drop(kept);
        quote::receipt((payer, &self.payee.scheme), &at, charged, &made)
    }
}

impl Bill for Due {
    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn settle(mut self: Box<Self>, made: Made) -> BoxFuture<'static, Receipt> {
        Box::pin(async move {
            let settled = tokio::task::spawn_blocking(move || self.settled(made)).await;
            settled.unwrap_or_default()
        })
    }
}

impl Drop for Due {
    /// A request whose end nobody told, because the task that answered it failed.
    fn drop(&mut self) {
        let failed = Made {
            failed: true,
            ..Made::default()
        };
        self.settled(failed);
    }
}
