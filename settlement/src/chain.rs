//! The contract that holds a run's money, on a chain that can be asked.

use std::collections::BTreeMap;

use tributary_attribution::settlement::calls::{Query, RunView, Settlement, StakeView, Token};
use tributary_attribution::settlement::{Address, BaseUnits, ChainId, Deployment, Key};
use tributary_attribution::voucher::calls::Channels;
use tributary_attribution::voucher::{ChannelId, STOCK_CONTRACT};

use crate::code::read_settlement;
use crate::node::{At, Block, Config, Node, NodeError};

/// Why a contract is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The node was of no help.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nothing is there.
    #[error(
        "nothing is deployed at {contract} on chain {chain} as of the finalized block {block}; check the address, or wait until the \
         deployment is final"
    )]
    NoCode {
        /// Where.
        contract: Address,
        /// On which chain.
        chain: ChainId,
        /// As of which block.
        block: u64,
    },
    /// Something else is there.
    #[error(
        "the contract at {contract} on chain {chain} is not Tributary's: its code differs from the one that this program was built \
         with; send it no money, and check the address"
    )]
    Foreign {
        /// Where.
        contract: Address,
        /// On which chain.
        chain: ChainId,
    },
}

/// What is asked about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Accounts whose stake and payments are wanted.
    pub accounts: Vec<Address>,
    /// Channels whose money is wanted.
    pub channels: Vec<ChannelId>,
}

/// What one account has of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its stake.
    pub stake: StakeView,
    /// What it was paid out of the run, ever.
    pub claimed: BaseUnits,
    /// Bonds that came back to it, of all runs, and that it has not collected.
    pub credits: BaseUnits,
}

/// Deposit and claims of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Everything paid in and not given back.
    pub balance: BaseUnits,
    /// Everything claimed by vouchers.
    pub claimed: BaseUnits,
}

/// A run as of one finalized block; everything belongs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As of which block.
    pub block: Block,
    /// Deposit, fees, payments, stake and roots.
    pub run: RunView,
    /// Where the run's fees arrive.
    pub till: Address,
    /// What lies there and was not swept.
    pub in_till: BaseUnits,
    /// Of every account that was asked about.
    pub accounts: BTreeMap<Address, AccountFacts>,
    /// Of every channel that was asked about.
    pub channels: BTreeMap<ChannelId, ChannelFacts>,
}

/// `Settlement` on a chain, checked to be the one of this repository.
#[derive(Clone, Debug)]
pub struct Chain {
    node: Node,
    deployment: Deployment,
    token: Token,
    wraps: bool,
    channels: Channels,
}

impl Chain {
    /// Reaches a node and checks the contract: its code, to the last bit, is the committed one, for this chain and place.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: Config, contract: Address) -> Result<Self, ConnectError> {
        Self::open(Node::connect(config).await?, contract).await
    }

    /// The same over a node that was reached before.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn open(node: Node, contract: Address) -> Result<Self, ConnectError> {
        let chain = node.config().chain;
        let deployment = Deployment { chain, contract };
        let block = node.finalized().await?;
        let code = node.codes(&[contract], At::Hash(block.hash)).await?;
        let code = code.concat();
        if code.is_empty() {
            return Err(ConnectError::NoCode {
                contract,
                chain,
                block: block.number,
            });
        }
        let Some((token, wraps)) = read_settlement(&code, &deployment) else {
            return Err(ConnectError::Foreign { contract, chain });
        };
        Ok(Self {
            node,
            deployment,
            token: Token(token),
            wraps,
            channels: Channels(STOCK_CONTRACT),
        })
    }

    /// The same with channels in another contract than clients of x402 expect.
    pub fn with_channels(self, channels: Address) -> Self {
        Self {
            channels: Channels(channels),
            ..self
        }
    }

    /// Which contract on which chain: what signatures name.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The contract's calls.
    pub fn settlement(&self) -> Settlement {
        Settlement(self.deployment.contract)
    }

    /// The token that the contract holds, as its code says.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the token wraps the chain's native coin, as the contract's code says.
    pub fn wraps(&self) -> bool {
        self.wraps
    }

    /// The contract of channels.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The last finalized block.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn finalized(&self) -> Result<Block, NodeError> {
        self.node.finalized().await
    }

    /// Asks a contract at a finalized block, by its hash.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn ask<T>(&self, query: &Query<T>, block: &Block) -> Result<T, NodeError> {
        self.node.ask(query, block).await
    }

    /// Everything about a run as of one finalized block, in two round trips, or more where there are more than
    /// [`crate::limits::MAX_BATCH`] questions.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn facts(&self, run: Key, asked: &Asked, block: &Block) -> Result<Facts, NodeError> {
        let settlement = self.settlement();
        let (view, till) = (settlement.runs(run), settlement.till(run));
        let of_account = |account: &Address| {
            let amounts = (
                settlement.claimed(run, *account),
                settlement.credits(*account),
            );
            (settlement.stakes(run, *account), amounts)
        };
        let accounts: Vec<_> = asked.accounts.iter().map(of_account).collect();
        let channels: Vec<_> = asked
            .channels
            .iter()
            .map(|channel| self.channels.channel(*channel))
            .collect();
        let mut calls = vec![&view.call, &till.call];
        for (stake, (claimed, credits)) in &accounts {
            calls.extend([&stake.call, &claimed.call, &credits.call]);
        }
        calls.extend(channels.iter().map(|query| &query.call));
        let answers = self.node.answers(&calls, At::Hash(block.hash)).await?;
        let mut answers = answers.iter();
        // One answer for each call, in their order.
        let mut next = || answers.next().map_or(&[][..], |answer| answer.as_ref());
        let (run, till) = (view.decode(next())?, till.decode(next())?);
        let mut facts = Facts {
            block: *block,
            run,
            till,
            in_till: self.ask(&self.token.balance_of(till), block).await?,
            accounts: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        for (account, (stake, (claimed, credits))) in asked.accounts.iter().zip(&accounts) {
            let (stake, claimed, credits) = (
                stake.decode(next())?,
                claimed.decode(next())?,
                credits.decode(next())?,
            );
            facts.accounts.insert(
                *account,
                AccountFacts {
                    stake,
                    claimed,
                    credits,
                },
            );
        }
        for (channel, query) in asked.channels.iter().zip(&channels) {
            let (balance, claimed) = query.decode(next())?;
            facts
                .channels
                .insert(*channel, ChannelFacts { balance, claimed });
        }
        Ok(facts)
    }
}
