//! What a quorum may sign and does not make true: the creator certifies a second genesis, or a committee certifies
//! what a full node holds the evidence against.

use tributary_protocol::audit::{Audited, Fault, StoredBlock, StoredCertificate, audit};
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Input, Notice, Phase, Record};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobHash, BlockId, PeerId, Round, RunId, Seq};
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self};
use tributary_protocol::test_utils::attack::{NET, begun, round, value_of, view};
use tributary_protocol::test_utils::net::{Net, key};
use tributary_protocol::wire::Message;

fn finished(net: &Net, run: &RunId) -> bool {
    (0..net.nodes.len()).all(|node| view(net, node, run).is_finished())
}

/// A certificate under the names of these nodes.
fn signed(net: &Net, value: RoundValue, by: &[usize]) -> Certificate {
    let precommit = |node: &usize| {
        let body = Vote {
            run: value.run,
            round: value.round,
            attempt: 0,
            kind: VoteKind::Precommit,
            value: Some(value.id()),
            author: net.ids[*node],
        };
        (body.author, Signed::vote(body, NET, &key(*node)).signature)
    };
    let mut precommits: Vec<_> = by.iter().map(precommit).collect();
    precommits.sort();
    Certificate {
        value,
        attempt: 0,
        precommits,
    }
}

fn hand(net: &mut Net, node: usize, from: usize, certificate: &Certificate) {
    let (from, bytes) = (
        net.ids[from],
        Message::Certificate(certificate.encode()).encode(),
    );
    net.input(node, Input::Direct { from, bytes });
}

/// Makes the state follow from what a value says, as liars would.
fn sealed(net: &Net, node: usize, mut value: RoundValue) -> RoundValue {
    let run = value.run;
    let view = view(net, node, &run);
    let manifest = view.manifest().expect("known");
    state::conclude(manifest, view.head(), &mut value).expect("a roster follows");
    value
}

/// A run with all updates of round 1 at hand everywhere, the members of a captured quorum, and an honest node.
fn captured() -> (Net, RunId, Vec<usize>, usize) {
    let (mut net, run) = begun(5, 5);
    assert!(net.run_until(60_000, |net| view(net, 0, &run).arrived().0 == 5));
    let committee = {
        let view = view(&net, 0, &run);
        state::committee(view.manifest().expect("known"), &run, view.head())
    };
    let seats = (0..5).filter(|n| committee.contains(&net.ids[*n]));
    let liars: Vec<usize> = seats.take(committee.quorum() as usize).collect();
    let honest = (0..5)
        .find(|n| !liars.contains(n))
        .expect("five nodes, fewer liars");
    let is_here = |net: &Net| view(net, honest, &run).arrived().0 == 5;
    assert!(net.run_until(60_000, is_here));
    assert_eq!(round(&net, honest, &run), Some(Round(0)));
    (net, run, liars, honest)
}

fn alarms(net: &Net, node: usize) -> usize {
    let is_alarm = |notice: &&Notice| matches!(notice, Notice::Refuted { .. });
    net.notices[node].iter().filter(is_alarm).count()
}

/// Leave entries that nobody ever wrote throw everybody else out.
#[test]
fn a_certified_value_that_its_own_evidence_refutes_is_not_followed() {
    let (mut net, run, liars, honest) = captured();
    let mut value = value_of(&net, honest, &run, |_, _| true);
    (value.included).retain(|i| liars.iter().any(|n| net.ids[*n] == i.receipt.author));
    value.leaves = (0..5)
        .filter(|n| !liars.contains(n))
        .map(|n| EntryRef {
            author: net.ids[n],
            seq: Seq(9),
            block: BlockId::default(),
            index: 0,
        })
        .collect();
    value.leaves.sort();
    let certificate = signed(&net, sealed(&net, honest, value), &liars);
    hand(&mut net, honest, liars[0], &certificate);
    let mine = net.ids[honest];
    let here = view(&net, honest, &run).head().expect("genesis");
    assert_eq!(here.round, Round(0), "it asks for the entries first");
    assert!(here.roster.get(&mine).is_some());
    // Nobody has them; what the others certify in truth is followed all the same.
    assert!(net.run_until(3_600_000, |net| finished(net, &run)));
    assert_ne!(view(&net, honest, &run).chain()[1].value, certificate.value);
}

#[test]
fn entries_that_say_something_else_stop_the_peer_and_raise_one_alarm() {
    let (mut net, run, liars, honest) = captured();
    let mine = net.ids[honest];
    let mut value = value_of(&net, honest, &run, |_, _| true);
    let receipt = (value.included.iter()).find(|i| i.receipt.author == mine);
    value.leaves = vec![receipt.expect("all are included").receipt];
    let certificate = signed(&net, sealed(&net, honest, value), &liars);
    for _ in 0..3 {
        hand(&mut net, honest, liars[0], &certificate);
    }
    net.run_until(60_000, |_| false);
    let stopped = |net: &Net| {
        let here = view(net, honest, &run);
        assert_eq!(here.head().expect("genesis").round, Round(0));
        assert_eq!(here.refuted().expect("it stopped").round, Round(1));
        assert_eq!(here.phase(), Some(Phase::Stopped));
    };
    stopped(&net);
    assert_eq!(alarms(&net, honest), 1);
    let kept = net.records[honest].iter().any(|record| match record {
        Record::Certificate { bytes, .. } => *bytes == certificate.encode(),
        _ => false,
    });
    assert!(kept, "the evidence");
    net.crash(honest);
    net.restart(honest);
    net.run_until(60_000, |_| false);
    stopped(&net);
}

#[test]
fn an_adapter_that_the_updates_do_not_lead_to_stops_the_peer() {
    let (mut net, run, liars, honest) = captured();
    let mut value = value_of(&net, honest, &run, |_, _| true);
    value.adapter.hash = BlobHash(Digest::from_bytes([9; 32]));
    let certificate = signed(&net, sealed(&net, honest, value), &liars);
    hand(&mut net, honest, liars[0], &certificate);
    net.run_until(60_000, |_| false);
    let here = view(&net, honest, &run);
    assert_eq!(here.refuted().map(|refuted| refuted.round), Some(Round(1)));
    assert_eq!(alarms(&net, honest), 1);
    let said = (here.log().entries(net.ids[honest])).filter(|(_, entry)| match entry {
        Entry::Contribution(receipt) => receipt.round > Round(1),
        _ => false,
    });
    assert_eq!(said.count(), 0, "nothing is trained on top");
}

/// What is audited of a node's disk.
fn audited(net: &Net, node: usize, run: RunId) -> Result<Audited, Fault> {
    let (mut blocks, mut certificates) = (Vec::new(), Vec::new());
    for record in &net.records[node] {
        match record {
            Record::Block(bytes) => blocks.push(StoredBlock {
                filed: None,
                bytes: bytes.clone(),
            }),
            Record::Certificate { bytes, .. } => certificates.push(StoredCertificate {
                filed: None,
                bytes: bytes.clone(),
            }),
            _ => {}
        }
    }
    let (blob, visit) = (&mut |_: &BlobHash| None, &mut |_: &_, _: Option<&_>| ());
    audit(NET, run, blocks, certificates, blob, visit)
}

#[test]
fn a_second_genesis_does_not_make_every_home_unverifiable() {
    let (mut net, run) = begun(5, 5);
    assert!(net.run_until(3_600_000, |net| finished(net, &run)));
    let clean = audited(&net, 2, run).expect("an honest home");
    let mut value = view(&net, 0, &run).chain()[0].value.clone();
    value.joins.pop();
    let second = signed(&net, value, &[0]);
    hand(&mut net, 2, 0, &second);
    let found = audited(&net, 2, run).expect("what was certified first still stands");
    assert!(found.is_finished());
    assert_eq!(found.values, clean.values);
    let liars: Vec<(Round, Vec<PeerId>)> = (found.contradictions.into_iter())
        .map(|contradiction| (contradiction.round, contradiction.signers))
        .collect();
    assert_eq!(liars, [(Round(0), vec![net.ids[0]])]);
    net.crash(2);
    net.restart(2);
    assert_eq!(view(&net, 2, &run).chain()[0].value, clean.values[0]);
}
