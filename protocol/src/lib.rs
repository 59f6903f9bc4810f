//! Ids, signed records, logs, rounds, aggregation and consensus of Tributary, without IO.

pub mod adapter;
pub mod hash;
pub mod limits;
