//! Rounds certify although the network loses every tenth, or nearly every third, packet.
//!
//! The loss is made by nftables in a network namespace that the test makes for itself: it runs itself
//! again inside. Only packets between daemons are lost; the commands that look at them are not part of
//! what is measured. Where the machine allows no namespace the test says so and measures nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use super::daemon::{Peer, Plan, federation, states};

/// Names the share of packets to lose, in percent; set only inside the namespace.
const VARIABLE: &str = "TRIBUTARY_TEST_LOSS";
const ROUNDS: u32 = 5;
/// The ports of daemons, see `support/daemon.rs`; commands use higher ones.
const PORTS: &str = "10000-32000";

/// `unshare` with what this user needs to be allowed a namespace.
fn namespace() -> Option<Vec<&'static str>> {
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let allowed = |way: &&&[&str]| {
        let script = "ip link set lo up && nft add table inet probe";
        let command = Command::new("unshare")
            .args(**way)
            .args(["sh", "-c", script])
            .output();
        command.is_ok_and(|output| output.status.success())
    };
    ways.iter().find(allowed).map(|way| way.to_vec())
}

#[test]
#[ignore = "a minute for each share; docs/numbers/processes.md says how to run it"]
fn rounds_certify_through_packet_loss() {
    let Some(way) = namespace() else {
        println!(
            "loss: skipped, because this machine allows no network namespace with nftables; as root with \
             the packages iproute2 and nftables it runs"
        );
        return;
    };
    for percent in [0, 10, 30] {
        let inside = Command::new("unshare")
            .args(&way)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "loss::inside_the_namespace",
            ])
            .env(VARIABLE, percent.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inside.stdout);
        let errors = String::from_utf8_lossy(&inside.stderr);
        assert!(inside.status.success(), "at {percent} %: {said}\n{errors}");
        let line = said.lines().find(|line| line.contains("loss: "));
        println!("{}", line.expect("figures"));
    }
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}{errors}");
    said
}

fn lose(percent: u64) {
    sh("ip link set lo up");
    sh(
        "nft add table inet loss && nft 'add chain inet loss in { type filter hook input priority 0; }'",
    );
    for protocol in ["tcp", "udp"] {
        for rule in [
            format!("{protocol} dport {PORTS}"),
            format!("{protocol} sport {PORTS} {protocol} dport != {PORTS}"),
        ] {
            sh(&format!("nft add rule inet loss in {rule} counter"));
            if percent > 0 {
                sh(&format!(
                    "nft add rule inet loss in {rule} numgen random mod 100 \\< {percent} counter drop"
                ));
            }
        }
    }
}

/// Packets that rules counted: all, and the dropped ones.
fn counted() -> (u64, u64) {
    let (mut all, mut dropped) = (0, 0);
    for line in sh("nft list ruleset").lines() {
        let Some((_, rest)) = line.split_once("counter packets ") else {
            continue;
        };
        let packets: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        if line.trim_end().ends_with("drop") {
            dropped += packets;
        } else {
            all += packets;
        }
    }
    (all, dropped)
}

#[test]
#[ignore = "only inside the namespace that the test above makes"]
fn inside_the_namespace() {
    let Ok(percent) = std::env::var(VARIABLE) else {
        println!("not in a namespace of its own: nothing to do");
        return;
    };
    lose(percent.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: ROUNDS,
        members: 4,
        local_steps: 2,
        round_ms: 20_000,
        grace_ms: 3_000,
    };
    let started = Instant::now();
    let (peers, run, _) = federation(dir.path(), &plan);
    let first = &peers[0];
    first.until_within("the run is finished", Duration::from_secs(200), || {
        first.finished(&run)
    });
    let views: Vec<_> = peers.iter().map(|peer| peer.outcome(&run)).collect();
    let took = started.elapsed().as_secs_f64();
    let one = states(&views[0]);
    assert_eq!(one.len() as u32, ROUNDS);
    assert!(views.iter().all(|view| states(view) == one), "two states");
    let mut rounds: Vec<u64> = first.rounds().iter().map(|(_, ms)| *ms).collect();
    rounds.sort_unstable();
    let (packets, lost) = counted();
    println!(
        "loss: {percent} percent, {lost} of {packets} packets lost, {ROUNDS} rounds on 4 daemons in {took:.1} s, \
         a round {} ms at the median and {} ms at most, {} kB sent by all",
        rounds[rounds.len() / 2],
        rounds.last().unwrap(),
        sent(&peers) / 1000
    );
}

fn sent(peers: &[Peer]) -> u64 {
    let up = peers
        .iter()
        .map(|peer| peer.ask(&["status"])["bytes_up"].as_u64());
    up.map(Option::unwrap).sum()
}
