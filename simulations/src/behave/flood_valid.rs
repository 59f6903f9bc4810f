//! Sends as many well-signed messages as it can: full blocks of its own log, blocks far ahead of it, votes for one
//! attempt after the other, and requests whose answers are large.

use rand::Rng;
use tributary_protocol::consensus::{ConsensusMessage, Signed, Vote, VoteKind};
use tributary_protocol::entry::Entry;
use tributary_protocol::hash;
use tributary_protocol::id::{BlockId, Round, Seq, ValueId};
use tributary_protocol::log::SignedBlock;
use tributary_protocol::state;
use tributary_protocol::sync::{self, AuthorRange};
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Blocks that follow its log, each tick.
const NEXT_EACH_TICK: usize = 2;
/// Blocks that follow nothing, each tick.
const AHEAD_EACH_TICK: usize = 2;
/// Entries of each block.
const ENTRIES: usize = 40;
/// Votes each tick, while it has a seat.
const VOTES_EACH_TICK: u32 = 4;
/// Requests each tick.
const REQUESTS_EACH_TICK: usize = 3;

/// As many well-signed blocks, votes and requests as it can.
#[derive(Default)]
pub(super) struct FloodValid {
    attempt: u32,
}

impl FloodValid {
    fn blocks(cx: &mut LiarContext<'_>) {
        // A leave of no member's says nothing, and is well-formed.
        let entries = || vec![Entry::Leave; ENTRIES];
        for _ in 0..NEXT_EACH_TICK {
            cx.write(entries());
        }
        for _ in 0..AHEAD_EACH_TICK {
            let Some(mut block) = cx.next_block(entries()) else {
                return;
            };
            block.seq = Seq(block.seq.0 + cx.rng.random_range(100..1 << 20));
            block.prev = Some(BlockId(hash::blob(&block.seq.0.to_le_bytes())));
            if let Some(signed) = cx.sign(block) {
                cx.flood(&Message::Block(signed.bytes().to_vec()));
            }
        }
    }

    /// Valid votes of a member, for attempts that nobody is in.
    fn votes(&mut self, cx: &mut LiarContext<'_>) {
        let Some(head) = cx.view().and_then(|view| view.head()) else {
            return;
        };
        let committee = state::committee(cx.world.manifest, &cx.world.run, Some(head));
        if !committee.contains(&cx.me) {
            return;
        }
        for _ in 0..VOTES_EACH_TICK {
            self.attempt += 1;
            let body = Vote {
                run: cx.world.run,
                round: head.round.next(),
                attempt: 20 + self.attempt,
                kind: VoteKind::Prevote,
                value: Some(ValueId(hash::blob(&self.attempt.to_le_bytes()))),
                author: cx.me,
            };
            let vote = Signed::vote(body, NETWORK, cx.key);
            cx.flood(&Message::Consensus(ConsensusMessage::Vote(vote).encode()));
        }
    }

    fn requests(cx: &mut LiarContext<'_>) {
        let run = cx.world.run;
        let Some(view) = cx.view() else { return };
        let mut blocks: Vec<_> = (view.log().authors())
            .flat_map(|author| view.log().blocks(author).map(SignedBlock::head))
            .map(|head| (head.author, head.block))
            .collect();
        blocks.truncate(tributary_protocol::limits::MAX_WANTED_BLOCKS);
        for _ in 0..REQUESTS_EACH_TICK {
            let Some(to) = cx.someone() else { return };
            let blocks = blocks.clone();
            cx.send(
                to,
                &Message::WantBlocks {
                    scope: run.into(),
                    blocks,
                },
            );
            let from = Round(0);
            cx.send(to, &Message::WantCertificates { run, from });
            // Heads of nobody: the answer is the whole ledger.
            let lists = vec![sync::HeadList {
                range: AuthorRange::ALL,
                heads: Vec::new(),
                forks: Vec::new(),
            }];
            let heads = Message::Heads {
                scope: run.into(),
                lists,
                certified: None,
                wants: true,
            };
            cx.send(to, &heads);
        }
    }
}

impl Behaviour for FloodValid {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        Self::blocks(cx);
        self.votes(cx);
        Self::requests(cx);
    }
}
