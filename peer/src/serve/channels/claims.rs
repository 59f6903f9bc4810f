//! Looks at channels from time to time: files what a crash kept from being filed, hands over answers with the claim that pays
//! them, and forgets what the chain shows.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tributary_attribution::voucher::{ChannelId, Claim, OnChain, Voucher};
use tributary_protocol::id::RunId;

use super::super::cashier::{Cashier, Deposit, Served};
use super::super::head::now;
use super::super::x402;
use super::Inner;
use super::kept::Kept;
use super::record::Rule;

/// How long a drain may take in all.
const DRAIN: Duration = Duration::from_secs(10);

/// What is to be done for one channel.
#[derive(Default)]
struct Work {
    deposits: Vec<Deposit>,
    claim: Option<(Vec<Served>, Claim)>,
}

/// Looks at all channels until the till is gone.
pub(super) async fn watch(inner: Weak<Inner>) {
    loop {
        let Some(till) = inner.upgrade() else {
            return;
        };
        let (poll, called) = (till.times.poll, till.called.clone());
        look_at_all(&till, false).await;
        // Nothing is held while it waits, so that a server that ends ends this too.
        drop(till);
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            () = called.notified() => {}
        }
    }
}

/// Hands over all that can be claimed.
pub(super) async fn drain(inner: &Arc<Inner>) {
    if tokio::time::timeout(DRAIN, look_at_all(inner, true))
        .await
        .is_err()
    {
        tracing::warn!(
            "some answers were not handed over within {} s; they are at the next start",
            DRAIN.as_secs()
        );
    }
}

async fn look_at_all(till: &Arc<Inner>, is_draining: bool) {
    let channels: Vec<(ChannelId, RunId)> = {
        let kept = till.kept.lock();
        let busy = kept.records.iter().filter(|(_, record)| record.is_busy());
        busy.map(|(id, record)| (*id, record.run)).collect()
    };
    for (id, run) in channels {
        // A run whose books are not there yet knows no channel.
        let cashier = till.cashiers.of(run);
        if let Some(cashier) = cashier.filter(|cashier| cashier.requirements().is_some()) {
            look(till, cashier.as_ref(), id, is_draining).await;
        }
    }
}

async fn look(till: &Arc<Inner>, cashier: &dyn Cashier, id: ChannelId, is_draining: bool) {
    let chain = cashier.channel(id);
    let rule = till.rule(is_draining);
    let now_ms = till.now_ms();
    let working = till.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut kept = working.kept.lock();
        kept.work(id, chain, &rule, now_ms)
    });
    let work = work.await.unwrap_or_default();
    for deposit in work.deposits {
        let salt = deposit.authorization.salt;
        let filed = cashier.deposit(deposit).await;
        if let Err(why) = &filed {
            tracing::debug!("a deposit of channel {id} is not filed yet: {why}");
        }
        till.change(id, move |record| record.filed(&salt, filed.is_ok()))
            .await;
    }
    let Some((answers, claim)) = work.claim else {
        return;
    };
    let (count, first) = (answers.len(), answers[0].charged_before);
    let total = claim.total_claimed;
    match cashier.collect(answers, claim).await {
        Ok(()) => tracing::info!("handed over {count} answers: {total} OPEN of channel {id}"),
        Err(why) => {
            tracing::warn!("{count} answers of channel {id} are not claimed yet: {why}");
            till.change(id, move |record| record.uncollect(first)).await;
        }
    }
}

impl Kept {
    /// Takes in what the chain says, and what follows from it. On the disk when this returns.
    fn work(&mut self, id: ChannelId, chain: OnChain, rule: &Rule, now_ms: u64) -> Work {
        let Some(record) = self.records.get_mut(&id) else {
            return Work::default();
        };
        let mut is_changed = record.see(chain, now());
        let deposits = record.unfiled();
        let answers = record.collect(rule, now_ms);
        is_changed |= !answers.is_empty();
        let config = record.config;
        let standing = self.book.standing(id, config.salt);
        let total = answers.last().map(Served::charged_after);
        let claim = total.zip(standing.signature).map(|(total, signature)| {
            assert!(total <= standing.highest, "no voucher covers an answer");
            Claim {
                config,
                voucher: Voucher {
                    channel: id,
                    max: x402::units(standing.highest),
                    signature,
                },
                total_claimed: x402::units(total),
            }
        });
        if is_changed && let Err(error) = self.store(id) {
            // What is done again after a crash is told from what was done before.
            tracing::warn!("what became of channel {id} is kept in memory alone: {error}");
        }
        Work {
            deposits,
            claim: claim.map(|claim| (answers, claim)),
        }
    }
}
