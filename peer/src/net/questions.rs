//! Questions about shards: one bounded question out, one bounded answer back.
//!
//! ```text
//!   Net::ask ──order──▶ swarm ──▶ their swarm ──allowances──▶ Asked ──▶ whoever holds shards there
//!        ◀──────────────────── answer, or Unanswered ◀───────────────────┘
//! ```
//! Nothing here knows what is asked. What a question costs its holder is bounded here: by the asker, by all of them
//! together, and by how many may wait. Members of this peer's runs have an allowance and places of their own: a jury's
//! summons come from members, and whoever could keep them out would have an honest evaluator condemned. What answers may give
//! away is bounded by the holder. A peer that is asked and not connected is dialed, for the next time.

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::request_response::{self, Message, OutboundRequestId, ResponseChannel};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};
use tributary_protocol::id::PeerId;
use tributary_protocol::time::Instant;

use super::frames::Request;
use super::limit::{Bucket, Kind};
use super::task::Task;
use super::{Counts, keys};

/// Questions that may wait for the holder. Each may take a second, so that more would time out anyway.
pub(crate) const MAX_WAITING: usize = 8;
/// Of these, places that only members take.
const MEMBERS_PLACES: usize = 4;
/// Questions of a burst, over all askers: keys are free, so one asker's allowance bounds nobody. Members have as much again.
const BURST: u64 = 64;
/// And each second: a search of the largest shard takes about as long.
const PER_SECOND: u64 = 1;

/// A question that awaits an answer. Dropping it says nothing to the asker.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The peer at the other end of the connection.
    pub(crate) from: PeerId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("this peer has no connection to it")]
    Apart,
    #[error("it did not answer: it is busy, gone, or was asked too often ({0})")]
    Silent(String),
}

type Reply = oneshot::Sender<Result<Vec<u8>, Unanswered>>;
type Answering = BoxFuture<'static, Option<(ResponseChannel<Vec<u8>>, Vec<u8>)>>;

/// What is under way in both directions.
pub(super) struct Questions {
    holder: Option<mpsc::Sender<Asked>>,
    strangers: Bucket,
    members: Bucket,
    asked: BTreeMap<OutboundRequestId, Reply>,
    answering: FuturesUnordered<Answering>,
}

impl Questions {
    /// Questions go to `holder`; without one, none is answered.
    pub(super) fn new(holder: Option<mpsc::Sender<Asked>>) -> Self {
        Self {
            holder,
            strangers: Bucket::new(BURST, PER_SECOND, Instant(0)),
            members: Bucket::new(BURST, PER_SECOND, Instant(0)),
            asked: BTreeMap::new(),
            answering: FuturesUnordered::new(),
        }
    }

    /// Whether one more question may wait for the holder, where so many still may.
    fn admit(&mut self, is_member: bool, places: usize, now: Instant) -> bool {
        match is_member {
            true => places > 0 && self.members.take(1, now),
            false => places > MEMBERS_PLACES && self.strangers.take(1, now),
        }
    }

    /// The next answer of our own that is ready; waits for ever while there is none under way.
    pub(super) async fn ready(&mut self) -> (ResponseChannel<Vec<u8>>, Vec<u8>) {
        loop {
            match self.answering.next().await {
                Some(Some(ready)) => return ready,
                // The holder has nothing to say; the channel is gone, which the asker sees.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl Task {
    /// Asks a neighbour. Another is dialed, and may be one when it is asked again.
    pub(super) fn ask(&mut self, to: PeerId, bytes: Vec<u8>, reply: Reply) {
        let neighbour = keys::to_libp2p(to).filter(|name| self.swarm.is_connected(name));
        let Some(name) = neighbour else {
            let now = self.now();
            if let Some((target, sockets)) = self.contacts.seek(to, now) {
                self.dial(target, sockets);
            }
            // Nobody may be waiting any more.
            let _ = reply.send(Err(Unanswered::Apart));
            return;
        };
        self.shared.meter.message_up(to, bytes.len());
        let evidence = &mut self.swarm.behaviour_mut().evidence;
        let id = evidence.send_request(&name, Request::Whole(bytes));
        self.questions.asked.insert(id, reply);
    }

    /// Gives an answer.
    pub(super) fn reply(&mut self, channel: ResponseChannel<Vec<u8>>, bytes: Vec<u8>) {
        let evidence = &mut self.swarm.behaviour_mut().evidence;
        let _ = evidence.send_response(channel, bytes);
    }

    pub(super) fn on_evidence(&mut self, event: request_response::Event<Request, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => {
                let Some(from) = keys::from_libp2p(&peer) else {
                    return;
                };
                match message {
                    Message::Request {
                        request, channel, ..
                    } => self.on_question(from, request, channel),
                    Message::Response {
                        request_id,
                        response,
                    } => {
                        self.shared.meter.message_down(from, response.len());
                        self.shared.admission.expect(from, response.len());
                        self.settle(request_id, Ok(response));
                    }
                }
            }
            request_response::Event::OutboundFailure {
                request_id, error, ..
            } => self.settle(request_id, Err(Unanswered::Silent(error.to_string()))),
            _ => {}
        }
    }

    fn settle(&mut self, id: OutboundRequestId, outcome: Result<Vec<u8>, Unanswered>) {
        if let Some(reply) = self.questions.asked.remove(&id) {
            let _ = reply.send(outcome);
        }
    }

    /// A question beyond an allowance, or that nobody can take, is dropped; the asker sees a closed stream.
    fn on_question(&mut self, from: PeerId, request: Request, channel: ResponseChannel<Vec<u8>>) {
        let Some(bytes) = self.whole(from, request) else {
            return;
        };
        self.shared.meter.message_down(from, bytes.len());
        let fits = (self.shared.admission).hear(from, Kind::Question, bytes.len());
        let now = self.now();
        let is_member = self.shared.admission.is_member(from);
        let Some(holder) = self.questions.holder.clone().filter(|_| fits) else {
            return;
        };
        if !self.questions.admit(is_member, holder.capacity(), now) {
            Counts::add(&self.shared.counts.dropped);
            return;
        }
        let (answer, ready) = oneshot::channel();
        if holder
            .try_send(Asked {
                from,
                bytes,
                answer,
            })
            .is_ok()
        {
            let answering = async move { Some((channel, ready.await.ok()?)) };
            self.questions.answering.push(Box::pin(answering));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_keep_no_member_from_being_heard() {
        let mut questions = Questions::new(None);
        let now = Instant(0);
        let heard = (0..1000).filter(|_| questions.admit(false, MAX_WAITING, now));
        assert_eq!(heard.count(), BURST as usize);
        assert!(questions.admit(true, MAX_WAITING, now));
        let mut questions = Questions::new(None);
        assert!(
            !questions.admit(false, MEMBERS_PLACES, now),
            "places are left for members"
        );
        assert!(questions.admit(true, 1, now) && !questions.admit(true, 0, now));
    }
}
