//! Typed data as EIP-712 hashes it: the structs by the names and the order of fields that contracts and wallets know.

use alloy_primitives::U256;
use alloy_sol_types::{Eip712Domain, SolStruct};

use super::{Address, Deployment, Keccak};

/// What the macro writes carries no documentation and is public to its module.
#[allow(missing_docs, unreachable_pub)]
pub(super) mod sol {
    alloy_sol_types::sol! {
        struct Bind {
            bytes32 run;
            bytes32 peer;
        }

        struct Slash {
            bytes32 run;
            address account;
            uint128 amount;
            bytes32 evidence;
        }

        struct AnswerShares {
            bytes32 channel;
            uint128 charged;
            bytes32 request;
            bytes32 text;
            bytes32 shares;
        }

        struct Confirm {
            bytes32 run;
            uint64 height;
            bytes32 root;
        }
    }
}

/// What a key signs: `statement` for the contract of `deployment`, which calls itself `name`, version 1.
pub(crate) fn digest(
    name: &'static str,
    deployment: &Deployment,
    statement: &impl SolStruct,
) -> Keccak {
    let domain = Eip712Domain::new(
        Some(name.into()),
        Some("1".into()),
        Some(U256::from(deployment.chain.0)),
        Some(deployment.contract.into()),
        None,
    );
    Keccak(statement.eip712_signing_hash(&domain).0)
}

impl From<Address> for alloy_primitives::Address {
    fn from(address: Address) -> Self {
        Self::from(address.0)
    }
}

impl From<Keccak> for alloy_primitives::B256 {
    fn from(hash: Keccak) -> Self {
        Self::from(hash.0)
    }
}
