//! Whole runs through `Node::handle` on a perfect network: genesis, rounds, closing, a crash in the
//! middle, a late joiner.

#[path = "federation/net.rs"]
mod net;

use net::{Net, join, manifest};
use tributary_protocol::entry::Role;
use tributary_protocol::event::Command;
use tributary_protocol::id::{Round, RunId, StateHash};

fn start(net: &mut Net, members: usize, rounds: u32) -> RunId {
    let mut evaluators = vec![net.ids[0], net.ids[1]];
    evaluators.sort();
    let manifest = manifest(net.ids[0], evaluators, members as u32, rounds);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..members {
        let role = if node < 2 {
            Role::Both
        } else {
            Role::Contributor
        };
        let follow = Command::Follow {
            run,
            join: Some(join(node, role)),
        };
        net.command(node, follow);
    }
    run
}

fn finished(net: &Net, run: &RunId) -> Vec<Option<StateHash>> {
    (net.nodes.iter().flatten())
        .map(|node| {
            let view = node.run(run)?;
            view.is_finished()
                .then(|| view.head().map(|head| head.hash))?
        })
        .collect()
}

fn all_finished(net: &Net, run: &RunId, count: usize) -> bool {
    let states = finished(net, run);
    states.len() == count && states.iter().all(|state| state.is_some())
}

fn certified(net: &Net, node: usize, run: &RunId) -> Option<Round> {
    net.nodes[node]
        .as_ref()?
        .run(run)?
        .head()
        .map(|head| head.round)
}

#[test]
fn five_nodes_finish_a_run_with_one_state() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 4);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let states = finished(&net, &run);
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
    let view = net.nodes[3]
        .as_ref()
        .expect("running")
        .run(&run)
        .expect("followed");
    for certificate in &view.chain()[1..=4] {
        assert_eq!(certificate.value.included.len(), 5);
    }
    let scored = |c: &&tributary_protocol::certificate::Certificate| c.value.scores.len() == 5;
    assert_eq!(
        view.chain().iter().filter(scored).count(),
        4,
        "every round was scored"
    );
}

#[test]
fn a_crashed_node_comes_back_and_a_late_one_catches_up() {
    let mut net = Net::new(5);
    let run = start(&mut net, 4, 4);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(2))));
    net.crash(2);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(3))));
    net.restart(2);
    let follow = Command::Follow {
        run,
        join: Some(join(4, Role::Contributor)),
    };
    net.command(4, follow);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let states = finished(&net, &run);
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
}

#[test]
fn an_evaluator_that_crashes_before_it_scored_still_signs_its_sheet() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 3);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(1))));
    net.crash(1);
    net.restart(1);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let node = net.nodes[0].as_ref().expect("running");
    let chain = node.run(&run).expect("followed").chain();
    for certificate in &chain[2..] {
        let value = &certificate.value;
        assert_eq!(
            value.sheets.len(),
            2,
            "sheets of the round before {}",
            value.round
        );
    }
}
