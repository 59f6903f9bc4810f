//! Transactions of one account: written down before they are sent, and done when they are final.
//!
//! ```text
//!   purpose, call ──► would it do anything? ──► price ──► number, signature ──► table (durable) ──► node
//!                                                                                  │
//!   every look:  final ──► outcome, out of the table                               │
//!                in a block ──► wait            gone ──► the same bytes again ◄────┘
//!                too cheap ──► the same number for more     of no use now ──► the same number for nothing
//! ```
//!
//! The account is this program's alone: numbers (nonces) come from the table, and from the chain only while the table is empty.
//! Whether a thing still has to be done is for the caller to see from the chain; one purpose has one transaction at a time.

mod look;
mod sign;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use alloy::primitives::{Bytes, U64};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::{info, warn};
use tributary_attribution::settlement::calls::Call;
use tributary_attribution::settlement::{Address, Keccak, Refused};

use crate::fees::{FeeError, market};
use crate::limits::{GAS_MARGIN_DIVISOR, GAS_SPARE, MAX_GAS, MAX_ROWS};
use crate::node::{At, Included, Node, NodeError, transaction};
use crate::rpc::RpcFailure;
use crate::table::{Purpose, Row, Rows, Table, TableError};
use crate::wallet::Wallet;

/// Why a transaction was not sent, or did nothing.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The node was of no help.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The table was of none.
    #[error(transparent)]
    Table(#[from] TableError),
    /// It costs too much.
    #[error(transparent)]
    Fees(#[from] FeeError),
    /// The contract would do nothing; nothing was sent.
    #[error("{purpose}: {refused}")]
    Refused {
        /// What was to be done.
        purpose: Purpose,
        /// Why not.
        refused: Refused,
    },
    /// It was in a block and did nothing.
    #[error("{purpose}: transaction {hash} is final and did nothing: {refused}")]
    Reverted {
        /// What was to be done.
        purpose: Purpose,
        /// The transaction.
        hash: Keccak,
        /// Why not.
        refused: Refused,
    },
    /// It was sent and became useless before it was in a block.
    #[error(
        "{purpose}: it was withdrawn, because the chain went another way: {why}; look at the chain, and do it again if it is still to be done"
    )]
    Withdrawn {
        /// What was to be done.
        purpose: Purpose,
        /// What the chain said.
        why: String,
    },
    /// Its number is used, and not by what the node knows of it.
    #[error(
        "{purpose}: the number of this transaction is used, and the node knows none of its versions: another program sent one, or \
         the node forgets; look at the chain, do it again if it is still to be done, and give the account to one program alone"
    )]
    Superseded {
        /// What was to be done.
        purpose: Purpose,
    },
    /// It is not final yet.
    #[error(
        "{purpose}: transaction {hash} is on its way and not final after {waited_s} s; it is not lost: ask again later"
    )]
    OnItsWay {
        /// What is to be done.
        purpose: Purpose,
        /// The transaction.
        hash: Keccak,
        /// How long it was waited for, seconds.
        waited_s: u64,
    },
    /// The node does not pass it on.
    #[error(
        "{purpose}: the node refuses transaction {hash}: {message}; it is written down and sent again when asked for"
    )]
    NotTaken {
        /// What is to be done.
        purpose: Purpose,
        /// The transaction.
        hash: Keccak,
        /// The node's words.
        message: String,
    },
    /// Others send from the account.
    #[error(
        "account {account} has sent {sent} transactions, {of_final} of which are final, and this program knows nothing of the \
         others; wait until they are final, and give the account to one program alone"
    )]
    Foreign {
        /// The account.
        account: Address,
        /// How many it has sent.
        sent: u64,
        /// How many of them are final.
        of_final: u64,
    },
    /// Too little coin.
    #[error(
        "account {account} has {has_wei} wei of the chain's coin, and the transaction may cost {needs_wei} wei; send it some"
    )]
    Poor {
        /// The account.
        account: Address,
        /// What it has, wei.
        has_wei: u128,
        /// What gas may cost, wei.
        needs_wei: u128,
    },
    /// It would take more gas than a transaction may.
    #[error(
        "{purpose}: it would take {gas} gas, and a transaction takes {MAX_GAS} at most; do it in parts"
    )]
    TooMuchGas {
        /// What was to be done.
        purpose: Purpose,
        /// What the node estimates.
        gas: u64,
    },
    /// Too many wait.
    #[error("{MAX_ROWS} transactions of the account wait to be final; wait for some of them")]
    TooMany,
}

/// A transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub hash: Keccak,
    /// Which number of the account it has.
    pub nonce: u64,
    /// The number of its block.
    pub block: u64,
    /// What it used.
    pub gas: u64,
    /// What it cost, wei. Chains that stand on others may charge for those too.
    pub fee_wei: u128,
}

/// How long a transaction is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It is in a block, which may be undone: enough before the next transaction of the same account.
    Included,
    /// Its block is final.
    Final,
}

/// What became of a transaction that is final.
#[derive(Clone, Debug)]
enum Outcome {
    Done(Receipt),
    Reverted(Receipt, Refused),
    Withdrawn(String),
    Superseded,
}

/// A transaction that is not final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnItsWay {
    /// What it is for.
    pub purpose: Purpose,
    /// Its number.
    pub nonce: u64,
    /// Its dearest version.
    pub hash: Keccak,
    /// What that offers for a unit of gas at most, wei.
    pub most_per_gas_wei: u128,
}

/// What is sent: a call, or code that makes a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The contract; `None` makes one.
    pub to: Option<Address>,
    /// Function and arguments, or creation code.
    pub data: Vec<u8>,
}

impl From<Call> for Request {
    fn from(call: Call) -> Self {
        Self {
            to: Some(call.to),
            data: call.data,
        }
    }
}

/// Sends transactions of one account to one chain. Calls from several tasks are put in order.
pub struct Sender {
    node: Node,
    wallet: Wallet,
    table: Arc<dyn Table>,
    /// Which version of the table was written last.
    written: Arc<std::sync::Mutex<u64>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rows: Rows,
    /// Of the table, counted from when it was opened.
    version: u64,
    /// By number, for those who wait.
    finished: BTreeMap<u64, Outcome>,
    /// Number of the row that the chain refuses, and the block since which it does.
    refused: Option<(u64, u64)>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({})", self.account())
    }
}

impl Sender {
    /// Takes up what the table says was on its way. Nothing is sent before something is asked for.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn open(node: Node, wallet: Wallet, table: Arc<dyn Table>) -> Result<Self, TableError> {
        let (chain, account) = (node.config().chain, wallet.account());
        let rows = match table.load().map_err(TableError::Read)? {
            Some(bytes) => Rows::decode(&bytes, chain, account)?,
            None => Rows::new(chain, account),
        };
        let state = Mutex::new(State {
            rows,
            version: 0,
            finished: BTreeMap::new(),
            refused: None,
        });
        Ok(Self {
            node,
            wallet,
            table,
            written: Arc::default(),
            state,
        })
    }

    /// The account.
    pub fn account(&self) -> Address {
        self.wallet.account()
    }

    /// The account's key, for statements that it signs.
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The node that it sends to.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What is on its way, in order.
    pub async fn on_its_way(&self) -> Vec<OnItsWay> {
        let state = self.state.lock().await;
        let shown = |row: &Row| OnItsWay {
            purpose: row.purpose.clone(),
            nonce: row.nonce,
            hash: row.last().hash(),
            most_per_gas_wei: row.last().price.most_wei,
        };
        state.rows.rows.iter().map(shown).collect()
    }

    /// Sends, and waits. Where a transaction with this purpose is on its way, that one is waited for instead.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(
        &self,
        purpose: &Purpose,
        request: Request,
        until: Until,
    ) -> Result<Receipt, SendError> {
        let nonce = self.submit(purpose, request).await?;
        self.wait(purpose, nonce, until).await
    }

    /// Waits for what is on its way with this purpose; `None` if nothing is.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn resume(
        &self,
        purpose: &Purpose,
        until: Until,
    ) -> Result<Option<Receipt>, SendError> {
        let nonce = find(&self.state.lock().await.rows, purpose);
        match nonce {
            Some(nonce) => self.wait(purpose, nonce, until).await.map(Some),
            None => Ok(None),
        }
    }

    /// Writes a transaction down and sends it, without waiting; its number. If the node does not take it at once, it is sent
    /// again by whoever waits, or by [`Sender::advance`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub async fn submit(&self, purpose: &Purpose, request: Request) -> Result<u64, SendError> {
        let mut state = self.state.lock().await;
        if let Some(nonce) = find(&state.rows, purpose) {
            return Ok(nonce);
        }
        if state.rows.rows.len() >= MAX_ROWS {
            return Err(SendError::TooMany);
        }
        let refused = self
            .node
            .refusal(self.account(), request.to, &request.data, At::Latest)
            .await?;
        if let Some(refused) = refused {
            return Err(SendError::Refused {
                purpose: purpose.clone(),
                refused,
            });
        }
        let gas = self.gas(purpose, &request).await?;
        let (head, asked) = market(&self.node).await?;
        let price = asked.offer(self.node.config(), gas)?;
        self.can_pay(&state.rows, gas, price.most_wei).await?;
        let nonce = self.next(&state.rows).await?;
        let mut row = Row {
            nonce,
            purpose: purpose.clone(),
            to: request.to.map(|to| to.0.into()),
            data: Bytes::from(request.data),
            gas,
            attempts: Vec::new(),
        };
        row.attempts.push(self.sign(&row, price, head.number));
        let mut rows = state.rows.clone();
        rows.rows.push(row.clone());
        self.save(&mut state, rows).await?;
        info!(
            "{purpose}: transaction {} of {} is sent",
            row.last().hash(),
            self.account()
        );
        if let Err(error) = self.pass_on(&row).await {
            warn!("{error}");
        }
        Ok(nonce)
    }

    /// What a request may use, as of the last block: what waits in the node's pool may never be.
    async fn gas(&self, purpose: &Purpose, request: &Request) -> Result<u64, SendError> {
        let transaction = transaction(self.account(), request.to, &request.data);
        let asked = json!([transaction, "latest"]);
        let purpose = purpose.clone();
        let gas: u64 = match self.node.rpc().ask::<U64>("eth_estimateGas", asked).await {
            Ok(estimate) => estimate.to(),
            Err(RpcFailure::Contract(refused)) => {
                return Err(SendError::Refused { purpose, refused });
            }
            Err(other) => return Err(NodeError::from(other).into()),
        };
        match gas <= MAX_GAS {
            true => Ok((gas + gas / GAS_MARGIN_DIVISOR + GAS_SPARE).min(MAX_GAS)),
            false => Err(SendError::TooMuchGas { purpose, gas }),
        }
    }

    /// Whether the account has what this transaction and those before it may cost.
    async fn can_pay(&self, rows: &Rows, gas: u64, most_wei: u128) -> Result<(), SendError> {
        let cost = |gas: u64, wei: u128| u128::from(gas).saturating_mul(wei);
        let before = rows
            .rows
            .iter()
            .map(|row| cost(row.gas, row.last().price.most_wei));
        let needs_wei = before.fold(cost(gas, most_wei), u128::saturating_add);
        let has_wei = self.node.coin(self.account()).await?;
        match has_wei >= needs_wei {
            true => Ok(()),
            false => Err(SendError::Poor {
                account: self.account(),
                has_wei,
                needs_wei,
            }),
        }
    }

    /// The number of the next transaction.
    async fn next(&self, rows: &Rows) -> Result<u64, SendError> {
        if let Some(row) = rows.rows.last() {
            return Ok(row.nonce + 1);
        }
        let account = self.account();
        let block = self.node.finalized().await?;
        let of_final = self.node.nonce(account, At::Hash(block.hash)).await?;
        let sent = self.node.nonce(account, At::Latest).await?;
        // What is not final could be undone, and leave a gap before a greater number.
        match sent == of_final {
            true => Ok(sent),
            false => Err(SendError::Foreign {
                account,
                sent,
                of_final,
            }),
        }
    }

    /// Replaces the table, on the disk first. If whoever waits for this goes away, it may still be written, and nothing was sent;
    /// but never over a later one.
    async fn save(&self, state: &mut State, rows: Rows) -> Result<(), SendError> {
        state.version += 1;
        let (version, bytes) = (state.version, rows.encode());
        let (table, written) = (self.table.clone(), self.written.clone());
        let saved = tokio::task::spawn_blocking(move || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if *written < version {
                table.save(&bytes)?;
                *written = version;
            }
            Ok(())
        });
        let saved = saved
            .await
            .map_err(std::io::Error::other)
            .and_then(|saved| saved);
        saved.map_err(TableError::Write)?;
        state.rows = rows;
        Ok(())
    }

    /// Whether a transaction with this purpose is not final yet.
    pub async fn is_on_its_way(&self, purpose: &Purpose) -> bool {
        find(&self.state.lock().await.rows, purpose).is_some()
    }

    /// Purpose and call of the last transaction that is not final.
    pub(crate) async fn last_on_its_way(&self) -> Option<(Purpose, Vec<u8>)> {
        let state = self.state.lock().await;
        let row = state.rows.rows.last()?;
        Some((row.purpose.clone(), row.data.to_vec()))
    }

    /// Waits for the transaction with this number, which [`Sender::submit`] gave.
    pub(crate) async fn wait(
        &self,
        purpose: &Purpose,
        nonce: u64,
        until: Until,
    ) -> Result<Receipt, SendError> {
        let (began, config) = (Instant::now(), self.node.config());
        loop {
            let looked = self.advance().await;
            let (outcome, row) = {
                let state = self.state.lock().await;
                let row = state
                    .rows
                    .rows
                    .iter()
                    .find(|row| row.nonce == nonce)
                    .cloned();
                (state.finished.get(&nonce).cloned(), row)
            };
            if let Some(outcome) = outcome {
                return ended(purpose, outcome);
            }
            // Finished, and so long ago that it was forgotten.
            let Some(row) = row else {
                return Err(SendError::Superseded {
                    purpose: purpose.clone(),
                });
            };
            if until == Until::Included
                && let Some(receipt) = self.in_a_block(&row).await?
            {
                return Ok(receipt);
            }
            let is_over = began.elapsed() >= config.patience;
            match looked {
                Ok(()) if !is_over => {}
                Ok(()) => {
                    let (purpose, hash, waited_s) = (
                        purpose.clone(),
                        row.last().hash(),
                        began.elapsed().as_secs(),
                    );
                    return Err(SendError::OnItsWay {
                        purpose,
                        hash,
                        waited_s,
                    });
                }
                // A node that is away for a moment does not end the waiting; what it says about the chain does.
                Err(SendError::Node(NodeError::Rpc(error))) if !is_over => warn!("{error}"),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(config.every).await;
        }
    }

    /// The version of a row that is in a block and did what it should.
    async fn in_a_block(&self, row: &Row) -> Result<Option<Receipt>, SendError> {
        let does = row.attempts.iter().filter(|one| one.withdraws.is_none());
        let hashes: Vec<Keccak> = does.map(|one| one.hash()).collect();
        let included = self.node.included(&hashes).await?;
        let done = included.iter().find(|one| one.status.to::<u64>() == 1);
        Ok(done.map(|one| receipt(row.nonce, one)))
    }
}

fn find(rows: &Rows, purpose: &Purpose) -> Option<u64> {
    rows.rows
        .iter()
        .find(|row| row.purpose == *purpose)
        .map(|row| row.nonce)
}

fn receipt(nonce: u64, included: &Included) -> Receipt {
    let (gas, price) = (
        included.gas_used.to::<u64>(),
        included.effective_gas_price.to::<u128>(),
    );
    Receipt {
        hash: Keccak(included.transaction_hash.0),
        nonce,
        block: included.block_number.to(),
        gas,
        fee_wei: price.saturating_mul(u128::from(gas)),
    }
}

fn ended(purpose: &Purpose, outcome: Outcome) -> Result<Receipt, SendError> {
    let purpose = purpose.clone();
    match outcome {
        Outcome::Done(receipt) => Ok(receipt),
        Outcome::Reverted(receipt, refused) => Err(SendError::Reverted {
            purpose,
            hash: receipt.hash,
            refused,
        }),
        Outcome::Withdrawn(why) => Err(SendError::Withdrawn { purpose, why }),
        Outcome::Superseded => Err(SendError::Superseded { purpose }),
    }
}
