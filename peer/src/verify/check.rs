//! What must hold of an archive, run by run, round by round.

use std::collections::BTreeMap;

use tributary_attribution::fold::Books;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::id::{BlobHash, Round};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::{self, Evidence, Head};

use super::archive::{Archive, ArchivedRun};
use super::{Fault, Report, RunReport};
use crate::cli::NETWORK;
use crate::view::book::Book;

/// Checks every run of `archive` into `report`.
pub(super) fn archive(archive: &Archive, report: &mut Report) {
    report.faults.extend(archive.faults.iter().cloned());
    report.notes.extend(archive.notes.iter().cloned());
    for run in &archive.runs {
        self::run(archive, run, report);
    }
}

fn run(archive: &Archive, run: &ArchivedRun, report: &mut Report) {
    let Some(manifest) = &run.manifest else {
        let note = format!(
            "run {}: followed, nothing of it has arrived",
            run.id.short()
        );
        if run.certificates.is_empty() && run.blocks == 0 {
            report.notes.push(note);
        } else {
            let fault =
                Fault::of("the creator's first block, which carries the manifest, is missing");
            report.faults.push(fault.in_run(run.id));
        }
        return;
    };
    if run.log.waiting() > 0 {
        let why = format!(
            "{} blocks do not link to a block that is here",
            run.log.waiting()
        );
        report.faults.push(Fault::of(why).in_run(run.id));
    }
    if let Err(why) = manifest.check() {
        report
            .faults
            .push(Fault::of(format!("manifest: {why}")).in_run(run.id));
    }
    let mut walk = Walk {
        archive,
        run,
        manifest,
        head: None,
        adapter: None,
        previous: None,
        found: RunReport {
            run: run.id.to_string(),
            blocks: run.blocks,
            signatures: run.blocks,
            ..RunReport::default()
        },
        unchecked: Vec::new(),
    };
    // A fault ends the walk: what follows a round that does not hold means nothing.
    if let Err(fault) = walk.all() {
        report.faults.push(fault.in_run(run.id));
    }
    if !walk.unchecked.is_empty() {
        report.notes.push(format!(
            "run {}: the updates of rounds {:?} are not here, so that their aggregates stand on their \
             certificates alone",
            run.id.short(),
            walk.unchecked
        ));
    }
    let mut found = walk.found;
    match accounts(run, manifest) {
        Ok(count) => found.accounts = count,
        Err(why) => report.faults.push(Fault::of(why).in_run(run.id)),
    }
    report.runs.push(found);
}

/// Folds the certified scores into balances; they must sum to zero.
fn accounts(run: &ArchivedRun, manifest: &Manifest) -> Result<u32, String> {
    let book = Book {
        manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    let books = Books::of(book.facts()).map_err(|e| format!("credits: {e}"))?;
    let total = books.total().map_err(|e| format!("balances: {e}"))?;
    if total.0 != 0 {
        return Err(format!(
            "balances sum to {} micro-OPEN and not to zero",
            total.0
        ));
    }
    Ok(books.balances_of(run.id).count() as u32)
}

/// From the genesis to the last certificate.
struct Walk<'a> {
    archive: &'a Archive,
    run: &'a ArchivedRun,
    manifest: &'a Manifest,
    head: Option<Head>,
    /// The adapter of `head`, while it is known.
    adapter: Option<Adapter>,
    previous: Option<&'a RoundValue>,
    found: RunReport,
    unchecked: Vec<u32>,
}

impl<'a> Walk<'a> {
    fn all(&mut self) -> Result<(), Fault> {
        for certificate in &self.run.certificates {
            let round = certificate.value.round;
            if self.head.as_ref().is_some_and(|head| head.round == round) {
                self.again(certificate).map_err(|f| f.at(round))?;
            } else {
                self.step(certificate).map_err(|f| f.at(round))?;
            }
        }
        self.last_adapter()
    }

    /// Another certificate of the round before: harmless when it certifies the same value.
    fn again(&mut self, certificate: &Certificate) -> Result<(), Fault> {
        if self.previous.map(RoundValue::id) != Some(certificate.value.id()) {
            let signers: Vec<String> = certificate
                .precommits
                .iter()
                .map(|(p, _)| p.short())
                .collect();
            return Err(Fault::of(format!(
                "two certificates with different values; who signed both broke its word. Signers of \
                 the second: {}",
                signers.join(", ")
            )));
        }
        Ok(())
    }

    fn step(&mut self, certificate: &'a Certificate) -> Result<(), Fault> {
        let value = &certificate.value;
        let expected = state::next_round(self.head.as_ref());
        if value.round != expected {
            return Err(Fault::of(format!(
                "the certificate of round {expected} is missing"
            )));
        }
        let committee = state::committee(self.manifest, &self.run.id, self.head.as_ref());
        (certificate.verify(&committee, NETWORK)).map_err(|why| self.blame(certificate, &why))?;
        self.found.signatures += certificate.precommits.len() as u32;
        let head = state::follow(self.manifest, self.run.id, self.head.as_ref(), value)
            .map_err(Fault::of)?;
        for at in ArchivedRun::relied_on(certificate) {
            if self.run.log.entry(&at).is_none() {
                let why = "the certificate relies on an entry that is missing or does not count";
                return Err(Fault::of(why).by(at.author, Some(at.seq)));
            }
        }
        self.derive(value)?;
        self.found.rounds += 1;
        self.found.state = head.hash.to_string();
        if trains(self.manifest, value.round) {
            self.found.trained += 1;
        }
        self.head = Some(head);
        self.previous = Some(value);
        Ok(())
    }

    /// Names the signer whose signature does not verify, when it is one.
    fn blame(
        &self,
        certificate: &Certificate,
        why: &tributary_protocol::reject::Rejection,
    ) -> Fault {
        let fault = Fault::of(format!("certificate: {why}"));
        let seat = |head: Option<&Head>| state::committee(self.manifest, &self.run.id, head);
        let committee = seat(self.head.as_ref());
        let outsider = certificate
            .precommits
            .iter()
            .find(|(p, _)| !committee.contains(p));
        match outsider {
            Some((peer, _)) => fault.by(*peer, None),
            None => fault,
        }
    }

    /// Recomputes the round from its entries and updates.
    fn derive(&mut self, value: &RoundValue) -> Result<(), Fault> {
        let mut blobs: BTreeMap<BlobHash, Vec<u8>> = BTreeMap::new();
        let mut complete = value.round == Round(0) || self.adapter.is_some();
        for included in &value.included {
            let author = included.receipt.author;
            match self.archive.blob(included.update.hash) {
                Ok(Some(bytes)) => {
                    blobs.insert(included.update.hash, bytes);
                }
                Ok(None) => complete = false,
                Err(why) => {
                    return Err(Fault::of(why).by(author, Some(included.receipt.seq)));
                }
            }
        }
        let evidence = Evidence {
            log: &self.run.log,
            before: self.adapter.as_ref(),
            blobs: &blobs,
            judged: self.previous,
        };
        // Entries and final scores are checked whether or not the updates are here.
        let head = self.head.as_ref();
        state::check(self.manifest, head, value, &evidence).map_err(Fault::of)?;
        if complete {
            let derived = state::recompute(self.manifest, value, &evidence).map_err(Fault::of)?;
            if trains(self.manifest, value.round) {
                self.found.aggregates += 1;
            }
            self.adapter = Some(derived.adapter);
        } else {
            if trains(self.manifest, value.round) {
                self.unchecked.push(value.round.0);
            }
            self.adapter = self.stored(value)?;
        }
        Ok(())
    }

    /// The certified adapter as a blob, when it is here.
    fn stored(&self, value: &RoundValue) -> Result<Option<Adapter>, Fault> {
        let Some(bytes) = self.archive.blob(value.adapter.hash).map_err(Fault::of)? else {
            return Ok(None);
        };
        let shape = std::sync::Arc::new(self.manifest.adapter.clone());
        Adapter::from_bytes(shape, &bytes)
            .map(Some)
            .map_err(Fault::of)
    }

    /// The last adapter must be here once the run is closed: it is what the run is for.
    fn last_adapter(&self) -> Result<(), Fault> {
        let closed = self.run.last_round() == Some(self.manifest.closing_round());
        let (true, Some(value)) = (closed, self.previous) else {
            return Ok(());
        };
        if self.stored(value)?.is_none() {
            let why = format!(
                "the certified adapter {} is missing",
                value.adapter.hash.short()
            );
            return Err(Fault::of(why).at(value.round));
        }
        Ok(())
    }
}

fn trains(manifest: &Manifest, round: Round) -> bool {
    round.0 >= 1 && round < manifest.closing_round()
}
