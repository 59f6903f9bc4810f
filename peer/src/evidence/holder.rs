//! Answers questions of other members about the shards of this home, if its owner wants it to.
//!
//! ```text
//!   question ──signed by its sender──▶ admitted to the run? ──▶ shard ──▶ allowance of the hour ──▶ answer
//!                                                                           │ file, before the answer
//! ```
//! Only what a join of this peer committed to is ever looked at. What an hour may give away, whoever asks, is
//! `tributary_attribution::lexical::Allowance`; it is on the disk before an answer leaves, and where the file cannot
//! be used nothing is answered. How often one neighbour may ask at all is bounded before (`net/questions.rs`). A jury's summons
//! come in the same way, and are [`Shower`]'s.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tributary_attribution::lexical::{Allowance, Shard, Spent};
use tributary_protocol::entry::Entry;
use tributary_protocol::fingerprint::{Answer, Declined, Question, Span};
use tributary_protocol::id::{MerkleRoot, NetworkId, PeerId};
use tributary_protocol::node::{Node, RunView};
use tributary_protocol::summons::Summons;
use tributary_protocol::time::Timestamp;

use super::Commitment;
use crate::driver::Request;
use crate::home::{HomePaths, disk};
use crate::jury::Shower;
use crate::net::Asked;
use crate::shard::Committed;

/// The words behind a commitment of this home; `None` when they are not here.
pub(super) fn open(home: &HomePaths, commitment: &Commitment) -> Option<Shard> {
    let committed = Committed::read(home, &commitment.shard).ok()?;
    let shard = committed.searchable().ok()?;
    (shard.root() == commitment.fingerprints).then_some(shard)
}

/// Whether a certificate of the run ever admitted `peer`.
fn was_member(run: &RunView<'_>, peer: &PeerId) -> bool {
    let values = run.chain().iter().map(|certificate| &certificate.value);
    let mut joins = values.flat_map(|value| &value.joins);
    joins.any(|joined| joined.entry.author == *peer)
}

/// What may be shown of `shard` now, by the file of the home, which has it before anybody else.
pub(super) fn allowed(
    file: &Path,
    shard: &Shard,
    words: &[String],
    now: Timestamp,
) -> Result<Vec<Span>, Declined> {
    let unusable = |why: String| {
        let file = file.display();
        tracing::warn!(
            "a question about this peer's text is not answered: {file} cannot be used ({why}); mend \
             the disk, or delete the file an hour after the last question"
        );
        Declined::Spent
    };
    let mut allowance: Allowance = match std::fs::read_to_string(file) {
        Ok(text) => text
            .parse()
            .map_err(|why| unusable(format!("it is damaged: {why}")))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Allowance::default(),
        Err(e) => return Err(unusable(e.to_string())),
    };
    let spans = (allowance.spans(shard, words, now)).map_err(|Spent| Declined::Spent)?;
    disk::write_whole(file, allowance.to_string().as_bytes())
        .map_err(|e| unusable(e.to_string()))?;
    Ok(spans)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

/// Answers other members' questions about the shards of this home.
pub(crate) struct Holder {
    home: HomePaths,
    peer: PeerId,
    network: NetworkId,
    /// To the node. Weak, so that a daemon that is dropped ends.
    node: mpsc::WeakSender<Request<Node>>,
    open: bool,
    /// The shard that was asked about last: the contributors of a run are asked about it again.
    last: Option<(MerkleRoot, Arc<Shard>)>,
    /// Shows juries the windows of disputed sheets, whether or not other questions are answered.
    shower: Shower,
}

impl Holder {
    /// For the shards of `home`; with `open` false every question is declined.
    pub(crate) fn new(
        home: HomePaths,
        (peer, network): (PeerId, NetworkId),
        node: mpsc::WeakSender<Request<Node>>,
        open: bool,
        shower: Shower,
    ) -> Self {
        Self {
            home,
            peer,
            network,
            node,
            open,
            last: None,
            shower,
        }
    }

    /// Answers one question after the other, until nobody can ask any more.
    pub(crate) async fn serve(mut self, mut questions: mpsc::Receiver<Asked>) {
        while let Some(Asked {
            from,
            bytes,
            answer,
        }) = questions.recv().await
        {
            if let Ok(summons) = Summons::decode(&bytes) {
                if let Some(shown) = self.shower.answer(from, summons).await {
                    // The juror may be gone.
                    let _ = answer.send(shown);
                }
                continue;
            }
            let question = Question::decode(&bytes);
            let asked = |question: &Question| {
                question.asker == from && question.check(self.network).is_ok()
            };
            // What cannot be read, or was not signed by the peer that sent it, gets no answer.
            let Some(question) = question.ok().filter(asked) else {
                continue;
            };
            let found = Answer::new(self.answer(question).await);
            // The asker may be gone.
            let _ = answer.send(found.encode());
        }
    }

    async fn answer(&mut self, question: Question) -> Result<Vec<Span>, Declined> {
        if !self.open {
            return Err(Declined::Closed);
        }
        let commitment = self.commitment(&question).await?;
        let shard = self.shard(commitment).await.ok_or(Declined::Gone)?;
        let file = self.home.evidence();
        let search = move || allowed(&file, &shard, &question.words, now());
        (tokio::task::spawn_blocking(search).await).unwrap_or(Err(Declined::Gone))
    }

    async fn shard(&mut self, commitment: Commitment) -> Option<Arc<Shard>> {
        let root = commitment.fingerprints;
        if let Some((last, shard)) = &self.last
            && *last == root
        {
            return Some(shard.clone());
        }
        let home = self.home.clone();
        self.last = None;
        let opened = tokio::task::spawn_blocking(move || open(&home, &commitment)).await;
        let shard = Arc::new(opened.ok()??);
        self.last = Some((root, shard.clone()));
        Some(shard)
    }

    /// The join of this peer that the question is about, if a member asks.
    async fn commitment(&self, question: &Question) -> Result<Commitment, Declined> {
        let (me, run, fingerprints) = (self.peer, question.run, question.root);
        let asker = question.asker;
        let (tell, told) = oneshot::channel();
        let look = move |node: &Node| {
            let run = node.run(&run).filter(|run| was_member(run, &asker));
            let found = run.map(|run| {
                let mut joins = run.log().entries(me);
                joins.find_map(|(_, entry)| match entry {
                    Entry::Join(join) if join.fingerprints == Some(fingerprints) => Some(join.root),
                    _ => None,
                })
            });
            let _ = tell.send(found);
        };
        let node = self.node.upgrade().ok_or(Declined::Gone)?;
        let sent = node.send(Request::Inspect(Box::new(look))).await;
        sent.map_err(|_| Declined::Gone)?;
        let found = told.await.map_err(|_| Declined::Gone)?;
        let shard = found.ok_or(Declined::Stranger)?.ok_or(Declined::Gone)?;
        Ok(Commitment {
            shard,
            fingerprints,
        })
    }
}
