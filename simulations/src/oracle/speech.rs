//! What left each honest peer: nothing before it is durable, nothing of its own that contradicts what it said before,
//! crashes or not. Of liars it looks only at what honest peers pass on.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{ConsensusMessage, VoteKind};
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlockId, PeerId, Round, RunId, Seq, ValueId};
use tributary_protocol::log::Unverified;
use tributary_protocol::wire::Message;

use super::Broken;
use crate::machine::Machine;
use crate::network::NETWORK;

/// What a committee member can say once only: kind (`None` is a proposal), round, attempt.
type Place = (PeerId, Round, u32, Option<VoteKind>);

/// Everything that has left an honest peer.
#[derive(Default)]
pub(super) struct Speech {
    /// Every block that left some honest peer, by any author.
    blocks: BTreeMap<(PeerId, Seq), BlockId>,
    /// Liars of whose logs honest peers passed on two blocks for one place.
    forked: BTreeSet<PeerId>,
    /// Hashes of block bytes that were looked at.
    known: BTreeSet<Digest>,
    votes: BTreeMap<Place, Option<ValueId>>,
}

/// The sender whose messages are checked, and what is known about it.
pub(super) struct Sender<'a> {
    pub(super) machine: &'a Machine,
    pub(super) run: RunId,
    pub(super) creator: PeerId,
}

impl Sender<'_> {
    /// Whether what an author said must be on this disk before it is forwarded: a peer's own words, and those of any
    /// author that the certificates on this disk admit. What strangers say is passed on from memory and acknowledges
    /// nothing.
    fn answers_for(&self, author: &PeerId) -> bool {
        let admits = |bytes: &Vec<u8>| {
            Certificate::decode(bytes).is_ok_and(|certificate| {
                let joins = &certificate.value.joins;
                joins.iter().any(|joined| joined.entry.author == *author)
            })
        };
        let mut certificates = self.machine.store.certificates(&self.run);
        *author == self.machine.id
            || *author == self.creator
            || certificates.any(|(_, bytes)| admits(bytes))
    }
}

impl Speech {
    /// Every block of an honest author that left some honest peer.
    pub(super) fn honest_blocks(
        &self,
        liars: &BTreeSet<PeerId>,
    ) -> impl Iterator<Item = (PeerId, BlockId)> {
        let all = self.blocks.iter().map(|((author, _), id)| (*author, *id));
        all.filter(|(author, _)| !liars.contains(author))
    }

    /// Authors that showed honest peers two histories.
    pub(super) fn forked(&self) -> BTreeSet<PeerId> {
        self.forked.clone()
    }

    /// Looks at an outgoing message; hands back the certificates in it.
    pub(super) fn sent(
        &mut self,
        peer: usize,
        bytes: &[u8],
        sender: &Sender<'_>,
        liars: &BTreeSet<PeerId>,
    ) -> Result<Vec<Vec<u8>>, Broken> {
        let message = Message::decode(bytes)
            .map_err(|why| ("messages are canonical", format!("peer {peer} sent: {why}")))?;
        match message {
            Message::Block(bytes) => self.block(&bytes, sender, liars)?,
            Message::Blocks { blocks, .. } => {
                blocks
                    .iter()
                    .try_for_each(|bytes| self.block(bytes, sender, liars))?;
            }
            Message::Consensus(bytes) => self.vote(&bytes, liars)?,
            Message::Certificate(bytes) => return Ok(vec![bytes]),
            Message::Certificates { certificates, .. } => return Ok(certificates),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn block(
        &mut self,
        bytes: &[u8],
        sender: &Sender<'_>,
        liars: &BTreeSet<PeerId>,
    ) -> Result<(), Broken> {
        let block = Unverified::decode(bytes, NETWORK)
            .map_err(|why| ("messages are canonical", why.to_string()))?;
        if !sender.machine.store.has_block(bytes) && sender.answers_for(&block.block().author) {
            let what = "a block leaves a peer that does not hold it on disk".into();
            return Err(("nothing is acknowledged before it is durable", what));
        }
        if !self.known.insert(hash::blob(bytes)) {
            return Ok(());
        }
        let at = (block.block().author, block.block().seq);
        let id = block.id();
        match self.blocks.insert(at, id) {
            Some(other) if other != id && liars.contains(&at.0) => {
                self.forked.insert(at.0);
                Ok(())
            }
            Some(other) if other != id => Err((
                "no honest peer equivocates",
                format!("two blocks at {} {}", at.0.short(), at.1),
            )),
            _ => Ok(()),
        }
    }

    fn vote(&mut self, bytes: &[u8], liars: &BTreeSet<PeerId>) -> Result<(), Broken> {
        let message = ConsensusMessage::decode(bytes)
            .map_err(|why| ("messages are canonical", why.to_string()))?;
        let (kind, value) = match &message {
            ConsensusMessage::Proposal(proposal) => (None, Some(proposal.body.value.id())),
            ConsensusMessage::Vote(vote) => (Some(vote.body.kind), vote.body.value),
        };
        let (author, round, attempt) = (message.author(), message.round(), message.attempt());
        if liars.contains(&author) {
            return Ok(());
        }
        match self.votes.insert((author, round, attempt, kind), value) {
            Some(other) if other != value => Err((
                "no honest peer equivocates",
                format!(
                    "{} said {other:?} and {value:?} at round {round} attempt {attempt} ({})",
                    author.short(),
                    kind.map_or("proposal".into(), |kind| format!("{kind:?}")),
                ),
            )),
            _ => Ok(()),
        }
    }
}
