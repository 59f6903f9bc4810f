//! Messages of others: blocks, certificates, votes, and the comparison of heads that repairs every
//! loss.

use super::NodeContext;
use super::known::{Ledger, Standing};
use super::run::{OpenRun, Run, Stage};
use crate::certificate::Certificate;
use crate::consensus::ConsensusMessage;
use crate::event::{Notice, Record, Verdict};
use crate::id::{BlockId, NetworkId, PeerId, Round, RunId, Scope};
use crate::limits;
use crate::log::Unverified;
use crate::reject::Rejection;
use crate::replica::Taken;
use crate::sync::{HeadList, RangeDigest};
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
        Message::Summary { scope, .. }
        | Message::Heads { scope, .. }
        | Message::WantBlocks { scope, .. }
        | Message::Blocks { scope, .. } => match scope {
            Scope::Run(run) => Some((*run, None)),
            Scope::Account(_) | Scope::Datanet(_) => None,
        },
        Message::Certificates { run, .. } | Message::WantCertificates { run, .. } => {
            Some((*run, None))
        }
    })
}

impl Run {
    pub(super) fn on_message(
        &mut self,
        cx: &mut NodeContext,
        from: PeerId,
        message: Message,
        block: Option<Unverified>,
    ) -> Result<Verdict, Rejection> {
        match message {
            Message::Block(_) => match block {
                Some(block) => self.on_block(cx, from, block),
                None => Ok(Verdict::Ignore),
            },
            Message::Certificate(bytes) => self.on_certificate(cx, from, &bytes),
            Message::Consensus(bytes) => self.on_consensus(cx, from, &bytes),
            Message::Summary {
                ranges, certified, ..
            } => {
                self.on_summary(cx, from, &ranges, certified);
                Ok(Verdict::Ignore)
            }
            Message::Heads {
                lists,
                certified,
                wants,
                ..
            } => {
                self.on_heads(cx, from, &lists, (certified, wants));
                Ok(Verdict::Ignore)
            }
            Message::WantBlocks { blocks, .. } => {
                self.send_blocks(cx, from, &blocks);
                Ok(Verdict::Ignore)
            }
            Message::Blocks { blocks, .. } => self.on_blocks(cx, from, &blocks),
            Message::Certificates { certificates, .. } => {
                for bytes in certificates {
                    self.on_certificate(cx, from, &bytes)?;
                }
                Ok(Verdict::Ignore)
            }
            Message::WantCertificates { from: first, .. } => {
                if let Some(open) = self.open() {
                    open.send_certificates(cx, from, first);
                }
                Ok(Verdict::Ignore)
            }
        }
    }

    fn certified_round(&self) -> Option<Round> {
        self.open().and_then(|open| open.certified.round())
    }

    /// Begins to compare ledgers with a peer.
    pub(super) fn open_exchange(&self, cx: &mut NodeContext, to: PeerId) {
        if self.declined().is_none() {
            let certified = self.certified_round();
            self.ledger.open_exchange(cx, to, certified);
        }
    }

    fn on_summary(
        &self,
        cx: &mut NodeContext,
        from: PeerId,
        theirs: &[RangeDigest],
        certified: Option<Round>,
    ) {
        self.compare_rounds(cx, from, certified);
        let refined = self.ledger.replica.refine(theirs);
        let (scope, certified) = (self.id().into(), self.certified_round());
        if !refined.ranges.is_empty() {
            let ranges = refined.ranges;
            let finer = Message::Summary {
                scope,
                ranges,
                certified,
            };
            cx.send(from, &finer);
        }
        if !refined.lists.is_empty() {
            let heads = Message::Heads {
                scope,
                lists: refined.lists,
                certified,
                wants: false,
            };
            cx.send(from, &heads);
        }
    }

    fn on_heads(
        &self,
        cx: &mut NodeContext,
        from: PeerId,
        theirs: &[HeadList],
        (certified, wants): (Option<Round>, bool),
    ) {
        self.compare_rounds(cx, from, certified);
        let plan = self.ledger.replica.compare(theirs);
        let (scope, certified) = (self.id().into(), self.certified_round());
        if !plan.blocks.is_empty() {
            let blocks = plan.blocks;
            cx.send(from, &Message::Blocks { scope, blocks });
        }
        if plan.behind && !wants {
            let heads = Message::Heads {
                scope,
                lists: plan.ask,
                certified,
                wants: true,
            };
            cx.send(from, &heads);
        }
    }

    /// Certificates they lack are sent, certificates we lack are asked for.
    fn compare_rounds(&self, cx: &mut NodeContext, from: PeerId, theirs: Option<Round>) {
        let Some(open) = self.open() else { return };
        let mine = self.certified_round();
        if theirs.is_none() && mine.is_some() {
            self.send_opening(cx, from);
        }
        if theirs < mine {
            open.send_certificates(cx, from, theirs.map_or(Round(0), Round::next));
        } else if theirs > mine {
            open.want_certificates(cx, from);
        }
    }

    /// The block with the manifest, for who may lack it: without it a newcomer can make nothing of certificates, nor of
    /// logs, whose authors are all strangers to it; and a large ledger's first blocks fill every answer.
    fn send_opening(&self, cx: &mut NodeContext, to: PeerId) {
        let creator = self.open().map(|open| open.certified.manifest.creator);
        let log = self.ledger.replica.log();
        let opening = creator.and_then(|creator| log.blocks(creator).next());
        if let Some(opening) = opening {
            let (scope, blocks) = (self.id().into(), vec![opening.bytes().to_vec()]);
            cx.send(to, &Message::Blocks { scope, blocks });
        }
    }

    fn send_blocks(&self, cx: &mut NodeContext, to: PeerId, wanted: &[(PeerId, BlockId)]) {
        let (scope, blocks) = (self.id().into(), self.ledger.replica.named(wanted));
        if !blocks.is_empty() {
            cx.send(to, &Message::Blocks { scope, blocks });
        }
    }

    /// One block that cannot be used does not keep the others out. A sender that does not check what it
    /// hands on is not read any further.
    fn on_blocks(
        &mut self,
        cx: &mut NodeContext,
        from: PeerId,
        blocks: &[Vec<u8>],
    ) -> Result<Verdict, Rejection> {
        let mut outcome = Ok(Verdict::Ignore);
        for bytes in blocks {
            let block = Unverified::decode(bytes, cx.config.network)?;
            if block.block().scope != Scope::Run(self.id()) {
                continue;
            }
            match self.on_block(cx, from, block) {
                Err(Rejection::Signature) => return Err(Rejection::Signature),
                Err(why) => outcome = Err(why),
                Ok(_) => {}
            }
        }
        outcome
    }

    /// A block of another peer's log.
    fn on_block(
        &mut self,
        cx: &mut NodeContext,
        from: PeerId,
        block: Unverified,
    ) -> Result<Verdict, Rejection> {
        let author = block.block().author;
        let standing = self.stage.standing();
        let taken = (self.ledger.replica).take(block, &standing, &mut cx.draws)?;
        let Taken {
            verdict,
            is_news,
            has_grown,
            is_forked,
            has_gap,
            records,
            dropped,
        } = taken;
        assert!(
            is_news || !(has_grown || is_forked || has_gap),
            "only what is new changes anything"
        );
        self.ledger.changes_seen += u64::from(is_news);
        self.ledger.forget(&dropped);
        if has_grown {
            self.ledger.reindex(author);
        }
        if let Stage::Open(open) = &mut self.stage
            && (has_grown || is_forked)
        {
            open.refresh_eligible(&self.ledger);
        }
        if let Some(records) = records {
            cx.persist(records);
        }
        if is_forked {
            let run = self.id();
            cx.notify(Notice::Equivocation { run, author });
        }
        if has_gap {
            self.open_exchange(cx, from);
        }
        verdict
    }

    /// Says again what a stranger, this peer or another, has said: whoever holds it may drop it at any time.
    pub(super) fn repeat_strangers(&mut self, cx: &mut NodeContext, to: PeerId) {
        let scope = self.id().into();
        let Some(blocks) = self.ledger.replica.strangers_again(&mut cx.draws) else {
            return;
        };
        cx.send(to, &Message::Blocks { scope, blocks });
        if self.open().is_some_and(|open| open.certified.is_finished()) {
            return;
        }
        for block in self.ledger.replica.own_again(cx.now.monotonic) {
            cx.gossip(self.id(), &Message::Block(block));
        }
    }

    fn on_certificate(
        &mut self,
        cx: &mut NodeContext,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let certificate = Certificate::decode(bytes)?;
        match &mut self.stage {
            Stage::Open(open) => {
                open.on_certificate(cx, &mut self.ledger, from, certificate, bytes)
            }
            Stage::Waiting(_) | Stage::Declined(_) => Ok(Verdict::Ignore),
        }
    }

    fn on_consensus(
        &mut self,
        cx: &mut NodeContext,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let message = ConsensusMessage::decode(bytes)?;
        let (round, next) = (message.round(), self.stage.next());
        if self.open().is_some_and(|open| open.refuted.is_some()) {
            return Ok(Verdict::Ignore);
        }
        if round > next {
            // They are ahead: what they decided is on its way, or asked for here.
            self.open_exchange(cx, from);
            return Ok(Verdict::Ignore);
        }
        let Stage::Open(open) = &mut self.stage else {
            return Ok(Verdict::Ignore);
        };
        if round < next {
            // They missed a certificate.
            if message.author() == from {
                open.send_certificates(cx, from, round);
            }
            return Ok(Verdict::Ignore);
        }
        open.on_consensus(cx, &mut self.ledger, message, bytes)
    }
}

impl Stage {
    /// Whose logs belong to the run.
    pub(super) fn standing(&self) -> Standing<'_> {
        match self {
            Self::Open(open) => open.standing(),
            Self::Waiting(_) | Self::Declined(_) => Standing {
                certified: None,
                judging: &[],
            },
        }
    }

    /// The height that is open.
    fn next(&self) -> Round {
        match self {
            Self::Open(open) => open.certified.next(),
            Self::Waiting(_) | Self::Declined(_) => Round(0),
        }
    }
}

impl OpenRun {
    fn on_certificate(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        from: PeerId,
        certificate: Certificate,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let (round, next) = (certificate.value.round, self.height.round);
        if self.refuted.is_some() || (round > next && self.height.pending_certificate.is_some()) {
            return Ok(Verdict::Ignore);
        }
        if round > next {
            self.want_certificates(cx, from);
            return Ok(Verdict::Ignore);
        }
        if round < next {
            return self.compare_certified(cx, &certificate, bytes);
        }
        let committee = self.height.committee(&self.certified);
        certificate.verify(committee, cx.config.network)?;
        self.certify(cx, ledger, certificate)?;
        assert!(
            self.certified.round() >= Some(round)
                || self.height.pending_certificate.is_some()
                || self.refuted.is_some(),
            "a certificate moves the head, waits for its entries, or is refuted"
        );
        Ok(Verdict::Accept)
    }

    /// A certificate for a round that is certified here: either known, or the proof that more than a
    /// third of the committee lied. It is kept if it exposes somebody new.
    fn compare_certified(
        &mut self,
        cx: &mut NodeContext,
        certificate: &Certificate,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        assert!(
            Some(certificate.value.round) <= self.certified.round(),
            "only a certified round is contradicted"
        );
        let liars = (self.certified).expose(certificate, cx.config.network)?;
        if liars.is_empty() {
            return Ok(Verdict::Ignore);
        }
        let run = self.certified.id;
        cx.persist(vec![Record::Certificate {
            run,
            round: certificate.value.round,
            bytes: bytes.to_vec(),
        }]);
        for author in liars {
            cx.notify(Notice::Equivocation { run, author });
        }
        Ok(Verdict::Accept)
    }

    fn want_certificates(&self, cx: &mut NodeContext, to: PeerId) {
        let (run, from) = (self.certified.id, self.height.round);
        cx.send(to, &Message::WantCertificates { run, from });
    }

    fn send_certificates(&self, cx: &mut NodeContext, to: PeerId, first: Round) {
        let mut certificates = Vec::new();
        let mut bytes = 0;
        for certificate in self.certified.chain().iter().skip(first.0 as usize) {
            let at = first.0 as usize + certificates.len();
            assert_eq!(
                certificate.round().0 as usize,
                at,
                "certificates without gaps"
            );
            let encoded = certificate.encode();
            bytes += encoded.len() + 8;
            if bytes > limits::MAX_DIRECT_BYTES - 1024 {
                break;
            }
            certificates.push(encoded);
        }
        if !certificates.is_empty() {
            let run = self.certified.id;
            cx.send(to, &Message::Certificates { run, certificates });
        }
    }
}
