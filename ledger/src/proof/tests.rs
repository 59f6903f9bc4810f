//! Proofs of hand-made runs whose members sign roots, and what becomes of a home where most of them sign another.

use tributary_attribution::run_books::{Filer, RunBooks};
use tributary_attribution::settlement::calls::Token;
use tributary_attribution::settlement::{BaseUnits, Keccak};
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{EvmAddress, EvmSignature, RootSignature, Transaction};
use tributary_protocol::hash::Digest;
use tributary_protocol::state::Selection;

use super::*;
use crate::audit;
use crate::fixture::{RunBuilder, account, finished, id};
use crate::{Fault, Report};

const MEMBERS: usize = 4;

fn books(made: &RunBuilder) -> RunBooks {
    let archive = made.archive();
    let run = &archive.runs[0];
    let account = RunAccount {
        manifest: &made.manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    account.run_books().expect("a good run")
}

/// What members file at a height, each bent by what `bend` makes of it.
fn filings(made: &mut RunBuilder, bend: impl Fn(usize, Entry) -> Entry) -> Selection {
    let books = books(made);
    let mut selection = Selection::default();
    for who in 0..MEMBERS {
        let (peer, key) = (id(who), &account(who));
        for filing in books.duties(&made.manifest, Filer::new(peer, key), &[]) {
            selection.filings.push(made.say(who, bend(who, filing)));
        }
    }
    selection
}

/// A run of all members from its deposit to the height after its closing.
fn settled(bend: impl Fn(usize, Entry) -> Entry) -> RunBuilder {
    let mut made = RunBuilder::opened(MEMBERS, 5);
    for round in 1..=6 {
        let mut selection = filings(&mut made, &bend);
        if round > 1 {
            selection.sheets = [1, 2, 3].map(|who| made.judge(who)).into();
        }
        if round < 6 {
            selection.included = (0..MEMBERS).map(|who| made.contribute(who)).collect();
        }
        made.certify(selection);
    }
    let selection = filings(&mut made, &bend);
    made.certify(selection);
    made
}

fn checked(made: &RunBuilder) -> Report {
    let mut report = Report::default();
    audit::archive(&made.archive(), &mut report);
    report
}

fn words(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// The round's root as a liar signs it: another digest, by its own key.
fn other_root(who: usize, filing: Entry) -> Entry {
    let Entry::RootSignature(honest) = filing else {
        return filing;
    };
    let mut digest = *honest.root.as_bytes();
    digest[0] ^= 1;
    Entry::RootSignature(RootSignature {
        root: Digest::from_bytes(digest),
        signature: EvmSignature(*account(who).sign(&Keccak(digest)).as_bytes()),
        ..honest
    })
}

#[test]
fn a_payout_is_proven_by_what_members_signed_and_checked_without_a_home() {
    let made = settled(|_, filing| filing);
    let archive = made.archive();
    let report = checked(&made);
    assert_eq!(words(&report.faults), Vec::<String>::new());
    assert_eq!(words(&report.findings), Vec::<String>::new());
    let wanted = format!("{}/3/{}", made.run(), id(3));
    let proof = prove(&archive, id(0), &wanted).expect("signed");
    assert!(
        proof.bundle.len() / 2 <= 6 * 1024,
        "{}",
        proof.bundle.len() / 2
    );
    let checked = check(&proof).expect("proven");
    assert_eq!((checked.peer, checked.round), (id(3).to_string(), 3));
    assert_eq!(checked.account, account(3).address().to_string());
    assert!(checked.micro_open > 0 && checked.signers.len() == MEMBERS);

    let mut more = proof.clone();
    more.micro_open += 1;
    assert!(matches!(check(&more), Err(ProofFault::Words { .. })));
    let mut cut = proof;
    cut.bundle.truncate(cut.bundle.len() - 2);
    assert!(matches!(check(&cut), Err(ProofFault::Bundle(_))));
}

/// Members that send the contract more than it asks for, as anybody can.
fn with_a_gift(who: usize, filing: Entry) -> Entry {
    match filing {
        Entry::Transaction(call) if who == 3 && call.data.len() > 100 => {
            let deployed = TestChain::deployed();
            let gift = Token(deployed.token).transfer(deployed.settlement, BaseUnits(1));
            Entry::Transaction(Transaction {
                to: EvmAddress(gift.to.0),
                data: gift.data,
            })
        }
        other => other,
    }
}

#[test]
fn members_that_sign_another_root_are_findings_and_no_fault_of_who_keeps_the_books() {
    for liars in [1, 3] {
        let made = settled(|who, filing| match who < liars {
            true => other_root(who, filing),
            false => filing,
        });
        let report = checked(&made);
        assert_eq!(words(&report.faults), Vec::<String>::new());
        assert_eq!(
            report.findings.len(),
            liars,
            "{:?}",
            words(&report.findings)
        );
        assert!(words(&report.findings)[0].contains("signed another root"));
    }
}

#[test]
fn what_anybody_sends_to_the_contract_breaks_no_books() {
    let report = checked(&settled(with_a_gift));
    assert_eq!(words(&report.faults), Vec::<String>::new());
}

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
