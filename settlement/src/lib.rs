//! The contracts that hold a run's money, on a real chain: what they say, and transactions that change it.
//!
//! ```text
//!   Watch ──► Actions ──► Sender ──► Table (durable: number, signed bytes, purpose)
//!    judge     once each    │ Wallet
//!      └─────────┴────────► Chain ──► Node ──► JSON-RPC
//!                           facts     finalized blocks alone
//! ```
//!
//! Bytes of calls, typed data and signatures are `attribution`'s; nothing of this crate decides what anybody earned. A chain is
//! believed where it is final, and by the hash of a block; a node that changes its mind about that is not used. A
//! transaction is written down before it is sent, and whether it is still to be sent is read from the chain.
//!
//! | room | |
//! |---|---|
//! | [`node`] | one node of one chain, and the guard over what it calls final |
//! | [`chain`] | the contract, checked to the last bit, and facts of a run |
//! | [`sender`] | transactions with numbers, prices and an end |
//! | [`table`] | where they are written down |
//! | [`wallet`] | key files |
//! | [`mod@deploy`], [`code`] | the contracts' code, put on a chain and recognised there |
//! | [`actions`] | what people do, each step once |
//! | [`watch`] | challenges of wrong roots |
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use tributary_attribution::settlement::{Address, BaseUnits, ChainId, Terms};
//! # use tributary_settlement::*;
//! # async fn example(home: &Path, contract: Address, terms: Terms) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("https://node.example", ChainId(1612));
//! let chain = Chain::connect(config, contract).await?;
//! let wallet = Wallet::open(&home.join("account.key"))?;
//! let table = FileTable::open(home, ChainId(1612), wallet.account())?;
//! let sender = Sender::open(chain.node().clone(), wallet, Arc::new(table))?;
//! let actions = Actions::new(chain, sender);
//! match actions.deposit(&terms, BaseUnits(5_000_000_000_000_000_000)).await? {
//!     Done::AlreadySo(block) => println!("deposited before block {}", block.number),
//!     Done::Sent(receipt) => println!("deposited by {}", receipt.hash),
//! }
//! # Ok(())
//! # }
//! ```

pub mod actions;
pub mod chain;
pub mod code;
pub mod deploy;
pub mod fees;
pub mod limits;
pub mod node;
mod rpc;
pub mod sender;
pub mod table;
pub mod wallet;
pub mod watch;

pub use actions::{ActionError, Actions, Done};
pub use chain::{AccountFacts, Asked, Chain, ChannelFacts, ConnectError, Facts};
pub use code::Contract;
pub use deploy::{DeployError, deploy, probe};
pub use fees::{FeeError, GasPrice, gas_price};
pub use node::{Block, Config, Node, NodeError};
pub use rpc::RpcFailure;
pub use sender::{OnItsWay, Receipt, Request, SendError, Sender, Until};
pub use table::{FileTable, Purpose, Table, TableError};
pub use wallet::{Wallet, WalletError};
pub use watch::{Answer, Seen, Watch, judge};
