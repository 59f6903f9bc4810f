//! A payout with everything that proves it, for whoever has nothing but that: line, path, root, signatures and stakes.

use data_encoding::HEXLOWER;
use tributary_attribution::run_books::{Capacity, StatementLine};
use tributary_attribution::settlement::{Bundle, BundleError, Subject};
use tributary_protocol::id::PeerId;

use crate::Remedy;
use crate::account::RunAccount;
use crate::archive::Archive;
use crate::explain::{ExplainError, find};
use crate::view::{CheckedProof, ProofView};

/// Names the format of a proof and what its fields mean.
const SCHEMA: &str = "ledger-proof/1";

/// Proves what the receipt that `wanted` names was paid.
///
/// # Errors
/// [`ExplainError`]: no such receipt, or nothing that was signed yet.
pub fn prove(archive: &Archive, me: PeerId, wanted: &str) -> Result<ProofView, ExplainError> {
    let found = find::receipt(archive, me, wanted)?;
    let manifest = found.run.manifest.as_ref();
    let manifest = manifest.ok_or(ExplainError::NoManifest)?;
    let account = RunAccount {
        manifest,
        chain: &found.run.certificates,
        log: &found.run.log,
    };
    let books = account.run_books()?;
    let round = found.receipt.round;
    let proven = books.prove(&found.peer(), round, Capacity::Contributor);
    let (line, bundle) = proven.map_err(ExplainError::Unproven)?;
    Ok(ProofView {
        schema: SCHEMA.to_owned(),
        run: found.run.id.to_string(),
        peer: line.peer.to_string(),
        round: line.round.0,
        micro_open: u64::try_from(line.amount.0).unwrap_or(u64::MAX),
        account: line.account.to_string(),
        height: bundle.root.height,
        bundle: HEXLOWER.encode(&bundle.encode()),
    })
}

/// Why a proof does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ProofFault {
    /// Not hexadecimal.
    #[error("the bundle of the proof is not hexadecimal; ask for the proof again")]
    Digits,
    /// The bundle proves nothing.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It proves something else.
    #[error("the proof is of no payout; ask for what `tributary ledger proof` writes")]
    NoLine,
    /// What the proof says in words is not what its bytes say.
    #[error(
        "the proof says {said} where its bytes say {proven}; believe the bytes, or ask for the proof again"
    )]
    Words {
        /// In words.
        said: String,
        /// In bytes.
        proven: String,
    },
}

impl Remedy for ProofFault {
    fn is_wrong(&self) -> bool {
        true
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// Checks a proof by its own bytes, without any home.
///
/// # Errors
/// [`ProofFault`].
pub fn check(proof: &ProofView) -> Result<CheckedProof, ProofFault> {
    let bytes = HEXLOWER
        .decode(proof.bundle.as_bytes())
        .map_err(|_| ProofFault::Digits)?;
    let bundle = Bundle::decode(&bytes)?;
    let checked = bundle.check()?;
    let Subject::Line { bytes: line, .. } = &bundle.subject else {
        return Err(ProofFault::NoLine);
    };
    let line = StatementLine::decode(line).map_err(|_| ProofFault::NoLine)?;
    let (run, micro_open) = (
        bundle.terms.run,
        u64::try_from(line.amount.0).unwrap_or(u64::MAX),
    );
    let words = |run: &str, peer: &str, round: u32, micro: u64, account: &str, height: u64| {
        format!(
            "{micro} micro-OPEN to {account} for round {round} of {peer} in run {run}, height {height}"
        )
    };
    let (peer, account) = (line.peer.to_string(), line.account.to_string());
    let height = bundle.root.height;
    let proven = words(
        &run.to_string(),
        &peer,
        line.round.0,
        micro_open,
        &account,
        height,
    );
    let said = words(
        &proof.run,
        &proof.peer,
        proof.round,
        proof.micro_open,
        &proof.account,
        proof.height,
    );
    if said != proven {
        return Err(ProofFault::Words { said, proven });
    }
    Ok(CheckedProof {
        run: run.to_string(),
        peer,
        round: line.round.0,
        micro_open,
        account,
        height,
        chain: bundle.deployment.chain.to_string(),
        contract: bundle.deployment.contract.to_string(),
        root: bundle.root.digest(&bundle.deployment).to_string(),
        signers: checked.signers.iter().map(ToString::to_string).collect(),
        signed_open: checked.signed.to_string(),
        staked_open: checked.staked.to_string(),
        bytes: bytes.len() as u64,
    })
}

#[cfg(test)]
mod tests;
