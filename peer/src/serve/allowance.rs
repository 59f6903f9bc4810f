//! A till that draws on what this server's owner grants to each payer's account.
//!
//! ```text
//!   request ─▶ 402, PAYMENT-REQUIRED: what it may cost, to whom
//!   request, PAYMENT-SIGNATURE ─▶ x402 (shape) ─▶ voucher (signature) ─▶ book (covers it?) ─▶ disk ─▶ answered
//!   answer  ─▶ book (what was made is charged) ─▶ disk ─▶ PAYMENT-RESPONSE
//! ```
//!
//! No chain is asked: the owner trusts those that it grants something. Vouchers are those of channels on the test chain, to
//! the server's own account, so that a client needs no second kind; nothing is deposited or claimed. A voucher is on the disk
//! before its request is computed, and a charge before the client hears of it. Answers of adapters whose runs are paid on
//! their chain go through [`super::channels`].

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tributary_attribution::settlement::Address;
use tributary_attribution::voucher::{ChannelId, MIN_WITHDRAW_DELAY_S, OnChain, Requirements};
use tributary_protocol::id::MicroOpen;

use super::Refusal;
use super::book::{Account, AccountFile, Admitted, Book, Denied, Offer, Prices, Salt};
use super::folder::{DiskError, Folder};
use super::quote::{self, Hints, Payee, Quote, State, Why};
use super::till::{Asked, Bill, Made, Receipt, Till};
use super::x402::{self, Kind, Paid};

/// Draws on allowances. Clones share them.
#[derive(Clone, Debug)]
pub struct Allowance {
    payee: Payee,
    prices: Prices,
    kept: Arc<Mutex<Kept>>,
}

/// What is in memory and on the disk alike, and which channel each client used last.
#[derive(Debug)]
struct Kept {
    book: Book<Address>,
    hints: Hints<(Address, Salt)>,
    folder: Folder,
}

impl Allowance {
    /// Reads what was spent before from `folder`, and grants each payer so much in all. `account` is the server's own, to
    /// which vouchers are signed.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(
        folder: &Path,
        account: Address,
        prices: Prices,
        grants: impl IntoIterator<Item = (Address, MicroOpen)>,
    ) -> Result<Self, DiskError> {
        let folder = Folder::open(folder)?;
        let mut book = Book::default();
        for (name, file) in folder.read::<AccountFile>()? {
            let damaged = |why: String| folder.damaged(&name, why);
            let payer = name
                .parse()
                .map_err(|_| damaged("its name is no address".into()))?;
            book.restore(payer, file.read().map_err(damaged)?);
        }
        for (payer, total) in grants {
            book.grant(payer, total);
        }
        let kept = Arc::new(Mutex::new(Kept {
            book,
            hints: Hints::default(),
            folder,
        }));
        let chain = x402::chain();
        let payee = Payee {
            wanted: Requirements {
                receiver: account,
                receiver_authorizer: account,
                token: chain.token,
                withdraw_delay_s: MIN_WITHDRAW_DELAY_S,
            },
            scheme: chain.channels_deployment(),
        };
        Ok(Self {
            payee,
            prices,
            kept,
        })
    }

    /// Checks and reserves; on the disk when this returns.
    fn take(&self, paid: &Paid, quote: Quote) -> Result<Due, Refusal> {
        let total = self.check(paid);
        let total = total.map_err(|why| quote.refused(&self.payee, why, None))?;
        let (payer, channel) = (paid.config.payer, paid.voucher.channel);
        let offer = Offer {
            owner: payer,
            channel: paid.config.salt,
            total,
            signature: paid.voucher.signature,
            body: quote.body,
        };
        let mut kept = self.kept.lock();
        let before = kept.book.clone_account(payer);
        let admitted = kept.book.admit(&offer, quote.price).map_err(|denied| {
            let mut why = Why::from(denied);
            if denied == Denied::Unknown {
                why.message = format!(
                    "this server grants {payer} nothing; ask its owner for an allowance (`serve --allow {payer}=AMOUNT`)"
                );
            }
            let at = kept.state(channel, payer, offer.channel);
            quote::denied(&quote, &self.payee, (&denied, why), &at)
        })?;
        if let Err(error) = kept.store(payer) {
            kept.book.put_back(payer, before);
            tracing::error!("a voucher cannot be kept, so its request is refused: {error}");
            return Err(quote::not_kept());
        }
        kept.hints.note(quote.consumer, (payer, offer.channel));
        Ok(Due {
            till: self.clone(),
            channel,
            admitted: Some(admitted),
            seed: quote::seed(channel, &offer),
            quote,
        })
    }

    /// Whether a payment is a voucher for this server by the account that it draws on. Gives its total.
    fn check(&self, paid: &Paid) -> Result<MicroOpen, Why> {
        match paid.kind {
            Kind::Voucher => {}
            Kind::Deposit(..) => {
                let message = "this server grants allowances and takes no deposits; send a voucher alone (with x402's client, \
                               `depositStrategy: () => false`), and ask the server's owner for an allowance";
                return Err(Why::new("deposits_not_taken", message));
            }
            Kind::Refund => {
                let message =
                    "nothing is deposited at this server, so it gives nothing back; stop asking it";
                return Err(Why::new("refunds_not_given", message));
            }
        }
        paid.config.check(&self.payee.wanted)?;
        if paid.config.payer_authorizer != paid.config.payer {
            let message = "an allowance is drawn on by its own account; name the payer as payerAuthorizer, and sign with its key";
            return Err(Why::new("other_authorizer", message));
        }
        paid.voucher.verify(&paid.config, &self.payee.scheme)?;
        let total = paid.voucher.max.to_micro();
        Ok(total.map_err(tributary_attribution::voucher::VoucherError::from)?)
    }
}

impl Kept {
    fn store(&self, payer: Address) -> Result<(), DiskError> {
        match self.book.accounts.get(&payer) {
            Some(account) => write(&self.folder, payer, account),
            None => Ok(()),
        }
    }

    /// What a channel stands at. In a chain's place there is the grant.
    fn state(&self, channel: ChannelId, payer: Address, salt: Salt) -> State {
        let standing = self.book.standing(payer, salt);
        let chain = OnChain {
            deposit: x402::units(standing.granted),
            ..OnChain::default()
        };
        State {
            channel,
            standing,
            chain,
        }
    }
}

fn write(folder: &Folder, payer: Address, account: &Account) -> Result<(), DiskError> {
    folder.write(&payer.to_string(), &AccountFile::of(account))
}

impl Till for Allowance {
    fn admit<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>> {
        let quote = Quote::of(&asked, self.prices);
        let payment = quote::payment(asked.headers);
        Box::pin(async move {
            let Some(payment) = payment? else {
                let kept = self.kept.lock();
                let last = kept.hints.of(&quote.consumer);
                let stands = last.map(|(payer, salt)| kept.book.standing(payer, salt));
                return Err(quote.unpaid(&self.payee, stands.as_ref()));
            };
            let paid = payment.understood(&self.payee.scheme);
            let paid = paid.map_err(|why| quote::malformed(&why.to_string()))?;
            let till = self.clone();
            // Waits for the disk.
            let taken = tokio::task::spawn_blocking(move || till.take(&paid, quote)).await;
            let due = taken
                .unwrap_or_else(|_| Err(Refusal::internal("the till failed; please report it")))?;
            Ok(Box::new(due) as Box<dyn Bill>)
        })
    }
}

/// A request that is paid for.
struct Due {
    till: Allowance,
    channel: ChannelId,
    quote: Quote,
    /// None once it is settled.
    admitted: Option<Admitted<Address>>,
    seed: u64,
}

impl Due {
    /// Charges what was made; on the disk when this returns.
    fn settled(&mut self, made: Made) -> Receipt {
        let Some(admitted) = self.admitted.take() else {
            return Receipt::default();
        };
        let payer = admitted.owner;
        let mut kept = self.till.kept.lock();
        let charged = kept.book.settle(&admitted, self.quote.cost(&made));
        if let Err(error) = kept.store(payer) {
            tracing::error!(
                "a charge of {} micro-OPEN is kept in memory alone: {error}",
                charged.0
            );
        }
        let at = kept.state(self.channel, payer, admitted.channel);
        drop(kept);
        quote::receipt((payer, &self.till.payee.scheme), &at, charged, &made)
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

#[cfg(test)]
mod tests;
