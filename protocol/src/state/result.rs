//! What a round adds to the adapter, and who may tell from whom.

use std::sync::Arc;

use crate::aggregate::ContributionVector;
use crate::id::PeerId;

/// What a round adds to the adapter. Cheap to clone.
#[derive(Clone, Debug)]
pub enum RoundResult {
    /// One contribution vector a peer, ordered by peer; they add up to the step. Scores, shares of answers and audits
    /// look at each.
    Open(Arc<[(PeerId, ContributionVector)]>),
    /// Who took part, and the sum alone: nobody can tell what each of them added, so nobody is scored or paid by it.
    Masked {
        /// The peers whose updates are in the sum, ordered.
        cohort: Arc<[PeerId]>,
        /// What they add together.
        sum: Box<ContributionVector>,
    },
}

impl RoundResult {
    /// What each peer adds; `None` where the round keeps it masked.
    pub fn open(&self) -> Option<&Arc<[(PeerId, ContributionVector)]>> {
        match self {
            Self::Open(contributions) => Some(contributions),
            Self::Masked { .. } => None,
        }
    }

    /// The peers whose updates are in the step, ordered.
    pub fn peers(&self) -> Vec<PeerId> {
        match self {
            Self::Open(contributions) => contributions.iter().map(|(peer, _)| *peer).collect(),
            Self::Masked { cohort, .. } => cohort.to_vec(),
        }
    }

    /// The vectors that add up to the step, without their peers.
    pub fn vectors(&self) -> Vec<&ContributionVector> {
        match self {
            Self::Open(contributions) => contributions.iter().map(|(_, vector)| vector).collect(),
            Self::Masked { sum, .. } => vec![sum],
        }
    }
}
