//! How what the control API answers is put in words for people: phases and events.
//!
//! Programs read [`crate::api::types`]; only what is shown comes from here.

pub(crate) mod tables;

use serde::{Deserialize, Serialize};
use tributary_ledger::view::{SettlementView, short};

use crate::api::types::RunPhase;
use crate::api::types::event::EventView;

/// A shard on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its Datanet.
    pub datanet: String,
    /// Files in it.
    pub files: Vec<String>,
    /// Bytes of text.
    pub bytes: u64,
}

/// Files that were removed from a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RemovedView {
    /// Its Datanet.
    pub datanet: String,
    /// Names of those that are gone.
    pub removed: Vec<String>,
    /// Names of those that are left.
    pub left: Vec<String>,
}

/// Where a run's money lies, in a line.
pub(crate) fn money_line(view: &SettlementView) -> String {
    let open = |micro: u64| tributary_protocol::id::MicroOpen(micro.into()).to_string();
    let chain = match view.chain.as_str() {
        "test" => "test chain, whose OPEN is worth nothing".to_owned(),
        number => format!("chain {number}"),
    };
    if view.deposited_micro_open == 0 && view.fees_micro_open == 0 {
        return format!("unfunded: nothing is deposited ({chain})");
    }
    let fees = match view.fees_micro_open {
        0 => String::new(),
        fees => format!(", {} paid for answers", open(fees)),
    };
    let back = match view.reclaimed_micro_open {
        0 => String::new(),
        back => format!(", {} of it back with the sponsor", open(back)),
    };
    format!(
        "{} OPEN deposited{fees}, {} promised to accounts, of that {} accepted and {} claimed; {} left{back} ({chain})",
        open(view.deposited_micro_open),
        open(view.paid_micro_open),
        open(view.accepted_micro_open),
        open(view.claimed_micro_open),
        open(view.left_micro_open),
    )
}

/// A phase in one word, and what is waited for in it.
pub fn phase_words(phase: RunPhase) -> (&'static str, &'static str) {
    match phase {
        RunPhase::Known => ("known", "a neighbour follows it, this peer does not"),
        RunPhase::AwaitingManifest => ("new", "waiting for its manifest"),
        RunPhase::Declined => ("declined", "it asks for more than this peer gives"),
        RunPhase::WithoutOwnText => (
            "without weight",
            "others committed to all of this shard's text before; leave, add text of your own and join again",
        ),
        RunPhase::Gather => ("gather", "waiting for enough members to join"),
        RunPhase::Train => ("train", "training on this machine's shard"),
        RunPhase::Collect => ("collect", "waiting for the updates of other members"),
        RunPhase::Agree => ("agree", "waiting for the committee's certificate"),
        RunPhase::CatchUp => ("catch up", "fetching what the certified state needs"),
        RunPhase::Stopped => (
            "stopped",
            "a certified value does not follow from the evidence held here; the committee is not to be trusted",
        ),
        RunPhase::Offline => ("offline", "no daemon runs on this home"),
        RunPhase::Finished => ("finished", "nothing more will happen"),
    }
}

/// A phase as tables show it.
pub fn phase_line(phase: RunPhase) -> String {
    match (phase, phase_words(phase)) {
        (RunPhase::Finished, (word, _)) => word.to_owned(),
        (_, (word, waits)) => format!("{word}: {waits}"),
    }
}

/// What the owner hears when a certified value does not follow.
pub fn refuted_words(run: &str, round: u32, why: &str) -> String {
    format!(
        "run {} round {round}: this peer does not follow what the committee certified: {why}; its home keeps the \
         evidence, compare it with other members before you go on",
        short(run)
    )
}

/// An event as a sentence.
pub fn line(event: &EventView) -> String {
    match event {
        EventView::Following { run } => format!("run {} is known and followed", short(run)),
        EventView::Phase { round, phase, .. } => format!("round {round} {}", phase_line(*phase)),
        EventView::Training {
            round,
            step,
            steps,
            loss,
            ..
        } => format!("round {round}: step {step} of {steps}, loss {loss:.4}"),
        EventView::Contributed {
            round,
            peer,
            arrived,
            expected,
            ..
        } => format!(
            "round {round}: update of {} is here, {arrived} of {expected}",
            short(peer)
        ),
        EventView::Certified {
            round,
            state,
            included,
            took_ms,
            ..
        } => format!(
            "round {round} certified: state {}, {included} contributions, {}",
            short(state),
            crate::terminal::output::duration(*took_ms)
        ),
        EventView::Finished { run } => format!("run {} is finished", short(run)),
        EventView::Refuted {
            run, round, why, ..
        } => refuted_words(run, *round, why),
        EventView::Refused { peer, why, .. } => {
            format!("refused a message of {}: {why}", short(peer))
        }
        EventView::Equivocation { peer, .. } => format!(
            "{} said two different things at one place: proof is kept, nothing it says from there on counts",
            short(peer)
        ),
        EventView::Declined { why, .. } | EventView::Failed { why, .. } => why.clone(),
        EventView::Missed { events } => {
            format!("{events} events came too fast and are not shown")
        }
    }
}
