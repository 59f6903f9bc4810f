//! Signs a second history after the first: as the run's creator a second genesis, as a member a second certificate of
//! a decided height, where its key and those of other liars make a quorum.
//!
//! It shows them, again and again and in several versions, to peers that have said that they know the height to be
//! certified. A peer that knows no genesis would take the first one it hears of for the run's. That is the trust which
//! a run puts into its creator, and not what is tried here.

use std::collections::BTreeMap;

use rand::Rng;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::event::Input;
use tributary_protocol::id::{BlobHash, PeerId, Round};
use tributary_protocol::round::RoundValue;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state::{self, Head};
use tributary_protocol::wire::Message;

use super::double_vote::heard;
use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Versions of one height that it signs beside the first.
const VERSIONS: u32 = 3;
/// Ticks between two certificates that it shows.
const TICKS_BETWEEN: u32 = 3;

/// As the creator a second genesis; as a member second certificates, with the keys of its friends.
#[derive(Default)]
pub(super) struct Contradict {
    /// How far each peer said that it is.
    known: BTreeMap<PeerId, Round>,
    ticks: u32,
}

/// The certificate that liars can make beside that of `round`, if together they have the votes.
fn second(cx: &LiarContext<'_>, round: Round, version: u32) -> Option<Certificate> {
    let (view, manifest, run) = (cx.view()?, cx.world.manifest, cx.world.run);
    let mut head: Option<Head> = None;
    for certificate in view.chain().iter().take(round.0 as usize) {
        head = state::follow(manifest, run, head.as_ref(), &certificate.value).ok();
    }
    let committee = state::committee(manifest, &run, head.as_ref());
    if committee.votes_of(cx.friends()) < committee.quorum() {
        return None;
    }
    let first = view.chain().get(round.0 as usize)?;
    let value = other(cx, head.as_ref(), &first.value, version)?;
    let sign = |key: &SecretKey| {
        let vote = Vote {
            run,
            round,
            attempt: first.attempt,
            kind: VoteKind::Precommit,
            value: Some(value.id()),
            author: key.peer_id(),
        };
        (vote.author, Signed::vote(vote, NETWORK, key).signature)
    };
    let seated = (cx.world.friends.iter()).filter(|key| committee.contains(&key.peer_id()));
    let mut precommits: Vec<_> = seated.map(sign).collect();
    precommits.sort();
    Some(Certificate {
        attempt: first.attempt,
        precommits,
        value,
    })
}

/// Another value for the same height: somebody left out, else another adapter.
fn other(
    cx: &LiarContext<'_>,
    before: Option<&Head>,
    first: &RoundValue,
    version: u32,
) -> Option<RoundValue> {
    let mut value = first.clone();
    match version {
        0 if value.joins.len() > 1 => drop(value.joins.pop()),
        0 if value.sheets.len() > 1 => drop(value.sheets.pop()),
        _ => {
            let seed = format!("{version} {}", first.id().0);
            value.adapter.hash = BlobHash(tributary_protocol::hash::blob(seed.as_bytes()));
        }
    }
    state::conclude(cx.world.manifest, before, &mut value).ok()?;
    Some(value)
}

/// The member that shows, by this message, which round is certified: a seat speaks at the height after it.
fn says(input: &Input) -> Option<(PeerId, Round)> {
    if let Some(words) = heard(input) {
        return Some((words.author(), words.round().previous()?));
    }
    let Input::Direct { from, bytes } = input else {
        return None;
    };
    match Message::decode(bytes) {
        Ok(Message::Summary { certified, .. } | Message::Heads { certified, .. }) => {
            Some((*from, certified?))
        }
        _ => None,
    }
}

impl Behaviour for Contradict {
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Some((peer, round)) = says(&input) {
            let known = self.known.entry(peer).or_insert(round);
            *known = round.max(*known);
        }
        Some(input)
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        self.ticks += 1;
        let heights = cx.view().map_or(0, |view| view.chain().len() as u32);
        if heights == 0 || !self.ticks.is_multiple_of(TICKS_BETWEEN) {
            return;
        }
        let round = Round(cx.rng.random_range(0..heights));
        let version = cx.rng.random_range(0..VERSIONS);
        let made = second(cx, round, version).or_else(|| second(cx, Round(0), version));
        let Some(certificate) = made else { return };
        let round = certificate.value.round;
        let message = Message::Certificate(certificate.encode());
        for (peer, known) in &self.known {
            if *known >= round && *peer != cx.me {
                cx.send(*peer, &message);
            }
        }
    }
}
