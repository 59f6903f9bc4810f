//! Many daemon processes on one machine: floods by a hostile neighbour, kills, a crowd, packet loss,
//! runs that ask for too much.
//!
//! The short tests run by default. The long ones print the figures of `docs/numbers/processes.md`; the
//! page says how to run them.

#![cfg(target_os = "linux")]

#[path = "processes/attacker.rs"]
mod attacker;
#[path = "processes/bounds.rs"]
mod bounds;
#[path = "processes/crowd.rs"]
mod crowd;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "processes/hostile.rs"]
mod hostile;
#[path = "processes/kills.rs"]
mod kills;
#[path = "processes/loss.rs"]
mod loss;
#[path = "processes/newcomers.rs"]
mod newcomers;
