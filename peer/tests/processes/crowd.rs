//! Many daemons on one machine take part in one run and agree.

use std::time::Instant;

use super::daemon::{Plan, federation, states};

const DAEMONS: usize = 20;
const ROUNDS: u32 = 3;

#[test]
fn twenty_daemons_finish_a_run_with_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: ROUNDS,
        members: DAEMONS,
        local_steps: 1,
        round_ms: 60_000,
        grace_ms: 5_000,
    };
    let started = Instant::now();
    let (mut peers, run, _) = federation(dir.path(), &plan);
    let joined = started.elapsed().as_secs();
    let views: Vec<_> = peers.iter().map(|peer| peer.outcome(&run)).collect();
    let took = started.elapsed().as_secs();
    let first = states(&views[0]);
    assert_eq!(first.len() as u32, ROUNDS, "{}", views[0]);
    for (peer, view) in peers.iter().zip(&views) {
        assert_eq!(states(view), first, "{}", peer.name);
        let members = view["roster"].as_array().map(Vec::len);
        assert_eq!(members, Some(DAEMONS), "{}", peer.name);
    }
    let resident: Vec<u64> = peers
        .iter()
        .map(|peer| peer.resident_bytes() >> 20)
        .collect();
    let included: Vec<u64> = (views[0]["history"].as_array().unwrap().iter())
        .map(|round| round["included"].as_u64().unwrap())
        .collect();
    let mut verified = 0;
    for peer in &mut peers {
        peer.kill();
        peer.verify("stopped");
        verified += 1;
    }
    println!(
        "crowd: {DAEMONS} daemons, {ROUNDS} rounds of {included:?} contributions, all up and joined after \
         {joined} s, finished with one state after {took} s, at most {} MiB each, {verified} ledgers \
         verified",
        resident.iter().max().unwrap()
    );
}
