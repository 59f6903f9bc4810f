//! Proofs of a hand-made run: what they need, and what they withstand.

use super::*;
use crate::fixture::{finished, id};

#[test]
fn a_payout_that_nobody_signed_has_no_proof_and_says_why() {
    let (made, _, _) = finished();
    let archive = made.archive();
    let run = made.run().to_string();
    let refused = prove(&archive, id(0), &format!("{run}/1"));
    // It is not beyond luck yet, and members of the fixture sign no roots.
    assert!(
        matches!(refused, Err(ExplainError::Unproven(_))),
        "{refused:?}"
    );
}

#[test]
fn a_proof_whose_bundle_is_none_is_refused() {
    let proof = ProofView {
        bundle: "xyz".to_owned(),
        ..ProofView::default()
    };
    assert!(matches!(check(&proof), Err(ProofFault::Digits)));
    let proof = ProofView {
        bundle: "00".to_owned(),
        ..ProofView::default()
    };
    assert!(matches!(check(&proof), Err(ProofFault::Bundle(_))));
}
