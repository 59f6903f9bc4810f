//! Trees of statement lines.

use serde_json::{Value, json};
use tributary_attribution::settlement::{Keccak, LineProof, Lines, Sibling};

use super::{bytes, hexadecimal, read, word};

fn read_lines(case: &Value) -> Vec<Vec<u8>> {
    let lines = case["lines"].as_array().expect("a list");
    lines.iter().map(bytes).collect()
}

/// Everything that follows from lines: the root, and a proof of each.
pub(crate) fn remake(case: &Value) -> Value {
    let lines = read_lines(case);
    let tree = Lines::build(lines.iter().map(Vec::as_slice));
    let proofs = lines.iter().enumerate().map(|(at, line)| {
        let proof = tree.prove(at).expect("a line");
        let sibling = |one: &Sibling| json!({ "hash": one.hash.to_string(), "left": one.is_left });
        json!({
            "leaf": Keccak::of(&[&[2], line]).to_string(),
            "siblings": proof.siblings.iter().map(sibling).collect::<Vec<_>>(),
        })
    });
    json!({ "root": tree.root().to_string(), "proofs": proofs.collect::<Vec<_>>() })
}

/// Whether every proof of the file leads to the file's root.
pub(crate) fn accepts(case: &Value) -> bool {
    let sibling = |one: &Value| Sibling {
        hash: read(&one["hash"]),
        is_left: one["left"].as_bool().expect("a side"),
    };
    let proofs = case["proofs"].as_array().expect("a list");
    let lines = read_lines(case);
    assert_eq!(lines.len(), proofs.len());
    let root = read(&case["root"]);
    lines.iter().zip(proofs).all(|(line, proof)| {
        let siblings = proof["siblings"].as_array().expect("a list");
        let siblings = siblings.iter().map(sibling).collect();
        LineProof { siblings }.check(line, &root).is_ok()
    })
}

pub(crate) fn inputs() -> Vec<Value> {
    [0, 1, 2, 4, 7, 13].map(input).to_vec()
}

fn input(count: usize) -> Value {
    // Lines of 0, 32, 64 and more bytes.
    let line = |at: usize| hexadecimal(&word("line").0.repeat(at));
    json!({ "lines": (0..count).map(line).collect::<Vec<_>>() })
}
