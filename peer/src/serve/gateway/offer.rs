//! What one server is offered for one request: a voucher, and a deposit where the channel lacks money.

use std::sync::Arc;

use axum::http::HeaderValue;
use tributary_attribution::settlement::{BaseUnits, Signature};
use tributary_attribution::voucher::{ChannelConfig, Requirements, Voucher};
use tributary_protocol::id::MicroOpen;

use super::super::book::Prices;
use super::super::head::now;
use super::super::x402::{self, Payment, Terms};
use super::House;
use super::ask::{Failed, Promise};
use super::count::Want;
use super::purse::{Account, Purse, Unsigned};
use tributary_attribution::voucher::Authorization;

/// How long a deposit is good that was signed, in seconds: until some certificates of a slow run.
const DEPOSIT_S: u64 = 3600;
/// The salt of channels that hold deposits. It is the same in every life of a gateway, so that what is left in a channel is
/// spent by the next one.
const FUNDED: [u8; 32] = [0; 32];

/// What a server asks for one request.
struct Price {
    wanted: Requirements,
    all: MicroOpen,
    prices: Prices,
}

/// Reads terms, and checks that they are no more than the request can cost.
fn fair(want: &Want, terms: &Terms) -> Result<Price, String> {
    let wrong = |why: x402::Malformed| format!("PAYMENT-REQUIRED: {why}");
    let wanted = terms.requirements().map_err(wrong)?;
    // `amount` is more where another client of this machine has signed a higher total.
    let all = match terms.extra.contains_key("price") {
        true => terms.extra_amount("price"),
        false => terms.amount(),
    };
    let all = all.map_err(wrong)?;
    let prices = Prices {
        prompt: terms.extra_amount("pricePrompt").map_err(wrong)?,
        answer: terms.extra_amount("priceAnswer").map_err(wrong)?,
    };
    let count = |name: &str| terms.extra.get(name).and_then(|count| count.as_u64());
    let count = |name: &str| count(name).unwrap_or(0) as usize;
    let (prompt_tokens, max_tokens) = (count("promptTokens"), count("maxTokens"));
    let is_fair = prompt_tokens <= want.prompt_tokens
        && want.max_tokens.is_none_or(|most| max_tokens <= most)
        && all <= prices.cost(prompt_tokens, max_tokens);
    if !is_fair {
        let most = want.max_tokens;
        return Err(format!(
            "it wants {} micro-OPEN for {prompt_tokens} tokens of prompt and at most {max_tokens} of answer; the request has at \
             most {} and {}",
            all.0,
            want.prompt_tokens,
            most.map_or_else(|| "as many as fit".into(), |most| most.to_string()),
        ));
    }
    Ok(Price {
        wanted,
        all,
        prices,
    })
}

/// The channel to a server: one that keeps its deposit where the server passes money on to a run, else a new one for each
/// start, because what an earlier life signed of an allowance is not known any more.
fn channel(house: &House, wanted: &Requirements) -> ChannelConfig {
    let takes_deposits = wanted.receiver != wanted.receiver_authorizer;
    let payer = house.key.address();
    ChannelConfig {
        payer,
        payer_authorizer: payer,
        receiver: wanted.receiver,
        receiver_authorizer: wanted.receiver_authorizer,
        token: wanted.token,
        withdraw_delay_s: wanted.withdraw_delay_s,
        salt: match takes_deposits {
            true => FUNDED,
            false => house.salt,
        },
    }
}

/// Takes over what the server shows of the channel: the highest voucher, if this key signed it, and its balance.
fn learn(purse: &mut Purse, account: Account, house: &House, terms: &Terms) {
    let amount = |of, name| x402::micro(name, terms.state(of, name)?).ok();
    let scheme = x402::chain().channels_deployment();
    if let (Some(charged), Some(signed), Some(signature)) = (
        amount("channelState", "chargedCumulativeAmount"),
        amount("voucherState", "signedMaxClaimable"),
        terms.state("voucherState", "signature"),
    ) {
        let signature: Option<Signature> = x402::signature("signature", signature).ok();
        let digest = Voucher::digest(account.1, x402::units(signed), &scheme);
        let signer = signature.and_then(|signature| signature.recover(&digest).ok());
        if signer == Some(house.key.address()) {
            purse.adopt(account, charged, signed);
        }
    }
    let balance = terms.state("channelState", "balance");
    let balance = balance.and_then(|text| x402::amount("balance", text).ok());
    if let Some(balance) = balance {
        purse.see(account, BaseUnits::to_micro_floor(balance));
    }
}

/// Promises a server what the request may cost, if that is what it can cost.
pub(super) fn sign(
    house: &Arc<House>,
    at: usize,
    want: &Want,
    terms: Terms,
) -> Result<(Promise, HeaderValue), Failed> {
    let asked = fair(want, &terms).map_err(Failed::fault)?;
    let (server, price, prices) = (asked.wanted.receiver_authorizer, asked.all, asked.prices);
    let config = channel(house, &asked.wanted);
    let scheme = x402::chain().channels_deployment();
    let account = (server, config.id(&scheme));
    let (total, deposit) = {
        let mut state = house.state.lock();
        let known = *state.keys[at].get_or_insert(server);
        if known != server {
            let why =
                "it names another account than before; start the gateway anew if that is meant";
            return Err(Failed::fault(why));
        }
        state.seen[at].prices = Some(prices);
        let purse = &mut state.purse;
        if config.salt == FUNDED {
            learn(purse, account, house, &terms);
        }
        promised(purse, account, price, &terms).map_err(|why| Failed::Here {
            why: why.to_string(),
            is_busy: false,
            is_fault: false,
        })?
    };
    let mut promise = Promise::new(house, at, account, (price, prices), deposit);
    promise.request = (house.agrees && config.salt == FUNDED).then_some(want.request);
    let payment = payment(house, &config, terms, (total, deposit));
    Ok((promise, payment.map_err(Failed::fault)?))
}

/// The total of the next voucher, and what has to be deposited for it.
fn promised(
    purse: &mut Purse,
    account: Account,
    price: MicroOpen,
    terms: &Terms,
) -> Result<(MicroOpen, Option<MicroOpen>), Unsigned> {
    let claimed = terms.state("channelState", "chargedCumulativeAmount");
    let claimed = claimed.and_then(|text| x402::micro("charged", text).ok());
    let total = purse.sign(account, price, claimed)?;
    let deposit = purse.deposit(account, total, price);
    if deposit.is_err() {
        purse.take_back(account, price);
    }
    Ok((total, deposit?))
}

/// Signs, and writes it down as a header.
fn payment(
    house: &House,
    config: &ChannelConfig,
    terms: Terms,
    (total, deposit): (MicroOpen, Option<MicroOpen>),
) -> Result<HeaderValue, String> {
    let scheme = x402::chain().channels_deployment();
    let units = |amount| BaseUnits::from_micro(amount).map_err(|why| why.to_string());
    let (channel, max) = (config.id(&scheme), units(total)?);
    let voucher = Voucher {
        channel,
        max,
        signature: house.key.sign(&Voucher::digest(channel, max, &scheme)),
    };
    let deposit = deposit.map(|amount| {
        let amount = units(amount)?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)
            .map_err(|e| format!("the system gives no random numbers: {e}"))?;
        let (token, times) = (x402::token(), 0..now() + DEPOSIT_S);
        let signed = Authorization::sign(&house.key, config, amount, &scheme, &token, times, salt);
        Ok::<_, String>((amount, signed))
    });
    let deposit = deposit.transpose()?;
    let deposit = deposit.as_ref().map(|(amount, signed)| (*amount, signed));
    let payment = Payment::new(terms, config, &voucher, deposit);
    Ok(HeaderValue::from_str(&x402::encoded(&payment)).expect("base64 is plain text"))
}
