//! Payments in HTTP headers, as x402 version 2 writes them: base64 of JSON.
//!
//! The scheme is `batch-settlement`; shapes follow `@x402/core` and `@x402/evm` 2.27. Two things are this program's own
//! until a chain is behind it: the network is `tributary:N`, and keys are ed25519, in hexadecimal of 32 bytes where a chain
//! has addresses.

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tributary_protocol::id::{MicroOpen, PeerId};
use tributary_protocol::sign::Signature;

use super::voucher::Channel;
use crate::NETWORK;

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
/// What is paid with.
const ASSET: &str = "OPEN";
/// How long an answer may take, in seconds.
const TIMEOUT_S: u64 = 600;
/// Longest header, in bytes: a payment has about 2,000.
const MOST_BYTES: usize = 16 << 10;

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
    /// What the request may cost, in micro-OPEN.
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
    pub(super) withdraw_delay: u64,
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

/// `PAYMENT-RESPONSE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settled {
    pub(super) success: bool,
    pub(super) payer: String,
    /// Of a chain; here none.
    pub(super) transaction: String,
    pub(super) network: String,
    /// What this request cost.
    pub(super) amount: String,
    #[serde(default)]
    pub(super) extra: Map<String, Value>,
}

/// What a payment says, once it is understood. Its signature is not checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Paid {
    /// Whom it is for, by whom, through which channel.
    pub(super) channel: Channel,
    pub(super) total: MicroOpen,
    pub(super) signature: Signature,
}

/// The network, as CAIP-2 writes such names.
pub(super) fn network() -> String {
    format!("tributary:{}", NETWORK.0)
}

/// A key, where a chain has an address.
pub(super) fn address(peer: PeerId) -> String {
    format!("0x{peer}")
}

impl Terms {
    /// What `server` takes for a request that may cost `amount`.
    pub(super) fn new(server: PeerId, amount: MicroOpen, extra: Map<String, Value>) -> Self {
        let mut all = Map::new();
        all.insert("receiverAuthorizer".into(), address(server).into());
        all.insert("withdrawDelay".into(), 0.into());
        all.insert("name".into(), "Tributary allowance".into());
        all.insert("version".into(), "1".into());
        all.extend(extra);
        Self {
            scheme: SCHEME.into(),
            network: network(),
            amount: amount.0.to_string(),
            asset: ASSET.into(),
            pay_to: address(server),
            max_timeout_seconds: TIMEOUT_S,
            extra: all,
        }
    }

    /// Whether this program can pay so.
    pub(super) fn is_known(&self) -> bool {
        self.scheme == SCHEME && self.network == network() && self.asset == ASSET
    }

    /// Whom it pays.
    pub(super) fn server(&self) -> Result<PeerId, Malformed> {
        key("payTo", &self.pay_to)
    }

    /// An amount among the extra fields.
    pub(super) fn extra_amount(&self, name: &str) -> Result<MicroOpen, Malformed> {
        let text = self.extra.get(name).and_then(Value::as_str);
        amount(name, text.unwrap_or_default())
    }

    /// What the request may cost.
    pub(super) fn price(&self) -> Result<MicroOpen, Malformed> {
        amount("amount", &self.amount)
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
    /// A voucher for these terms.
    pub(super) fn new(
        terms: Terms,
        channel: &Channel,
        total: MicroOpen,
        signature: &Signature,
    ) -> Self {
        Self {
            x402_version: VERSION,
            accepted: terms,
            payload: Payload {
                kind: "voucher".into(),
                channel_config: ChannelConfig {
                    payer: address(channel.consumer),
                    payer_authorizer: address(channel.consumer),
                    receiver: address(channel.server),
                    receiver_authorizer: address(channel.server),
                    token: ASSET.into(),
                    withdraw_delay: 0,
                    salt: format!("0x{:064x}", channel.number),
                },
                voucher: VoucherFields {
                    channel_id: format!("0x{}", channel.id()),
                    max_claimable_amount: total.0.to_string(),
                    signature: format!("0x{}", HEXLOWER.encode(&signature.0)),
                },
            },
        }
    }

    /// What it says.
    pub(super) fn understood(&self) -> Result<Paid, Malformed> {
        if self.x402_version != VERSION
            || !self.accepted.is_known()
            || self.payload.kind != "voucher"
        {
            let (network, kind) = (network(), &self.payload.kind);
            return Err(Malformed(format!(
                "a payment must have x402Version {VERSION}, the scheme {SCHEME}, the network {network} and the type voucher, not `{}`",
                super::refusal::shown(kind)
            )));
        }
        let config = &self.payload.channel_config;
        let number = config
            .salt
            .strip_prefix("0x")
            .filter(|digits| digits.len() == 64);
        let number = number
            .and_then(|digits| u64::from_str_radix(digits.strip_prefix(&"0".repeat(48))?, 16).ok());
        let channel = Channel {
            server: key("receiver", &config.receiver)?,
            consumer: key("payer", &config.payer)?,
            number: number
                .ok_or_else(|| Malformed("`salt` must be 0x, 48 zeros and 16 digits".into()))?,
        };
        let voucher = &self.payload.voucher;
        if voucher.channel_id.to_ascii_lowercase() != format!("0x{}", channel.id()) {
            return Err(Malformed(
                "`channelId` is not that of `channelConfig`".into(),
            ));
        }
        let signature = voucher.signature.strip_prefix("0x").unwrap_or_default();
        let signature = HEXLOWER
            .decode(signature.to_ascii_lowercase().as_bytes())
            .ok();
        let signature = signature.and_then(|bytes| bytes.try_into().ok());
        Ok(Paid {
            channel,
            total: amount("maxClaimableAmount", &voucher.max_claimable_amount)?,
            signature: Signature(
                signature
                    .ok_or_else(|| Malformed("`signature` must be 0x and 128 digits".into()))?,
            ),
        })
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

fn key(name: &str, text: &str) -> Result<PeerId, Malformed> {
    let digits = text
        .strip_prefix("0x")
        .and_then(|digits| digits.parse().ok());
    digits.ok_or_else(|| {
        Malformed(format!(
            "`{name}` must be 0x and 64 digits, a key of ed25519"
        ))
    })
}

fn amount(name: &str, text: &str) -> Result<MicroOpen, Malformed> {
    // Signs and blanks are no digits.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(MicroOpen).ok_or_else(|| {
        Malformed(format!(
            "`{name}` must be a whole number of micro-OPEN, as text"
        ))
    })
}

#[cfg(test)]
mod tests {
    use tributary_protocol::sign::SecretKey;

    use super::*;

    fn payment() -> (Payment, Channel) {
        let key = SecretKey::from_seed([1; 32]);
        let server = SecretKey::from_seed([2; 32]).peer_id();
        let channel = Channel {
            server,
            consumer: key.peer_id(),
            number: u64::MAX,
        };
        let total = MicroOpen(u128::MAX);
        let terms = Terms::new(server, MicroOpen(5), Map::new());
        (
            Payment::new(terms, &channel, total, &channel.sign(&key, total)),
            channel,
        )
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (payment, channel) = payment();
        let read: Payment = decoded(encoded(&payment).as_bytes()).unwrap();
        assert_eq!(read, payment);
        let paid = read.understood().unwrap();
        assert_eq!((paid.channel, paid.total), (channel, MicroOpen(u128::MAX)));
        assert!(paid.channel.is_signed(paid.total, &paid.signature));
    }

    #[test]
    fn every_field_that_is_not_as_it_must_be_is_refused_by_name() {
        type Change = fn(&mut Payment);
        let changes: [(&str, Change); 9] = [
            ("x402Version", |p| p.x402_version = 1),
            ("scheme", |p| p.accepted.scheme = "exact".into()),
            ("network", |p| p.accepted.network = "eip155:1".into()),
            ("deposit", |p| p.payload.kind = "deposit".into()),
            ("payer", |p| p.payload.channel_config.payer = "0x12".into()),
            ("salt", |p| {
                p.payload.channel_config.salt = format!("0x{}", "f".repeat(64))
            }),
            ("channelId", |p| {
                p.payload.channel_config.salt = format!("0x{:064x}", 1)
            }),
            ("maxClaimableAmount", |p| {
                p.payload.voucher.max_claimable_amount = "+1".into()
            }),
            ("signature", |p| p.payload.voucher.signature.push('0')),
        ];
        for (name, change) in changes {
            let (mut payment, _) = payment();
            change(&mut payment);
            let why = payment.understood().unwrap_err().to_string();
            assert!(why.contains(name), "{name}: {why}");
        }
        for header in ["", "%%%", "bnVsbA==", "e30="] {
            assert!(decoded::<Payment>(header.as_bytes()).is_err(), "{header}");
        }
        assert!(decoded::<Value>(&vec![b'A'; MOST_BYTES + 4]).is_err());
    }
}
