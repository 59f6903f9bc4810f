//! A till that is paid through channels of a run's chain: answers of an adapter pay those that made it.
//!
//! ```text
//!   request ─▶ 402: what it may cost, to the run's till, signed for by this server
//!   deposit ─▶ checked ─▶ disk ─▶ cashier (the run's log) ─▶ answered while little is unseen, else once the chain shows it
//!   voucher ─▶ checked ─▶ book (covers it?) ─▶ disk ─▶ answered ─▶ book (charged), served ─▶ disk ─▶ PAYMENT-RESPONSE
//!   served  ─▶ claims (a task): cashier, answers and one claim ─▶ forgotten once the chain shows the claim
//! ```
//!
//! What is on the chain is the cashier's word. A channel has its own account in the book, and is granted what lies in it and
//! what of its deposits is filed and not seen yet, up to a limit: that, and what is charged and not claimed, is what this
//! server risks. Everything that was told is on the disk before, so that a crash loses nothing and charges nothing twice.
//! Requests for anything else go to another till.

mod claims;
mod due;
mod kept;
mod record;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tributary_attribution::settlement::{BaseUnits, Signature};
use tributary_attribution::voucher::{Authorization, ChannelId, OnChain, VoucherError};
use tributary_protocol::id::MicroOpen;

use super::Refusal;
use super::adapters::Origin;
use super::agreements::Agreement;
use super::book::{Denied, Offer, Prices};
use super::cashier::{Cashier, Cashiers, Deposit};
use super::folder::DiskError;
use super::head::now;
use super::quote::{self, Payee, Quote, Why};
use super::said::Said;
use super::till::{Asked, Bill, Till};
use super::x402::{Kind, Paid};
use due::Due;
use kept::Kept;
use record::{Record, Rule};

/// How a server is paid through channels.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// What answers cost.
    pub prices: Prices,
    /// Most that a channel may owe without a claim, and most that it is granted on deposits that the chain does not show yet.
    pub exposure: MicroOpen,
    /// What is kept of channels.
    pub folder: PathBuf,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Between looks at the chain.
    poll: Duration,
    /// How long a request waits for its deposit to be seen.
    patience: Duration,
    /// How long answers wait to be claimed.
    wait: Duration,
    /// How long a claim may take to be seen before it is handed over again: some certificates.
    again: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(3),
            patience: Duration::from_secs(120),
            wait: Duration::from_secs(600),
            again: Duration::from_secs(300),
        }
    }
}

/// Is paid through channels where a run takes pay, and leaves everything else to another till.
pub struct Channels {
    inner: Arc<Inner>,
    watching: JoinHandle<()>,
}

struct Inner {
    prices: Prices,
    exposure: MicroOpen,
    cashiers: Arc<dyn Cashiers>,
    other: Arc<dyn Till>,
    times: Times,
    began: Instant,
    /// Told when a claim may be due.
    called: Arc<Notify>,
    kept: Mutex<Kept>,
}

/// One request that comes with a payment, checked as far as nothing of the channel is needed.
struct Ask {
    cashier: Arc<dyn Cashier>,
    payee: Payee,
    origin: Origin,
    paid: Paid,
    total: MicroOpen,
    quote: Quote,
}

/// What becomes of a voucher.
enum Taken {
    Paid(Box<Due>),
    /// It will be good when the chain shows a deposit.
    Waits,
}

impl Channels {
    /// Reads what is kept of channels, and goes on with it. Requests that are not paid through channels go to `other`. Needs
    /// a runtime.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(
        options: ChannelOptions,
        cashiers: Arc<dyn Cashiers>,
        other: Arc<dyn Till>,
    ) -> Result<Self, DiskError> {
        Self::open_with(options, cashiers, other, Times::default())
    }

    fn open_with(
        options: ChannelOptions,
        cashiers: Arc<dyn Cashiers>,
        other: Arc<dyn Till>,
        times: Times,
    ) -> Result<Self, DiskError> {
        let kept = Kept::open(&options.folder)?;
        let inner = Arc::new(Inner {
            prices: options.prices,
            exposure: options.exposure,
            cashiers,
            other,
            times,
            began: Instant::now(),
            called: Arc::new(Notify::new()),
            kept: Mutex::new(kept),
        });
        let watching = tokio::spawn(claims::watch(Arc::downgrade(&inner)));
        Ok(Self { inner, watching })
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Till for Channels {
    fn admit<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>> {
        let paid_here = asked.origin.and_then(|origin| {
            let cashier = self.inner.cashiers.of(origin.run)?;
            let (wanted, scheme) = cashier.requirements()?;
            Some((origin, cashier, Payee { wanted, scheme }))
        });
        let Some((origin, cashier, payee)) = paid_here else {
            return self.inner.other.admit(asked);
        };
        let quote = Quote::of(&asked, self.inner.prices);
        let payment = quote::payment(asked.headers);
        Box::pin(async move {
            let Some(payment) = payment? else {
                return Err(self.inner.unpaid(&payee, &quote));
            };
            let paid = payment.understood(&payee.scheme);
            let paid = paid.map_err(|why| quote::malformed(&why.to_string()))?;
            let total = check(&paid, &payee);
            let total = total.map_err(|why| quote.refused(&payee, why, None))?;
            let ask = Arc::new(Ask {
                cashier,
                payee,
                origin,
                paid,
                total,
                quote,
            });
            let due = self.inner.paid(ask).await?;
            Ok(due as Box<dyn Bill>)
        })
    }

    fn agree(
        &self,
        agreement: (Agreement, Signature),
        said: Said,
    ) -> BoxFuture<'_, Result<(), Refusal>> {
        let till = self.inner.clone();
        Box::pin(async move {
            let agree = move || till.kept.lock().agree(&agreement, &said);
            let agreed = tokio::task::spawn_blocking(agree);
            agreed.await.unwrap_or_else(|_| Err(failed()))
        })
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.watching.abort();
            claims::drain(&self.inner).await;
            self.inner.other.drain().await;
        })
    }
}

/// Whether a payment is one for this run, signed by those that it names. Gives the voucher's total.
fn check(paid: &Paid, payee: &Payee) -> Result<MicroOpen, Why> {
    if paid.kind == Kind::Refund {
        let message = "this server signs no refunds: what is left of a deposit goes back by a withdrawal that its payer announces \
                       at the contract";
        return Err(Why::new("refunds_not_given", message));
    }
    paid.config.check(&payee.wanted)?;
    paid.voucher.verify(&paid.config, &payee.scheme)?;
    let total = paid.voucher.max.to_micro().map_err(VoucherError::from)?;
    if let Kind::Deposit(amount, authorization) = &paid.kind {
        let bad = |why: String| Why::new("bad_deposit", why);
        if *amount == BaseUnits(0) {
            return Err(bad(
                "the deposit is of nothing; deposit what vouchers are to cover".into(),
            ));
        }
        let signed =
            authorization.verify(&paid.config, *amount, &payee.scheme, &super::x402::token());
        signed.map_err(|why| bad(why.to_string()))?;
        if !(authorization.valid_after_s..authorization.valid_before_s).contains(&now()) {
            return Err(bad(
                "the deposit is not good now; sign one that is for the next minutes".into(),
            ));
        }
    }
    Ok(total)
}

impl Inner {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn rule(&self, is_draining: bool) -> Rule {
        Rule {
            exposure: self.exposure,
            wait_ms: self.times.wait.as_millis() as u64,
            again_ms: self.times.again.as_millis() as u64,
            is_draining,
        }
    }

    fn unpaid(&self, payee: &Payee, quote: &Quote) -> Refusal {
        let kept = self.kept.lock();
        let last = kept.hints.of(&quote.consumer);
        let is_of = |record: &Record| record.config.check(&payee.wanted).is_ok();
        let last = last.filter(|(id, _)| kept.records.get(id).is_some_and(is_of));
        let stands = last.map(|(id, salt)| kept.book.standing(id, salt));
        quote.unpaid(payee, stands.as_ref())
    }

    /// Files a deposit where there is one, and takes the voucher once it is covered.
    async fn paid(self: &Arc<Self>, ask: Arc<Ask>) -> Result<Box<Due>, Refusal> {
        if let Kind::Deposit(amount, authorization) = ask.paid.kind {
            self.deposit(&ask, amount, authorization).await?;
        }
        let began = Instant::now();
        loop {
            let (till, asking) = (self.clone(), ask.clone());
            let chain = ask.cashier.channel(ask.paid.voucher.channel);
            // Waits for the disk.
            let taken = tokio::task::spawn_blocking(move || till.take(&asking, chain)).await;
            match taken.unwrap_or_else(|_| Err(failed()))? {
                Taken::Paid(due) => return Ok(due),
                Taken::Waits if began.elapsed() < self.times.patience => {
                    tokio::time::sleep(self.times.poll).await;
                }
                Taken::Waits => return Err(unseen()),
            }
        }
    }

    /// Files a deposit, unless it was filed before.
    async fn deposit(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        amount: BaseUnits,
        authorization: Authorization,
    ) -> Result<(), Refusal> {
        let (till, asking) = (self.clone(), ask.clone());
        let id = ask.paid.voucher.channel;
        let chain = ask.cashier.channel(id);
        let planned = tokio::task::spawn_blocking(move || {
            let mut kept = till.kept.lock();
            kept.plan(&asking, chain, (amount, authorization))
        });
        if !planned.await.unwrap_or_else(|_| Err(failed()))? {
            return Ok(());
        }
        let salt = authorization.salt;
        let deposit = Deposit {
            config: ask.paid.config,
            amount,
            authorization,
        };
        let filed = ask.cashier.deposit(deposit).await;
        match filed {
            Ok(()) => {
                self.change(id, move |record| record.filed(&salt, true))
                    .await
            }
            Err(why) => {
                self.change(id, move |record| record.forget(&salt)).await;
                let message = format!("the deposit was not filed, and is still yours: {why}");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Err(Refusal::new(status, "deposit_not_filed", message));
            }
        }
        Ok(())
    }

    /// Changes a channel. On the disk when this returns, as far as the disk goes along.
    async fn change(
        self: &Arc<Self>,
        id: ChannelId,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) {
        let till = self.clone();
        let changing = tokio::task::spawn_blocking(move || {
            let mut kept = till.kept.lock();
            let Some(record) = kept.records.get_mut(&id) else {
                return;
            };
            change(record);
            if let Err(error) = kept.store(id) {
                tracing::error!("what became of channel {id} is kept in memory alone: {error}");
            }
        });
        if changing.await.is_err() {
            tracing::error!("what became of channel {id} is not kept; please report it");
        }
    }

    /// Takes a voucher, if it covers its request; on the disk when this returns.
    fn take(self: &Arc<Self>, ask: &Ask, chain: OnChain) -> Result<Taken, Refusal> {
        let mut kept = self.kept.lock();
        let id = kept.enter(ask, chain)?;
        let offer = ask.offer();
        kept.covers(ask, &offer, BaseUnits(0))?;
        let granted = kept.granted(id, self.exposure);
        kept.book.grant(id, granted);
        let admitted = match kept.book.check(&offer, ask.quote.price) {
            // With all deposits it is covered.
            Err(Denied::Exhausted { .. } | Denied::Unknown) => return Ok(Taken::Waits),
            Err(denied) => return Err(kept.denied(ask, &denied)),
            Ok(()) => {
                let before = kept.book.clone_account(id);
                let admitted = kept.book.admit(&offer, ask.quote.price);
                let admitted = admitted.expect("it was checked");
                if let Err(error) = kept.store(id) {
                    kept.book.put_back(id, before);
                    tracing::error!("a voucher cannot be kept, so its request is refused: {error}");
                    return Err(quote::not_kept());
                }
                admitted
            }
        };
        kept.hints.note(ask.quote.consumer, (id, offer.channel));
        Ok(Taken::Paid(Box::new(Due {
            till: self.clone(),
            payee: ask.payee,
            origin: ask.origin,
            admitted: Some(admitted),
            seed: quote::seed(id, &offer),
            quote: ask.quote.clone(),
        })))
    }
}

fn failed() -> Refusal {
    Refusal::internal("the till failed; please report it")
}

/// A deposit that takes its time.
fn unseen() -> Refusal {
    let message = "the deposit is filed and the chain does not show it yet; it is not lost. Send the same request again in a while";
    Refusal {
        retry_after_s: Some(30),
        ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "deposit_unseen", message)
    }
}

impl Ask {
    fn offer(&self) -> Offer<ChannelId> {
        Offer {
            owner: self.paid.voucher.channel,
            channel: self.paid.config.salt,
            total: self.total,
            signature: self.paid.voucher.signature,
            body: self.quote.body,
        }
    }
}

#[cfg(test)]
mod tests;
