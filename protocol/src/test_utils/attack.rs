//! A run of honest nodes, keys of strangers, and what an attacker needs to speak to them.

use std::collections::BTreeMap;

use crate::entry::{Contribution, Entry, Role};
use crate::event::{Command, Effect, Input};
use crate::hash::{self, Domain};
use crate::id::{BlockId, NetworkId, PeerId, Round, RunId, Scope, Seq};
use crate::log::{Block, SignedBlock};
use crate::logset::LogHead;
use crate::node::RunView;
use crate::round::{EntryRef, Included, RoundValue};
use crate::sign::SecretKey;
use crate::state::{self, RoundSources, Selection};
use crate::time::{Instant, Now, Timestamp};
use crate::wire::Message;

use super::net::{Net, join, manifest};

/// The network of [`Net`]'s nodes.
pub const NET: NetworkId = NetworkId(9);

/// `nodes` nodes, of which the first `members` ask for membership; the genesis waits for `least`.
pub fn opened(nodes: usize, members: usize, least: u32) -> (Net, RunId) {
    let mut net = Net::new(nodes);
    let manifest = manifest(net.ids[0], Vec::new(), least, 6);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..members {
        ask(&mut net, node, run);
    }
    (net, run)
}

/// As [`opened`], with the genesis certified.
pub fn begun(nodes: usize, members: usize) -> (Net, RunId) {
    let (mut net, run) = opened(nodes, members, members as u32);
    let all = |net: &Net| (0..members).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all), "genesis");
    (net, run)
}

/// Has a node follow the run and ask for membership.
pub fn ask(net: &mut Net, node: usize, run: RunId) {
    let join = Some(join(node, Role::Contributor).into());
    net.command(node, Command::Follow { run, join });
}

/// What a running node holds of a run.
pub fn view<'a>(net: &'a Net, node: usize, run: &RunId) -> RunView<'a> {
    let running = net.nodes[node].as_ref().expect("running");
    running.run(run).expect("followed")
}

/// The last round that a node has certified.
pub fn round(net: &Net, node: usize, run: &RunId) -> Option<Round> {
    let running = net.nodes[node].as_ref().expect("running");
    running.run(run)?.head().map(|head| head.round)
}

/// A key that no node has.
pub fn stranger(nth: u64) -> SecretKey {
    SecretKey::from_seed(*hash::digest(Domain::Simulation, &nth.to_le_bytes()).as_bytes())
}

/// A signed block at a place of its author's log: its number, and the block before.
pub fn block(
    key: &SecretKey,
    run: RunId,
    at: (u64, Option<BlockId>),
    seen: Vec<LogHead>,
    entries: Vec<Entry>,
) -> SignedBlock {
    let block = Block {
        network: NET,
        author: key.peer_id(),
        scope: Scope::Run(run),
        seq: Seq(at.0),
        prev: at.1,
        seen,
        time: Timestamp(1),
        entries,
    };
    SignedBlock::sign(block, key).expect("it keeps all bounds")
}

/// A block to one node, directly.
pub fn say(net: &mut Net, node: usize, block: &SignedBlock) {
    let bytes = Message::Block(block.bytes().to_vec()).encode();
    let from = block.block().author;
    net.input(node, Input::Direct { from, bytes });
}

/// To one node; nothing of what it does about it reaches the others.
pub fn tell(net: &mut Net, node: usize, from: PeerId, message: &Message) -> Vec<Effect> {
    let now = Now {
        monotonic: Instant(net.now_ms),
        wall: Timestamp(net.now_ms),
    };
    let input = Input::Gossip {
        from,
        id: 1,
        bytes: message.encode(),
    };
    let running = net.nodes[node].as_mut().expect("running");
    let effects = running.handle(input, now);
    running.complete(effects, now)
}

/// What `node` holds of a run, with everybody's updates, for a check or a choice.
pub fn with_evidence<T>(
    net: &Net,
    node: usize,
    run: &RunId,
    look: impl FnOnce(&RunView<'_>, &RoundSources<'_>) -> T,
) -> T {
    let view = view(net, node, run);
    let blobs: BTreeMap<_, _> = (net.blobs.iter().flatten())
        .map(|(hash, bytes)| (*hash, bytes.clone().into()))
        .collect();
    let sources = RoundSources {
        log: view.log(),
        before: view.adapter().map(|(_, adapter)| adapter),
        blobs: &blobs,
        judged: view.chain().last().map(|certificate| &certificate.value),
    };
    look(&view, &sources)
}

/// What the first proposer of the open height would put up from these receipts, from what `node` holds.
pub fn value_of(
    net: &Net,
    node: usize,
    run: &RunId,
    keep: impl Fn(&EntryRef, &Contribution) -> bool,
) -> RoundValue {
    with_evidence(net, node, run, |view, sources| {
        let included = (view.log().all())
            .filter_map(|(at, entry)| match entry {
                Entry::Contribution(c) if keep(&at, c) => Some(Included {
                    receipt: at,
                    update: c.update,
                    tokens: c.tokens,
                    weight: c.tokens,
                }),
                _ => None,
            })
            .collect();
        let selection = Selection {
            included,
            link: net.first_link(node, run),
            ..Selection::default()
        };
        let manifest = view.manifest().expect("it is known");
        let built = state::build(manifest, *run, view.head(), selection, sources);
        built.expect("all of it is here").0
    })
}
