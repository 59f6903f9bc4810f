//! A run whose money lies on a real chain: two homes with daemons, anvil, and the commands that people type, from the
//! contract to the claim.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tributary_attribution::settlement::calls::{Call, Token};
use tributary_attribution::settlement::{
    Address, Balances, BaseUnits, ChainId, EvmKey, Keccak, Root, Signature, Terms,
};
use tributary_settlement::{Actions, Chain, Config, Done, FileTable, Sender, Wallet};

use super::anvil::Anvil;
use super::daemon::{Peer, text};

const CHAIN: u64 = 1612;
/// Between two blocks: members look once a second, and read the last 64 blocks at most.
const BLOCK: Duration = Duration::from_millis(100);
/// Seconds of the chain's clock, which runs as its blocks come; a test takes thousands of blocks and no window.
const WINDOW_S: u64 = 100_000;
/// An account of anvil's own, which it signs for.
const RICH: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&[seed; 32]).expect("a key")
}

fn open(amount: u128) -> BaseUnits {
    BaseUnits(amount * 1_000_000_000_000_000_000)
}

fn units(value: &Value) -> u128 {
    let digits = value
        .as_str()
        .unwrap_or_else(|| panic!("no amount: {value}"));
    digits.parse().expect("digits")
}

/// A home whose account's key lies in a file beside it, with its settings.
fn home(dir: &Path, name: &str, seed: u8, anvil: &Anvil) -> Peer {
    let peer = Peer::init(dir, name);
    let file = dir.join(format!("{name}.key"));
    fs::write(&file, format!("{seed:02x}").repeat(32)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "name = \"{name}\"\n[chain]\nrpc = \"{}\"\nkey = \"{}\"\nlook_s = 1\n",
        anvil.url,
        file.display()
    );
    fs::write(peer.home.join("config.toml"), settings).unwrap();
    let file = text(&dir.join(format!("{name}.txt")), name);
    peer.ask(&["datanet", "add", "birds", &file]);
    peer
}

async fn send(anvil: &Anvil, call: Call) {
    let data: String = call.data.iter().map(|byte| format!("{byte:02x}")).collect();
    let transaction =
        json!([{ "from": RICH, "to": call.to.to_string(), "data": format!("0x{data}") }]);
    anvil.rpc("eth_sendTransaction", transaction).await;
}

fn run_file(dir: &Path, deployed: &Value) -> String {
    let file = dir.join("run.toml");
    let text = format!(
        r#"
name = "valley"
base = "brook"
datanet = "birds"
rounds = 2
evaluator_seats = 2
score_windows = 4
min_members = 2
min_contributions = 2
chain = "evm"
weights = "stake"
least_stake_open = 1
[adapter]
rank = 2
alpha = 4
[training]
local_steps = 12
batch = 1
context = 32
[deadlines]
round_ms = 60_000
grace_ms = 5_000
propose_ms = 3_000
vote_ms = 1_500
[settlement]
id = {}
contract = {}
token = {}
rate_per_s_open = 1
window_s = {WINDOW_S}
cooldown_s = {}
halt_s = {}
"#,
        deployed["chain"],
        deployed["contract"],
        deployed["token"],
        3 * WINDOW_S,
        300 * WINDOW_S
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The world of the test: a chain, two members, a peer that neither reads the chain nor has stake there, and an account that
/// belongs to none of them.
struct World {
    dir: tempfile::TempDir,
    anvil: Anvil,
    ada: Peer,
    bea: Peer,
    cyd: Peer,
    run: String,
    contract: Address,
}

impl World {
    /// Deploys, opens the run and has both join it. `None` where anvil is not installed.
    async fn begin() -> Option<Self> {
        let anvil = Anvil::start("cancun").await?;
        let dir = tempfile::tempdir().unwrap();
        let mut ada = home(dir.path(), "ada", 11, &anvil);
        let mut bea = home(dir.path(), "bea", 12, &anvil);
        for seed in [11, 12, 14] {
            let coins = format!("{:#x}", open(1000).0);
            let asked = json!([key(seed).address().to_string(), coins]);
            anvil.rpc("anvil_setBalance", asked).await;
        }
        let running = anvil.run_every(BLOCK);
        let deployed = ada.ask(&["settle", "deploy", "--chain-id", "1612", "--test-token"]);
        assert_eq!(deployed["account"], key(11).address().to_string());
        let again = ada.ask(&["settle", "deploy", "--chain-id", "1612", "--test-token"]);
        assert_eq!(again, deployed, "deployed twice");
        let token: Address = deployed["token"].as_str().unwrap().parse().unwrap();
        for (seed, amount) in [(11, 1000), (12, 10), (14, 1)] {
            send(&anvil, Token(token).mint(key(seed).address(), open(amount))).await;
        }
        ada.up(None);
        bea.up(Some(&ada.address()));
        let file = run_file(dir.path(), &deployed);
        let neutral = text(&dir.path().join("neutral.txt"), "neighbour");
        let created = ada.ask(&["run", "create", &file, "--join", "--holdout", &neutral]);
        let run = created["run"].as_str().unwrap().to_owned();
        let other = text(&dir.path().join("other.txt"), "stranger");
        bea.ask(&["run", "join", &run, "--role", "both", "--holdout", &other]);
        let mut cyd = Peer::init(dir.path(), "cyd");
        let file = text(&dir.path().join("cyd.txt"), "cyd");
        cyd.ask(&["datanet", "add", "birds", &file]);
        cyd.up(Some(&ada.address()));
        cyd.ask(&["run", "join", &run]);
        running.stop().await;
        Some(Self {
            dir,
            ada,
            bea,
            cyd,
            run,
            contract: deployed["contract"].as_str().unwrap().parse().unwrap(),
            anvil,
        })
    }

    fn status(&self) -> Value {
        let status = self.ada.try_ask(&["settle", "status", &self.run]);
        status.expect("a status")
    }

    /// The terms as the run file says them.
    fn terms(&self) -> Terms {
        let terms = Terms {
            run: self.run.parse().expect("an id"),
            sponsor: key(11).address(),
            arbiter: None,
            rate_per_s: open(1),
            challenge_bond: open(1),
            min_stake: open(2),
            window_s: WINDOW_S,
            cooldown_s: 3 * WINDOW_S,
            halt_s: 300 * WINDOW_S,
        };
        assert_eq!(self.status()["key"], terms.key().to_string());
        terms
    }

    /// Steps of an account that belongs to no member.
    async fn outsider(&self) -> Actions {
        let config = Config {
            every: Duration::from_millis(100),
            ..Config::new(&self.anvil.url, ChainId(CHAIN))
        };
        let chain = Chain::connect(config, self.contract).await.unwrap();
        let wallet = Wallet::from_bytes(&[14; 32]).unwrap();
        let table = FileTable::open(self.dir.path(), ChainId(CHAIN), wallet.account()).unwrap();
        let sender = Sender::open(chain.node().clone(), wallet, Arc::new(table)).unwrap();
        Actions::new(chain, sender)
    }

    /// Posts a root that promises an outsider half an OPEN, signed by both members' keys.
    async fn post_a_lie(&self) {
        let actions = self.outsider().await;
        let terms = self.terms();
        let balances = [(key(14).address(), BaseUnits(open(1).0 / 2))];
        let sum = Balances::build(&balances.into()).unwrap().root();
        let root = Root {
            run: terms.key(),
            height: 1,
            balances: sum.hash,
            total: sum.sum,
            fees: BaseUnits(0),
            lines: Keccak::ZERO,
            closed: false,
        };
        let digest = root.digest(actions.chain().deployment());
        let signatures: Vec<Signature> = [11, 12].map(|seed| key(seed).sign(&digest)).into();
        actions
            .post(&terms, &root, &signatures)
            .await
            .expect("a posted root");
    }
}

/// A guard that runs until it is dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_on_a_real_chain_goes_from_its_contract_to_its_claims_by_the_commands_that_people_type()
 {
    let Some(world) = World::begin().await else {
        return;
    };
    let running = world.anvil.run_every(BLOCK);
    let (ada, run) = (&world.ada, world.run.as_str());
    money_comes(&world).await;
    let view = ada.outcome(run);
    assert_eq!(
        view["settlement"]["deposited_micro_open"], 100_000_000,
        "{view}"
    );
    assert_eq!(view["settlement"]["staked_micro_open"], 4_000_000, "{view}");
    a_peer_without_a_chain_follows(&world);
    let mut status = Value::Null;
    ada.until("the closing root is signed", || {
        status = world.status();
        let signed = &status["books"];
        signed["signed_height"].as_u64() >= Some(3) && units(&signed["signed_total_units"]) > 0
    });
    assert_eq!(
        (&status["judged"], &status["accepted"]),
        (&json!("nothing"), &Value::Null)
    );

    a_lie_is_challenged(&world).await;
    money_leaves(&world).await;
    let price = ada.ask(&["price", run]);
    assert_eq!(
        (&price["chain"], &price["least_stake_micro_open"]),
        (&json!("1612"), &json!(1_000_000))
    );
    assert!(units(&price["gas"]["base_wei"]) > 0, "{price}");
    ada.verify("after the run");
    running.stop().await;
}

/// A root that the books do not say, signed by everybody, is challenged by whoever watches, and void after its window.
async fn a_lie_is_challenged(world: &World) {
    let out = world.dir.path().join("guard");
    let mut command = world.bea.command(&["settle", "watch", &world.run]);
    command
        .stdout(fs::File::create(&out).unwrap())
        .stderr(Stdio::null());
    let guard = Guard(command.spawn().unwrap());
    world.post_a_lie().await;
    let mut look = Value::Null;
    world.bea.until("the guard challenges the root", || {
        let said = fs::read_to_string(&out).unwrap_or_default();
        let mut looks = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        look = looks.next_back().unwrap_or_default();
        look["seen"] == "wrong" && !look["challenge"].is_null()
    });
    assert_eq!(look["height"], 1);
    let seen = world.ada.refused(&["settle", "status", &world.run], &[]);
    assert!(seen.contains("is not what the books say"), "{seen}");
    drop(guard);
    world.anvil.pass(WINDOW_S).await;
    assert_eq!(world.status()["judged"], "nothing");
}

/// A peer that reads no chain says so once, follows what others read, and is no member without stake.
fn a_peer_without_a_chain_follows(world: &World) {
    let (cyd, run) = (&world.cyd, world.run.as_str());
    let view = cyd.outcome(run);
    assert_eq!(view["members"], 2, "{view}");
    assert_eq!(view["settlement"]["staked_micro_open"], 4_000_000, "{view}");
    let said = cyd.log().matches("this peer reads none").count();
    assert_eq!(said, 1, "{}", cyd.log());
    let refused = cyd.refused(&["settle", "status", run], &[]);
    assert!(refused.contains("--chain-rpc"), "{refused}");
}

/// A deposit once, and stake that counts a window later.
async fn money_comes(world: &World) {
    let (ada, bea, run) = (&world.ada, &world.bea, world.run.as_str());
    assert_eq!(world.status()["deposited_units"], "0");
    let deposited = ada.ask(&["budget", run, "100"]);
    assert_eq!(
        (&deposited["step"], &deposited["sent"]),
        (&json!("deposit"), &json!(true))
    );
    let again = ada.ask(&["budget", run, "100"]);
    assert_eq!(again["sent"], false, "{again}");
    for peer in [ada, bea] {
        let staked = peer.ask(&["stake", run, "2"]);
        assert_eq!(units(&staked["maturing_units"]), open(2).0, "{staked}");
    }
    assert_eq!(
        ada.certified(run),
        None,
        "nobody is admitted before stake counts"
    );
    world.anvil.pass(WINDOW_S).await;
    for peer in [ada, bea] {
        let staked = peer.ask(&["stake", run, "2"]);
        assert_eq!(units(&staked["counting_units"]), open(2).0, "{staked}");
    }
}

/// A right root that an outsider challenges: the members' daemons sign for it, and one command brings that to the chain.
async fn a_challenge_of_a_right_root_is_answered(world: &World) {
    let (ada, run) = (&world.ada, world.run.as_str());
    let (outsider, terms) = (world.outsider().await, world.terms());
    let chain = outsider.chain();
    let view = chain.settlement().runs(terms.key());
    let pending = async || {
        let block = chain.finalized().await.expect("a block");
        let run = chain.ask(&view, &block).await.expect("a run");
        run.pending.expect("a root that waits")
    };
    let idle = ada.ask(&["settle", "confirm", run]);
    assert_eq!(idle["sent"], false, "{idle}");
    let digest = pending().await.digest;
    let challenged = outsider.challenge(&terms, digest).await;
    assert!(matches!(challenged, Ok(Done::Sent(_))), "{challenged:?}");
    let mut confirmed = Value::Null;
    ada.until("the members have answered", || {
        let step = ada.try_ask(&["settle", "confirm", run]);
        confirmed = step.unwrap_or_default();
        confirmed["sent"] == true
    });
    let after = pending().await;
    assert!(after.confirmed && after.challenger.is_none(), "{confirmed}");
    assert_eq!(after.digest, digest);
    assert_eq!(world.status()["judged"], "right");
}

/// A root that is posted, and what it pays, once.
async fn money_leaves(world: &World) {
    let (ada, run) = (&world.ada, world.run.as_str());
    let posted = ada.ask(&["settle", "post", run]);
    assert_eq!(
        (&posted["step"], &posted["sent"]),
        (&json!("post"), &json!(true))
    );
    assert_eq!(world.status()["judged"], "right");
    a_challenge_of_a_right_root_is_answered(world).await;
    let early = ada.refused(&["settle", "claim", run], &[]);
    assert!(early.contains("has accepted no root"), "{early}");
    world.anvil.pass(WINDOW_S).await;
    let claimed = ada.ask(&["settle", "claim", run, "--all"]);
    assert_eq!(
        (&claimed["step"], &claimed["sent"]),
        (&json!("claim"), &json!(true))
    );
    let again = ada.ask(&["settle", "claim", run, "--all"]);
    assert_eq!(again["sent"], false, "{again}");
    let status = world.status();
    assert_eq!(
        status["paid_units"], status["accepted"]["total_units"],
        "{status}"
    );
    assert!(units(&status["paid_units"]) > 0, "{status}");
    assert_eq!(status["judged"], "nothing");
}
