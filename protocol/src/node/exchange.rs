//! Messages of others: blocks, certificates, votes, and the comparison of heads that repairs every
//! loss.

use super::Desk;
use super::run::Run;
use crate::certificate::Certificate;
use crate::consensus::ConsensusMessage;
use crate::event::{Notice, Record, Verdict};
use crate::id::{BlockId, NetworkId, PeerId, Round, RunId, Scope};
use crate::limits;
use crate::log::Unverified;
use crate::reject::Rejection;
use crate::sync::{self, HeadList, RangeDigest};
use crate::wire::Message;

/// Which run a message is about, with the block when it carries one. Its signature is checked only
/// once it turns out to be new: floods and repairs bring the same block many times.
pub(super) fn run_of(
    message: &Message,
    network: NetworkId,
) -> Result<Option<(RunId, Option<Unverified>)>, Rejection> {
    Ok(match message {
        Message::Block(bytes) => {
            let block = Unverified::decode(bytes, network)?;
            match block.block().scope {
                Scope::Run(run) => Some((run, Some(block))),
                Scope::Account(_) | Scope::Datanet(_) => None,
            }
        }
        Message::Certificate(bytes) => Some((Certificate::decode(bytes)?.value.run, None)),
        Message::Consensus(bytes) => Some((ConsensusMessage::decode(bytes)?.run(), None)),
        Message::Summary { run, .. }
        | Message::Heads { run, .. }
        | Message::WantBlocks { run, .. }
        | Message::Blocks { run, .. }
        | Message::Certificates { run, .. }
        | Message::WantCertificates { run, .. } => Some((*run, None)),
        Message::Runs(_) => None,
    })
}

impl Run {
    pub(super) fn on_message(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        message: Message,
        block: Option<Unverified>,
    ) -> Result<Verdict, Rejection> {
        match message {
            Message::Block(_) => match block {
                Some(block) => self.on_block(desk, from, block),
                None => Ok(Verdict::Ignore),
            },
            Message::Certificate(bytes) => self.on_certificate(desk, from, &bytes),
            Message::Consensus(bytes) => self.on_consensus(desk, from, &bytes),
            Message::Summary {
                ranges, certified, ..
            } => {
                self.on_summary(desk, from, &ranges, certified);
                Ok(Verdict::Ignore)
            }
            Message::Heads {
                lists,
                certified,
                wants,
                ..
            } => {
                self.on_heads(desk, from, &lists, certified, wants);
                Ok(Verdict::Ignore)
            }
            Message::WantBlocks { blocks, .. } => {
                self.send_blocks(desk, from, &blocks);
                Ok(Verdict::Ignore)
            }
            Message::Blocks { blocks, .. } => self.on_blocks(desk, from, &blocks),
            Message::Certificates { certificates, .. } => {
                for bytes in certificates {
                    self.on_certificate(desk, from, &bytes)?;
                }
                Ok(Verdict::Ignore)
            }
            Message::WantCertificates { from: first, .. } => {
                self.send_certificates(desk, from, first);
                Ok(Verdict::Ignore)
            }
            Message::Runs(_) => Ok(Verdict::Ignore),
        }
    }

    pub(super) fn on_certificate(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let certificate = Certificate::decode(bytes)?;
        let Some(manifest) = self.manifest.clone() else {
            return Ok(Verdict::Ignore);
        };
        let next = self.next();
        let round = certificate.value.round;
        if self.refuted.is_some() || (round > next && self.awaited.is_some()) {
            return Ok(Verdict::Ignore);
        }
        if round > next {
            desk.send(
                from,
                &Message::WantCertificates {
                    run: self.id,
                    from: next,
                },
            );
            return Ok(Verdict::Ignore);
        }
        if round < next {
            return self.compare_certified(desk, &certificate, bytes);
        }
        certificate.verify(self.committee(&manifest), desk.config.network)?;
        self.certify(desk, certificate)?;
        Ok(Verdict::Accept)
    }

    /// A certificate for a round that is certified here: either known, or the proof that more than a
    /// third of the committee lied.
    fn compare_certified(
        &mut self,
        desk: &mut Desk,
        certificate: &Certificate,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let round = certificate.value.round;
        let Some(known) = self.chain.get(round.0 as usize) else {
            return Ok(Verdict::Ignore);
        };
        if known.value.id() == certificate.value.id() {
            return Ok(Verdict::Ignore);
        }
        // The committee that signed both is the same one, drawn from the state before.
        let Some(committee) = self.committees.get(round.0 as usize) else {
            return Ok(Verdict::Ignore);
        };
        certificate.verify(committee, desk.config.network)?;
        // One contradiction proves all that a second one would: it is kept if it exposes somebody new.
        let liars: Vec<PeerId> = (certificate.precommits.iter())
            .map(|(peer, _)| *peer)
            .filter(|peer| known.precommits.iter().any(|(other, _)| other == peer))
            .filter(|peer| !self.exposed.contains(&(round, *peer)))
            .collect();
        if liars.is_empty() {
            return Ok(Verdict::Ignore);
        }
        self.exposed.extend(liars.iter().map(|peer| (round, *peer)));
        desk.persist(vec![Record::Certificate {
            run: self.id,
            round,
            bytes: bytes.to_vec(),
        }]);
        for author in liars {
            let run = self.id;
            desk.notify(Notice::Equivocation { run, author });
        }
        Ok(Verdict::Accept)
    }

    fn certified(&self) -> Option<Round> {
        self.head.as_ref().map(|head| head.round)
    }

    /// Begins to compare ledgers with a peer.
    pub(super) fn open_exchange(&mut self, desk: &mut Desk, to: PeerId) {
        if self.declined.is_some() {
            return;
        }
        let ranges = sync::open(&self.log);
        let certified = self.certified();
        desk.send(
            to,
            &Message::Summary {
                run: self.id,
                ranges,
                certified,
            },
        );
    }

    fn on_summary(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        theirs: &[RangeDigest],
        certified: Option<Round>,
    ) {
        self.compare_rounds(desk, from, certified);
        let refined = sync::refine(&self.log, theirs);
        let (run, certified) = (self.id, self.certified());
        if !refined.ranges.is_empty() {
            let ranges = refined.ranges;
            desk.send(
                from,
                &Message::Summary {
                    run,
                    ranges,
                    certified,
                },
            );
        }
        if !refined.lists.is_empty() {
            let lists = refined.lists;
            desk.send(
                from,
                &Message::Heads {
                    run,
                    lists,
                    certified,
                    wants: false,
                },
            );
        }
    }

    fn on_heads(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        theirs: &[HeadList],
        certified: Option<Round>,
        wants: bool,
    ) {
        self.compare_rounds(desk, from, certified);
        let plan = sync::compare(&self.log, theirs, sync::MAX_ANSWER_BYTES);
        if !plan.blocks.is_empty() {
            desk.send(
                from,
                &Message::Blocks {
                    run: self.id,
                    blocks: plan.blocks,
                },
            );
        }
        if plan.behind && !wants {
            let (run, certified) = (self.id, self.certified());
            desk.send(
                from,
                &Message::Heads {
                    run,
                    lists: plan.ask,
                    certified,
                    wants: true,
                },
            );
        }
    }

    /// Certificates they lack are sent, certificates we lack are asked for.
    fn compare_rounds(&mut self, desk: &mut Desk, from: PeerId, theirs: Option<Round>) {
        let mine = self.certified();
        if theirs < mine {
            self.send_certificates(desk, from, theirs.map_or(Round(0), Round::next));
        } else if theirs > mine && self.manifest.is_some() {
            desk.send(
                from,
                &Message::WantCertificates {
                    run: self.id,
                    from: self.next(),
                },
            );
        }
    }

    fn send_blocks(&mut self, desk: &mut Desk, to: PeerId, wanted: &[(PeerId, BlockId)]) {
        let mut budget = sync::SizeLimit::new(sync::MAX_ANSWER_BYTES);
        for (author, id) in wanted {
            let Some(block) = self.log.block(*author, id) else {
                continue;
            };
            if self.log.is_stranger(*author) {
                // Comparing heads brings nothing of a stranger: what stands before the block goes with it.
                let before = self.log.blocks(*author);
                for block in before.take_while(|before| before.id() != *id) {
                    budget.push(block);
                }
            }
            if !budget.push(block) {
                break;
            }
        }
        let blocks = budget.blocks;
        if !blocks.is_empty() {
            desk.send(
                to,
                &Message::Blocks {
                    run: self.id,
                    blocks,
                },
            );
        }
    }

    pub(super) fn send_certificates(&mut self, desk: &mut Desk, to: PeerId, first: Round) {
        let mut certificates = Vec::new();
        let mut bytes = 0;
        for certificate in self.chain.iter().skip(first.0 as usize) {
            let encoded = certificate.encode();
            bytes += encoded.len() + 8;
            if bytes > limits::MAX_DIRECT_BYTES - 1024 {
                break;
            }
            certificates.push(encoded);
        }
        if !certificates.is_empty() {
            desk.send(
                to,
                &Message::Certificates {
                    run: self.id,
                    certificates,
                },
            );
        }
    }
}
