//! What a check found: runs that hold, faults, findings against others, and what was left unchecked.

use serde::{Deserialize, Serialize};
use tributary_protocol::id::{Round, RunId};
use utoipa::ToSchema;

use crate::view::short;

/// What was checked, and what does not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Whether everything holds.
    pub verified: bool,
    /// Runs, by home.
    pub runs: Vec<RunReport>,
    /// What does not hold.
    pub faults: Vec<Fault>,
    /// What the home proves against others, and withstood: the ledger holds nevertheless.
    #[serde(default)]
    pub findings: Vec<Fault>,
    /// What was not checked, and why that is not a fault.
    pub notes: Vec<String>,
}

/// What was checked of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunReport {
    /// Folder of the home below the one that was asked for; `.` when it is that one.
    pub home: String,
    /// The run.
    pub run: String,
    /// Certified heights, genesis and closing included.
    pub rounds: u32,
    /// Training rounds among them.
    pub trained: u32,
    /// Signed blocks.
    pub blocks: u32,
    /// Signatures of blocks and certificates.
    pub signatures: u32,
    /// Training rounds whose aggregate was recomputed from the updates.
    pub aggregates: u32,
    /// Accounts, whose balances sum to zero.
    pub accounts: u32,
    /// The last certified state.
    pub state: String,
}

/// Something that does not hold, or that somebody did who signed two things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Folder of the home below the one that was asked for.
    pub home: String,
    /// The run, if it can be told.
    pub run: Option<String>,
    /// The author of the statement.
    pub author: Option<String>,
    /// Its place in the author's log.
    pub sequence: Option<u64>,
    /// The round.
    pub round: Option<u32>,
    /// What does not hold.
    pub reason: String,
}

impl Fault {
    /// With a reason only.
    pub fn of(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            ..Self::default()
        }
    }
    /// About a run.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run.to_string());
        self
    }
    /// About a round.
    #[must_use]
    pub fn at(mut self, round: Round) -> Self {
        self.round = Some(round.0);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.home.is_empty() && self.home != "." {
            write!(f, "home {}, ", self.home)?;
        }
        if let Some(run) = &self.run {
            write!(f, "run {}, ", short(run))?;
        }
        if let Some(round) = self.round {
            write!(f, "round {round}, ")?;
        }
        if let Some(author) = &self.author {
            write!(f, "author {}, ", short(author))?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, "sequence {sequence}, ")?;
        }
        f.write_str(&self.reason)
    }
}

impl Report {
    /// With its verdict. Where nothing was checked, nothing is verified.
    #[must_use]
    pub fn concluded(mut self) -> Self {
        if self.runs.is_empty() && self.faults.is_empty() {
            self.faults.push(Fault::of(
                "no run is in this ledger, so nothing was checked",
            ));
        }
        self.verified = self.faults.is_empty();
        self
    }
}
