//! anvil as a process of a test's own. Tests of the peer use this file as well.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long anvil may take to answer for the first time.
const START: Duration = Duration::from_secs(60);
/// Between two blocks of a running chain.
const BLOCK: Duration = Duration::from_millis(40);

fn binary() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../settlement/tests/node");
    let anvil = folder.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    if anvil.is_file() {
        return Some(anvil);
    }
    let said = format!(
        "skipped: {} has no anvil; run `npm ci --ignore-scripts` there, on Linux on x86-64",
        folder.display()
    );
    assert!(
        std::env::var_os("TRIBUTARY_NEEDS_ANVIL").is_none(),
        "{said}"
    );
    eprintln!("{said}");
    None
}

/// A chain without blocks of its own accord. It ends with this value.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // The process of this value alone, by its own handle.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Anvil {
    /// `None` where anvil is not installed.
    pub(crate) async fn start(hardfork: &str) -> Option<Self> {
        let binary = binary()?;
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let mut command = Command::new(&binary);
            command.args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--chain-id",
                "1612",
            ]);
            command.args([
                "--hardfork",
                hardfork,
                "--slots-in-an-epoch",
                "1",
                "--no-mining",
                "--silent",
            ]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = command.spawn().expect("anvil starts");
            let mut anvil = Self {
                child,
                url: format!("http://127.0.0.1:{port}"),
            };
            if anvil.answers().await {
                anvil.mine(3).await;
                return Some(anvil);
            }
        }
        panic!("anvil did not start in five tries");
    }

    /// False if it ended, as where somebody else took the port.
    async fn answers(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < START {
            if try_rpc(&self.url, "eth_chainId", json!([])).await.is_ok() {
                return true;
            }
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("anvil did not answer within {START:?}");
    }

    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        rpc(&self.url, method, params).await
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.rpc("evm_mine", json!([])).await;
        }
    }

    /// Lets the chain's clock run ahead, and makes that final.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.rpc("evm_increaseTime", json!([seconds])).await;
        self.mine(4).await;
    }

    /// Makes blocks until the value is dropped.
    pub(crate) fn run(&self) -> Running {
        self.run_every(BLOCK)
    }

    /// The same with this time between two blocks.
    pub(crate) fn run_every(&self, every: Duration) -> Running {
        let url = self.url.clone();
        Running::start((Arc::default(), every), move || {
            let url = url.clone();
            async move {
                rpc(&url, "evm_mine", json!([])).await;
            }
        })
    }

    /// Makes blocks, and undoes the last one whenever it has a transaction that was never undone before. The chain drops it.
    pub(crate) fn run_with_reorganisations(&self) -> Running {
        let url = self.url.clone();
        let undone = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = undone.clone();
        Running::start((undone, BLOCK), move || {
            undo_once(url.clone(), seen.clone())
        })
    }
}

/// One block, which is undone if it has transactions that never were.
async fn undo_once(url: String, undone: Undone) {
    rpc(&url, "evm_mine", json!([])).await;
    let block = rpc(&url, "eth_getBlockByNumber", json!(["latest", false])).await;
    let hashes = block["transactions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is_new = |hash: &Value| undone.lock().unwrap().insert(hash.to_string());
    if hashes.iter().filter(|hash| is_new(hash)).count() > 0 {
        rpc(&url, "anvil_reorg", json!([1, []])).await;
    }
}

pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().expect("a number").trim_start_matches("0x");
    u64::from_str_radix(text, 16).expect("hexadecimal")
}

/// Hashes of transactions that were undone.
type Undone = Arc<Mutex<BTreeSet<String>>>;

/// A chain that makes blocks.
pub(crate) struct Running {
    task: JoinHandle<()>,
    ends: Arc<AtomicBool>,
    undone: Undone,
}

impl Running {
    fn start<F>((undone, every): (Undone, Duration), tick: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let ends = Arc::new(AtomicBool::new(false));
        let stop = ends.clone();
        let task = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                tick().await;
                tokio::time::sleep(every).await;
            }
        });
        Self { task, ends, undone }
    }

    /// How many transactions were undone.
    pub(crate) fn undone(&self) -> usize {
        self.undone.lock().unwrap().len()
    }

    /// After the last block.
    pub(crate) async fn stop(self) {
        self.ends.store(true, Ordering::Relaxed);
        while !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn rpc(url: &str, method: &str, params: Value) -> Value {
    try_rpc(url, method, params.clone())
        .await
        .unwrap_or_else(|error| panic!("{method} {params}: {error}"))
}

async fn try_rpc(url: &str, method: &str, params: Value) -> Result<Value, String> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answer = post(url, body.to_string().into_bytes()).await?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    match answer.get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(answer["result"].take()),
    }
}

/// What a server answers to a body of JSON.
pub(crate) async fn post(url: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let asked = client
        .post(url)
        .header("content-type", "application/json")
        .body(body);
    let answer = asked.send().await.map_err(|error| error.to_string())?;
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    Ok(bytes.to_vec())
}
