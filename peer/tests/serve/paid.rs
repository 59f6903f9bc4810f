//! The circle of value: two homes train an adapter, one of them serves it, a stock client pays for answers through a channel
//! of the run's test chain, and the other home, which only gave its text, is paid. An answer is so dear that its agreed shares
//! are drawn, and the other home computes them again.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::pay::{account, node_pays};
use crate::server::Server;
use crate::up::Peer;

/// Rounds, heights behind them and answers take this long at most, on a machine that tests other things meanwhile.
const LIMIT: Duration = Duration::from_secs(300);

/// An answer costs more than the bond that a server loses by wrong shares, so that a jury checks it for certain.
const PRICES: [&str; 4] = ["--price-prompt", "20000000", "--price-answer", "60000000"];

/// Ben creates the run, trains, scores and serves; Ada trains. Gives the run, its adapter and Ben's server.
fn served_run(ada: &mut Peer, ben: &mut Peer) -> (String, String, Server) {
    let mut last = String::new();
    for (peer, name) in [(&*ada, "nature"), (&*ben, "opticks")] {
        let (shard, held_out) = halves(name);
        let file = written(peer, "shard.txt", &shard);
        peer.ask(&["datanet", "add", "birds", &file]);
        last += &held_out;
    }
    let run = "name = \"valley\"\nbase = \"brook\"\ndatanet = \"birds\"\nrounds = 4\nevaluators = [\"self\"]\n\
               score_windows = 16\nmin_members = 2\nmin_contributions = 2\n[adapter]\nrank = 2\nalpha = 4\n\
               [training]\nlocal_steps = 10\nbatch = 4\ncontext = 64\n[deadlines]\nround_ms = 60000\n\
               grace_ms = 5000\npropose_ms = 4000\nvote_ms = 2000\n";
    let file = written(ben, "run.toml", run);
    let holdout = written(ben, "holdout.txt", &last);
    let trusting = ["--exposure", "1000000000"];
    let server = ben.up_serving(&[&PRICES[..], &trusting].concat());
    let address = ben.address();
    ada.up(&["--bootstrap", address.as_str().unwrap()], "peer");
    let created = ben.ask(&["run", "create", &file, "--join", "--holdout", &holdout]);
    let run = created["run"].as_str().unwrap().to_owned();
    ada.until("ada hears of the run", LIMIT, |ada| {
        ada.output(&["run", "join", &run]).status.success()
    });
    ben.until("the run is finished", LIMIT, |ben| {
        ben.ask(&["run", "show", &run])["finished"] == true
    });
    let shown = ben.ask(&["run", "show", &run]);
    let adapter = shown["adapter"]["id"].as_str().unwrap().to_owned();
    (run, adapter, server)
}

/// The first three quarters of a shard that the program brings with it, and the rest.
fn halves(name: &str) -> (String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/assets/shards");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let cut = text[..text.len() * 3 / 4].rfind('\n').unwrap();
    let (first, rest) = text.split_at(cut);
    let (first, rest) = (
        &first[..first.len().min(60_000)],
        &rest[..rest.len().min(20_000)],
    );
    (first.to_owned(), rest.to_owned())
}

fn written(peer: &Peer, name: &str, text: &str) -> String {
    let path = peer.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn money(peer: &Peer, run: &str, field: &str) -> u64 {
    let shown = peer.ask(&["run", "show", run]);
    shown["settlement"][field].as_u64().unwrap_or_default()
}

/// What the peer's statement has in a capacity, micro-OPEN.
fn earned(peer: &Peer, capacity: &str) -> i64 {
    let statement = peer.ask(&["ledger", "statement"]);
    let runs = statement["runs"].as_array().cloned().unwrap_or_default();
    let postings = runs
        .iter()
        .flat_map(|run| run["postings"].as_array().cloned().unwrap_or_default());
    let of = postings.filter(|one: &Value| one["capacity"] == capacity);
    of.filter_map(|one| one["micro_open"].as_i64()).sum()
}

#[test]
fn what_clients_pay_for_answers_reaches_contributors_that_only_gave_their_text() {
    let (mut ada, mut ben) = (Peer::init(), Peer::init());
    let (run, adapter, server) = served_run(&mut ada, &mut ben);
    ada.until("the rounds are settled", LIMIT, |ada| {
        let all = money(ada, &run, "paid_micro_open");
        all > 0 && money(ada, &run, "claimed_micro_open") == all
    });
    let before = (
        money(&ada, &run, "paid_micro_open"),
        earned(&ada, "contributor"),
    );
    node_pays(&server, &account(7), &adapter, "deposit");
    // Our own client agrees to the shares that the server tells it.
    let rich = ["--most", "100000000", "--budget", "1000000000"];
    let gateway = Gateway::start_with(&[server.addr], &[&["--agree"], &rich[..]].concat());
    let answer = gateway.ask(json!({"model": adapter}));
    assert_eq!(answer.status, 200, "{answer:?}");
    ben.until("the gateway agrees", LIMIT, |_| {
        let log = gateway.log();
        assert!(!log.contains("could not agree"), "{log}");
        // How many have a share hangs on what was answered.
        log.contains("agreed to ")
    });
    // The server ends before the chain shows any deposit. What it was not paid yet it claims when it is back.
    ben.ask(&["down"]);
    assert!(ben.ended_well(), "{}", ben.log());
    let address = ada.address();
    let back = ["--exposure", "1", "--bootstrap", address.as_str().unwrap()];
    ben.up_serving(&[&PRICES[..], &back].concat());
    ada.until("fees arrive and are claimed", LIMIT, |ada| {
        let (fees, paid) = (
            money(ada, &run, "fees_micro_open"),
            money(ada, &run, "paid_micro_open"),
        );
        fees > 0 && paid == before.0 + fees && money(ada, &run, "claimed_micro_open") == paid
    });
    let (fees, more) = (
        money(&ada, &run, "fees_micro_open"),
        earned(&ada, "contributor") - before.1,
    );
    assert!(
        more > 0,
        "{more} of {fees}: {}",
        ada.ask(&["ledger", "statement"])
    );
    assert!(earned(&ben, "server") >= i64::try_from(fees / 10).unwrap());
    let found = ada.ask(&["dispute", "list", &run]);
    let check = &found["disputes"][0];
    let stage = (&check["score"], &check["answers"], &check["stage"]);
    assert_eq!(
        stage,
        (&Value::Null, &json!([0]), &json!("upheld")),
        "{found}"
    );
    assert_eq!(check["jury"][0]["finding"], "holds", "{found}");
    let told = "as a juror of a check of shares";
    assert!(ada.log().contains(told), "{}", ada.log());
    for peer in [&mut ada, &mut ben] {
        peer.ask(&["down"]);
        assert!(peer.ended_well(), "{}", peer.log());
        peer.ask(&["ledger", "verify"]);
    }
}
