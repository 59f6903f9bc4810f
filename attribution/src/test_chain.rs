//! The test chain: the contracts' bytecode in a virtual machine, as a pure fold of transactions. Test OPEN is worth nothing.
//!
//! ```text
//!   time, transactions ──► TestChain::block ──► outcomes        queries ──► TestChain::read ──► views
//!                              │
//!                              └──► state(): one hash of everything that a later block can depend on
//! ```
//!
//! No clock, no disk, no port, no operator: peers that fold the same blocks have the same [`TestChain::state`]. The contracts
//! are those of a real chain, byte for byte; only their token is not, because anybody mints it. Whoever calls says who sends
//! a transaction and answers for it: nothing is signed here for the chain itself, so callers also decide whose transactions
//! they take, how many, and that none comes twice ([`TestChain::sent`]).
//!
//! Every transaction is free and bounded: bytes, gas, and the four contracts alone. A block stores at most what its gas pays
//! for, fewer than a thousand new words of 32 bytes.

mod genesis;
mod state;

use std::convert::Infallible;
use std::fmt;

use alloy_primitives::{U256, hex};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, Output};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::database_interface::WrapDatabaseRef;
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Bytes, TxKind};
use revm::state::EvmState;
use revm::{DatabaseCommit, ExecuteEvm, MainBuilder, MainContext};

use crate::settlement::calls::{AnswerError, Call, Query, RunView, Settlement, StakeView, Token};
use crate::settlement::{Address, BaseUnits, ChainId, Deployment, Keccak, Key, Refused};
use crate::voucher::calls::{Channels, Received};
use crate::voucher::{self, ChannelId, OnChain, STOCK_COLLECTOR, STOCK_CONTRACT, TokenDomain};
use state::State;

/// Number of the test chain: "trib" in ASCII. No signature that is made for it is good on another chain.
pub const CHAIN: ChainId = ChainId(0x7472_6962);
/// Bytes of calldata of one transaction: a root with 256 signatures takes a quarter of it, a proof of fifty payments fills it.
pub const MAX_CALL_BYTES: usize = 64 * 1024;
/// Gas of one transaction: twice a root with 256 signatures, at 8,000 gas each, or sixty claims.
pub const TRANSACTION_GAS: u64 = 5_000_000;
/// Gas of one block. What costs a processor most are signatures: 2,500 fit, about a second of a slow core. It is some two
/// hundred claims, or eight roots with 256 signatures.
pub const BLOCK_GAS: u64 = 20_000_000;
/// Most that the faucet gives at once: 10^9 OPEN, as much as there is of the real one. The token's supply has 256 bits, and
/// whoever filled it would close the faucet to everybody.
pub const MAX_MINT: BaseUnits = BaseUnits(1_000_000_000_000_000_000_000_000_000);
/// The latest time of a block, seconds. Contracts keep times in 40 bits, and add up to ten years to the present.
pub const LATEST_S: u64 = 1 << 39;

/// Where everything lies on every test chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The chain's number.
    pub chain: ChainId,
    /// Test OPEN.
    pub token: Address,
    /// `Settlement` of that token, which wraps nothing.
    pub settlement: Address,
    /// `Channels`, where clients of x402 expect it.
    pub channels: Address,
    /// `Collector`, where clients of x402 expect the one that fetches signed deposits.
    pub collector: Address,
}

impl Deployed {
    /// What roots are signed for.
    pub fn settlement_deployment(&self) -> Deployment {
        Deployment {
            chain: self.chain,
            contract: self.settlement,
        }
    }

    /// What vouchers are signed for.
    pub fn channels_deployment(&self) -> Deployment {
        voucher::stock(self.chain)
    }

    /// What payers sign deposits for: test OPEN as it calls itself in typed data.
    pub fn token_domain(&self) -> TokenDomain<'static> {
        TokenDomain {
            name: "Test OPEN",
            version: "1",
            contract: self.token,
        }
    }

    fn has(&self, contract: &Address) -> bool {
        [self.token, self.settlement, self.channels, self.collector].contains(contract)
    }
}

/// The first two follow from the deployer and its count of contracts, and from no bytecode.
const DEPLOYED: Deployed = Deployed {
    chain: CHAIN,
    token: Address(hex!("fc2ec64431bc55bfe264d2e4e5ed25a09a0ccd91")),
    settlement: Address(hex!("c6d9678c6b757488c993a878ddcc0cff41bd46ea")),
    channels: STOCK_CONTRACT,
    collector: STOCK_COLLECTOR,
};

/// A call, and the account that sends it. Whoever hands it to the chain has made sure of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The sender.
    pub from: Address,
    /// The contract.
    pub to: Address,
    /// Function and arguments.
    pub data: Vec<u8>,
}

impl Transaction {
    /// `call`, sent by `from`.
    pub fn new(from: Address, call: Call) -> Self {
        let Call { to, data } = call;
        Self { from, to, data }
    }
}

/// Why a transaction or a question did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A contract said no.
    #[error("{0}")]
    Contract(Refused),
    /// Too many bytes.
    #[error(
        "the call has {0} bytes where the test chain takes {MAX_CALL_BYTES}; split it into several"
    )]
    TooLong(usize),
    /// None of the contracts.
    #[error(
        "{0} is none of the test chain's four contracts, and it takes no calls elsewhere; name one of them"
    )]
    Elsewhere(Address),
    /// Nobody's address, or a contract's.
    #[error("{0} belongs to no key, so nothing is sent from it; send it from an account")]
    Sender(Address),
    /// Too much of the faucet.
    #[error("the faucet gives at most {MAX_MINT} OPEN at once; mint several times")]
    Faucet,
    /// The block's gas does not suffice for another transaction.
    #[error("the block is full: {left} gas is left of {BLOCK_GAS}; put it into the next block")]
    BlockFull {
        /// What is left.
        left: u64,
    },
    /// It took more gas than a transaction has.
    #[error("the call took more than {TRANSACTION_GAS} gas; split it into several")]
    OutOfGas,
    /// The contract broke off without an answer.
    #[error("the contract broke off, as it does on damaged calldata; build the call anew")]
    BrokeOff,
    /// The virtual machine took no such transaction.
    #[error("the virtual machine took no such transaction ({0}); build the call anew")]
    Machine(String),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It came through.
    Done {
        /// What the function returned.
        output: Vec<u8>,
        /// Gas that it took.
        gas_used: u64,
    },
    /// It changed nothing but the count of its sender's transactions.
    Refused {
        /// Why.
        reason: Reason,
        /// Gas that it took; 0: it was not tried.
        gas_used: u64,
    },
}

impl Outcome {
    /// Gas that the transaction took of its block.
    pub fn gas_used(&self) -> u64 {
        match self {
            Self::Done { gas_used, .. } | Self::Refused { gas_used, .. } => *gas_used,
        }
    }

    /// What the function returned, or why it did nothing.
    ///
    /// # Errors
    /// The [`Reason`].
    pub fn result(self) -> Result<Vec<u8>, Reason> {
        match self {
            Self::Done { output, .. } => Ok(output),
            Self::Refused { reason, .. } => Err(reason),
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The contract said no.
    #[error("the question was refused: {0}")]
    Refused(#[from] Reason),
    /// The answer does not fit the question.
    #[error("{0}")]
    Answer(#[from] AnswerError),
}

/// The chain's whole state.
#[derive(Clone)]
pub struct TestChain {
    number: u64,
    time_s: u64,
    state: State,
}

/// Shows where it stands, not its state.
impl fmt::Debug for TestChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestChain({}, {} s)", self.number, self.time_s)
    }
}

impl Default for TestChain {
    fn default() -> Self {
        Self::new()
    }
}

impl TestChain {
    /// Block 0, at second 1, with the contracts of [`TestChain::deployed`] and nothing else. It takes some milliseconds.
    pub fn new() -> Self {
        genesis::chain()
    }

    /// Where everything lies: the same on every test chain.
    pub fn deployed() -> Deployed {
        DEPLOYED
    }

    /// Folds one block, and says what became of each transaction, in order. A time before the last block's counts as that
    /// block's, one after [`LATEST_S`] as that.
    pub fn block(&mut self, time_s: u64, transactions: &[Transaction]) -> Vec<Outcome> {
        self.number = self.number.saturating_add(1);
        self.time_s = time_s.clamp(self.time_s, LATEST_S);
        let mut left = BLOCK_GAS;
        let outcomes = transactions.iter().map(|transaction| {
            let outcome = self.transact(transaction, left);
            left = left.saturating_sub(outcome.gas_used());
            outcome
        });
        outcomes.collect()
    }

    /// How many blocks there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Time of the last block: seconds.
    pub fn time_s(&self) -> u64 {
        self.time_s
    }

    /// How many transactions of an account were tried. Callers whose transactions carry this number take none twice.
    pub fn sent(&self, account: Address) -> u64 {
        self.state.nonce(account.into())
    }

    /// Hash of number, time and the whole state in a canonical order: accounts by address, each with its count of
    /// transactions, the hash of its code and its storage by slot. It takes time for every word stored.
    pub fn state(&self) -> Keccak {
        self.state.digest(self.number, self.time_s)
    }

    /// Asks a contract without changing anything, at the last block's time.
    ///
    /// # Errors
    /// [`Reason`].
    pub fn call(&self, to: Address, data: &[u8]) -> Result<Vec<u8>, Reason> {
        self.admit(to, data)?;
        let mut machine = machine(&self.state, self.number, self.time_s);
        let done = machine.transact(environment(Address::ZERO, to, data));
        outcome(done.map(|done| done.result)).result()
    }

    fn admit(&self, to: Address, data: &[u8]) -> Result<(), Reason> {
        if data.len() > MAX_CALL_BYTES {
            return Err(Reason::TooLong(data.len()));
        }
        match DEPLOYED.has(&to) {
            true => Ok(()),
            false => Err(Reason::Elsewhere(to)),
        }
    }

    fn transact(&mut self, transaction: &Transaction, left: u64) -> Outcome {
        let Transaction { from, to, data } = transaction;
        let admitted = self.admit(*to, data).and_then(|()| {
            if from.is_zero() || self.state.has_code((*from).into()) {
                return Err(Reason::Sender(*from));
            }
            if *to == DEPLOYED.token && mints_too_much(data) {
                return Err(Reason::Faucet);
            }
            match left < TRANSACTION_GAS {
                true => Err(Reason::BlockFull { left }),
                false => Ok(()),
            }
        });
        if let Err(reason) = admitted {
            let gas_used = 0;
            return Outcome::Refused { reason, gas_used };
        }
        let done =
            machine(&self.state, self.number, self.time_s).transact(environment(*from, *to, data));
        let done = done.map(|done| {
            self.state.commit(done.state);
            done.result
        });
        outcome(done)
    }
}

/// What the contracts say now.
impl TestChain {
    /// Asks what a query asks.
    ///
    /// # Errors
    /// [`ReadError`]: with a query of the contracts of [`TestChain::deployed`], never.
    pub fn read<T>(&self, query: &Query<T>) -> Result<T, ReadError> {
        let answer = self.call(query.call.to, &query.call.data)?;
        Ok(query.decode(&answer)?)
    }

    fn view<T>(&self, query: &Query<T>) -> T {
        let answer = self.read(query);
        answer.expect("views of the contracts that were deployed answer")
    }

    /// A run, with what time has decided.
    pub fn run(&self, key: Key) -> RunView {
        self.view(&Settlement(DEPLOYED.settlement).runs(key))
    }

    /// Stake of an account in a run.
    pub fn stake(&self, run: Key, account: Address) -> StakeView {
        self.view(&Settlement(DEPLOYED.settlement).stakes(run, account))
    }

    /// What an account was paid out of a run, ever.
    pub fn claimed(&self, run: Key, account: Address) -> BaseUnits {
        self.view(&Settlement(DEPLOYED.settlement).claimed(run, account))
    }

    /// Bonds that came back to an account and were not collected.
    pub fn credits(&self, account: Address) -> BaseUnits {
        self.view(&Settlement(DEPLOYED.settlement).credits(account))
    }

    /// Where the fees of a run arrive.
    pub fn till(&self, run: Key) -> Address {
        self.view(&Settlement(DEPLOYED.settlement).till(run))
    }

    /// What an account holds of test OPEN.
    pub fn balance(&self, account: Address) -> BaseUnits {
        self.view(&Token(DEPLOYED.token).balance_of(account))
    }

    /// A payment channel, as its server needs it.
    pub fn channel(&self, channel: ChannelId) -> OnChain {
        let channels = Channels(DEPLOYED.channels);
        let (deposit, claimed) = self.view(&channels.channel(channel));
        OnChain {
            deposit,
            claimed,
            withdrawal: self.view(&channels.withdrawal(channel)),
            refund_nonce: self.view(&channels.refund_nonce(channel)),
        }
    }

    /// What a receiver got of test OPEN through its channels.
    pub fn received(&self, receiver: Address) -> Received {
        self.view(&Channels(DEPLOYED.channels).receiver(receiver, DEPLOYED.token))
    }
}

/// Whether calldata for the token asks the faucet for more than it gives. Cut calldata is the contract's to refuse.
fn mints_too_much(data: &[u8]) -> bool {
    /// Selector of `mint(address,uint256)`.
    const MINT: [u8; 4] = [0x40, 0xc1, 0x0f, 0x19];
    let amount = data.strip_prefix(&MINT).and_then(|rest| rest.get(32..64));
    amount.is_some_and(|amount| U256::from_be_slice(amount) > U256::from(MAX_MINT.0))
}

/// A machine of the fork for which the contracts are compiled.
fn machine(
    state: &State,
    number: u64,
    time_s: u64,
) -> impl ExecuteEvm<
    ExecutionResult = ExecutionResult,
    State = EvmState,
    Error = EVMError<Infallible>,
    Tx = TxEnv,
> {
    let block = BlockEnv {
        number: U256::from(number),
        timestamp: U256::from(time_s),
        gas_limit: BLOCK_GAS,
        ..BlockEnv::default()
    };
    let context = Context::mainnet()
        .with_db(WrapDatabaseRef(state))
        .with_block(block);
    let context = context.modify_cfg_chained(|cfg| {
        cfg.set_spec_and_mainnet_gas_params(SpecId::CANCUN);
        cfg.chain_id = CHAIN.0;
        // Transactions carry no count of their own: callers see that none comes twice.
        cfg.disable_nonce_check = true;
    });
    context.build_mainnet()
}

/// A call without value and fee.
fn environment(from: Address, to: Address, data: &[u8]) -> TxEnv {
    TxEnv {
        caller: from.into(),
        kind: TxKind::Call(to.into()),
        data: Bytes::copy_from_slice(data),
        gas_limit: TRANSACTION_GAS,
        gas_price: 0,
        chain_id: Some(CHAIN.0),
        ..TxEnv::default()
    }
}

fn outcome(done: Result<ExecutionResult, EVMError<Infallible>>) -> Outcome {
    let (reason, gas_used) = match done {
        Ok(ExecutionResult::Success { output, gas, .. }) => {
            let (Output::Call(output) | Output::Create(output, _)) = output;
            return Outcome::Done {
                output: output.into(),
                gas_used: gas.tx_gas_used(),
            };
        }
        Ok(ExecutionResult::Revert { output, gas, .. }) => {
            (Reason::Contract(Refused::decode(&output)), gas)
        }
        Ok(ExecutionResult::Halt { reason, gas, .. }) => match reason {
            HaltReason::OutOfGas(_) => (Reason::OutOfGas, gas),
            _ => (Reason::BrokeOff, gas),
        },
        Err(error) => {
            let (reason, gas_used) = (Reason::Machine(error.to_string()), 0);
            return Outcome::Refused { reason, gas_used };
        }
    };
    let gas_used = gas_used.tx_gas_used();
    Outcome::Refused { reason, gas_used }
}

#[cfg(test)]
mod tests;
