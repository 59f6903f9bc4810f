//! A till that draws on what this server's owner grants to each consumer's key.
//!
//! ```text
//!   request ─▶ 402, PAYMENT-REQUIRED: what it may cost, to whom
//!   request, PAYMENT-SIGNATURE ─▶ x402 (shape) ─▶ voucher (signature) ─▶ book (covers it?) ─▶ disk ─▶ answered
//!   answer  ─▶ book (what was made is charged) ─▶ disk ─▶ PAYMENT-RESPONSE
//! ```
//!
//! No chain is asked: the owner trusts those that it grants something. With a chain behind it, the grant becomes a channel's
//! deposit; what else is here stays. A voucher is on the disk before its request is computed, and a charge before the client
//! hears of it.

mod book;
mod disk;

use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::{MicroOpen, PeerId};

pub use book::{Admitted, Book, Denied, Offer, Prices, Standing};
pub use disk::DiskError;

use super::Refusal;
use super::till::{Asked, Bill, Made, Receipt, Till};
use super::voucher::Channel;
use super::x402::{self, Paid, Payment, Required, Settled, Terms};
use disk::Folder;

/// Draws on allowances. Clones share them.
#[derive(Clone, Debug)]
pub struct Allowance {
    server: PeerId,
    prices: Prices,
    kept: Arc<Mutex<Kept>>,
}

/// What is in memory and on the disk alike.
#[derive(Debug)]
struct Kept {
    book: Book,
    folder: Folder,
}

impl Allowance {
    /// Reads what was spent before from `folder`, and grants each consumer so much in all.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(
        folder: &Path,
        server: PeerId,
        prices: Prices,
        grants: impl IntoIterator<Item = (PeerId, MicroOpen)>,
    ) -> Result<Self, DiskError> {
        let folder = Folder::open(folder)?;
        let mut book = Book::default();
        for (consumer, account) in folder.read()? {
            book.restore(consumer, account);
        }
        for (consumer, total) in grants {
            book.grant(consumer, total);
        }
        let kept = Arc::new(Mutex::new(Kept { book, folder }));
        Ok(Self {
            server,
            prices,
            kept,
        })
    }

    /// Checks and reserves; on the disk when this returns.
    fn take(&self, paid: &Paid, price: MicroOpen, asked: &Want) -> Result<Due, Refusal> {
        if paid.channel.server != self.server {
            let message = format!(
                "the voucher is for the server {}, and this is {}; sign one for this server",
                paid.channel.server.short(),
                self.server.short()
            );
            return Err(self.refused("wrong_server", message, price, asked, None));
        }
        if !paid.channel.is_signed(paid.total, &paid.signature) {
            let message = "the voucher's signature is not its payer's; sign channel and total with the payer's key";
            return Err(self.refused("bad_signature", message.into(), price, asked, None));
        }
        let offer = Offer {
            consumer: paid.channel.consumer,
            channel: paid.channel.number,
            total: paid.total,
            signature: paid.signature.0,
            body: asked.body,
        };
        let mut kept = self.kept.lock();
        let before = kept.book.clone_account(offer.consumer);
        let admitted = (kept.book.admit(&offer, price)).map_err(|denied| {
            let standing = kept.book.standing(offer.consumer, offer.channel);
            self.denied(denied, price, asked, (&paid.channel, &standing))
        })?;
        if let Err(error) = kept.store(offer.consumer) {
            kept.book.put_back(offer.consumer, before);
            tracing::error!("a voucher cannot be kept, so its request is refused: {error}");
            let message = "the server cannot write the voucher down and takes none now; ask again later, or another server";
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "voucher_not_kept",
                message,
            ));
        }
        Ok(Due {
            till: self.clone(),
            channel: paid.channel,
            admitted: Some(admitted),
            seed: seed(&paid.channel, &offer),
        })
    }

    fn denied(
        &self,
        denied: Denied,
        price: MicroOpen,
        asked: &Want,
        at: (&Channel, &Standing),
    ) -> Refusal {
        let (code, message) = (denied.code(), denied.to_string());
        match denied {
            Denied::InFlight => Refusal {
                retry_after_s: Some(1),
                ..Refusal::new(StatusCode::CONFLICT, code, message)
            },
            Denied::TooManyOpen => Refusal::busy(code, message, 1),
            _ => self.refused(code, message, price, asked, Some(at)),
        }
    }

    /// A 402 that says how to pay, and to whoever showed that the channel is its own, what that stands at.
    fn refused(
        &self,
        code: &'static str,
        message: String,
        price: MicroOpen,
        asked: &Want,
        at: Option<(&Channel, &Standing)>,
    ) -> Refusal {
        let mut extra = Map::new();
        extra.insert(
            "pricePrompt".into(),
            self.prices.prompt.0.to_string().into(),
        );
        extra.insert(
            "priceAnswer".into(),
            self.prices.answer.0.to_string().into(),
        );
        extra.insert("promptTokens".into(), asked.prompt_tokens.into());
        extra.insert("maxTokens".into(), asked.max_tokens.into());
        if let Some((channel, standing)) = at {
            extra.extend(states(channel, standing));
        }
        let terms = Terms::new(self.server, price, extra);
        let required = Required::new(code, asked.url.clone(), terms);
        Refusal {
            headers: vec![
                named(x402::REQUIRED, &required),
                // What one consumer may pay is nobody else's answer.
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
            ..Refusal::new(StatusCode::PAYMENT_REQUIRED, code, message)
        }
    }
}

impl Kept {
    fn store(&self, consumer: PeerId) -> Result<(), DiskError> {
        match self.book.accounts.get(&consumer) {
            Some(account) => self.folder.write(consumer, account),
            None => Ok(()),
        }
    }
}

/// What is asked for, of itself.
struct Want {
    url: String,
    prompt_tokens: usize,
    max_tokens: usize,
    body: tributary_protocol::hash::Digest,
}

impl Till for Allowance {
    fn admit<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>> {
        let price = self.prices.cost(asked.prompt_tokens, asked.max_tokens);
        let host = asked
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let want = Want {
            url: format!("http://{}/v1", host.unwrap_or("localhost")),
            prompt_tokens: asked.prompt_tokens,
            max_tokens: asked.max_tokens,
            body: asked.body,
        };
        let mut payments = asked.headers.get_all(x402::SIGNATURE).iter();
        let payment = (payments.next(), payments.next());
        let paid = match payment {
            (None, _) => {
                let message = format!(
                    "this server is paid: the request may cost {} micro-OPEN. Send a voucher in PAYMENT-SIGNATURE as \
                     PAYMENT-REQUIRED says, or ask through `tributary gateway`, which does",
                    price.0
                );
                Err(self.refused("payment_required", message, price, &want, None))
            }
            (Some(payment), None) => x402::decoded(payment.as_bytes())
                .and_then(|payment: Payment| payment.understood())
                .map_err(|why| malformed(&why.to_string())),
            (Some(_), Some(_)) => Err(malformed("there are two of it")),
        };
        Box::pin(async move {
            let (paid, till) = (paid?, self.clone());
            // Waits for the disk.
            let taken = tokio::task::spawn_blocking(move || till.take(&paid, price, &want)).await;
            let due = taken
                .unwrap_or_else(|_| Err(Refusal::internal("the till failed; please report it")))?;
            Ok(Box::new(due) as Box<dyn Bill>)
        })
    }
}

fn malformed(why: &str) -> Refusal {
    let message = format!("PAYMENT-SIGNATURE is not understood: {why}");
    Refusal::new(StatusCode::BAD_REQUEST, "payment_malformed", message)
}

/// A request that is paid for.
struct Due {
    till: Allowance,
    channel: Channel,
    /// None once it is settled.
    admitted: Option<Admitted>,
    seed: u64,
}

impl Due {
    /// Charges what was made; on the disk when this returns.
    fn settled(&mut self, made: Made) -> Receipt {
        let Some(admitted) = self.admitted.take() else {
            return Receipt::default();
        };
        let cost = self
            .till
            .prices
            .cost(made.prompt_tokens, made.answer_tokens);
        let cost = Some(cost).filter(|_| !made.failed);
        let mut kept = self.till.kept.lock();
        let charged = kept.book.settle(&admitted, cost);
        if let Err(error) = kept.store(admitted.consumer) {
            tracing::error!(
                "a charge of {} micro-OPEN is kept in memory alone: {error}",
                charged.0
            );
        }
        let standing = kept.book.standing(admitted.consumer, admitted.channel);
        drop(kept);
        let mut extra = states(&self.channel, &standing);
        extra.insert("chargedAmount".into(), charged.0.to_string().into());
        extra.insert("promptTokens".into(), made.prompt_tokens.into());
        extra.insert("answerTokens".into(), made.answer_tokens.into());
        let settled = Settled {
            success: true,
            payer: x402::address(admitted.consumer),
            transaction: String::new(),
            network: x402::network(),
            amount: charged.0.to_string(),
            extra,
        };
        let event = serde_json::to_value(&settled).expect("texts and numbers always serialise");
        Receipt {
            headers: vec![named(x402::RESPONSE, &settled)],
            event: Some(("payment".into(), event)),
        }
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

/// The seed of a request that names none: another for each voucher, the same for each repeat, also where the consumer
/// signs the same voucher anew.
fn seed(channel: &Channel, offer: &Offer) -> u64 {
    let mut hasher = Hasher::new(Domain::Repeat);
    hasher
        .update(channel.id().as_bytes())
        .update(&offer.total.0.to_le_bytes())
        .update(offer.body.as_bytes());
    let digest = hasher.finalize();
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk()
        .expect("32 bytes hold 8");
    u64::from_le_bytes(*first)
}

/// What a channel stands at, as `batch-settlement` has it, and what is left of the grant.
fn states(channel: &Channel, standing: &Standing) -> Map<String, Value> {
    let all = json!({
        "channelState": {
            "channelId": format!("0x{}", channel.id()),
            "balance": standing.granted.0.to_string(),
            "totalClaimed": "0",
            "withdrawRequestedAt": 0,
            "refundNonce": "0",
            "chargedCumulativeAmount": standing.charged.0.to_string(),
        },
        "voucherState": {
            "signedMaxClaimable": standing.highest.0.to_string(),
            "signature": format!("0x{}", HEXLOWER.encode(&standing.signature)),
        },
        "reserved": standing.reserved.0.to_string(),
        "left": standing.left.0.to_string(),
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn named(name: &'static str, value: &impl serde::Serialize) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&x402::encoded(value)).expect("base64 is plain text");
    (HeaderName::from_static(name), value)
}

#[cfg(test)]
mod tests;
