//! A server whose adapter's run takes pay on its chain, and stock clients that pay it; the chain is the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tributary_attribution::settlement::{Address, BaseUnits, Deployment};
use tributary_attribution::test_chain::TestChain;
use tributary_attribution::voucher::{ChannelId, Claim, OnChain, Requirements};
use tributary_engine::registry::RegistryLimits;
use tributary_engine::{Base, EngineOptions, Precision};
use tributary_peer::model::card::Card;
use tributary_peer::serve::adapters::{AdapterOptions, Fetch};
use tributary_peer::serve::book::Prices;
use tributary_peer::serve::cashier::{Cashier, CashierError, Cashiers, Deposit, Served};
use tributary_peer::serve::channels::ChannelOptions;
use tributary_peer::serve::till::Open;
use tributary_peer::serve::{ServeOptions, start};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash;
use tributary_protocol::id::{MicroOpen, RunId};
use tributary_trainer::{BaseModel, export_peft};

use crate::gateway::Gateway;
use crate::pay::{account, node_pays};
use crate::server::Server;

/// A chain that certifies at once, and what it was given.
#[derive(Default)]
struct Chain {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<ChannelId, OnChain>,
    salts: BTreeSet<[u8; 32]>,
    answers: Vec<Served>,
}

impl Cashier for Chain {
    fn requirements(&self) -> Option<(Requirements, Deployment)> {
        let chain = TestChain::deployed();
        let wanted = Requirements {
            receiver: Address([7; 20]),
            receiver_authorizer: account(1).address(),
            token: chain.token,
            withdraw_delay_s: 3600,
        };
        Some((wanted, chain.channels_deployment()))
    }

    fn channel(&self, id: ChannelId) -> OnChain {
        let state = self.state.lock().unwrap();
        state.channels.get(&id).copied().unwrap_or_default()
    }

    fn deposit<'a>(&'a self, deposit: Deposit) -> BoxFuture<'a, Result<(), CashierError>> {
        let id = deposit
            .config
            .id(&TestChain::deployed().channels_deployment());
        let mut state = self.state.lock().unwrap();
        if state.salts.insert(deposit.authorization.salt) {
            state.channels.entry(id).or_default().deposit.0 += deposit.amount.0;
        }
        Box::pin(async { Ok(()) })
    }

    fn collect<'a>(
        &'a self,
        answers: Vec<Served>,
        claim: Claim,
    ) -> BoxFuture<'a, Result<(), CashierError>> {
        let scheme = TestChain::deployed().channels_deployment();
        claim.voucher.verify(&claim.config, &scheme).unwrap();
        let mut state = self.state.lock().unwrap();
        state.answers.extend(answers);
        let channel = state.channels.entry(claim.voucher.channel).or_default();
        assert!(claim.total_claimed <= channel.deposit);
        channel.claimed = claim.total_claimed;
        Box::pin(async { Ok(()) })
    }
}

struct OneRun(RunId, Arc<Chain>);

impl Cashiers for OneRun {
    fn of(&self, run: RunId) -> Option<Arc<dyn Cashier>> {
        (run == self.0).then(|| self.1.clone() as Arc<dyn Cashier>)
    }
}

fn run() -> RunId {
    RunId(hash::blob(b"a run"))
}

/// A folder as `adapter get` writes it, and the adapter's id.
fn certified(folder: &Path) -> hash::Digest {
    let shape = Arc::new(BaseModel::brook().unwrap().adapter_shape(4, 8));
    let values = (0..shape.parameters()).map(|at| ((at * 7919) % 101) as f32 / 500.0 - 0.1);
    let adapter = Adapter::new(shape.clone(), values.collect()).unwrap();
    export_peft(folder, "brook", &adapter).unwrap();
    let id = hash::blob(adapter.as_bytes());
    let card = Card {
        schema: "adapter-card/1".into(),
        adapter: id.to_string(),
        content: adapter.content().to_string(),
        run: run().to_string(),
        name: "poet".into(),
        round: 1,
        rounds: 1,
        base: "brook".into(),
        base_hash: Base::brook().unwrap().info.hash.to_string(),
        base_licence: String::new(),
        datanet: String::new(),
        creator: String::new(),
        evaluators: Vec::new(),
        rule: String::new(),
        rank: 4,
        alpha: 8,
        history: Vec::new(),
        members: Vec::new(),
        credits: Vec::new(),
    };
    let card = serde_json::to_vec(&card).unwrap();
    std::fs::write(folder.join("tributary.json"), card).unwrap();
    id
}

/// A server of this process that is paid for `poet` through channels.
struct Paid {
    server: Option<tributary_peer::serve::Server>,
    at: Server,
    chain: Arc<Chain>,
    adapter: hash::Digest,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Paid {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let poet = folder.path().join("poet");
        let adapter = certified(&poet);
        let chain = Arc::new(Chain::default());
        let options = ServeOptions {
            base: "brook".into(),
            adapters: vec![("poet".into(), poet.display().to_string())],
            keep: AdapterOptions {
                limits: RegistryLimits::default(),
                cache: folder.path().join("cache"),
                fetch_unnamed: false,
                fetch_timeout_s: 1,
            },
            fetch: Fetch::Nobody,
            listen: "127.0.0.1:0".parse().unwrap(),
            hosts: Vec::new(),
            tokens: Vec::new(),
            engine: EngineOptions {
                precision: Precision::F32,
                threads: 1,
                cache_bytes: 1 << 28,
                most_waiting: 8,
                most_running: 4,
            },
            till: Arc::new(Open),
            channels: Some(ChannelOptions {
                prices: Prices {
                    prompt: MicroOpen(1000),
                    answer: MicroOpen(5000),
                },
                exposure: MicroOpen(1_000_000),
                folder: folder.path().join("channels"),
            }),
            cashiers: Some(Arc::new(OneRun(run(), chain.clone()))),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(start(options)).unwrap();
        Self {
            at: Server::at(server.addr()),
            server: Some(server),
            chain,
            adapter,
            runtime,
            _folder: folder,
        }
    }

    /// Ends it, and says what the chain has.
    fn drained(mut self) -> (Vec<Served>, Vec<OnChain>) {
        let server = self.server.take().unwrap();
        let limit = std::time::Duration::from_secs(10);
        assert!(self.runtime.block_on(server.drain(limit)));
        let state = self.chain.state.lock().unwrap();
        let answers = state.answers.clone();
        assert!(answers.iter().all(|one| one.adapter == self.adapter));
        (answers, state.channels.values().copied().collect())
    }
}

/// That everything charged is claimed, one answer after the other.
fn assert_claimed(answers: &[Served], channel: OnChain) {
    let mut charged = MicroOpen(0);
    for one in answers {
        assert_eq!(one.charged_before, charged);
        assert!(one.fee.0 > 0 && one.answer_tokens > 0);
        charged = one.charged_after();
    }
    assert_eq!(channel.claimed, BaseUnits::from_micro(charged).unwrap());
}

#[test]
fn x402s_client_for_node_pays_by_a_deposit_and_vouchers() {
    let paid = Paid::start();
    let refused = paid.at.post(
        "/v1/completions",
        &serde_json::json!({"model": "poet", "prompt": "Once"}),
    );
    assert_eq!(refused.code(), "payment_required");
    if !node_pays(&paid.at, &account(2), "poet", "deposit") {
        return;
    }
    let (answers, channels) = paid.drained();
    assert_eq!((answers.len(), channels.len()), (3, 1));
    assert_claimed(&answers, channels[0]);
}

#[test]
fn a_gateway_funds_a_channel_and_its_next_life_spends_what_is_left_in_it() {
    let paid = Paid::start();
    let ask = |gateway: &Gateway, seed: u64| {
        let more = serde_json::json!({"model": "poet", "seed": seed});
        let reply = gateway.ask(more);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let gateway = Gateway::start(&[paid.at.addr]);
    ask(&gateway, 1);
    let deposited = gateway.spent(0, "deposited");
    assert!(deposited > 0 && gateway.spent(0, "owed") > 0);
    ask(&gateway, 2);
    assert_eq!(gateway.spent(0, "deposited"), deposited);
    drop(gateway);
    let gateway = Gateway::start(&[paid.at.addr]);
    ask(&gateway, 3);
    assert_eq!(gateway.spent(0, "deposited"), 0);
    assert_eq!(gateway.spent(0, "reserved"), 0);
    let (answers, channels) = paid.drained();
    assert_eq!((answers.len(), channels.len()), (3, 1));
    assert_claimed(&answers, channels[0]);
}
