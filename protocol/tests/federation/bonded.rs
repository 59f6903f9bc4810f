//! Bonded runs: stake on a chain admits, votes and judges; certificates take over what clients read there.

use tributary_protocol::anchor::{ChainBlock, ChainFacts, ChainMoney};
use tributary_protocol::entry::{Join, Role};
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::EvmAddress;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, Round, RunId};
use tributary_protocol::manifest::{Manifest, SettlementChain, Weights};
use tributary_protocol::roster::AnchoredStake;
use tributary_protocol::state::Head;
use tributary_protocol::test_utils::attack::view;
use tributary_protocol::test_utils::fixture;
use tributary_protocol::test_utils::net::{Net, join, manifest};

const OPEN: u64 = 1_000_000;
const ROUNDS: u32 = 8;
const SEATS: u32 = 5;

fn bonded(net: &Net, members: u32) -> Manifest {
    let mut manifest = manifest(net.ids[0], Vec::new(), members, ROUNDS);
    manifest.updates.weights = Weights::Stake { least: OPEN };
    manifest.scoring.seats = SEATS;
    let mut settlement = fixture::settlement();
    settlement.chain = SettlementChain::Evm {
        id: 1612,
        contract: EvmAddress([7; 20]),
        token: EvmAddress([8; 20]),
    };
    manifest.payment.settlement = Some(settlement);
    manifest.check().expect("a bonded run");
    manifest
}

fn bonded_join(node: usize) -> Join {
    Join {
        bind: Some(fixture::bind()),
        ..join(node, Role::Both)
    }
}

/// Everybody follows and asks to join a run that starts with `members`.
fn begin(net: &mut Net, members: u32) -> RunId {
    let manifest = bonded(net, members);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..net.nodes.len() {
        let join = Some(bonded_join(node).into());
        net.command(node, Command::Follow { run, join });
    }
    run
}

/// What a chain says at a block where nodes have these stakes, in OPEN.
fn facts(net: &Net, block: u64, stakes: &[u64]) -> ChainFacts {
    let mut stakes: Vec<_> = (stakes.iter().zip(&net.ids))
        .filter(|(stake, _)| **stake > 0)
        .map(|(stake, peer)| (*peer, *stake * OPEN))
        .collect();
    stakes.sort_unstable();
    ChainFacts {
        block: ChainBlock {
            number: block,
            hash: Digest::from_bytes([block as u8; 32]),
        },
        money: ChainMoney {
            deposited: MicroOpen(5_000_000),
            fees: MicroOpen(0),
        },
        stakes,
        channels: Vec::new(),
    }
}

/// Clients of nodes read a block, and the next one, which says the same.
fn say(net: &mut Net, nodes: &[usize], run: RunId, facts: &ChainFacts) {
    let mut next = facts.clone();
    next.block.number += 1;
    for node in nodes {
        for facts in [facts.clone(), next.clone()] {
            net.input(*node, Input::Chain { run, facts });
        }
    }
}

fn head<'a>(net: &'a Net, node: usize, run: &RunId) -> Option<&'a Head> {
    view(net, node, run).head()
}

fn reaches(net: &mut Net, node: usize, run: RunId, round: u32) {
    let there = |net: &Net| head(net, node, &run).is_some_and(|head| head.round >= Round(round));
    let (now, limit) = (net.now_ms, 400_000);
    assert!(
        net.run_until(now + limit, there),
        "node {node} is not at round {round}: {:?}",
        head(net, node, &run).map(|head| head.round)
    );
}

fn stake(net: &Net, node: usize, of: usize, run: &RunId) -> Option<AnchoredStake> {
    let head = head(net, node, run)?;
    head.roster.get(&net.ids[of])?.stake
}

fn weight(net: &Net, node: usize, of: usize, run: &RunId) -> u64 {
    let head = head(net, node, run).expect("certified");
    let mut electorate = head.electorate.iter();
    let found = electorate.find(|(peer, _)| *peer == net.ids[of]);
    found.map_or(0, |(_, weight)| *weight)
}

#[test]
fn stake_admits_weighs_and_judges() {
    let mut net = Net::new(5);
    let run = begin(&mut net, 4);
    let everybody = [0, 1, 2, 3, 4];
    net.run_until(5_000, |_| false);
    assert!(head(&net, 0, &run).is_none(), "nobody has stake");
    let first = facts(&net, 10, &[1, 2, 3, 4, 0]);
    say(&mut net, &everybody, run, &first);
    reaches(&mut net, 0, run, 2);
    let members = head(&net, 0, &run).map(|head| head.roster.len());
    assert_eq!(members, Some(4), "whoever has no stake stays outside");
    for of in 0..4 {
        assert_eq!(weight(&net, 0, of, &run), (of as u64 + 1) * OPEN);
    }

    // The last bonds: a member at the next anchor, with a vote behind the one after that.
    let next = facts(&net, 20, &[1, 2, 3, 4, 9]);
    say(&mut net, &everybody, run, &next);
    let is_member = |net: &Net| stake(net, 0, 4, &run).is_some();
    let now = net.now_ms;
    assert!(net.run_until(now + 100_000, is_member), "it is let in");
    let admitted = head(&net, 0, &run).expect("certified").round;
    reaches(&mut net, 0, run, admitted.0 + 2);
    assert_eq!(weight(&net, 0, 4, &run), 0, "one anchor counts for nothing");
    let last = facts(&net, 30, &[1, 2, 3, 4, 9]);
    say(&mut net, &everybody, run, &last);
    reaches(&mut net, 0, run, ROUNDS + 1);
    assert_eq!(weight(&net, 0, 4, &run), 9 * OPEN);

    let view = view(&net, 0, &run);
    let anchors: Vec<u64> = (view.chain().iter())
        .filter_map(|certificate| certificate.value.anchor.as_ref())
        .map(|anchor| anchor.block.number)
        .collect();
    assert_eq!(anchors, [10, 20, 30], "only what changes something");
    let scored = view.chain().iter().filter(|c| !c.value.scores.is_empty());
    assert_eq!(scored.count(), ROUNDS as usize, "panels judge every round");
    let panel = &head(&net, 0, &run).expect("certified").panel;
    assert_eq!(panel.seats(), SEATS as usize);
}

#[test]
fn a_member_whose_stake_changes_while_it_leaves_stops_nothing() {
    let mut net = Net::new(5);
    let run = begin(&mut net, 5);
    let first = facts(&net, 10, &[1, 2, 3, 4, 5]);
    say(&mut net, &[0, 1, 2, 3, 4], run, &first);
    reaches(&mut net, 0, run, 2);
    net.command(4, Command::Leave(run));
    let gone = facts(&net, 20, &[1, 2, 3, 4, 0]);
    say(&mut net, &[0, 1, 2, 3, 4], run, &gone);
    reaches(&mut net, 0, run, ROUNDS + 1);
    let head = head(&net, 0, &run).expect("certified");
    assert!(head.roster.get(&net.ids[4]).is_none(), "it has left");
}

#[test]
fn a_client_that_lies_anchors_nothing() {
    let mut net = Net::new(4);
    let run = begin(&mut net, 4);
    for (block, node) in [(10, 3), (20, 2), (30, 1)] {
        let honest: Vec<usize> = (0..4).filter(|other| *other != node).collect();
        let truth = facts(&net, block, &[1, 1, 1, 1 + block / 20]);
        say(&mut net, &honest, run, &truth);
        let mut lie = [1; 4];
        lie[node] = 900;
        let lie = facts(&net, block, &lie);
        say(&mut net, &[node], run, &lie);
        let round = head(&net, 0, &run).map_or(0, |head| head.round.0 + 2);
        reaches(&mut net, 0, run, round);
    }
    reaches(&mut net, 0, run, ROUNDS + 1);
    let view = view(&net, 0, &run);
    let anchors = view.chain().iter().filter_map(|c| c.value.anchor.as_ref());
    let mut blocks = Vec::new();
    for anchor in anchors {
        let number = anchor.block.number;
        let truth = facts(&net, number, &[1, 1, 1, 1 + number / 20]);
        assert!(truth.agrees(anchor), "{anchor:?}");
        blocks.push(number);
    }
    assert_eq!(blocks.first(), Some(&10));
    assert!(blocks.len() >= 2, "{blocks:?}");
}

#[test]
fn members_without_a_client_follow_what_others_read() {
    let mut net = Net::new(4);
    let run = begin(&mut net, 4);
    let first = facts(&net, 10, &[2, 2, 2, 2]);
    say(&mut net, &[0, 1], run, &first);
    reaches(&mut net, 3, run, 2);
    assert_eq!(weight(&net, 3, 2, &run), 2 * OPEN);
    net.crash(1);
    net.restart(1);
    let gone = facts(&net, 20, &[2, 2, 2, 0]);
    say(&mut net, &[0, 1], run, &gone);
    reaches(&mut net, 2, run, ROUNDS + 1);
    assert_eq!(
        weight(&net, 2, 3, &run),
        0,
        "who took its stake away has no vote"
    );
    let stake = stake(&net, 2, 3, &run).expect("a member");
    assert_eq!(stake.last, 0);
    let archived = view(&net, 2, &run).chain().len();
    assert!(archived > ROUNDS as usize);
}

#[test]
fn stake_that_jumps_in_for_one_anchor_counts_for_nothing() {
    let stakes = |last, before| AnchoredStake { last, before };
    assert_eq!(stakes(9, 0).counting(), 0);
    assert_eq!(stakes(0, 9).counting(), 0);
    assert_eq!(stakes(9, 4).counting(), 4);
}
