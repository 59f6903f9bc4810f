//! What tills have in common: what one request may cost, the 402 that says so, and the receipt.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tributary_attribution::settlement::{Address, Deployment, Signature};
use tributary_attribution::voucher::{
    ChannelId, ConfigError, OnChain, Requirements, VoucherError, Withdrawal,
};
use tributary_engine::request::Consumer;
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::MicroOpen;

use super::Refusal;
use super::book::{Denied, Offer, Prices, Standing};
use super::till::{Asked, Made, Receipt};
use super::x402::{self, Payment, Required, Settled, Terms};

/// Clients whose channel is remembered, so that they are asked for a total that it does not have yet.
const MOST_HINTS: usize = 1024;

/// One request, and what it may cost.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    url: String,
    pub(super) prompt_tokens: usize,
    max_tokens: usize,
    pub(super) body: Digest,
    pub(super) consumer: Consumer,
    prices: Prices,
    pub(super) price: MicroOpen,
}

/// Who is paid, and through which contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payee {
    pub(super) wanted: Requirements,
    pub(super) scheme: Deployment,
}

/// What a channel stands at, in the books and on the chain.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) channel: ChannelId,
    pub(super) standing: Standing,
    pub(super) chain: OnChain,
}

/// Why a request is not answered: a stable code, the `error` that x402's clients read, and a sentence.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) code: &'static str,
    error: &'static str,
    pub(super) message: String,
}

impl Why {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            error: code,
            message: message.into(),
        }
    }
}

impl From<ConfigError> for Why {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Other { field: "token", .. } => "wrong_token",
            ConfigError::Other { .. } => "wrong_server",
            ConfigError::OtherDelay { .. } | ConfigError::Delay(_) => "wrong_delay",
        };
        Self::new(code, error.to_string())
    }
}

impl From<VoucherError> for Why {
    fn from(error: VoucherError) -> Self {
        let (code, stock) = match error {
            VoucherError::OtherChannel { .. } => ("other_channel", None),
            VoucherError::Signature(_) | VoucherError::OtherSigner { .. } => {
                ("bad_signature", None)
            }
            VoucherError::Amount(_) => ("voucher_amount", None),
            VoucherError::Lower { .. } | VoucherError::Claimed { .. } => {
                ("voucher_falling", Some(x402::MISMATCH))
            }
            VoucherError::AboveDeposit { .. } => ("voucher_above_deposit", Some(x402::EXCEEDS)),
            VoucherError::Closing { .. } => ("channel_closing", None),
        };
        let message = error.to_string();
        Self {
            code,
            error: stock.unwrap_or(code),
            message,
        }
    }
}

impl From<Denied> for Why {
    fn from(denied: Denied) -> Self {
        let code = denied.code();
        let is_stale = matches!(
            denied,
            Denied::Falling { .. }
                | Denied::Replayed
                | Denied::RepeatedTooOften
                | Denied::TooLow { .. }
        );
        Self {
            code,
            error: if is_stale { x402::MISMATCH } else { code },
            message: denied.to_string(),
        }
    }
}

impl Quote {
    pub(super) fn of(asked: &Asked<'_>, prices: Prices) -> Self {
        let host = asked.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        Self {
            url: format!("http://{}/v1", host.unwrap_or("localhost")),
            prompt_tokens: asked.prompt_tokens,
            max_tokens: asked.max_tokens,
            body: asked.body,
            consumer: asked.consumer,
            prices,
            price: prices.cost(asked.prompt_tokens, asked.max_tokens),
        }
    }

    /// The 402 of a request that came without a payment. `stands` is what the client's channel is thought to stand at.
    pub(super) fn unpaid(&self, payee: &Payee, stands: Option<&Standing>) -> Refusal {
        let message = format!(
            "this server is paid: the request may cost {} micro-OPEN. Send a voucher in PAYMENT-SIGNATURE as PAYMENT-REQUIRED \
             says, or ask through `tributary gateway`, which does",
            self.price.0
        );
        let why = Why::new("payment_required", message);
        self.required(payee, why, stands, Map::new())
    }

    /// The 402 of a payment that is refused. `at` is what the channel stands at, for a payer that showed that it is its own.
    pub(super) fn refused(&self, payee: &Payee, why: Why, at: Option<&State>) -> Refusal {
        let states = at.map(states).unwrap_or_default();
        self.required(payee, why, at.map(|at| &at.standing), states)
    }

    fn required(
        &self,
        payee: &Payee,
        why: Why,
        stands: Option<&Standing>,
        states: Map<String, Value>,
    ) -> Refusal {
        let mut extra = Map::new();
        for (name, amount) in [
            ("price", self.price),
            ("pricePrompt", self.prices.prompt),
            ("priceAnswer", self.prices.answer),
        ] {
            extra.insert(name.into(), x402::text(amount).into());
        }
        extra.insert("promptTokens".into(), self.prompt_tokens.into());
        extra.insert("maxTokens".into(), self.max_tokens.into());
        extra.extend(states);
        let amount = stands.map_or(self.price, |standing| self.rise(standing));
        let terms = Terms::new(&payee.wanted, &payee.scheme, amount, extra);
        let required = Required::new(why.error, self.url.clone(), terms);
        Refusal {
            headers: vec![
                named(x402::REQUIRED, &required),
                // What one consumer may pay is nobody else's answer.
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
            ..Refusal::new(StatusCode::PAYMENT_REQUIRED, why.code, why.message)
        }
    }

    /// By how much the next total has to be above what was charged: it covers open requests and this one, and is above every
    /// total before. Clients of x402 know what was charged and sign that and this.
    fn rise(&self, standing: &Standing) -> MicroOpen {
        let price = self.price.0.saturating_add(standing.reserved.0);
        MicroOpen(price.max(standing.highest.0 + 1 - standing.charged.0))
    }

    /// What the answer cost.
    pub(super) fn cost(&self, made: &Made) -> Option<MicroOpen> {
        let cost = self.prices.cost(made.prompt_tokens, made.answer_tokens);
        Some(cost).filter(|_| !made.failed)
    }
}

/// The payment of a request, if there is one.
pub(super) fn payment(headers: &HeaderMap) -> Result<Option<Payment>, Refusal> {
    let mut payments = headers.get_all(x402::SIGNATURE).iter();
    match (payments.next(), payments.next()) {
        (None, _) => Ok(None),
        (Some(payment), None) => {
            let payment = x402::decoded(payment.as_bytes());
            payment.map(Some).map_err(|why| malformed(&why.to_string()))
        }
        (Some(_), Some(_)) => Err(malformed("there are two of it")),
    }
}

pub(super) fn malformed(why: &str) -> Refusal {
    let message = format!("PAYMENT-SIGNATURE is not understood: {why}");
    Refusal::new(StatusCode::BAD_REQUEST, "payment_malformed", message)
}

/// A voucher that is refused by the book: a request to wait, or a 402.
pub(super) fn denied(
    quote: &Quote,
    payee: &Payee,
    (denied, why): (&Denied, Why),
    at: &State,
) -> Refusal {
    match denied {
        Denied::InFlight => Refusal {
            retry_after_s: Some(1),
            ..Refusal::new(StatusCode::CONFLICT, why.code, why.message)
        },
        Denied::TooManyOpen => Refusal::busy(why.code, why.message, 1),
        _ => quote.refused(payee, why, Some(at)),
    }
}

/// A voucher that cannot be written down.
pub(super) fn not_kept() -> Refusal {
    let message = "the server cannot write the voucher down and takes none now; ask again later, or another server";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "voucher_not_kept", message)
}

/// The seed of a request that names none: another for each voucher, the same for each repeat, also where the payer signs
/// the same voucher anew.
pub(super) fn seed<K>(channel: ChannelId, offer: &Offer<K>) -> u64 {
    let mut hasher = Hasher::new(Domain::Repeat);
    hasher
        .update(&channel.0.0)
        .update(&offer.total.0.to_le_bytes())
        .update(offer.body.as_bytes());
    let digest = hasher.finalize();
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk()
        .expect("32 bytes hold 8");
    u64::from_le_bytes(*first)
}

/// What a client is told that its request cost.
pub(super) fn receipt(
    (payer, scheme): (Address, &Deployment),
    at: &State,
    charged: MicroOpen,
    made: &Made,
) -> Receipt {
    let mut extra = states(at);
    extra.insert("chargedAmount".into(), x402::text(charged).into());
    extra.insert("promptTokens".into(), made.prompt_tokens.into());
    extra.insert("answerTokens".into(), made.answer_tokens.into());
    let settled = Settled {
        success: true,
        payer: payer.to_string(),
        transaction: String::new(),
        network: x402::network(scheme),
        amount: x402::text(charged),
        extra,
    };
    let event = serde_json::to_value(&settled).expect("texts and numbers always serialise");
    Receipt {
        headers: vec![named(x402::RESPONSE, &settled)],
        event: Some(("payment".into(), event)),
    }
}

/// What a channel stands at, as `batch-settlement` has it, and what is left to spend.
fn states(at: &State) -> Map<String, Value> {
    let (standing, chain) = (&at.standing, &at.chain);
    let announced_s = chain
        .withdrawal
        .map_or(0, |Withdrawal { announced_s, .. }| announced_s);
    let mut all = Map::new();
    all.insert(
        "channelState".into(),
        json!({
            "channelId": at.channel.to_string(),
            "balance": chain.deposit.0.to_string(),
            "totalClaimed": chain.claimed.0.to_string(),
            "withdrawRequestedAt": announced_s,
            "refundNonce": chain.refund_nonce.to_string(),
            "chargedCumulativeAmount": x402::text(standing.charged),
        }),
    );
    if let Some(signature) = standing.signature {
        let voucher = json!({
            "signedMaxClaimable": x402::text(standing.highest),
            "signature": Signature::to_string(&signature),
        });
        all.insert("voucherState".into(), voucher);
    }
    all.insert("reserved".into(), x402::text(standing.reserved).into());
    all.insert("left".into(), x402::text(standing.left).into());
    all
}

pub(super) fn named(
    name: &'static str,
    value: &impl serde::Serialize,
) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&x402::encoded(value)).expect("base64 is plain text");
    (HeaderName::from_static(name), value)
}

/// Which channel a client used last. A client of x402 signs what it knows to be charged and what the first 402 asks for; where
/// its last request was dearer, that sum may be a total that it signed before, so that 402 asks for more.
#[derive(Clone, Debug)]
pub(super) struct Hints<C>(BTreeMap<Consumer, C>);

impl<C> Default for Hints<C> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<C: Copy> Hints<C> {
    pub(super) fn note(&mut self, consumer: Consumer, channel: C) {
        if self.0.len() >= MOST_HINTS && !self.0.contains_key(&consumer) {
            self.0.pop_first();
        }
        self.0.insert(consumer, channel);
    }

    pub(super) fn of(&self, consumer: &Consumer) -> Option<C> {
        self.0.get(consumer).copied()
    }
}
