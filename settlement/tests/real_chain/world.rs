//! A chain with the contracts, accounts with coin and tokens, and a run with members.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tributary_attribution::settlement::calls::{Payment, Token};
use tributary_attribution::settlement::{
    Address, Balances, BaseUnits, ChainId, Confirm, EvmKey, Keccak, Root, Signature, Terms,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::RunId;
use tributary_settlement::{
    Actions, Chain, Config, Contract, FileTable, Node, Purpose, Sender, Until, Wallet, deploy,
};

use crate::anvil::Anvil;

pub(crate) const CHAIN: ChainId = ChainId(1612);
pub(crate) const WINDOW_S: u64 = 100_000;
/// Members of the run, by the seeds of their keys.
pub(crate) const MEMBERS: [u8; 3] = [11, 12, 13];
pub(crate) const SPONSOR: u8 = 10;

pub(crate) fn open(amount: u128) -> BaseUnits {
    BaseUnits(amount * 1_000_000_000_000_000_000)
}

pub(crate) fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&[seed; 32]).expect("a key")
}

pub(crate) fn config(url: &str) -> Config {
    Config {
        timeout: Duration::from_secs(20),
        every: Duration::from_millis(30),
        patience: Duration::from_secs(120),
        ..Config::new(url, CHAIN)
    }
}

pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) contract: Address,
    pub(crate) token: Token,
    pub(crate) folder: TempDir,
}

impl World {
    /// `None` where anvil is not installed. No blocks are made afterwards.
    pub(crate) async fn new() -> Option<Self> {
        let anvil = Anvil::start("cancun").await?;
        let folder = tempfile::tempdir().expect("a folder");
        for seed in [SPONSOR, MEMBERS[0], MEMBERS[1], MEMBERS[2], 14, 15] {
            fund(&anvil, key(seed).address()).await;
        }
        let running = anvil.run();
        let node = Node::connect(config(&anvil.url)).await.expect("the chain");
        let deployer = sender(node, folder.path(), 14);
        let token = deploy(&deployer, Contract::TestOpen)
            .await
            .expect("a token");
        let settlement = Contract::Settlement {
            token,
            wraps: false,
        };
        let contract = deploy(&deployer, settlement).await.expect("the contract");
        let token = Token(token);
        for (seed, amount) in [
            (SPONSOR, 1000),
            (MEMBERS[0], 10),
            (MEMBERS[1], 10),
            (MEMBERS[2], 10),
            (15, 10),
        ] {
            let purpose = Purpose::new(&[&"mint", &seed]);
            let call = token.mint(key(seed).address(), open(amount));
            deployer
                .send(&purpose, call.into(), Until::Included)
                .await
                .expect("tokens");
        }
        running.stop().await;
        Some(Self {
            anvil,
            contract,
            token,
            folder,
        })
    }

    pub(crate) async fn chain(&self, url: &str) -> Chain {
        Chain::connect(config(url), self.contract)
            .await
            .expect("the contract")
    }

    /// Steps of an account, with its table as it was left.
    pub(crate) async fn actions(&self, seed: u8) -> Actions {
        self.actions_at(&self.anvil.url, seed).await
    }

    pub(crate) async fn actions_at(&self, url: &str, seed: u8) -> Actions {
        let chain = self.chain(url).await;
        let sender = sender(chain.node().clone(), self.folder.path(), seed);
        Actions::new(chain, sender)
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            run: RunId(Digest::from_bytes([3; 32])),
            sponsor: key(SPONSOR).address(),
            arbiter: None,
            rate_per_s: open(1),
            challenge_bond: open(1),
            min_stake: open(2),
            window_s: WINDOW_S,
            cooldown_s: 3 * WINDOW_S,
            halt_s: 3 * WINDOW_S,
        }
    }

    /// A root of a height, out of the deposit.
    pub(crate) fn root(&self, height: u64, books: &Books, closed: bool) -> Root {
        let node = books.0.root();
        let (run, lines, fees) = (self.terms().key(), Keccak::ZERO, BaseUnits(0));
        Root {
            run,
            height,
            balances: node.hash,
            total: node.sum,
            fees,
            lines,
            closed,
        }
    }

    /// What the members sign of a root.
    pub(crate) async fn signed(&self, root: &Root) -> Vec<Signature> {
        let chain = self.chain(&self.anvil.url).await;
        let digest = root.digest(chain.deployment());
        MEMBERS
            .iter()
            .map(|seed| key(*seed).sign(&digest))
            .collect()
    }

    pub(crate) async fn confirmed(&self, root: &Root) -> Vec<Signature> {
        let chain = self.chain(&self.anvil.url).await;
        let deployment = chain.deployment();
        let statement = Confirm {
            run: root.run,
            height: root.height,
            root: root.digest(deployment),
        };
        let digest = statement.digest(deployment);
        MEMBERS
            .iter()
            .map(|seed| key(*seed).sign(&digest))
            .collect()
    }

    /// What an account holds of the token now.
    pub(crate) async fn holds(&self, seed: u8) -> BaseUnits {
        let chain = self.chain(&self.anvil.url).await;
        let block = chain.finalized().await.expect("a block");
        chain
            .ask(&self.token.balance_of(key(seed).address()), &block)
            .await
            .expect("a balance")
    }

    /// How many transactions an account has sent, in the last block.
    pub(crate) async fn sent(&self, seed: u8) -> u64 {
        let params = json!([key(seed).address().to_string(), "latest"]);
        crate::anvil::number(&self.anvil.rpc("eth_getTransactionCount", params).await)
    }

    /// The sponsor deposits 100 OPEN, and every member has one OPEN of stake that counts. Blocks have to be made.
    pub(crate) async fn begin(&self) {
        let terms = self.terms();
        let sponsor = self.actions(SPONSOR).await;
        sponsor.deposit(&terms, open(100)).await.expect("a deposit");
        for member in MEMBERS {
            self.actions(member)
                .await
                .bond(&terms, open(1))
                .await
                .expect("a bond");
        }
        self.anvil.pass(WINDOW_S).await;
        for member in MEMBERS {
            let account = key(member).address();
            self.actions(member)
                .await
                .activate(terms.key(), account)
                .await
                .expect("stake that counts");
        }
    }
}

/// What accounts earned.
pub(crate) struct Books(Balances);

impl Books {
    /// Amounts in OPEN, by seed.
    pub(crate) fn of(amounts: &[(u8, u128)]) -> Self {
        let accounts: BTreeMap<_, _> = amounts
            .iter()
            .map(|(seed, amount)| (key(*seed).address(), open(*amount)))
            .collect();
        Self(Balances::build(&accounts).expect("a tree"))
    }

    pub(crate) fn payment(&self, root: &Root, seed: u8) -> Payment {
        let proof = self.0.prove(&key(seed).address()).expect("a leaf");
        Payment {
            run: root.run,
            proof,
            unwrap: false,
        }
    }
}

pub(crate) async fn fund(anvil: &Anvil, account: Address) {
    let coins = format!("{:#x}", 1000 * 1_000_000_000_000_000_000_u128);
    anvil
        .rpc("anvil_setBalance", json!([account.to_string(), coins]))
        .await;
}

pub(crate) fn sender(node: Node, folder: &Path, seed: u8) -> Sender {
    let account = key(seed).address();
    // A program that was stopped here leaves a thread that writes to the end; a real one would take it along.
    let table = (0..500).find_map(|_| match FileTable::open(folder, CHAIN, account) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(10));
            None
        }
        other => Some(other.expect("a table")),
    });
    let table = Arc::new(table.expect("a table that is free"));
    Sender::open(node, Wallet::from(key(seed)), table).expect("a sender")
}
