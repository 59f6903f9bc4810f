//! `why/1`: shares of an answer as programs read them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_protocol::id::{PeerId, Ppb};
use utoipa::ToSchema;

use super::AnswerShare;
use super::stretch::BoundedShares;
use crate::lexical::Boilerplate;

/// Name and version of the layout.
pub const SCHEMA: &str = "why/1";

/// `why/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// The adapter that answers.
    pub adapter: String,
    /// What it was asked.
    pub prompt: String,
    /// What it says.
    pub answer: String,
    /// Mean loss of the answer's tokens without the adapter, nats.
    pub base_nats: f64,
    /// The same with the adapter.
    pub adapter_nats: f64,
    /// What the base would have said too, in billionths of the answer.
    pub nobody_ppb: u32,
    /// Contributors, the largest share first.
    pub shares: Vec<Share>,
    /// How the shares were found.
    pub method: String,
    /// What the shares cost beyond giving the answer, milliseconds.
    pub cost_ms: f64,
    /// What the evidence cost beyond the shares, milliseconds.
    pub evidence_ms: f64,
}

/// One contributor's part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// The contributor.
    pub peer: String,
    /// The name it gave itself.
    pub name: String,
    /// The run's Datanet.
    pub datanet: String,
    /// Part of the answer in billionths.
    pub share_ppb: u32,
    /// Lower end of the 95 % interval over the answer's tokens.
    pub low_ppb: u32,
    /// Upper end of that interval.
    pub high_ppb: u32,
    /// How much it lowered the answer's loss, nanonats a token; negative raised it and earns nothing.
    pub influence_nanonats: i64,
    /// Spans of the answer that its text is proven to hold, without boilerplate.
    pub evidence: Vec<ProvenSpan>,
    /// What came of asking it for them.
    pub asked: Asked,
}

/// The lines of `found`, the largest share first. Nobody was asked for evidence yet.
pub fn lines(found: &BoundedShares, names: &BTreeMap<PeerId, String>, datanet: &str) -> Vec<Share> {
    let line = |(share, [low, high]): (&AnswerShare, &[Ppb; 2])| Share {
        peer: share.peer.to_string(),
        name: names.get(&share.peer).cloned().unwrap_or_default(),
        datanet: datanet.to_owned(),
        share_ppb: share.share.0,
        low_ppb: low.0,
        high_ppb: high.0,
        influence_nanonats: share.influence.0,
        evidence: Vec::new(),
        asked: Asked::new(Outcome::NotAsked, "nobody was asked"),
    };
    let shares = found.shares.shares.iter().zip(&found.intervals);
    let mut lines: Vec<Share> = shares.map(line).collect();
    lines.sort_by_key(|share| (Reverse(share.share_ppb), share.peer.clone()));
    lines
}

/// What came of asking a contributor for evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// The outcome in a word.
    pub outcome: Outcome,
    /// Why nothing is known of it, or what was left out; empty when there is nothing to say.
    pub why: String,
    /// Proven spans that are boilerplate.
    pub boilerplate: u32,
}

impl Asked {
    /// Nothing was left out yet.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        Self {
            outcome,
            why: why.into(),
            boilerplate: 0,
        }
    }

    /// Counts a proven span that says nothing, and names each reason once.
    pub fn leave_out(&mut self, why: Boilerplate) {
        self.boilerplate += 1;
        let why = why.to_string();
        if !self.why.contains(&why) {
            let comma = if self.why.is_empty() { "" } else { ", " };
            self.why = format!("{}{comma}{why}", self.why);
        }
    }
}

/// The answer to a question for evidence, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It named all spans that it holds, or says so.
    Answered,
    /// It answers no such question.
    Declined,
    /// It does not answer.
    Silent,
    /// Its proof is false.
    FalseProof,
    /// It was not asked.
    NotAsked,
}

/// A span of an answer that stands in a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProvenSpan {
    /// The words.
    pub span: String,
    /// How it was matched.
    pub kind: String,
    /// How many words.
    pub words: u32,
    /// Loss of the base model over the span, nats: how little it had to expect it.
    pub surprise_nats: f64,
}
