//! What must hold of an archive, run by run, round by round.

use std::collections::BTreeMap;

use tributary_attribution::run_books::Settled;
use tributary_protocol::audit::{
    self, Audited, Contradiction, Earlier, StoredBlock, StoredCertificate,
};
use tributary_protocol::id::{BlobHash, NetworkId, PeerId, Round, StateHash};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::Derived;

use crate::account::RunAccount;
use crate::archive::{Archive, ArchivedRun};
use crate::mark::Outcome;
use crate::report::{Fault, Report, RunReport};

/// Checks every run of `archive` into `report`.
pub fn archive(archive: &Archive, report: &mut Report) {
    report.faults.extend(archive.faults.iter().cloned());
    for run in &archive.runs {
        let blocks = run.blocks.len() + run.unsigned.len();
        let nothing = run.certificates.is_empty() && blocks <= 1;
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
    for run in &archive.forgotten {
        match left_over(run) {
            Ok(found) => report.runs.push(found),
            Err(fault) => report.faults.push(fault.in_run(run.id)),
        }
        report.notes.push(format!(
            "run {}: removed from this disk; the {} blocks that this peer signed in it are kept, so that it never signs \
             another history",
            run.id.short(),
            run.blocks.len()
        ));
    }
}

/// What is kept of a run that was removed: logs without a gap, each block signed, and nothing else.
fn left_over(run: &ArchivedRun) -> Result<RunReport, Fault> {
    if !run.unsigned.is_empty() {
        let why = format!(
            "{} blocks do not have the signature of their author",
            run.unsigned.len()
        );
        return Err(Fault::of(why));
    }
    if run.log.waiting() > 0 {
        let why = format!("{} blocks lack the one before them", run.log.waiting());
        return Err(Fault::of(why));
    }
    if !run.certificates.is_empty() {
        return Err(Fault::of("it was removed, and certificates of it are here"));
    }
    let blocks = run.blocks.len() as u32;
    Ok(RunReport {
        run: run.id.to_string(),
        blocks,
        signatures: blocks,
        ..RunReport::default()
    })
}

/// The protocol's audit of one run; `visit` sees every round. An archive remembers that a run holds. What a mark says
/// that it was verified is only recomputed.
///
/// # Errors
/// The first fault.
pub fn audited(
    archive: &Archive,
    run: &ArchivedRun,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, Fault> {
    let visited = run.earlier.as_ref().map(|earlier| Earlier {
        is_visited: true,
        ..earlier.clone()
    });
    looked_at(archive, run, visited.as_ref(), visit)
}

/// As [`audited`], for a run that went on since it was marked: only what is new is checked. Other runs are left as
/// they are.
///
/// # Errors
/// The first fault.
pub(crate) fn caught_up(archive: &Archive, run: &ArchivedRun) -> Result<(), Fault> {
    let earlier = run.earlier.as_ref().filter(|earlier| {
        let last = earlier.rounds.checked_sub(1);
        let last = last.and_then(|last| run.certificates.get(last));
        // The next round builds on this adapter.
        last.is_some_and(|c| matches!(archive.blob(c.value.adapter.hash), Ok(Some(_))))
    });
    match earlier {
        Some(_) if run.checked.get().is_none() => {
            looked_at(archive, run, earlier, &mut |_, _| ()).map(drop)
        }
        _ => Ok(()),
    }
}

fn looked_at(
    archive: &Archive,
    run: &ArchivedRun,
    earlier: Option<&Earlier>,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, Fault> {
    // A blob whose content has changed is reported with the files; here it is missing.
    let mut blob = |hash: &BlobHash| archive.blob(*hash).ok().flatten();
    let found = match (earlier, &run.manifest) {
        (Some(earlier), Some(manifest)) => audit::resume(
            archive.network,
            manifest,
            (&run.log, run.blocks.len()),
            &run.certificates,
            earlier,
            &mut blob,
            visit,
        ),
        _ => in_full(archive.network, run, &mut blob, visit),
    };
    let audited = found.map_err(|fault| Fault {
        author: fault.author.map(|author| author.to_string()),
        sequence: fault.seq.map(|seq| seq.0),
        round: fault.round.map(|round| round.0),
        ..Fault::of(fault.reason)
    })?;
    if let (outcome, Ok(())) = outcome(archive, run, &audited) {
        // What was found before of the same bytes is the same.
        let _ = run.checked.set(outcome);
    }
    Ok(audited)
}

/// From the genesis, trusting nobody.
fn in_full(
    network: NetworkId,
    run: &ArchivedRun,
    blob: &mut dyn FnMut(&BlobHash) -> Option<Vec<u8>>,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, audit::Fault> {
    let blocks = run.blocks.iter().map(|signed| signed.bytes().to_vec());
    let blocks = blocks.chain(run.unsigned.iter().cloned());
    let blocks = blocks.map(|bytes| StoredBlock { filed: None, bytes });
    let certificates = (run.certificates.iter())
        .chain(&run.contradictions)
        .map(|certificate| StoredCertificate {
            filed: Some(certificate.value.round),
            bytes: certificate.encode(),
        });
    audit::audit(network, run.id, blocks, certificates, blob, visit)
}

/// Checks one run into `report`, unless that was done before.
fn run(archive: &Archive, run: &ArchivedRun, report: &mut Report) -> Result<(), Fault> {
    caught_up(archive, run)?;
    let (found, verdict) = match run.checked.get() {
        Some(found) => (found.clone(), Ok(())),
        None => {
            let audited = audited(archive, run, &mut |_, _| ())?;
            outcome(archive, run, &audited)
        }
    };
    report.notes.extend(found.notes);
    report.findings.extend(found.findings);
    verdict.map(|()| report.runs.push(found.report))
}

/// What an audit says of a run, and whether its books and its last adapter hold as well.
fn outcome(
    archive: &Archive,
    run: &ArchivedRun,
    audited: &Audited,
) -> (Outcome, Result<(), Fault>) {
    let manifest = &audited.manifest;
    let trains = |round: &Round| round.0 >= 1 && *round < manifest.closing_round();
    let unchecked = audited.unchecked.iter();
    let unchecked = unchecked.filter(|round| trains(round)).count();
    let mut notes = Vec::new();
    if unchecked > 0 {
        notes.push(format!(
            "run {}: the updates of {unchecked} rounds are not here, so that their aggregates stand on \
             their certificates alone",
            run.id.short()
        ));
    }
    for author in &audited.equivocators {
        notes.push(format!(
            "run {}: {} said two different things at one place; the proof is kept and nothing it said \
             from there on counts",
            run.id.short(),
            author.short()
        ));
    }
    let trained = audited.values.iter();
    let trained = trained.filter(|value| trains(&value.round)).count();
    let certificates = run.certificates.iter().chain(&run.contradictions);
    let precommits: usize = certificates.map(|c| c.precommits.len()).sum();
    let accounts = accounts(run, manifest);
    let report = RunReport {
        home: String::new(),
        run: run.id.to_string(),
        rounds: audited.values.len() as u32,
        trained: trained as u32,
        blocks: audited.blocks as u32,
        signatures: (audited.blocks + precommits) as u32,
        aggregates: (trained - unchecked) as u32,
        accounts: accounts.as_ref().map_or(0, |(count, _)| *count),
        state: trained_state(audited).to_string(),
    };
    let found = Outcome {
        report,
        notes,
        findings: (findings(run, audited).into_iter())
            .chain(
                accounts
                    .iter()
                    .flat_map(|(_, dissent)| dissent.iter().cloned()),
            )
            .collect(),
        unchecked: audited.unchecked.iter().map(|round| round.0).collect(),
    };
    let adapter = audited.head.adapter.hash;
    if audited.is_finished() && !matches!(archive.blob(adapter), Ok(Some(_))) {
        let why = format!(
            "the certified adapter {} is missing or damaged",
            adapter.short()
        );
        return (found, Err(Fault::of(why).at(audited.head.round)));
    }
    (found, accounts.map(|_| ()).map_err(Fault::of))
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

/// What the run's training came to: epochs behind the closing change nothing of it, and homes may have seen more or
/// fewer of them.
fn trained_state(audited: &Audited) -> StateHash {
    let closing = audited.manifest.closing_round().0 as usize;
    let closed = audited.values.get(closing).map(|value| value.state);
    closed.unwrap_or(audited.head.hash)
}

/// Folds the certified scores into balances; they must sum to zero.
///
/// Members that signed another root are findings: a single liar must not make every honest home unverifiable.
fn accounts(run: &ArchivedRun, manifest: &Manifest) -> Result<(u32, Vec<Fault>), String> {
    let account = RunAccount {
        manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    let kept = account.run_books().map_err(|e| format!("credits: {e}"))?;
    let books = kept.books();
    let total = books.total().map_err(|e| format!("balances: {e}"))?;
    if total.0 != 0 {
        return Err(format!(
            "balances sum to {} micro-OPEN and not to zero",
            total.0
        ));
    }
    if !kept.is_conserved() {
        return Err("what is deposited, earned and paid does not add up on the run's chain".into());
    }
    let mut dissent: BTreeMap<PeerId, Round> = BTreeMap::new();
    for (height, peer) in kept.settled().into_iter().flat_map(Settled::dissent) {
        dissent.entry(peer).or_insert(height);
    }
    let finding = |(peer, height): (PeerId, Round)| {
        let reason =
            format!("{peer} signed another root of the run's books than its records lead to");
        Fault::of(reason).in_run(run.id).at(height)
    };
    let wrong = kept.settled().into_iter().flat_map(Settled::wrong_anchors);
    let wrong = wrong.map(|height| {
        let reason = "the anchor says something else of the test chain than its records lead to; stakes count as it says";
        Fault::of(reason.to_owned()).in_run(run.id).at(*height)
    });
    let findings = dissent.into_iter().map(finding).chain(wrong).collect();
    Ok((books.balances_of(run.id).count() as u32, findings))
}
