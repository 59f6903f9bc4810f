//! `POST /v1/agreements`: whoever paid for an answer says whose data shaped it.
//!
//! A server's word about shares counts for nothing in a run's books, because the server could name a friend; the payer's does.
//! So a client that was told shares, and believes them, signs them with the key of its channel's vouchers. They go into the
//! run's log with the answer, if they come before the server files it. Nothing here says that the shares are right.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Serialize;
use tributary_attribution::settlement::{self, Address, BaseUnits, Keccak, Signature};
use tributary_attribution::voucher::ChannelId;
use tributary_engine::json::Json;
use tributary_protocol::filing::{AgreedShares, EvmSignature};
use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::limits;
use utoipa::ToSchema;

use super::fields::{Fields, wrong_kind};
use super::refusal::{ErrorBody, json};
use super::{Refusal, Shop, x402};

/// What a payer agrees to. Signed as EIP-712's `AnswerShares(bytes32 channel,uint128 charged,bytes32 shares)` for the run's
/// settlement contract (`Tributary Settlement`, version 1), where `shares` is the Keccak-256 of each peer's 32 bytes and its
/// share's four, most significant first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgreementBody {
    /// The channel that paid: `channelState.channelId` of the answer's PAYMENT-RESPONSE.
    pub channel: String,
    /// What it was charged with this answer: `channelState.chargedCumulativeAmount` there.
    pub charged: String,
    /// Contributors, ordered by id; what they leave of a billion is nobody's.
    pub shares: Vec<AgreedShare>,
    /// By the key that signs the channel's vouchers: `0x` and 130 digits.
    pub signature: String,
}

/// One contributor's share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgreedShare {
    /// The contributor's id.
    pub peer: String,
    /// Billionths of the answer.
    pub share_ppb: u32,
}

/// Shares of one answer with their payer's signature, which nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The channel that paid.
    pub channel: ChannelId,
    /// What it was charged, this answer included.
    pub charged: MicroOpen,
    /// Contributors with their shares, ordered by peer.
    pub shares: Vec<(PeerId, Ppb)>,
    /// Of the payer.
    pub signature: Signature,
}

impl AgreementBody {
    /// For these shares, in any order.
    pub(super) fn new(
        channel: ChannelId,
        charged: BaseUnits,
        shares: &[(PeerId, Ppb)],
        signature: &Signature,
    ) -> Self {
        let share = |(peer, share): &(PeerId, Ppb)| AgreedShare {
            peer: peer.to_string(),
            share_ppb: share.0,
        };
        Self {
            channel: channel.to_string(),
            charged: charged.0.to_string(),
            shares: shares.iter().map(share).collect(),
            signature: signature.to_string(),
        }
    }

    fn read(mut fields: Fields) -> Result<Self, Refusal> {
        let (channel, charged) = (
            fields.needed_text("channel")?,
            fields.needed_text("charged")?,
        );
        let signature = fields.needed_text("signature")?;
        let lines = match fields.take("shares") {
            Some(Json::Array(lines)) => lines,
            Some(other) => return Err(wrong_kind("shares", "a list", &other)),
            None => return Err(fields.missing("shares")),
        };
        fields.done(&[])?;
        let lines = lines.into_iter().enumerate();
        let shares = lines.map(|(at, line)| {
            let mut fields = Fields::within(line, &format!("shares[{at}]"))?;
            let most = i64::from(Ppb::ONE.0);
            let share = fields.whole("share_ppb", 0..=most)?;
            let share = share.ok_or_else(|| fields.missing("share_ppb"))?;
            let peer = fields.needed_text("peer")?;
            fields.done(&[])?;
            let share_ppb = u32::try_from(share).expect("at most a billion");
            Ok(AgreedShare { peer, share_ppb })
        });
        Ok(Self {
            channel,
            charged,
            shares: shares.collect::<Result<_, Refusal>>()?,
            signature,
        })
    }

    /// What it says.
    fn understood(&self) -> Result<Agreement, Refusal> {
        let wrong = |field: &str, why: String| Refusal::value(field, format!("`{field}` {why}"));
        let channel = self.channel.parse::<Keccak>();
        let channel = channel.map_err(|why| wrong("channel", format!("is no channel: {why}")))?;
        let charged = self.charged.parse().map(BaseUnits).ok();
        let charged = charged.and_then(|charged| charged.to_micro().ok());
        let charged = charged.ok_or_else(|| {
            wrong(
                "charged",
                "must be base units of whole micro-OPEN, as text".into(),
            )
        })?;
        let mut shares = Vec::with_capacity(self.shares.len());
        for one in &self.shares {
            let peer = one.peer.parse();
            let peer =
                peer.map_err(|_| wrong("shares", "must name contributors by their ids".into()))?;
            shares.push((peer, Ppb(one.share_ppb)));
        }
        let sum: u64 = shares.iter().map(|(_, share)| u64::from(share.0)).sum();
        let is_sorted = shares.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if shares.len() > limits::MAX_ANSWER_SHARES || sum > u64::from(Ppb::ONE.0) || !is_sorted {
            let most = limits::MAX_ANSWER_SHARES;
            let why =
                format!("must be ordered by id, {most} at most, and a billion at most together");
            return Err(wrong("shares", why));
        }
        let digits = self.signature.strip_prefix("0x").unwrap_or_default();
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
        let bytes = bytes
            .ok()
            .and_then(|bytes| <[u8; 65]>::try_from(bytes).ok());
        let signature = bytes.map(|bytes| Signature::from_bytes(&bytes));
        let signature =
            signature.ok_or_else(|| wrong("signature", "must be 0x and 130 digits".into()))?;
        Ok(Agreement {
            channel: ChannelId(channel),
            charged,
            shares,
            signature: signature.map_err(|why| wrong("signature", format!("is none: {why}")))?,
        })
    }
}

impl Agreement {
    /// The shares with their signature, if the payer of a channel signed them for the run's contract.
    pub(super) fn checked(&self, payer: Address) -> Option<AgreedShares> {
        let signed = agreement(self.channel, self.charged, &self.shares)?;
        let is_payers = self.signature.recover(&signed) == Ok(payer);
        is_payers.then(|| AgreedShares {
            shares: self.shares.clone(),
            signature: EvmSignature(*self.signature.as_bytes()),
        })
    }
}

/// What a payer signs.
pub(super) fn agreement(
    channel: ChannelId,
    charged: MicroOpen,
    shares: &[(PeerId, Ppb)],
) -> Option<Keccak> {
    let charged = BaseUnits::from_micro(charged).ok()?;
    let agreement = settlement::Agreement {
        channel: channel.0,
        charged,
        shares,
    };
    Some(agreement.digest(&x402::chain().settlement_deployment()))
}

/// Whose data shaped an answer, as whoever paid for it agrees. It is filed with the answer.
#[utoipa::path(
    post,
    path = "/v1/agreements",
    tag = "answers",
    request_body = AgreementBody,
    responses(
        (status = 200, body = AgreementBody, description = "It is filed with the answer"),
        (status = "default", body = ErrorBody, description = "Why not")
    )
)]
pub(super) async fn agree(shop: &Arc<Shop>, fields: Fields) -> Result<Response<Body>, Refusal> {
    let body = AgreementBody::read(fields)?;
    shop.till.agree(body.understood()?).await?;
    Ok(json(StatusCode::OK, &body))
}

/// The refusal of a till that has no such answer.
pub(super) fn unknown() -> Refusal {
    let message = "no answer that this channel was charged so much for waits here to be filed; agree before the server claims it";
    Refusal::new(StatusCode::NOT_FOUND, "agreement_unknown", message)
}
