//! Agreeing to whose data shaped an answer: its server is asked, and what it says is signed with the account that paid.
//!
//! The run's books believe nobody else about shares, so without this an answer's contributors are paid by the run's credits. The
//! gateway computes no shares itself: it takes the server's word, which its owner asked it to. It signs what it asked and what
//! it read with them, so that a jury, which computes one in twenty again, is shown that and nothing else.

use std::sync::Arc;

use axum::http::{Method, header};
use serde_json::Value;
use tributary_attribution::settlement::BaseUnits;
use tributary_attribution::voucher::ChannelId;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, Ppb};

use super::super::agreements::{Agreement, AgreementBody};
use super::super::said::text_hash;
use super::super::x402::Settled;
use super::House;
use super::relay;

/// Largest answer about shares, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// What a client asked through this gateway, and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard<'a> {
    /// Id of the answer.
    pub(super) id: &'a str,
    /// Its text.
    pub(super) text: &'a str,
}

/// An answer that this gateway paid for through a channel that it deposited in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Hash of the request's body.
    request: Digest,
    /// Hash of the answer's text.
    text: Digest,
    /// Its id.
    pub(super) id: String,
    /// The channel, and what that was charged with it.
    pub(super) charged: (ChannelId, BaseUnits),
}

impl Answered {
    /// From what was asked and heard, and the receipt.
    pub(super) fn of(request: Digest, heard: Heard<'_>, settled: &Settled) -> Option<Self> {
        let state = settled.extra.get("channelState")?;
        let text = |name: &str| state.get(name)?.as_str();
        let channel = ChannelId(text("channelId")?.parse().ok()?);
        let charged = BaseUnits(text("chargedCumulativeAmount")?.parse().ok()?);
        Some(Self {
            request,
            text: text_hash(heard.text),
            id: heard.id.to_owned(),
            charged: (channel, charged),
        })
    }
}

/// Asks the server at this place for the shares, and agrees to them, in a task of its own: no client waits for it.
pub(super) fn agree(house: &Arc<House>, at: usize, answered: Answered) {
    let house = house.clone();
    tokio::spawn(async move {
        let url = &house.upstreams[at].url;
        match agreed(&house, at, &answered).await {
            Ok(lines) => tracing::info!("agreed to {lines} shares of an answer of {url}"),
            Err(why) => {
                tracing::warn!("could not agree to the shares of an answer of {url}: {why}")
            }
        }
    });
}

async fn agreed(house: &House, at: usize, answered: &Answered) -> Result<usize, String> {
    let path = format!("v1/answers/{}/shares", answered.id);
    let asked = house.upstreams[at].request(&house.http, Method::GET, &path);
    let said: Value = serde_json::from_slice(&told(asked).await?).map_err(|e| e.to_string())?;
    let shares = shares(&said)?;
    let (channel, charged) = answered.charged;
    let agreement = Agreement {
        channel,
        charged: charged.to_micro().map_err(|e| e.to_string())?,
        request: answered.request,
        text: answered.text,
        shares,
    };
    let signed = agreement.signed(&house.key);
    let signed =
        signed.and_then(|signature| AgreementBody::new((&answered.id, &agreement), &signature));
    let body = signed.ok_or("it was charged more than there is")?;
    let body = serde_json::to_vec(&body).expect("texts and numbers always serialise");
    let sent = (house.upstreams[at].request(&house.http, Method::POST, "v1/agreements"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    told(sent).await?;
    Ok(agreement.shares.len())
}

/// The body of an answer with status 200, or what the server says instead.
async fn told(request: reqwest::RequestBuilder) -> Result<Vec<u8>, String> {
    let response = request.send().await.map_err(|e| e.to_string())?;
    match response.status().is_success() {
        true => relay::whole(response, MOST_BYTES).await,
        false => Err(relay::message(response).await),
    }
}

/// The lines of `shares/1` that are above zero, ordered by peer.
fn shares(said: &Value) -> Result<Vec<(PeerId, Ppb)>, String> {
    let lines = said["shares"].as_array().ok_or("it says no shares")?;
    let mut shares = Vec::new();
    for line in lines {
        let peer = line["peer"].as_str().and_then(|peer| peer.parse().ok());
        let share = line["share_ppb"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok());
        let (Some(peer), Some(share)) = (peer, share) else {
            return Err("a line of its shares is none".to_owned());
        };
        if share > 0 {
            shares.push((peer, Ppb(share)));
        }
    }
    shares.sort_unstable();
    Ok(shares)
}
