//! `POST /v1/agreements`: whoever paid for an answer says whose data shaped it.
//!
//! A server's word about shares counts for nothing in a run's books, because the server could name a friend; the payer's does.
//! So a client that was told shares, and believes them, signs them with the key of its channel's vouchers, together with what
//! it asked and what it read. They go into the run's log with the answer, if they come before the server files it. Nothing here
//! says that the shares are right: a certificate draws some of them, and a jury computes those again from what the server
//! keeps of the request and its answer ([`said`](super::said)).

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Serialize;
use tributary_attribution::settlement::{self, Address, BaseUnits, EvmKey, Keccak, Signature};
use tributary_attribution::voucher::ChannelId;
use tributary_engine::json::Json;
use tributary_engine::request::Consumer;
use tributary_protocol::filing::{AgreedShares, EvmSignature};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::limits;
use utoipa::ToSchema;

use super::fields::{Fields, wrong_kind};
use super::refusal::{ErrorBody, json};
use super::said::text_hash;
use super::{Refusal, Shop, routes, shares, x402};

/// What a payer agrees to. Signed as EIP-712's `AnswerShares(bytes32 channel,uint128 charged,bytes32 request,bytes32 text,bytes32
/// shares)` for the run's settlement contract (`Tributary Settlement`, version 1). `request` is the BLAKE3 hash of the request's
/// body under the context `tributary 1 repeat`, `text` that of the answer's text as UTF-8, and `shares` the
/// Keccak-256 of each peer's 32 bytes and its share's four, most significant first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgreementBody {
    /// Id of the answer, which is of a request for one.
    pub id: String,
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

/// Shares of one answer, to which its payer agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The channel that paid.
    pub channel: ChannelId,
    /// What it was charged, this answer included.
    pub charged: MicroOpen,
    /// Hash of the request's body.
    pub request: Digest,
    /// Hash of the answer's text.
    pub text: Digest,
    /// Contributors with their shares, ordered by peer.
    pub shares: Vec<(PeerId, Ppb)>,
}

impl AgreementBody {
    /// For the answer of that id.
    ///
    /// None for a charge that no chain has units for.
    pub(super) fn new((id, agreement): (&str, &Agreement), signature: &Signature) -> Option<Self> {
        let share = |(peer, share): &(PeerId, Ppb)| AgreedShare {
            peer: peer.to_string(),
            share_ppb: share.0,
        };
        Some(Self {
            id: id.to_owned(),
            channel: agreement.channel.to_string(),
            charged: BaseUnits::from_micro(agreement.charged).ok()?.0.to_string(),
            shares: agreement.shares.iter().map(share).collect(),
            signature: signature.to_string(),
        })
    }

    fn read(mut fields: Fields) -> Result<Self, Refusal> {
        let id = fields.needed_text("id")?;
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
            id,
            channel,
            charged,
            shares: shares.collect::<Result<_, Refusal>>()?,
            signature,
        })
    }

    /// What it says about an answer of which this was asked, and which reads so.
    fn understood(
        &self,
        (request, text): (Digest, Digest),
    ) -> Result<(Agreement, Signature), Refusal> {
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
        let signature = signature.map_err(|why| wrong("signature", format!("is none: {why}")))?;
        let agreement = Agreement {
            channel: ChannelId(channel),
            charged,
            request,
            text,
            shares,
        };
        Ok((agreement, signature))
    }
}

impl Agreement {
    /// The payer's signature; none for a charge that no chain has units for.
    pub(super) fn signed(&self, key: &EvmKey) -> Option<Signature> {
        Some(key.sign(&self.digest()?))
    }

    /// The shares with their signature, if the payer of a channel signed them for the run's contract.
    pub(super) fn checked(&self, signature: &Signature, payer: Address) -> Option<AgreedShares> {
        let is_payers = signature.recover(&self.digest()?) == Ok(payer);
        is_payers.then(|| AgreedShares {
            text: self.text,
            shares: self.shares.clone(),
            signature: EvmSignature(*signature.as_bytes()),
        })
    }

    /// What a payer signs.
    fn digest(&self) -> Option<Keccak> {
        let agreement = settlement::Agreement {
            channel: self.channel.0,
            charged: BaseUnits::from_micro(self.charged).ok()?,
            request: self.request,
            text: self.text,
            shares: &self.shares,
        };
        Some(agreement.digest(&x402::chain().settlement_deployment()))
    }
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
pub(super) async fn agree(
    shop: &Arc<Shop>,
    consumer: Consumer,
    fields: Fields,
) -> Result<Response<Body>, Refusal> {
    let body = AgreementBody::read(fields)?;
    let answer = shares::remembered(shop, consumer, &body.id)?;
    let said = shares::said(&answer)?;
    let kept = said.clone();
    let told = routes::computed(shop, move |shop| {
        let told = shop.reading.told(&kept.body, &kept.answer);
        told.map_err(|why| Refusal::new(StatusCode::CONFLICT, "answer_not_alone", why))
    });
    let signed = (said.request(), text_hash(&told.await?.text));
    let (agreement, signature) = body.understood(signed)?;
    shop.till.agree((agreement, signature), said).await?;
    Ok(json(StatusCode::OK, &body))
}

/// The refusal of a till that has no such answer.
pub(super) fn unknown() -> Refusal {
    let message = "no answer that this channel was charged so much for waits here to be filed; agree before the server claims it";
    Refusal::new(StatusCode::NOT_FOUND, "agreement_unknown", message)
}
