//! Virtual-time federations of the same node that peers run.
//!
//! So far the parts that stand on their own: scenario files, virtual clocks, the network between
//! peers, a learner, the record of what happened.

pub mod clock;
pub mod guard;
pub mod learner;
pub mod link;
pub mod record;
pub mod scenario;
