//! What must hold of an archive, run by run, round by round.

use tributary_protocol::audit::{self, Audited, Contradiction, StoredBlock, StoredCertificate};
use tributary_protocol::id::{BlobHash, PeerId, Round};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::Derived;

use crate::archive::{Archive, ArchivedRun};
use crate::book::Book;
use crate::report::{Fault, Report, RunReport};

/// Checks every run of `archive` into `report`.
pub fn archive(archive: &Archive, report: &mut Report) {
    report.faults.extend(archive.faults.iter().cloned());
    for run in &archive.runs {
        let nothing = run.certificates.is_empty() && run.blocks.len() <= 1;
        if nothing && run.manifest.is_none() {
            let note = format!(
                "run {}: followed, nothing of it has arrived",
                run.id.short()
            );
            report.notes.push(note);
        } else if run.certificates.is_empty() && run.manifest.is_some() {
            let note = format!("run {}: nothing is certified yet", run.id.short());
            report.notes.push(note);
        } else if let Err(fault) = self::run(archive, run, report) {
            report.faults.push(fault.in_run(run.id));
        }
    }
}

/// The protocol's audit of one run; `visit` sees every round.
///
/// # Errors
/// The first fault.
pub fn audited(
    archive: &Archive,
    run: &ArchivedRun,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, Fault> {
    let blocks = run.blocks.iter().map(|bytes| StoredBlock {
        filed: None,
        bytes: bytes.clone(),
    });
    let certificates = (run.certificates.iter())
        .chain(&run.contradictions)
        .map(|certificate| StoredCertificate {
            filed: Some(certificate.value.round),
            bytes: certificate.encode(),
        });
    // A blob whose content has changed is reported with the files; here it is missing.
    let mut blob = |hash: &BlobHash| archive.blob(*hash).ok().flatten();
    audit::audit(
        archive.network,
        run.id,
        blocks,
        certificates,
        &mut blob,
        visit,
    )
    .map_err(|fault| Fault {
        author: fault.author.map(|author| author.to_string()),
        sequence: fault.seq.map(|seq| seq.0),
        round: fault.round.map(|round| round.0),
        ..Fault::of(fault.reason)
    })
}

fn run(archive: &Archive, run: &ArchivedRun, report: &mut Report) -> Result<(), Fault> {
    let audited = audited(archive, run, &mut |_, _| ())?;
    let manifest = &audited.manifest;
    let trains = |round: &Round| round.0 >= 1 && *round < manifest.closing_round();
    let unchecked = audited
        .unchecked
        .iter()
        .filter(|round| trains(round))
        .count();
    if unchecked > 0 {
        report.notes.push(format!(
            "run {}: the updates of {unchecked} rounds are not here, so that their aggregates stand on \
             their certificates alone",
            run.id.short()
        ));
    }
    for author in &audited.equivocators {
        report.notes.push(format!(
            "run {}: {} said two different things at one place; the proof is kept and nothing it said \
             from there on counts",
            run.id.short(),
            author.short()
        ));
    }
    report.findings.extend(findings(run, &audited));
    let trained = audited
        .values
        .iter()
        .filter(|value| trains(&value.round))
        .count();
    let certificates = run.certificates.iter().chain(&run.contradictions);
    let precommits: usize = certificates.map(|c| c.precommits.len()).sum();
    let adapter = audited.head.adapter.hash;
    if audited.is_finished() && !matches!(archive.blob(adapter), Ok(Some(_))) {
        let why = format!(
            "the certified adapter {} is missing or damaged",
            adapter.short()
        );
        return Err(Fault::of(why).at(audited.head.round));
    }
    report.runs.push(RunReport {
        home: String::new(),
        run: run.id.to_string(),
        rounds: audited.values.len() as u32,
        trained: trained as u32,
        blocks: audited.blocks as u32,
        signatures: (audited.blocks + precommits) as u32,
        aggregates: (trained - unchecked) as u32,
        accounts: accounts(run, manifest).map_err(Fault::of)?,
        state: audited.head.hash.to_string(),
    });
    Ok(())
}

/// What the home proves against others.
fn findings(run: &ArchivedRun, audited: &Audited) -> Vec<Fault> {
    let finding = |contradiction: &Contradiction| {
        let signers = contradiction.signers.iter().map(PeerId::to_string);
        let signers: Vec<String> = signers.collect();
        let reason = format!(
            "certified twice, with different values; {} signed both; what was certified first stands",
            signers.join(", ")
        );
        Fault::of(reason).in_run(run.id).at(contradiction.round)
    };
    audited.contradictions.iter().map(finding).collect()
}

/// Folds the certified scores into balances; they must sum to zero.
fn accounts(run: &ArchivedRun, manifest: &Manifest) -> Result<u32, String> {
    let book = Book {
        manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    let books = book.books().map_err(|e| format!("credits: {e}"))?;
    let total = books.total().map_err(|e| format!("balances: {e}"))?;
    if total.0 != 0 {
        return Err(format!(
            "balances sum to {} micro-OPEN and not to zero",
            total.0
        ));
    }
    Ok(books.balances_of(run.id).count() as u32)
}
