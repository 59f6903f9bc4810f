//! Functions and views are the ABI's; what is built is what the contract reads.

use std::collections::BTreeMap;

use alloy_primitives::hex;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::settlement::{EvmKey, Keccak};

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&Keccak::of(&[b"key", &[seed]]).0).expect("a key")
}

/// The types of an argument of the ABI, with those of its parts.
fn types(input: &serde_json::Value) -> String {
    let name = input["type"].as_str().expect("a type");
    let Some(ending) = name.strip_prefix("tuple") else {
        return name.to_owned();
    };
    let parts = input["components"].as_array().expect("a list").iter();
    format!(
        "({}){ending}",
        parts.map(types).collect::<Vec<_>>().join(",")
    )
}

/// Signature of every function, with what it returns.
fn functions(artifact: &str) -> BTreeMap<String, String> {
    let artifact: serde_json::Value = serde_json::from_str(artifact).expect("JSON");
    let all = |list: &serde_json::Value| {
        let list = list.as_array().expect("a list").iter();
        list.map(types).collect::<Vec<_>>().join(",")
    };
    let abi = artifact["abi"].as_array().expect("a list").iter();
    let functions = abi.filter(|entry| entry["type"] == "function");
    let named = functions.map(|one| {
        let name = one["name"].as_str().expect("a name");
        (
            format!("{name}({})", all(&one["inputs"])),
            all(&one["outputs"]),
        )
    });
    named.collect()
}

/// Fails where the contract has no such function. Types of returns are held by the tests of the test chain, which read them.
pub(crate) fn assert_known(artifact: &str, signatures: &[&str]) {
    let functions = functions(artifact);
    for signature in signatures {
        assert!(functions.contains_key(*signature), "{signature}");
    }
}

/// Signatures of the functions of an interface.
macro_rules! signatures {
    ($interface:ident: $($call:ident)+) => {
        [$(<$interface::$call as alloy_sol_types::SolCall>::SIGNATURE),+]
    };
}
pub(crate) use signatures;

#[test]
fn every_call_is_a_function_of_the_contracts() {
    assert_known(
        include_str!("../../../contracts/artifacts/Settlement.json"),
        &signatures!(I: depositCall sweepCall postCall challengeCall confirmCall decideCall claimCall haltCall reclaimCall
            collectCall slashForkCall slashLoweredCall bondCall activateCall unbondCall withdrawCall slashCall
            executeSlashCall tillCall runsCall stakesCall claimedCall droppedCall creditsCall),
    );
    assert_known(
        include_str!("../../../contracts/artifacts/TestOpen.json"),
        &signatures!(IToken: mintCall approveCall transferCall balanceOfCall allowanceCall),
    );
}

#[test]
fn a_transfer_is_the_bytes_that_every_wallet_writes() {
    let call = Token(Address([9; 20])).transfer(Address([7; 20]), BaseUnits(258));
    let wanted = concat!(
        "a9059cbb",
        "0000000000000000000000000707070707070707070707070707070707070707",
        "0000000000000000000000000000000000000000000000000000000000000102"
    );
    assert_eq!(hex::encode(&call.data), wanted);
    assert_eq!(call.to, Address([9; 20]));
}

#[test]
fn signatures_are_sorted_by_signer_and_each_signer_is_kept_once() {
    let digest = Keccak::of(&[b"statement"]);
    let signatures: Vec<_> = [5, 1, 4, 1].map(|seed| key(seed).sign(&digest)).into();
    let sorted = ascending(&digest, &signatures).expect("keys");
    let signers = sorted
        .iter()
        .map(|one| one.recover(&digest).expect("a key"));
    let mut wanted = [1, 4, 5].map(|seed| key(seed).address());
    wanted.sort();
    assert_eq!(signers.collect::<Vec<_>>(), wanted);
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(answer in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..800)) {
        let settlement = Settlement(Address([1; 20]));
        let wrong = AnswerError { contract: settlement.0, bytes: answer.len() };
        let run = settlement.runs(Key::default()).decode(&answer);
        prop_assert!(answer.len() >= 19 * 32 || run == Err(wrong));
        let stake = settlement.stakes(Key::default(), Address::ZERO).decode(&answer);
        prop_assert!(answer.len() >= 7 * 32 || stake == Err(wrong));
        let truth = settlement.dropped(Keccak::ZERO).decode(&answer);
        prop_assert!(answer.len() >= 32 || truth == Err(wrong));
    }
}
