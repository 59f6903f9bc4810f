//! Answers strangers' questions about the shards of this home.
//!
//! Only what a join of this peer committed to is ever looked at, only runs of eight words that the asker knows
//! already are given away, and the owner can close the door. How often anybody may ask is bounded before a
//! question gets here (`net/questions.rs`).

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tributary_attribution::lexical::Shard;
use tributary_protocol::entry::Entry;
use tributary_protocol::fingerprint::{Answer, Declined, Question};
use tributary_protocol::id::{MerkleRoot, PeerId};
use tributary_protocol::node::Node;

use super::Commitment;
use crate::driver::Request;
use crate::home::HomePaths;
use crate::net::Asked;
use crate::shard::Committed;

/// The words behind a commitment of this home; `None` when they are not here.
pub(super) fn open(home: &HomePaths, commitment: &Commitment) -> Option<Shard> {
    let committed = Committed::read(home, &commitment.shard).ok()?;
    let shard = committed.searchable().ok()?;
    (shard.root() == commitment.fingerprints).then_some(shard)
}

/// See the module.
pub(crate) struct Holder {
    home: HomePaths,
    peer: PeerId,
    /// To the node. Weak, so that a daemon that is dropped ends.
    node: mpsc::WeakSender<Request<Node>>,
    open: bool,
    /// The shard that was asked about last: the contributors of a run are asked about it again.
    last: Option<(MerkleRoot, Arc<Shard>)>,
}

impl Holder {
    /// For the shards of `home`; with `open` false every question is declined.
    pub(crate) fn new(
        home: HomePaths,
        peer: PeerId,
        node: mpsc::WeakSender<Request<Node>>,
        open: bool,
    ) -> Self {
        Self {
            home,
            peer,
            node,
            open,
            last: None,
        }
    }

    /// Answers one question after the other, until nobody can ask any more.
    pub(crate) async fn serve(mut self, mut questions: mpsc::Receiver<Asked>) {
        while let Some(Asked { bytes, answer }) = questions.recv().await {
            // What cannot be read gets no answer.
            let Ok(question) = Question::decode(&bytes) else {
                continue;
            };
            let found = self.answer(&question).await;
            // The asker may be gone.
            let _ = answer.send(found.encode());
        }
    }

    async fn answer(&mut self, question: &Question) -> Answer {
        if !self.open {
            return Answer::new(Err(Declined::Closed));
        }
        let Some(shard) = self.shard(question).await else {
            return Answer::new(Err(Declined::Gone));
        };
        let grams = question.grams.clone();
        let spans = tokio::task::spawn_blocking(move || shard.spans(&grams)).await;
        Answer::new(spans.map_err(|_| Declined::Gone))
    }

    async fn shard(&mut self, question: &Question) -> Option<Arc<Shard>> {
        if let Some((root, shard)) = &self.last
            && *root == question.root
        {
            return Some(shard.clone());
        }
        let commitment = self.commitment(question).await?;
        let home = self.home.clone();
        self.last = None;
        let opened = tokio::task::spawn_blocking(move || open(&home, &commitment)).await;
        let shard = Arc::new(opened.ok()??);
        self.last = Some((question.root, shard.clone()));
        Some(shard)
    }

    /// The join of this peer that the question is about.
    async fn commitment(&self, question: &Question) -> Option<Commitment> {
        let (me, run, root) = (self.peer, question.run, question.root);
        let (tell, told) = oneshot::channel();
        let look = move |node: &Node| {
            let run = node.run(&run);
            let mut joins = run.iter().flat_map(|run| run.log().entries(me));
            let shard = joins.find_map(|(_, entry)| match entry {
                Entry::Join(join) if join.fingerprints == Some(root) => Some(join.root),
                _ => None,
            });
            let _ = tell.send(shard);
        };
        let node = self.node.upgrade()?;
        node.send(Request::Inspect(Box::new(look))).await.ok()?;
        let shard = told.await.ok()??;
        Some(Commitment {
            shard,
            fingerprints: root,
        })
    }
}
