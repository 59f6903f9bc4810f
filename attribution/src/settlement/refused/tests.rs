//! The list is the ABI's, every sentence says something, and no bytes panic.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Artifacts whose errors can reach a caller.
const ARTIFACTS: [&str; 5] = [
    include_str!("../../../contracts/artifacts/Settlement.json"),
    include_str!("../../../contracts/artifacts/Channels.json"),
    include_str!("../../../contracts/artifacts/Collector.json"),
    include_str!("../../../contracts/artifacts/Till.json"),
    include_str!("../../../contracts/artifacts/TestOpen.json"),
];
/// Of constructors alone, with a text as argument; and Solidity's own, which no ABI lists.
const APART: [&str; 1] = ["StringTooLong(string)"];
const OWN: [&str; 1] = ["Panic(uint256)"];

fn signature(error: &serde_json::Value) -> String {
    let inputs = error["inputs"].as_array().expect("a list");
    let types = inputs
        .iter()
        .map(|input| input["type"].as_str().expect("a type"));
    let name = error["name"].as_str().expect("a name");
    format!("{name}({})", types.collect::<Vec<_>>().join(","))
}

#[test]
fn every_error_of_the_contracts_has_a_variant_and_no_variant_is_invented() {
    let mut found = BTreeSet::new();
    for artifact in ARTIFACTS {
        let artifact: serde_json::Value = serde_json::from_str(artifact).expect("JSON");
        let abi = artifact["abi"].as_array().expect("a list").iter();
        found.extend(abi.filter(|entry| entry["type"] == "error").map(signature));
    }
    let listed = Refused::SIGNATURES.iter().chain(&APART);
    let listed: BTreeSet<String> = listed.map(|one| (*one).to_owned()).collect();
    found.extend(OWN.map(str::to_owned));
    assert_eq!(found, listed);
}

#[test]
fn a_refusal_is_read_with_its_arguments_and_says_what_to_do() {
    let mut answer = select("NoQuorum(uint256,uint256)").to_vec();
    answer.extend([0; 31].iter().chain(&[7]));
    answer.extend([0xff; 32]);
    let refused = Refused::decode(&answer);
    let all = BaseUnits(u128::MAX);
    let signed = BaseUnits(7);
    assert_eq!(refused, Refused::NoQuorum { signed, all });
    let text = refused.to_string();
    assert!(
        text.contains("0.000000000000000007 OPEN of stake signed"),
        "{text}"
    );
    // An argument short: none of ours.
    assert!(matches!(Refused::decode(&answer[..67]), Refused::Other(_)));
    assert_eq!(Refused::decode(&[]), Refused::Silent);
    let text = Refused::decode(&Revert::from("paused").abi_encode());
    assert_eq!(text, Refused::Message("paused".into()));
}

#[test]
fn every_refusal_is_a_sentence_with_a_reason() {
    for signature in Refused::SIGNATURES {
        let answer = [&select(signature)[..], &[1; 96]].concat();
        let refused = Refused::decode(&answer);
        let text = refused.to_string();
        assert!(!matches!(refused, Refused::Other(_)), "{signature}");
        assert!(
            text.len() > 40 && !text.ends_with('.'),
            "{signature}: {text}"
        );
        assert!(!text.contains("  "), "{signature}: {text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_some_refusal(at in any::<prop::sample::Index>(), known in any::<bool>(), rest in vec(any::<u8>(), 0..200)) {
        let selector = select(Refused::SIGNATURES[at.index(Refused::SIGNATURES.len())]);
        let answer = match known {
            true => [&selector[..], &rest].concat(),
            false => rest,
        };
        let text = Refused::decode(&answer).to_string();
        prop_assert!(!text.is_empty() && text.len() < 1000);
    }
}
