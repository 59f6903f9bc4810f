//! Payments in HTTP headers, as x402 version 2 writes them: base64 of JSON.
//!
//! The scheme is `batch-settlement` on the test chain; shapes, names and units are those of `@x402/core` and `@x402/evm`
//! 2.27. Amounts are base units, 10^12 of one micro-OPEN, as text. What is read here has the right form and is not checked
//! yet: whom a channel pays, who signed a voucher and what it covers are the tills' questions.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tributary_attribution::settlement::{Address, BaseUnits, Deployment, Keccak, Signature};
use tributary_attribution::test_chain::{Deployed, TestChain};
use tributary_attribution::voucher::{
    self, Authorization, ChannelId, Requirements, TokenDomain, Voucher,
};
use tributary_protocol::id::MicroOpen;

/// Of a 402: what a payment needs.
pub(super) const REQUIRED: &str = "payment-required";
/// Of a request: the payment.
pub(super) const SIGNATURE: &str = "payment-signature";
/// Of an answer: what was charged.
pub(super) const RESPONSE: &str = "payment-response";

/// The version of the protocol.
const VERSION: u32 = 2;
/// The one scheme.
const SCHEME: &str = "batch-settlement";
/// How long an answer may take, in seconds. A deposit that is signed for one is good as long.
const TIMEOUT_S: u64 = 600;
/// Longest header, in bytes: a payment has about 3,000.
const MOST_BYTES: usize = 16 << 10;

/// The `error` of a 402 after which clients take over what the server shows of the channel, and try again.
pub(super) const MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";
/// That of a voucher above the channel's deposit.
pub(super) const EXCEEDS: &str = "invalid_batch_settlement_evm_cumulative_exceeds_balance";

/// Why a header is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

/// `PAYMENT-REQUIRED`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Required {
    pub(super) x402_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) resource: Value,
    pub(super) accepts: Vec<Terms>,
}

/// One way to pay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Terms {
    pub(super) scheme: String,
    pub(super) network: String,
    /// By how much the channel's next total has to be above what was charged.
    pub(super) amount: String,
    pub(super) asset: String,
    pub(super) pay_to: String,
    pub(super) max_timeout_seconds: u64,
    #[serde(default)]
    pub(super) extra: Map<String, Value>,
}

/// `PAYMENT-SIGNATURE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payment {
    pub(super) x402_version: u32,
    pub(super) accepted: Terms,
    pub(super) payload: Payload,
}

/// What pays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) channel_config: ChannelConfig,
    pub(super) voucher: VoucherFields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deposit: Option<DepositFields>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChannelConfig {
    pub(super) payer: String,
    pub(super) payer_authorizer: String,
    pub(super) receiver: String,
    pub(super) receiver_authorizer: String,
    pub(super) token: String,
    pub(super) withdraw_delay: u32,
    pub(super) salt: String,
}

/// A voucher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VoucherFields {
    pub(super) channel_id: String,
    pub(super) max_claimable_amount: String,
    pub(super) signature: String,
}

/// A deposit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DepositFields {
    pub(super) amount: String,
    pub(super) authorization: Authorizations,
}

/// The ways to sign a deposit, of which one is taken here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorizations {
    pub(super) erc3009_authorization: Option<Erc3009>,
}

/// A payment of the token, signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Erc3009 {
    pub(super) valid_after: String,
    pub(super) valid_before: String,
    pub(super) salt: String,
    pub(super) signature: String,
}

/// `PAYMENT-RESPONSE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settled {
    pub(super) success: bool,
    pub(super) payer: String,
    /// Of a chain: none, because claims come later.
    pub(super) transaction: String,
    pub(super) network: String,
    /// What this request cost.
    pub(super) amount: String,
    #[serde(default)]
    pub(super) extra: Map<String, Value>,
}

/// What a payment says, once it is understood. Nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Paid {
    pub(super) config: voucher::ChannelConfig,
    pub(super) voucher: Voucher,
    pub(super) kind: Kind,
}

/// What a payment brings beside its voucher.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Nothing.
    Voucher,
    /// Money for the channel.
    Deposit(BaseUnits, Authorization),
    /// The wish to have money back.
    Refund,
}

/// What payers sign deposits for.
pub(super) fn token() -> TokenDomain<'static> {
    chain().token_domain()
}

/// Where the test chain's contracts lie, and which token they take.
pub(super) fn chain() -> Deployed {
    TestChain::deployed()
}

/// A chain, as CAIP-2 writes such names.
pub(super) fn network(scheme: &Deployment) -> String {
    format!("eip155:{}", scheme.chain.0)
}

/// An amount on the wire. One that no chain can hold reads as the most that it can.
pub(super) fn units(amount: MicroOpen) -> BaseUnits {
    BaseUnits::from_micro(amount).unwrap_or(BaseUnits(u128::MAX))
}

/// The same as text.
pub(super) fn text(amount: MicroOpen) -> String {
    units(amount).0.to_string()
}

/// Bytes, as a chain writes them.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("0x{}", HEXLOWER.encode(bytes))
}

impl Terms {
    /// What a server that is paid so takes, in a request whose total has to rise by `amount`.
    pub(super) fn new(
        wanted: &Requirements,
        scheme: &Deployment,
        amount: MicroOpen,
        extra: Map<String, Value>,
    ) -> Self {
        let mut all = Map::new();
        let authorizer = wanted.receiver_authorizer.to_string();
        all.insert("receiverAuthorizer".into(), authorizer.into());
        all.insert("withdrawDelay".into(), wanted.withdraw_delay_s.into());
        all.insert("name".into(), token().name.into());
        all.insert("version".into(), token().version.into());
        all.extend(extra);
        Self {
            scheme: SCHEME.into(),
            network: network(scheme),
            amount: text(amount),
            asset: wanted.token.to_string(),
            pay_to: wanted.receiver.to_string(),
            max_timeout_seconds: TIMEOUT_S,
            extra: all,
        }
    }

    /// Whether this program can pay so.
    pub(super) fn is_known(&self) -> bool {
        let chain = chain();
        let asset = address("asset", &self.asset).ok();
        self.is_of(&chain.channels_deployment()) && asset == Some(chain.token)
    }

    fn is_of(&self, scheme: &Deployment) -> bool {
        self.scheme == SCHEME && self.network == network(scheme)
    }

    /// What channels must be like.
    pub(super) fn requirements(&self) -> Result<Requirements, Malformed> {
        let authorizer = self.extra.get("receiverAuthorizer").and_then(Value::as_str);
        let delay_s = self.extra.get("withdrawDelay").and_then(Value::as_u64);
        let delay_s = delay_s.and_then(|delay_s| u32::try_from(delay_s).ok());
        Ok(Requirements {
            receiver: address("payTo", &self.pay_to)?,
            receiver_authorizer: address("receiverAuthorizer", authorizer.unwrap_or_default())?,
            token: address("asset", &self.asset)?,
            withdraw_delay_s: delay_s
                .ok_or_else(|| Malformed("`withdrawDelay` must be a number of seconds".into()))?,
        })
    }

    /// An amount among the extra fields, in whole micro-OPEN.
    pub(super) fn extra_amount(&self, name: &str) -> Result<MicroOpen, Malformed> {
        let text = self.extra.get(name).and_then(Value::as_str);
        micro(name, text.unwrap_or_default())
    }

    /// By how much the total has to be above what was charged.
    pub(super) fn amount(&self) -> Result<MicroOpen, Malformed> {
        micro("amount", &self.amount)
    }

    /// Part of what a server shows of a channel, such as `channelState.balance`.
    pub(super) fn state(&self, of: &str, name: &str) -> Option<&str> {
        self.extra.get(of)?.get(name)?.as_str()
    }
}

impl Required {
    /// One way to pay, and why the last try did not.
    pub(super) fn new(error: &str, url: String, terms: Terms) -> Self {
        let mut resource = Map::new();
        resource.insert("url".into(), url.into());
        resource.insert("description".into(), "an answer of a model".into());
        resource.insert("mimeType".into(), "application/json".into());
        Self {
            x402_version: VERSION,
            error: Some(error.into()),
            resource: resource.into(),
            accepts: vec![terms],
        }
    }
}

impl Payment {
    /// A voucher for these terms, and with it a deposit.
    pub(super) fn new(
        terms: Terms,
        config: &voucher::ChannelConfig,
        voucher: &Voucher,
        deposit: Option<(BaseUnits, &Authorization)>,
    ) -> Self {
        let kind = if deposit.is_some() {
            "deposit"
        } else {
            "voucher"
        };
        let deposit = deposit.map(|(amount, authorization)| DepositFields {
            amount: amount.0.to_string(),
            authorization: Authorizations {
                erc3009_authorization: Some(Erc3009 {
                    valid_after: authorization.valid_after_s.to_string(),
                    valid_before: authorization.valid_before_s.to_string(),
                    salt: hex(&authorization.salt),
                    signature: authorization.signature.to_string(),
                }),
            },
        });
        Self {
            x402_version: VERSION,
            accepted: terms,
            payload: Payload {
                kind: kind.into(),
                channel_config: ChannelConfig {
                    payer: config.payer.to_string(),
                    payer_authorizer: config.payer_authorizer.to_string(),
                    receiver: config.receiver.to_string(),
                    receiver_authorizer: config.receiver_authorizer.to_string(),
                    token: config.token.to_string(),
                    withdraw_delay: config.withdraw_delay_s,
                    salt: hex(&config.salt),
                },
                voucher: VoucherFields {
                    channel_id: voucher.channel.to_string(),
                    max_claimable_amount: voucher.max.0.to_string(),
                    signature: voucher.signature.to_string(),
                },
                deposit,
            },
        }
    }

    /// What it says to a server on the chain of `scheme`.
    pub(super) fn understood(&self, scheme: &Deployment) -> Result<Paid, Malformed> {
        if self.x402_version != VERSION || !self.accepted.is_of(scheme) {
            let network = network(scheme);
            return Err(Malformed(format!(
                "a payment must have x402Version {VERSION}, the scheme {SCHEME} and the network {network}"
            )));
        }
        let config = &self.payload.channel_config;
        let config = voucher::ChannelConfig {
            payer: address("payer", &config.payer)?,
            payer_authorizer: address("payerAuthorizer", &config.payer_authorizer)?,
            receiver: address("receiver", &config.receiver)?,
            receiver_authorizer: address("receiverAuthorizer", &config.receiver_authorizer)?,
            token: address("token", &config.token)?,
            withdraw_delay_s: config.withdraw_delay,
            salt: word("salt", &config.salt)?,
        };
        let voucher = &self.payload.voucher;
        let voucher = Voucher {
            channel: ChannelId(Keccak(word("channelId", &voucher.channel_id)?)),
            max: amount("maxClaimableAmount", &voucher.max_claimable_amount)?,
            signature: signature("voucher.signature", &voucher.signature)?,
        };
        Ok(Paid {
            config,
            voucher,
            kind: self.payload.kind()?,
        })
    }
}

impl Payload {
    fn kind(&self) -> Result<Kind, Malformed> {
        match (self.kind.as_str(), &self.deposit) {
            ("voucher", _) => Ok(Kind::Voucher),
            ("refund", _) => Ok(Kind::Refund),
            ("deposit", Some(deposit)) => {
                let signed = deposit.authorization.erc3009_authorization.as_ref();
                let signed = signed.ok_or_else(|| {
                    Malformed("`authorization` must hold an `erc3009Authorization`".into())
                })?;
                let authorization = Authorization {
                    valid_after_s: seconds("validAfter", &signed.valid_after)?,
                    valid_before_s: seconds("validBefore", &signed.valid_before)?,
                    salt: word("salt", &signed.salt)?,
                    signature: signature("authorization.signature", &signed.signature)?,
                };
                Ok(Kind::Deposit(
                    amount("deposit.amount", &deposit.amount)?,
                    authorization,
                ))
            }
            (kind, _) => Err(Malformed(format!(
                "`payload.type` must be voucher, or deposit with a `deposit`, not `{}`",
                super::refusal::shown(kind)
            ))),
        }
    }
}

/// A header's text.
pub(super) fn encoded(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("texts and numbers always serialise");
    BASE64.encode(&json)
}

/// What a header holds.
pub(super) fn decoded<T: for<'a> Deserialize<'a>>(header: &[u8]) -> Result<T, Malformed> {
    if header.len() > MOST_BYTES {
        return Err(Malformed(format!("it has more than {MOST_BYTES} bytes")));
    }
    let json = BASE64
        .decode(header)
        .map_err(|e| Malformed(format!("it is not base64: {e}")))?;
    serde_json::from_slice(&json).map_err(|e| Malformed(format!("it is not the JSON of x402: {e}")))
}

fn address(name: &str, text: &str) -> Result<Address, Malformed> {
    let address = text.parse();
    address.map_err(|why| Malformed(format!("`{name}`: {why}")))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
}

fn word(name: &str, text: &str) -> Result<[u8; 32], Malformed> {
    let word = bytes(text).and_then(|bytes| bytes.try_into().ok());
    word.ok_or_else(|| Malformed(format!("`{name}` must be 0x and 64 hexadecimal digits")))
}

pub(super) fn signature(name: &str, text: &str) -> Result<Signature, Malformed> {
    let bytes = bytes(text);
    let bytes =
        bytes.ok_or_else(|| Malformed(format!("`{name}` must be 0x and hexadecimal digits")))?;
    Signature::from_bytes(&bytes).map_err(|why| Malformed(format!("`{name}`: {why}")))
}

fn number(text: &str) -> Option<u128> {
    // Signs and blanks are no digits.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok())
}

fn seconds(name: &str, text: &str) -> Result<u64, Malformed> {
    let seconds = number(text).and_then(|number| u64::try_from(number).ok());
    seconds.ok_or_else(|| Malformed(format!("`{name}` must be a number of seconds, as text")))
}

/// An amount in base units.
pub(super) fn amount(name: &str, text: &str) -> Result<BaseUnits, Malformed> {
    let amount = number(text).map(BaseUnits);
    amount.ok_or_else(|| {
        Malformed(format!(
            "`{name}` must be a whole number of base units, as text"
        ))
    })
}

/// An amount in base units that has to be one of whole micro-OPEN.
pub(super) fn micro(name: &str, text: &str) -> Result<MicroOpen, Malformed> {
    let micro = amount(name, text)?.to_micro();
    micro.map_err(|why| Malformed(format!("`{name}`: {why}")))
}

#[cfg(test)]
mod tests;
