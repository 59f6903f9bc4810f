//! What a daemon streams: one event as a program reads it.

use serde::{Deserialize, Serialize};
use tributary_protocol::event::Notice;
use utoipa::ToSchema;

use super::RunPhase;
use crate::event::Event;

/// Something that happened on a peer; `kind` says what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventView {
    /// A run is known and followed.
    Following {
        /// The run.
        run: String,
    },
    /// A phase of a round began. A stream begins with the phase of each run that it tells of.
    Phase {
        /// The run.
        run: String,
        /// The round.
        round: u32,
        /// The phase.
        phase: RunPhase,
    },
    /// Local training advances.
    Training {
        /// The run.
        run: String,
        /// The round.
        round: u32,
        /// Steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
        /// Loss of the last batch, nats a token.
        loss: f64,
        /// Tokens trained on so far.
        tokens: u64,
    },
    /// An update arrived or was made here.
    Contributed {
        /// The run.
        run: String,
        /// The round.
        round: u32,
        /// Whose.
        peer: String,
        /// Updates that are here.
        arrived: u32,
        /// Updates expected.
        expected: u32,
    },
    /// A round is certified and its state derived here.
    Certified {
        /// The run.
        run: String,
        /// The round.
        round: u32,
        /// The state.
        state: String,
        /// Contributions included.
        included: u32,
        /// Milliseconds from the certificate before, by the local clock.
        took_ms: u64,
    },
    /// The closing height is certified.
    Finished {
        /// The run.
        run: String,
    },
    /// A message of another peer was refused.
    Refused {
        /// Who handed it on.
        peer: String,
        /// The stable code of the refusal; `docs/protocol.md` lists them.
        code: u16,
        /// Why, in words.
        why: String,
    },
    /// A peer signed two different things at one place.
    Equivocation {
        /// The run.
        run: String,
        /// Who.
        peer: String,
    },
    /// A certified value does not follow from what this peer holds.
    Refuted {
        /// The run.
        run: String,
        /// The round.
        round: u32,
        /// The stable code of the refusal.
        code: u16,
        /// What does not follow, in words.
        why: String,
    },
    /// A run asks for more than this peer gives.
    Declined {
        /// The run.
        run: String,
        /// What it asks for, and how to give it.
        why: String,
    },
    /// A command, or work for a run, came to nothing.
    Failed {
        /// The run, if it is about one.
        run: Option<String>,
        /// What failed, and why.
        why: String,
    },
    /// This reader was too slow, and events are lost to it.
    Missed {
        /// How many.
        events: u64,
    },
}

impl EventView {
    /// The event for readers.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Notice(notice) => Self::of_notice(notice),
            Event::Training {
                run,
                round,
                progress,
            } => Self::Training {
                run: run.to_string(),
                round: round.0,
                step: progress.step,
                steps: progress.steps,
                loss: progress.loss,
                tokens: progress.tokens,
            },
        }
    }

    fn of_notice(notice: &Notice) -> Self {
        match notice {
            Notice::Following(run) => Self::Following {
                run: run.to_string(),
            },
            Notice::Phase { run, round, phase } => Self::Phase {
                run: run.to_string(),
                round: round.0,
                phase: (*phase).into(),
            },
            Notice::Contributed {
                run,
                round,
                peer,
                arrived,
                expected,
            } => Self::Contributed {
                run: run.to_string(),
                round: round.0,
                peer: peer.to_string(),
                arrived: *arrived,
                expected: *expected,
            },
            Notice::Certified {
                run,
                round,
                state,
                included,
                took_ms,
            } => Self::Certified {
                run: run.to_string(),
                round: round.0,
                state: state.to_string(),
                included: *included,
                took_ms: *took_ms,
            },
            Notice::Finished(run) => Self::Finished {
                run: run.to_string(),
            },
            Notice::Refused { from, why } => Self::Refused {
                peer: from.to_string(),
                code: why.code(),
                why: why.to_string(),
            },
            Notice::Equivocation { run, author } => Self::Equivocation {
                run: run.to_string(),
                peer: author.to_string(),
            },
            Notice::Refuted { run, round, why } => Self::Refuted {
                run: run.to_string(),
                round: round.0,
                code: why.code(),
                why: why.to_string(),
            },
            Notice::Declined { run, excess } => Self::Declined {
                run: run.to_string(),
                why: crate::settings::declined_words(run, excess),
            },
            Notice::CommandFailed { run, why } => Self::Failed {
                run: run.map(|run| run.to_string()),
                why: why.clone(),
            },
        }
    }

    /// Its name in the stream, the same as `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Following { .. } => "following",
            Self::Phase { .. } => "phase",
            Self::Training { .. } => "training",
            Self::Contributed { .. } => "contributed",
            Self::Certified { .. } => "certified",
            Self::Finished { .. } => "finished",
            Self::Refused { .. } => "refused",
            Self::Equivocation { .. } => "equivocation",
            Self::Refuted { .. } => "refuted",
            Self::Declined { .. } => "declined",
            Self::Failed { .. } => "failed",
            Self::Missed { .. } => "missed",
        }
    }

    /// The run that it is about, if it is about one.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Following { run }
            | Self::Phase { run, .. }
            | Self::Training { run, .. }
            | Self::Contributed { run, .. }
            | Self::Certified { run, .. }
            | Self::Finished { run }
            | Self::Equivocation { run, .. }
            | Self::Refuted { run, .. }
            | Self::Declined { run, .. } => Some(run),
            Self::Failed { run, .. } => run.as_deref(),
            Self::Refused { .. } | Self::Missed { .. } => None,
        }
    }
}
