//! A run that its owner had removed from the disk and takes part in again: one history, and no vote twice.

use std::collections::BTreeSet;

use tributary_protocol::event::{Command, Notice, Record};
use tributary_protocol::id::{BlockId, Round, RunId};
use tributary_protocol::node::Forgetting;
use tributary_protocol::test_utils::attack::{NET, ask, begun, opened, round, view};
use tributary_protocol::test_utils::net::Net;

/// Stops a node, removes the run from its disk as the owner's command does, and starts it again.
fn forget(net: &mut Net, node: usize, run: RunId) {
    net.crash(node);
    let forgetting = Forgetting {
        network: NET,
        me: net.ids[node],
        run,
    };
    let records = &mut net.records[node];
    let mark = forgetting.mark(records);
    records.retain(|record| forgetting.stays(record));
    records.extend(mark);
    net.blobs[node].clear();
    net.restart(node);
}

fn own_blocks(net: &Net, node: usize, run: &RunId) -> Vec<BlockId> {
    let log = view(net, node, run);
    let own = log.log().blocks(net.ids[node]);
    own.map(|block| block.id()).collect()
}

fn assert_nobody_forked(net: &Net, run: &RunId) {
    for node in 0..net.nodes.len() {
        assert_eq!(view(net, node, run).log().forks(), [], "at node {node}");
        let accuses = |notice: &Notice| {
            matches!(notice, Notice::Equivocation { .. } | Notice::Refuted { .. })
        };
        let accusing = net.notices[node].iter().find(|notice| accuses(notice));
        assert!(accusing.is_none(), "node {node}: {accusing:?}");
    }
}

fn is_member(net: &Net, at: usize, node: usize, run: &RunId) -> bool {
    let head = view(net, at, run).head().expect("genesis");
    head.roster.get(&net.ids[node]).is_some()
}

fn all_finish(net: &mut Net, run: &RunId) -> bool {
    let nodes = net.nodes.len();
    net.run_until(600_000, |net| {
        (0..nodes).all(|node| {
            let running = net.nodes[node].as_ref().expect("running");
            running.run(run).is_some_and(|run| run.is_finished())
        })
    })
}

#[test]
fn a_member_that_left_and_forgot_the_run_joins_again_and_goes_on_with_its_log() {
    let (mut net, run) = begun(4, 4);
    assert!(net.run_until(60_000, |net| round(net, 2, &run) >= Some(Round(2))));
    net.command(2, Command::Leave(run));
    assert!(net.run_until(60_000, |net| !is_member(net, 2, 2, &run)));
    let before = own_blocks(&net, 2, &run);
    assert!(
        before.len() >= 4,
        "a join, two receipts, a leave: {}",
        before.len()
    );
    forget(&mut net, 2, run);
    let running = net.nodes[2].as_ref().expect("running");
    assert!(running.run(&run).is_none(), "it is not followed");
    ask(&mut net, 2, run);
    assert!(net.run_until(60_000, |net| is_member(net, 0, 2, &run)));
    assert!(all_finish(&mut net, &run));
    assert_nobody_forked(&net, &run);
    let after = own_blocks(&net, 2, &run);
    assert_eq!(after[..before.len()], before);
    assert!(
        after.len() > before.len(),
        "its new join stands behind them"
    );
    assert_eq!(
        view(&net, 0, &run).log().blocks(net.ids[2]).count(),
        after.len()
    );
}

#[test]
fn a_member_that_forgot_the_run_without_leaving_is_one_again_when_it_follows() {
    let (mut net, run) = begun(4, 4);
    assert!(net.run_until(60_000, |net| round(net, 3, &run) >= Some(Round(2))));
    let before = own_blocks(&net, 3, &run);
    forget(&mut net, 3, run);
    assert!(net.run_until(60_000, |net| round(net, 0, &run) >= Some(Round(3))));
    net.command(3, Command::Follow { run, join: None });
    let joined = view(&net, 3, &run).join().cloned();
    assert!(joined.is_some(), "its membership stands in its own log");
    net.crash(3);
    net.restart(3);
    assert!(all_finish(&mut net, &run));
    assert_nobody_forked(&net, &run);
    assert_eq!(own_blocks(&net, 3, &run)[..before.len()], before);
}

/// Nobody else has the last certificate, and the quorum needs this peer, whose seat stays silent: the run would stand still.
/// With a newcomer that knows of no other, such a creator could certify a second genesis.
#[test]
fn a_seat_whose_votes_were_forgotten_says_nothing_in_their_rounds() {
    let (mut net, run) = opened(4, 3, 2);
    assert!(net.run_until(60_000, |net| round(net, 0, &run) >= Some(Round(2))));
    let last = round(&net, 0, &run).expect("genesis");
    for node in 1..3 {
        net.crash(node);
    }
    forget(&mut net, 0, run);
    let kept = net.records[0].len();
    let marked = net.records[0].last();
    assert!(
        matches!(marked, Some(Record::Forgotten { last: Some(_), .. })),
        "{marked:?}"
    );
    net.command(0, Command::Follow { run, join: None });
    ask(&mut net, 3, run);
    net.run_until(60_000, |_| false);
    assert_eq!(
        round(&net, 0, &run),
        None,
        "nobody is here who has the genesis"
    );
    let spoke = |record: &Record| match record {
        Record::Consensus { round, .. } => Some(*round),
        _ => None,
    };
    let spoken: BTreeSet<Round> = net.records[0][kept..].iter().filter_map(spoke).collect();
    let again = spoken.iter().find(|round| **round <= last);
    assert_eq!(again, None, "its votes up to {last:?} are forgotten");
    for node in 1..3 {
        net.restart(node);
    }
    assert!(all_finish(&mut net, &run));
    assert_nobody_forked(&net, &run);
}

#[test]
fn of_a_run_that_was_only_followed_nothing_stays() {
    let (mut net, run) = begun(4, 3);
    net.command(3, Command::Follow { run, join: None });
    assert!(net.run_until(60_000, |net| round(net, 3, &run) >= Some(Round(1))));
    forget(&mut net, 3, run);
    let said = |record: &&Record| !matches!(record, Record::ConsensusDone { .. });
    assert_eq!(net.records[3].iter().find(said), None);
}
