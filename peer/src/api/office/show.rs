//! A run as it is shown.

use tributary_ledger::Volume;
use tributary_protocol::id::PeerId;
use tributary_protocol::manifest::Manifest;

use super::{HostError, failed};
use crate::standing::Standing;
use crate::view::{RunBrief, RunView, phase_words};

const WITHOUT_OWN_TEXT: &str = "without weight: others committed to all of this shard's text before; \
    leave, add text of your own and join again";

/// A run in a few words.
pub(super) fn brief_of(run: &Standing) -> RunBrief {
    let manifest = run.manifest.as_deref();
    let of = |f: fn(&Manifest) -> String| manifest.map(f).unwrap_or_default();
    let phase = match run.phase {
        _ if run.is_finished => "finished".to_owned(),
        Some(_) if run.lacks_own_text => WITHOUT_OWN_TEXT.to_owned(),
        Some(phase) => {
            let (word, waits) = phase_words(phase);
            format!("{word}: {waits}")
        }
        None if run.declined.is_some() => {
            "declined: it asks for more than this peer gives".to_owned()
        }
        None => "waiting for its manifest".to_owned(),
    };
    RunBrief {
        run: run.run.to_string(),
        name: of(|m| m.name.clone()),
        datanet: of(|m| m.datanet.clone()),
        base: of(|m| m.base.name.clone()),
        certified: run.certified.map(|round| round.0),
        rounds: manifest.map_or(0, |m| m.rounds),
        phase,
        members: run.members,
        finished: run.is_finished,
    }
}

/// Everything about a run.
pub(super) fn view_of(run: &Standing, volume: &Volume) -> Result<RunView, HostError> {
    let manifest = volume.manifest();
    Ok(RunView {
        brief: brief_of(run),
        creator: manifest.creator.to_string(),
        evaluators: manifest.evaluators.iter().map(PeerId::to_string).collect(),
        budget_micro_open: u64::try_from(manifest.budget_per_round.0).unwrap_or(u64::MAX),
        price_per_nat_micro_open: u64::try_from(manifest.price_per_nat.0).unwrap_or(u64::MAX),
        roster: volume.members(),
        history: volume.rounds(),
        credits: volume.credits().map_err(failed)?,
        adapter: volume.adapter(run.has_adapter),
    })
}
