//! Virtual-time federations of the same node that peers run.
//!
//! So far the parts that stand on their own: scenario files, virtual clocks and the network between
//! peers.

pub mod clock;
pub mod guard;
pub mod link;
pub mod scenario;
