//! What a recorded run leaves behind, as plain data that reports are made of.
//!
//! The history is kept beside the digest and is never part of it: a run is the same whether it is recorded or not.
//! Peers are named by their index in the scenario, times are virtual.

use std::collections::BTreeMap;
use std::fmt;

use tributary_attribution::Outcome;
use tributary_protocol::event::{Notice, Phase};
use tributary_protocol::id::{MicroOpen, NanoNats, PeerId, Ppb};

use crate::clock::Micros;

/// Everything that reports are made of.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Everybody who took part, by index.
    pub participants: Vec<Participant>,
    /// Which participant stands behind each name; a liar may go by several.
    pub index: BTreeMap<PeerId, usize>,
    /// What happened, in order of time.
    pub moments: Vec<Moment>,
    /// Bytes by participant, then by open round: round 0 is open until the genesis is certified.
    pub traffic: Vec<Vec<Bytes>>,
    /// The certified rounds, from the genesis on.
    pub rounds: Vec<RoundFacts>,
    /// The round that is open: one above the highest that some peer knew to be certified.
    open: usize,
}

/// A participant of the run.
#[derive(Clone, Debug)]
pub struct Participant {
    /// Name for people, as in its join.
    pub name: String,
    /// Contributor, evaluator or both, as reports say it.
    pub role: &'static str,
    /// What it does that it should not; empty for the honest.
    pub behaviour: String,
    /// How much longer than an ordinary peer it trains.
    pub slowness: f64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The time.
    pub at: Micros,
    /// To whom; nobody in particular when it concerns all.
    pub peer: Option<usize>,
    /// What happened.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum What {
    /// The process dies.
    Crash {
        /// Syncs under way that became durable.
        kept: usize,
        /// Effects that were lost.
        lost: usize,
    },
    /// The process is back.
    Restart,
    /// The owner asks to take part.
    Invited,
    /// The owner asks to leave.
    Leaving,
    /// The network splits.
    Split {
        /// Which split of the scenario.
        nth: usize,
        /// The smaller side.
        apart: Vec<usize>,
        /// That side goes on hearing the other.
        one_way: bool,
    },
    /// That split is over.
    Heal {
        /// Which split of the scenario.
        nth: usize,
    },
    /// No faults from here on.
    Calm,
    /// The first peer knows a round to be certified.
    FirstCertified(u32),
    /// A node told its owner something.
    Notice(Notice),
    /// A promise was broken.
    Broken(String),
    /// Anything else worth a line.
    Note(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { kept, lost } => write!(
                f,
                "crashes: {kept} unfinished syncs survive, {lost} effects are lost"
            ),
            Self::Restart => f.write_str("restarts"),
            Self::Invited => f.write_str("is asked to take part"),
            Self::Leaving => f.write_str("is asked to leave"),
            Self::Split { apart, one_way, .. } => {
                let way = if *one_way { ", one way" } else { "" };
                write!(f, "the network splits: {} peers apart{way}", apart.len())
            }
            Self::Heal { .. } => f.write_str("the network heals"),
            Self::Calm => f.write_str("faults stop"),
            Self::FirstCertified(round) => write!(f, "round {round} is certified"),
            Self::Notice(notice) => say_notice(f, notice),
            Self::Broken(what) => write!(f, "BROKEN {what}"),
            Self::Note(text) => f.write_str(text),
        }
    }
}

fn say_notice(f: &mut fmt::Formatter<'_>, notice: &Notice) -> fmt::Result {
    match notice {
        Notice::Following(_) => f.write_str("follows the run"),
        Notice::Phase { round, phase, .. } => write!(f, "round {round}: {}", phase_name(*phase)),
        Notice::Contributed {
            round,
            peer,
            arrived,
            expected,
            ..
        } => write!(
            f,
            "round {round}: has the update of {}, {arrived} of {expected}",
            peer.short()
        ),
        Notice::Certified {
            round,
            included,
            took_ms,
            ..
        } => write!(
            f,
            "round {round}: has the certificate over {included} contributions, after {took_ms} ms"
        ),
        Notice::Finished(_) => f.write_str("has finished the run"),
        other => write!(f, "{other:?}"),
    }
}

/// A phase in the words of reports.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Gather => "gathers members",
        Phase::Train => "trains",
        Phase::Collect => "waits for updates",
        Phase::Agree => "waits for the certificate",
        Phase::CatchUp => "catches up",
        Phase::Stopped => "has stopped",
        Phase::Finished => "has finished",
    }
}

/// What a message or a transfer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Messages: blocks, votes, certificates, questions and answers about ledgers.
    Control,
    /// Blobs: updates and adapters.
    Payload,
}

/// Bytes of one participant while one round was open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Control messages handed to the network, lost ones included. A flooded message counts once for
    /// every receiver, all at its author: the simulated mesh is one hop.
    pub control_sent: u64,
    /// Control messages that reached the running process, duplicates included.
    pub control_received: u64,
    /// Blobs served, counted when the transfer begins. Failed transfers are not counted.
    pub payload_sent: u64,
    /// Blobs fetched from others, counted when the transfer begins.
    pub payload_received: u64,
}

impl Bytes {
    /// Both sums.
    pub fn plus(self, other: Self) -> Self {
        Self {
            control_sent: self.control_sent + other.control_sent,
            control_received: self.control_received + other.control_received,
            payload_sent: self.payload_sent + other.payload_sent,
            payload_received: self.payload_received + other.payload_received,
        }
    }
}

/// One certified round, as the chain, the logs and the credits tell it.
#[derive(Clone, Debug)]
pub struct RoundFacts {
    /// The round; 0 is the genesis, one above the scenario's rounds the closing height.
    pub round: u32,
    /// Consensus attempts before the one that decided.
    pub attempt: u32,
    /// The members that were drawn to certify it.
    pub committee: Vec<usize>,
    /// The member that was first in turn to propose it.
    pub in_turn: Option<usize>,
    /// Contributors that were members when the round was open.
    pub contributors: Vec<usize>,
    /// The contributors that were drawn for it.
    pub expected: Vec<usize>,
    /// Contributions that made the step.
    pub included: Vec<IncludedUpdate>,
    /// Contributors and evaluators admitted with this certificate.
    pub joins: Vec<usize>,
    /// Members that left with it.
    pub leaves: Vec<usize>,
    /// Common loss of the adapter after the round, without noise.
    pub common_loss: Option<f64>,
    /// The evaluators' sheets about this round that are in the ledger, whether in time or not.
    pub sheets: Vec<SheetFacts>,
    /// Final scores and what they earn, once the next certificate has them.
    pub scores: Vec<ScoreFacts>,
    /// Whether the next certificate judged this round: without scores in it the budget waits.
    pub judged: bool,
    /// What became of its budget, once the next certificate says so; a height that trains nobody has none.
    pub pay: Option<PayFacts>,
}

/// One contribution of a round.
#[derive(Clone, Copy, Debug)]
pub struct IncludedUpdate {
    /// The contributor, by its index in the scenario.
    pub peer: usize,
    /// Tokens it was trained on.
    pub tokens: u64,
    /// What it weighs among the others.
    pub weight: u64,
    /// Size of the update.
    pub bytes: u64,
}

/// One evaluator's sheet.
#[derive(Clone, Copy, Debug)]
pub struct SheetFacts {
    /// The evaluator, by its index in the scenario.
    pub evaluator: usize,
    /// Whether the next certificate counted it.
    pub certified: bool,
    /// Hold-out loss before the round, nats per predicted token.
    pub loss_before: NanoNats,
    /// Hold-out loss after the round, nats per predicted token.
    pub loss_after: NanoNats,
}

/// One contributor's final score of one round.
#[derive(Clone, Copy, Debug)]
pub struct ScoreFacts {
    /// The contributor, by its index in the scenario.
    pub peer: usize,
    /// Median over the evaluators, nats per predicted token.
    pub score: NanoNats,
    /// Lower end of its interval.
    pub low: NanoNats,
    /// Upper end of its interval.
    pub high: NanoNats,
    /// Part of the round's budget.
    pub credit: Ppb,
    /// What that paid.
    pub amount: MicroOpen,
    /// Whether it would have earned something, had its author shown more than luck by then.
    pub is_held_back: bool,
}

/// What became of a round's budget.
#[derive(Clone, Copy, Debug)]
pub struct PayFacts {
    /// In one word.
    pub outcome: Outcome,
    /// Sum of the final scores, nats per predicted token.
    pub gain: f64,
    /// What the sponsor paid in.
    pub worth: MicroOpen,
    /// What of that waits for nobody.
    pub waiting: MicroOpen,
}

impl History {
    /// An empty history of these participants.
    pub fn of(participants: Vec<Participant>, index: BTreeMap<PeerId, usize>) -> Self {
        Self {
            traffic: participants.iter().map(|_| Vec::new()).collect(),
            participants,
            index,
            ..Self::default()
        }
    }

    /// Appends a moment.
    pub fn push(&mut self, moment: Moment) {
        if let What::FirstCertified(round) = moment.what {
            self.open = self.open.max(round as usize + 1);
        }
        self.moments.push(moment);
    }

    fn bytes_now(&mut self, peer: usize) -> &mut Bytes {
        let rounds = &mut self.traffic[peer];
        if rounds.len() <= self.open {
            rounds.resize(self.open + 1, Bytes::default());
        }
        &mut rounds[self.open]
    }

    /// Bytes that leave a peer.
    pub fn sent(&mut self, peer: usize, plane: Plane, bytes: u64) {
        let now = self.bytes_now(peer);
        match plane {
            Plane::Control => now.control_sent += bytes,
            Plane::Payload => now.payload_sent += bytes,
        }
    }

    /// Bytes that reach a peer.
    pub fn received(&mut self, peer: usize, plane: Plane, bytes: u64) {
        let now = self.bytes_now(peer);
        match plane {
            Plane::Control => now.control_received += bytes,
            Plane::Payload => now.payload_received += bytes,
        }
    }

    /// All bytes of one participant.
    pub fn bytes_of(&self, peer: usize) -> Bytes {
        (self.traffic[peer].iter()).fold(Bytes::default(), |sum, b| sum.plus(*b))
    }
}
