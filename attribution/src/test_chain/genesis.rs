//! Block 0: the contracts as the compiler made them, at addresses that follow from the deployer and the order, or where clients
//! of x402 expect them.

use alloy_primitives::hex;
use alloy_sol_types::SolValue;
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, Output};
use revm::primitives::TxKind;
use revm::{DatabaseCommit, ExecuteEvm};
use serde::Deserialize;

use super::state::State;
use super::{BLOCK_GAS, CHAIN, DEPLOYED, TestChain, machine};
use crate::settlement::{Address, Keccak};

/// The part of an artifact that is deployed.
#[derive(Deserialize)]
struct Artifact<'a> {
    #[serde(borrow)]
    bytecode: Code<'a>,
    #[serde(rename = "deployedBytecode")]
    deployed: Code<'a>,
}

#[derive(Deserialize)]
struct Code<'a> {
    object: &'a str,
}

impl Code<'_> {
    fn bytes(&self) -> Vec<u8> {
        hex::decode(self.object).expect("an artifact's code is hexadecimal")
    }
}

macro_rules! artifact {
    ($name:literal) => {{
        let text = include_str!(concat!("../../contracts/artifacts/", $name, ".json"));
        let artifact: Artifact<'_> = serde_json::from_str(text).expect("an artifact has its code");
        artifact
    }};
}

/// Who deploys: the hash of a name, so nobody has its key.
fn deployer() -> Address {
    let Keccak(hash) = Keccak::of(&[b"tributary test chain"]);
    Address(hash[12..].try_into().expect("20 bytes"))
}

/// Runs creation code with its constructor's arguments, and says where the contract lies.
fn deploy(state: &mut State, artifact: &Artifact<'_>, arguments: &[u8]) -> Address {
    let creation = TxEnv {
        caller: deployer().into(),
        kind: TxKind::Create,
        data: [&artifact.bytecode.bytes(), arguments].concat().into(),
        gas_limit: BLOCK_GAS,
        gas_price: 0,
        chain_id: Some(CHAIN.0),
        ..TxEnv::default()
    };
    let done = machine(state, 0, 0).transact(creation);
    let done = done.expect("a creation that the machine takes");
    state.commit(done.state);
    match done.result {
        ExecutionResult::Success {
            output: Output::Create(_, Some(address)),
            ..
        } => Address(address.into()),
        other => panic!("a contract of genesis was not created: {other}"),
    }
}

/// The chain with the four contracts.
pub(super) fn chain() -> TestChain {
    let mut state = State::default();
    let token = deploy(&mut state, &artifact!("TestOpen"), &[]);
    let wraps = false;
    let arguments = (alloy_primitives::Address::from(token), wraps).abi_encode();
    let settlement = deploy(&mut state, &artifact!("Settlement"), &arguments);
    // These two work wherever they stand, and clients of x402 expect them there.
    for (place, artifact) in [
        (DEPLOYED.channels, artifact!("Channels")),
        (DEPLOYED.collector, artifact!("Collector")),
    ] {
        state.place(place.into(), artifact.deployed.bytes());
    }
    let named = (DEPLOYED.token, DEPLOYED.settlement);
    assert_eq!(
        (token, settlement),
        named,
        "contracts lie where peers look for them"
    );
    TestChain {
        number: 0,
        // At second 0 a first deposit would read as none.
        time_s: 1,
        state,
    }
}
