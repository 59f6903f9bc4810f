//! What the shards of a run's contributors hold of an answer, word for word.
//!
//! ```text
//!   certified joins ──commitments──▶ ask ──question──▶ each contributor's daemon (holder)
//!                                     │ ◀──spans and proofs── checked against the certified root
//!                                     ▼
//!                                 Reply: of each, what is proven, or why nothing is known
//! ```
//! A proof is checked before anybody sees it. Who does not answer is no holder of nothing: it is named as
//! silent. What of the proven is boilerplate is judged by `tributary_attribution::lexical`.

mod holder;

use std::collections::BTreeMap;
use std::ops::Range;

use tributary_ledger::ArchivedRun;
use tributary_protocol::entry::Entry;
use tributary_protocol::fingerprint::{self, Answer, Declined, SpanFault};
use tributary_protocol::id::{MerkleRoot, PeerId, RunId};
use tributary_protocol::limits::{MAX_QUESTION_WORDS, MIN_SPAN_WORDS};

use crate::daemon::Daemon;
use crate::home::HomePaths;
use crate::net::Unanswered;

pub(crate) use holder::Holder;

/// Contributors that are asked about one answer, those with the largest shares: each costs its daemon a search.
const MAX_ASKED: usize = 64;

/// What a member committed to when it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// Root of its passages; only its owner finds something under it.
    pub shard: MerkleRoot,
    /// Root of its words.
    pub fingerprints: MerkleRoot,
}

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The run.
    pub run: RunId,
    /// Words of the answer.
    pub words: Vec<String>,
    /// Contributors, the largest share first.
    pub contributors: Vec<(PeerId, Option<Commitment>)>,
}

/// What came of asking one contributor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Spans that stand in what it committed to, as ranges of the answer's words; it says that these are all.
    Proven(Vec<Range<usize>>),
    /// It answers no such question.
    Declined(Declined),
    /// It does not answer.
    Silent(String),
    /// It sent what is not true, or cannot be read.
    False(String),
    /// It was not asked.
    NotAsked(&'static str),
}

/// What each contributor had committed to before it trained; the newest where it joined more than once.
pub fn commitments(run: &ArchivedRun) -> BTreeMap<PeerId, Commitment> {
    let mut joined = BTreeMap::new();
    let mut trained = BTreeMap::new();
    for value in run.certificates.iter().map(|c| &c.value) {
        for author in value.included.iter().map(|i| i.receipt.author) {
            if let Some(Some(commitment)) = joined.get(&author) {
                trained.insert(author, *commitment);
            }
        }
        for at in value.joins.iter().map(|joined| joined.entry) {
            let commitment = match run.log.entry(&at) {
                Some(Entry::Join(join)) => join.fingerprints.map(|fingerprints| Commitment {
                    shard: join.root,
                    fingerprints,
                }),
                _ => None,
            };
            joined.insert(at.author, commitment);
        }
    }
    trained
}

impl Inquiry {
    /// What can be said without asking: too short an answer, or a shard of this home.
    fn at_home(&self, home: &HomePaths, commitment: Option<Commitment>) -> Option<Reply> {
        if self.words.len() < MIN_SPAN_WORDS {
            return Some(Reply::NotAsked("the answer is shorter than a span"));
        }
        let Some(commitment) = commitment else {
            return Some(Reply::NotAsked(
                "it committed to no words before it trained",
            ));
        };
        let shard = holder::open(home, &commitment)?;
        let spans = shard.spans(&self.words[..self.words.len().min(MAX_QUESTION_WORDS)]);
        Some(self.judge(&commitment, Ok(&Answer::new(Ok(spans)).encode())))
    }

    /// Reads and checks an answer.
    fn judge(&self, commitment: &Commitment, answer: Result<&[u8], Unanswered>) -> Reply {
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(Unanswered::Apart) => {
                return Reply::NotAsked("this peer has no connection to it");
            }
            Err(why) => return Reply::Silent(why.to_string()),
        };
        match Answer::decode(bytes).map(|answer| answer.found) {
            Ok(Ok(spans)) => {
                let proven = fingerprint::check(&commitment.fingerprints, &self.words, &spans);
                proven.map_or_else(
                    |why: SpanFault| Reply::False(why.to_string()),
                    Reply::Proven,
                )
            }
            Ok(Err(why)) => Reply::Declined(why),
            Err(why) => Reply::False(format!("its answer cannot be read: {why}")),
        }
    }

    /// Looks into the shards of this home and nowhere else. Reads files.
    pub(crate) fn here(&self, home: &HomePaths) -> Vec<Reply> {
        let said = |(_, commitment): &(PeerId, Option<Commitment>)| {
            let at_home = self.at_home(home, *commitment);
            at_home.unwrap_or(Reply::NotAsked("no daemon runs on this home"))
        };
        self.contributors.iter().map(said).collect()
    }

    /// Asks every contributor, all at once; the outcomes are in their order.
    pub(crate) async fn everywhere(&self, daemon: &Daemon, home: &HomePaths) -> Vec<Reply> {
        let each = self.contributors.iter().enumerate();
        let asking = each.map(|(at, (peer, commitment))| async move {
            let at_home = tokio::task::block_in_place(|| self.at_home(home, *commitment));
            match (at_home, commitment) {
                (Some(said), _) => said,
                (None, Some(commitment)) if at < MAX_ASKED && *peer != daemon.peer_id() => {
                    let about = (self.run, commitment.fingerprints);
                    let answer = daemon.ask(*peer, about, &self.words).await;
                    self.judge(commitment, answer.as_deref().map_err(Clone::clone))
                }
                (None, Some(_)) if at < MAX_ASKED => {
                    Reply::NotAsked("its shard is no longer in this home")
                }
                (None, _) => Reply::NotAsked("too many contributors have larger shares"),
            }
        });
        futures::future::join_all(asking).await
    }
}

#[cfg(test)]
mod tests;
