//! Trees of balances.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tributary_attribution::settlement::{Address, BalanceProof, Balances, BaseUnits, SumNode};

use super::{place, read, units};

fn accounts(case: &Value) -> BTreeMap<Address, BaseUnits> {
    let accounts = case["accounts"].as_array().expect("a list").iter();
    (accounts.map(|one| (read(&one["address"]), units(&one["balance"])))).collect()
}

/// Everything that follows from accounts: the root, the total, and a proof of every leaf, those at both ends included.
pub(crate) fn remake(case: &Value) -> Value {
    let accounts = accounts(case);
    let tree = Balances::build(&accounts).expect("a tree");
    let ends = [Address::ZERO, Address::LAST];
    let mut leaves: Vec<Address> = accounts.keys().copied().chain(ends).collect();
    leaves.sort();
    let proofs = leaves.iter().map(|leaf| {
        let proof = tree.prove(leaf).expect("a leaf");
        let hash = SumNode::leaf(leaf, proof.balance).hash;
        let sibling = |node: &SumNode| json!({ "hash": node.hash.to_string(), "sum": node.sum.0.to_string() });
        json!({
            "index": proof.index,
            "address": leaf.to_string(),
            "balance": proof.balance.0.to_string(),
            "leaf": hash.to_string(),
            "siblings": proof.siblings.iter().map(sibling).collect::<Vec<_>>(),
        })
    });
    json!({
        "root": tree.root().hash.to_string(),
        "total": tree.root().sum.0.to_string(),
        "proofs": proofs.collect::<Vec<_>>(),
    })
}

/// Whether every proof of the file leads to the file's root.
pub(crate) fn accepts(case: &Value) -> bool {
    let sibling = |node: &Value| SumNode {
        hash: read(&node["hash"]),
        sum: units(&node["sum"]),
    };
    let proofs = case["proofs"].as_array().expect("a list").iter();
    let mut proofs = proofs.map(|proof| BalanceProof {
        address: read(&proof["address"]),
        balance: units(&proof["balance"]),
        index: (proof["index"].as_u64())
            .and_then(|at| at.try_into().ok())
            .expect("an index"),
        siblings: (proof["siblings"].as_array().expect("a list").iter())
            .map(sibling)
            .collect(),
    });
    let (root, total) = (read(&case["root"]), units(&case["total"]));
    proofs.all(|proof| proof.check(&root, total).is_ok())
}

pub(crate) fn inputs() -> Vec<Value> {
    [0, 1, 2, 5, 14].map(input).to_vec()
}

fn input(count: u128) -> Value {
    let accounts = (0..count).map(|at| {
        let balance = u128::MAX / (count * count + 1) * at;
        json!({
            "address": place(&format!("account {count} {at}")).to_string(),
            "balance": balance.to_string(),
        })
    });
    json!({ "accounts": accounts.collect::<Vec<_>>() })
}
