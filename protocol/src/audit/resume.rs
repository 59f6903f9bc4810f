//! An audit that is taken up where an earlier one stopped, so that one new round costs one round.
//!
//! The earlier audit found that the first rounds hold. What it worked out on the way follows again from the
//! certificates without a signature or an update: each value leads to the next [`state::follow`]ed head, and the last of
//! them names the adapter that the next round builds on. So nothing of an audit in progress has to be kept but how far
//! it came, and a caller that is wrong about that is not caught here: it has to know that the records are the same.

use std::sync::Arc;

use super::{Audited, Fault, Lookup, Replay};
use crate::certificate::Certificate;
use crate::id::{NetworkId, Round};
use crate::logset::LogSet;
use crate::manifest::Manifest;
use crate::round::RoundValue;
use crate::state::{self, Derived};

/// What an earlier audit of the same run, over records that are all still here, found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Rounds from the genesis on.
    pub rounds: usize,
    /// Rounds among them whose adapter was not recomputed.
    pub unchecked: Vec<Round>,
    /// Whether their adapters are recomputed nevertheless, for a caller that wants to look at them. Quorums are not
    /// verified again.
    pub is_visited: bool,
}

/// Audits what came after an earlier audit. `log` holds verified blocks only, `blocks` of them, and `certificates` is
/// the chain, one a round; nothing contradicts it. `blob` and `visit` are as for [`super::audit`]; rounds that are
/// taken over are not visited.
///
/// # Errors
/// The first [`Fault`].
pub fn resume(
    network: NetworkId,
    manifest: &Manifest,
    (log, blocks): (&LogSet, usize),
    certificates: &[Certificate],
    earlier: &Earlier,
    blob: &mut dyn FnMut(&crate::id::BlobHash) -> Option<Vec<u8>>,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, Fault> {
    let manifest = Arc::new(manifest.clone());
    let mut replay = Replay::new(network, manifest.run_id(), manifest, log);
    let (known, new) = certificates.split_at(earlier.rounds.min(certificates.len()));
    for certificate in known {
        match earlier.is_visited {
            true => replay.go_on(certificate.clone(), blob, visit)?,
            false => replay.take_over(certificate)?,
        }
    }
    if !earlier.is_visited && !known.is_empty() {
        replay.unchecked.clone_from(&earlier.unchecked);
        replay.adapter = replay.stored_adapter(blob as Lookup<'_>)?;
    }
    for certificate in new {
        replay.verify(certificate)?;
        replay.go_on(certificate.clone(), blob, visit)?;
    }
    replay.finish(blocks)
}

impl Replay<'_> {
    /// One round on, of which an earlier audit found that it holds.
    fn take_over(&mut self, certificate: &Certificate) -> Result<(), Fault> {
        let value = &certificate.value;
        let after = state::follow(&self.manifest, self.run, self.head.as_ref(), value);
        let fault = |why| Fault::of_round(Some(value.round), why);
        self.head = Some(after.map_err(fault)?);
        self.values.push(value.clone());
        Ok(())
    }
}
