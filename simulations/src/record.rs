//! What happened: a digest of everything, and on request a timeline for people and a history for
//! reports.
//!
//! The digest covers each event, each effect and the final states, so two runs with the same digest are the same to
//! the last byte. The timeline and the [`History`] are recorded beside it and change nothing.

pub(crate) mod ending;
mod history;

use std::collections::BTreeMap;
use std::fmt::Display;

use tributary_protocol::event::{Effect, Input, Notice};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::PeerId;

use crate::clock::Micros;

pub use history::{
    Bytes, History, IncludedUpdate, Moment, Participant, PayFacts, Plane, RoundFacts, ScoreFacts,
    SheetFacts, What, phase_name,
};

/// Receives the lines of a timeline.
pub type Sink = Box<dyn FnMut(&str)>;

/// The digest of a run, and what it remembers on request.
pub struct Trace {
    hasher: Hasher,
    sink: Option<Sink>,
    history: Option<History>,
}

impl Trace {
    /// A trace; without a sink only the digest is kept.
    pub fn new(sink: Option<Sink>) -> Self {
        Self {
            hasher: Hasher::new(Domain::Simulation),
            sink,
            history: None,
        }
    }

    /// Keeps a history of these participants from now on.
    pub fn remember(&mut self, participants: Vec<Participant>, index: BTreeMap<PeerId, usize>) {
        self.history = Some(History::of(participants, index));
    }

    /// The history, if one was kept.
    pub fn take_history(&mut self) -> Option<History> {
        self.history.take()
    }

    /// Whether [`Trace::say`] is heard.
    pub fn is_heard(&self) -> bool {
        self.sink.is_some() || self.history.is_some()
    }

    /// A line of the timeline that no report counts or draws.
    pub fn say(&mut self, at: Micros, peer: Option<usize>, what: impl Display) {
        if self.is_heard() {
            self.tell(at, peer, What::Note(what.to_string()));
        }
    }

    /// Something that reports count or draw.
    pub fn tell(&mut self, at: Micros, peer: Option<usize>, what: What) {
        if let Some(sink) = &mut self.sink {
            let who = peer.map_or("world".into(), |peer| format!("peer {peer:>2}"));
            sink(&format!("{:>10.3} s  {who:<8} {what}", at as f64 / 1e6));
        }
        if let Some(history) = &mut self.history {
            history.push(Moment { at, peer, what });
        }
    }

    /// What a node tells its owner.
    pub fn notice(&mut self, at: Micros, peer: usize, notice: &Notice) {
        if self.is_heard() {
            self.tell(at, Some(peer), What::Notice(notice.clone()));
        }
    }

    /// Bytes that a peer hands to the network.
    pub fn sent(&mut self, peer: usize, plane: Plane, bytes: usize) {
        if let Some(history) = &mut self.history {
            history.sent(peer, plane, bytes as u64);
        }
    }

    /// Bytes that reach a peer.
    pub fn received(&mut self, peer: usize, plane: Plane, bytes: usize) {
        if let Some(history) = &mut self.history {
            history.received(peer, plane, bytes as u64);
        }
    }

    /// An input that reached a peer.
    pub fn input(&mut self, at: Micros, peer: usize, input: &Input) {
        self.mark(at, peer, input_kind(input));
        match input {
            Input::Direct { from, bytes } | Input::Gossip { from, bytes, .. } => {
                self.hasher.update(from.as_bytes());
                self.bytes(bytes);
            }
            Input::Blob(blob) => {
                self.hasher.update(blob.hash().as_bytes());
            }
            Input::Connected(peer) | Input::Disconnected(peer) => {
                self.hasher.update(peer.as_bytes());
            }
            // It follows from what was traced.
            Input::Computed(_) => {}
            Input::Trained(trained) => {
                for value in &trained.delta {
                    self.hasher.update(&value.to_le_bytes());
                }
            }
            other => self.bytes(format!("{other:?}").as_bytes()),
        }
    }

    /// An effect that was carried out.
    pub fn effect(&mut self, at: Micros, peer: usize, effect: &Effect) {
        self.mark(at, peer, effect_kind(effect));
        match effect {
            Effect::Gossip { bytes, .. } | Effect::Send { bytes, .. } => self.bytes(bytes),
            Effect::Train(task) => {
                self.hasher.update(task.base.as_bytes());
            }
            Effect::Score(task) => {
                self.hasher.update(task.state.as_bytes());
            }
            Effect::Persist(_) | Effect::Verdict { .. } => {}
            Effect::SetTimer { at, .. } => {
                self.hasher.update(&at.0.to_le_bytes());
            }
            other => self.bytes(format!("{other:?}").as_bytes()),
        }
    }

    /// Anything else that belongs to the outcome.
    pub fn mark(&mut self, at: Micros, peer: usize, what: &str) {
        self.hasher.update(&at.to_le_bytes());
        self.hasher.update(&(peer as u32).to_le_bytes());
        self.bytes(what.as_bytes());
    }

    /// Bytes that belong to the outcome.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> Digest {
        self.hasher.finalize()
    }
}

/// Short name of an input.
pub fn input_kind(input: &Input) -> &'static str {
    match input {
        Input::Timer(_) => "timer",
        Input::Direct { .. } => "direct",
        Input::Gossip { .. } => "gossip",
        Input::Connected(_) => "connected",
        Input::Disconnected(_) => "disconnected",
        Input::Blob(_) => "blob",
        Input::Computed(_) => "computed",
        Input::BlobFailed(_) => "blob failed",
        Input::Trained(_) => "trained",
        Input::Scored { .. } => "scored",
        Input::Chain { .. } => "chain",
        Input::Command(_) => "command",
    }
}

/// Short name of an effect.
pub fn effect_kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Persist(_) => "persist",
        Effect::Gossip { .. } => "gossip",
        Effect::Send { .. } => "send",
        Effect::Verdict { .. } => "verdict",
        Effect::FetchBlob { .. } => "fetch",
        Effect::OfferBlob(_) => "offer",
        Effect::Train(_) => "train",
        Effect::Compute(_) => "compute",
        Effect::CancelTrain(_) => "cancel training",
        Effect::FinishTrain(_) => "finish training",
        Effect::Score(_) => "score",
        Effect::SetTimer { .. } => "set timer",
        Effect::Subscribe(_) => "subscribe",
        Effect::Notify(_) => "notify",
    }
}
