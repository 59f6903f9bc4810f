//! One node of one chain: what it says is final, and a guard against one that changes its mind.
//!
//! Whatever decides about money is read at a finalized block, and by the block's hash, so that all of it belongs together.
//! The latest state is asked for one purpose alone: whether a transaction would do anything now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U64, U128, U256};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tributary_attribution::settlement::calls::{AnswerError, Call, Query};
use tributary_attribution::settlement::{Address, ChainId, Keccak, Refused};

use crate::rpc::{Question, Rpc, RpcFailure};

/// How a chain is reached, and what it may cost.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of a node, http or https. It is never shown, because it may hold a password.
    pub url: String,
    /// The chain that the node has to be on.
    pub chain: ChainId,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long to wait between two looks at the chain; a few seconds, as blocks are.
    pub every: Duration,
    /// How long a transaction is waited for. It stays on its way when that is over, and is found again.
    pub patience: Duration,
    /// The most that a unit of gas may cost, base fee and tip together, in wei.
    pub most_per_gas_wei: u128,
    /// The most of it that goes to whoever makes the block, in wei.
    pub most_tip_wei: u128,
    /// A finalized block that the caller remembers: the chain has to contain it.
    pub known: Option<Block>,
}

impl Config {
    /// A node of a chain with the usual times: 20 s for a request, 4 s between looks, half an hour for a transaction; 100
    /// gwei for gas and 2 gwei of it as tip.
    pub fn new(url: impl Into<String>, chain: ChainId) -> Self {
        Self {
            url: url.into(),
            chain,
            timeout: Duration::from_secs(20),
            every: Duration::from_secs(4),
            patience: Duration::from_secs(30 * 60),
            most_per_gas_wei: 100_000_000_000,
            most_tip_wei: 2_000_000_000,
            known: None,
        }
    }
}

/// Shows no URL.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown
            .field("chain", &self.chain)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// A block that a node calls final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// How many blocks came before it.
    pub number: u64,
    /// Its hash.
    pub hash: Keccak,
    /// When it was made, seconds of the chain's clock.
    pub time_s: u64,
}

/// Why a chain was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The node gave no answer.
    #[error(transparent)]
    Rpc(#[from] RpcFailure),
    /// The contract gave none.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Another chain.
    #[error(
        "the node at {host} is on chain {found}, and the contract is on chain {wanted}; use a node of chain {wanted}"
    )]
    OtherChain {
        /// Where it is.
        host: String,
        /// Its chain.
        found: u64,
        /// The chain that was meant.
        wanted: ChainId,
    },
    /// No block is final yet, or the node knows no such thing.
    #[error(
        "the node at {host} names no finalized block; wait until the chain has one, or use a node that knows them"
    )]
    NothingFinal {
        /// Where it is.
        host: String,
    },
    /// A finalized block is no longer there.
    #[error(
        "the node at {host} says that block {found} is the last final one, and has said that {seen} is; it lags behind or lies, so \
         nothing of it is used: try again, or use another node"
    )]
    Backwards {
        /// Where it is.
        host: String,
        /// What it says now.
        found: u64,
        /// What it said before.
        seen: u64,
    },
    /// A finalized block is another one.
    #[error(
        "the node at {host} now has another block {number} than the one that was final ({seen}, and now {found}); it lies, or the \
         chain broke its promise: use another node, and compare the two"
    )]
    Changed {
        /// Where it is.
        host: String,
        /// Which block.
        number: u64,
        /// Its hash before.
        seen: Keccak,
        /// Its hash now.
        found: String,
    },
}

/// Where the chain's state is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// After the last block that the node has; it may be undone.
    Latest,
    /// After the block with this number; it may be undone.
    Number(u64),
    /// After the block with this hash.
    Hash(Keccak),
}

impl At {
    fn value(self) -> Value {
        match self {
            Self::Latest => json!("latest"),
            Self::Number(number) => json!(U64::from(number)),
            Self::Hash(hash) => json!({ "blockHash": hash.to_string(), "requireCanonical": true }),
        }
    }
}

/// The parts of a block that are used; chains add others of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    number: U64,
    hash: B256,
    timestamp: U64,
    base_fee_per_gas: Option<U128>,
}

impl Header {
    fn block(&self) -> Block {
        Block {
            number: self.number.to(),
            hash: Keccak(self.hash.0),
            time_s: self.timestamp.to(),
        }
    }
}

/// The last block, which may be undone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) number: u64,
    /// None on chains without EIP-1559.
    pub(crate) base_fee_wei: Option<u128>,
}

/// What became of a transaction in a block.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Included {
    pub(crate) transaction_hash: B256,
    pub(crate) block_number: U64,
    pub(crate) status: U64,
    pub(crate) gas_used: U64,
    pub(crate) effective_gas_price: U128,
}

/// A node of one chain. Copies share their memory of what was final.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rpc: Rpc,
    config: Config,
    /// The last finalized block. Held while one is asked for, so that a late answer is not taken for an old block.
    seen: Mutex<Option<Block>>,
}

impl Node {
    /// Reaches a node, and checks that it is on the chain and, if the caller remembers a block, on the same history.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn connect(config: Config) -> Result<Self, NodeError> {
        let rpc = Rpc::new(&config.url, config.timeout)?;
        let found: U64 = rpc.ask("eth_chainId", json!([])).await?;
        let (found, wanted) = (found.to(), config.chain);
        if found != wanted.0 {
            let host = rpc.host().to_string();
            return Err(NodeError::OtherChain {
                host,
                found,
                wanted,
            });
        }
        let seen = Mutex::new(config.known);
        let node = Self(Arc::new(Inner { rpc, config, seen }));
        node.finalized().await?;
        Ok(node)
    }

    /// How it is reached.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The last block that the node calls final. It never goes back, and contains the one that was given before.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn finalized(&self) -> Result<Block, NodeError> {
        let mut seen = self.0.seen.lock().await;
        let by_number = |at: Value| ("eth_getBlockByNumber", json!([at, false]));
        let mut questions = vec![by_number(json!("finalized"))];
        questions.extend(seen.map(|block| by_number(At::Number(block.number).value())));
        let mut answers = self.0.rpc.ask_all(&questions).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Null));
        let host = || self.0.rpc.host().to_string();
        let Some(last) = self.header(next()?)? else {
            return Err(NodeError::NothingFinal { host: host() });
        };
        let last = last.block();
        if let Some(before) = *seen {
            if last.number < before.number {
                return Err(NodeError::Backwards {
                    host: host(),
                    found: last.number,
                    seen: before.number,
                });
            }
            let again = match last.number == before.number {
                true => Some(last),
                false => self.header(next()?)?.map(|header| header.block()),
            };
            let is_same = again
                .is_some_and(|block| (block.number, block.hash) == (before.number, before.hash));
            if !is_same {
                let found =
                    again.map_or_else(|| "none".to_string(), |block| block.hash.to_string());
                let (number, seen) = (before.number, before.hash);
                return Err(NodeError::Changed {
                    host: host(),
                    number,
                    seen,
                    found,
                });
            }
        }
        *seen = Some(last);
        Ok(last)
    }

    /// The block with this number, which the last finalized one stands on: for those who have to look at the same block.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NothingFinal`] where the node has not called so late a block final.
    pub async fn final_block(&self, number: u64) -> Result<Block, NodeError> {
        let seen = *self.0.seen.lock().await;
        let host = || self.0.rpc.host().to_string();
        if seen.is_none_or(|seen| seen.number < number) {
            return Err(NodeError::NothingFinal { host: host() });
        }
        let method = "eth_getBlockByNumber";
        let asked = json!([At::Number(number).value(), false]);
        let header: Option<Header> = self.0.rpc.ask(method, asked).await?;
        let block = header.map(|header| header.block());
        (block.filter(|block| block.number == number))
            .ok_or_else(|| NodeError::NothingFinal { host: host() })
    }

    fn header(&self, answer: Value) -> Result<Option<Header>, RpcFailure> {
        self.0.rpc.read("eth_getBlockByNumber", answer)
    }

    /// Asks a contract at a finalized block.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn ask<T>(&self, query: &Query<T>, block: &Block) -> Result<T, NodeError> {
        self.ask_at(query, At::Hash(block.hash)).await
    }

    pub(crate) async fn ask_at<T>(&self, query: &Query<T>, at: At) -> Result<T, NodeError> {
        let answer: Bytes = self
            .rpc()
            .ask("eth_call", question(&query.call, at).1)
            .await?;
        Ok(query.decode(&answer)?)
    }

    /// What contracts answer at one block, in the order of the calls.
    pub(crate) async fn answers(&self, calls: &[&Call], at: At) -> Result<Vec<Bytes>, NodeError> {
        let questions: Vec<Question> = calls.iter().map(|call| question(call, at)).collect();
        let answers = self.rpc().ask_all(&questions).await?;
        let read = answers
            .into_iter()
            .map(|answer| Ok(self.rpc().read("eth_call", answer?)?));
        read.collect()
    }

    /// The code at each address.
    pub(crate) async fn codes(
        &self,
        addresses: &[Address],
        at: At,
    ) -> Result<Vec<Vec<u8>>, NodeError> {
        let question =
            |address: &Address| ("eth_getCode", json!([address.to_string(), at.value()]));
        let questions: Vec<Question> = addresses.iter().map(question).collect();
        let answers = self.rpc().ask_all(&questions).await?;
        let read = answers.into_iter().map(|answer| {
            let code: Bytes = self.rpc().read("eth_getCode", answer?)?;
            Ok(code.to_vec())
        });
        read.collect()
    }

    /// How many transactions an account has sent.
    pub(crate) async fn nonce(&self, account: Address, at: At) -> Result<u64, NodeError> {
        let params = json!([account.to_string(), at.value()]);
        let nonce: U64 = self.rpc().ask("eth_getTransactionCount", params).await?;
        Ok(nonce.to())
    }

    /// What an account has of the chain's coin, wei.
    pub(crate) async fn coin(&self, account: Address) -> Result<u128, NodeError> {
        let params = json!([account.to_string(), At::Latest.value()]);
        let coin: U256 = self.rpc().ask("eth_getBalance", params).await?;
        Ok(coin.saturating_to())
    }

    pub(crate) async fn latest(&self) -> Result<Head, NodeError> {
        let method = "eth_getBlockByNumber";
        let header: Header = self.rpc().ask(method, json!(["latest", false])).await?;
        let base_fee_wei = header.base_fee_per_gas.map(|fee| fee.to());
        Ok(Head {
            number: header.number.to(),
            base_fee_wei,
        })
    }

    /// What the transactions with these hashes came to, of those that are in blocks.
    pub(crate) async fn included(&self, hashes: &[Keccak]) -> Result<Vec<Included>, NodeError> {
        let method = "eth_getTransactionReceipt";
        let questions: Vec<Question> = hashes
            .iter()
            .map(|hash| (method, json!([hash.to_string()])))
            .collect();
        let mut found = Vec::new();
        for answer in self.rpc().ask_all(&questions).await? {
            found.extend(self.rpc().read::<Option<Included>>(method, answer?)?);
        }
        Ok(found)
    }

    /// What a transaction would come to, without sending it: `None` where it would be done.
    pub(crate) async fn refusal(
        &self,
        from: Address,
        to: Option<Address>,
        data: &[u8],
        at: At,
    ) -> Result<Option<Refused>, NodeError> {
        let params = json!([transaction(from, to, data), at.value()]);
        match self.rpc().ask::<Bytes>("eth_call", params).await {
            Ok(_) => Ok(None),
            Err(RpcFailure::Contract(refused)) => Ok(Some(refused)),
            Err(other) => Err(other.into()),
        }
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }
}

fn question(call: &Call, at: At) -> Question {
    let asked = json!({ "to": call.to.to_string(), "data": Bytes::from(call.data.clone()) });
    ("eth_call", json!([asked, at.value()]))
}

/// A transaction as `eth_call` and `eth_estimateGas` take it; without a receiver it creates a contract.
pub(crate) fn transaction(from: Address, to: Option<Address>, data: &[u8]) -> Value {
    let mut asked = json!({ "from": from.to_string(), "data": Bytes::copy_from_slice(data) });
    if let Some(to) = to {
        asked["to"] = json!(to.to_string());
    }
    asked
}
