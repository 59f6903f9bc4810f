//! Puts the committed contracts on a chain, after asking it whether it can run them.

use alloy::primitives::Address as Wire;
use tributary_attribution::settlement::{Address, Deployment};

use crate::code::Contract;
use crate::limits::DEPLOY_NONCES;
use crate::node::{At, Block, Node, NodeError};
use crate::rpc::RpcFailure;
use crate::sender::{SendError, Sender, Until};
use crate::table::Purpose;

/// Why a contract was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The node was of no help.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The transaction was not sent, or did nothing.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The chain's machine is too old.
    #[error(
        "chain {chain} does not have the instruction {opcode}, which the contracts need ({since}); nothing was deployed: use a chain \
         that has it"
    )]
    Missing {
        /// The chain.
        chain: u64,
        /// Which instruction.
        opcode: &'static str,
        /// The upgrade of Ethereum that brought it.
        since: &'static str,
    },
    /// The node runs no code that is not deployed.
    #[error(
        "the node does not run code without deploying it ({0}), so nobody can say whether the contracts work there; use another node"
    )]
    NotProbed(String),
    /// The token is none.
    #[error(
        "nothing is deployed at {0}, where the token should be; check its address, or wait until its deployment is final"
    )]
    NoToken(Address),
    /// The chain made something else of the code.
    #[error(
        "the code at {0} is not what was deployed; do not use this contract, and use another node"
    )]
    OtherCode(Address),
}

/// What the contracts need beyond the machine's first instructions, and code that uses it: it runs as a constructor does, and
/// leaves nothing.
const PROBES: [(&str, &str, &[u8]); 4] = [
    ("PUSH0", "Shanghai", &[0x5f, 0x50, 0x00]),
    ("TSTORE", "Cancun", &[0x60, 0, 0x60, 0, 0x5d, 0x00]),
    ("TLOAD", "Cancun", &[0x60, 0, 0x5c, 0x50, 0x00]),
    ("MCOPY", "Cancun", &[0x60, 0, 0x60, 0, 0x60, 0, 0x5e, 0x00]),
];
/// Code of instructions that every chain has.
const CONTROL: &[u8] = &[0x60, 0, 0x50, 0x00];

/// Asks a chain whether it has the instructions that the contracts need. Nothing is sent.
///
/// # Errors
/// [`DeployError::Missing`] with the first one that it lacks, [`DeployError::NotProbed`], [`DeployError::Node`].
pub async fn probe(node: &Node) -> Result<(), DeployError> {
    if let Some(why) = fails(node, CONTROL).await? {
        return Err(DeployError::NotProbed(why));
    }
    for (opcode, since, code) in PROBES {
        if fails(node, code).await?.is_some() {
            let chain = node.config().chain.0;
            return Err(DeployError::Missing {
                chain,
                opcode,
                since,
            });
        }
    }
    Ok(())
}

/// Why code does not run; `None` where it does.
async fn fails(node: &Node, code: &[u8]) -> Result<Option<String>, NodeError> {
    match node.refusal(Address::ZERO, None, code, At::Latest).await {
        Ok(refused) => Ok(refused.map(|refused| refused.to_string())),
        Err(NodeError::Rpc(RpcFailure::Refused { message, .. })) => Ok(Some(message)),
        Err(other) => Err(other),
    }
}

/// Deploys a contract and waits until it is final. One that this account deployed before, within its last
/// [`DEPLOY_NONCES`] transactions, is found and not deployed again.
///
/// # Errors
/// [`DeployError`].
pub async fn deploy(sender: &Sender, contract: Contract) -> Result<Address, DeployError> {
    let node = sender.node();
    probe(node).await?;
    let purpose = match contract {
        Contract::Settlement { token, wraps } => {
            Purpose::new(&[&"deploy", &contract, &token, &wraps])
        }
        _ => Purpose::new(&[&"deploy", &contract]),
    };
    if let Some(receipt) = sender.resume(&purpose, Until::Final).await? {
        return deployed(sender, contract, receipt.nonce).await;
    }
    let block = node.finalized().await?;
    if let Contract::Settlement { token, .. } = contract
        && node
            .codes(&[token], At::Hash(block.hash))
            .await?
            .concat()
            .is_empty()
    {
        return Err(DeployError::NoToken(token));
    }
    if let Some(there) = found(sender, contract, &block).await? {
        return Ok(there);
    }
    let request = crate::sender::Request {
        to: None,
        data: contract.creation(),
    };
    let receipt = sender.send(&purpose, request, Until::Final).await?;
    deployed(sender, contract, receipt.nonce).await
}

/// Where the account's transaction with this number makes a contract.
fn place(sender: &Sender, nonce: u64) -> Address {
    Address(Wire::from(sender.account().0).create(nonce).into())
}

async fn deployed(sender: &Sender, contract: Contract, nonce: u64) -> Result<Address, DeployError> {
    let (node, place) = (sender.node(), place(sender, nonce));
    let block = node.finalized().await?;
    let code = node.codes(&[place], At::Hash(block.hash)).await?.concat();
    let deployment = Deployment {
        chain: node.config().chain,
        contract: place,
    };
    match contract.is_at(&code, &deployment) {
        true => Ok(place),
        false => Err(DeployError::OtherCode(place)),
    }
}

async fn found(
    sender: &Sender,
    contract: Contract,
    block: &Block,
) -> Result<Option<Address>, NodeError> {
    let (node, at) = (sender.node(), At::Hash(block.hash));
    let sent = node.nonce(sender.account(), at).await?;
    let places: Vec<Address> = (sent.saturating_sub(DEPLOY_NONCES)..sent)
        .map(|nonce| place(sender, nonce))
        .collect();
    let codes = node.codes(&places, at).await?;
    let chain = node.config().chain;
    let mut both = places.into_iter().zip(codes).rev();
    let there = both.find(|(place, code)| {
        contract.is_at(
            code,
            &Deployment {
                chain,
                contract: *place,
            },
        )
    });
    Ok(there.map(|(place, _)| place))
}
