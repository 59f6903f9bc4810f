//! How honest peers judge what reaches them: one verdict for each message, no blame for honest neighbours, and no
//! message that one honest peer would forward and another refuse.
//!
//! The last is a promise about forwarding. In the real network a message travels from neighbour to neighbour, and a
//! peer that forwards what another refuses is blamed for it. Floods in the simulation go straight from their author to
//! everybody, so the check is made for each message of a liar instead.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::event::{Effect, Input, Notice, Verdict};
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::PeerId;

use super::Broken;

const BLAME: &str = "no honest peer is blamed";

/// A gossip message as it reached a peer.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    id: u64,
    from: PeerId,
    hash: Digest,
}

impl Heard {
    /// The gossip message that an input brings, if it brings one.
    pub fn of(input: &Input) -> Option<Self> {
        match input {
            Input::Gossip { from, id, bytes } => Some(Self {
                id: *id,
                from: *from,
                hash: hash::blob(bytes),
            }),
            _ => None,
        }
    }
}

/// What honest peers made of a liar's message.
#[derive(Clone, Copy, Default)]
struct Fate {
    accepted: bool,
    refused: bool,
}

/// What became of each message at honest peers.
#[derive(Default)]
pub(super) struct Judged {
    fates: BTreeMap<Digest, Fate>,
}

impl Judged {
    /// An honest peer answered an input with these effects.
    pub(super) fn answered(
        &mut self,
        gossip: Option<Heard>,
        effects: &[Effect],
        liars: &BTreeSet<PeerId>,
    ) -> Result<(), Broken> {
        let verdicts: Vec<(u64, Verdict)> = (effects.iter())
            .filter_map(|effect| match effect {
                Effect::Verdict { id, verdict } => Some((*id, *verdict)),
                _ => None,
            })
            .collect();
        let (Some(heard), [(id, verdict)]) = (gossip, &verdicts[..]) else {
            return match gossip.is_none() && verdicts.is_empty() {
                true => Ok(()),
                false => Err(one_verdict(gossip, &verdicts)),
            };
        };
        if *id != heard.id {
            return Err(one_verdict(gossip, &verdicts));
        }
        if !liars.contains(&heard.from) {
            return match verdict {
                Verdict::Reject => Err((BLAME, "it rejected a gossip message".into())),
                _ => Ok(()),
            };
        }
        let refuses = |effect: &Effect| matches!(effect, Effect::Notify(Notice::Refused { .. }));
        let fate = self.fates.entry(heard.hash).or_default();
        fate.accepted |= *verdict == Verdict::Accept;
        fate.refused |= *verdict == Verdict::Reject || effects.iter().any(refuses);
        match fate.accepted && fate.refused {
            false => Ok(()),
            true => Err((
                BLAME,
                "one honest peer would hand on what another refuses".into(),
            )),
        }
    }
}

fn one_verdict(gossip: Option<Heard>, verdicts: &[(u64, Verdict)]) -> Broken {
    let message = gossip.map(|heard| heard.id);
    (
        "each gossip message gets one verdict",
        format!("message {message:?} was answered with verdicts {verdicts:?}"),
    )
}
