//! Many daemon processes on one machine: floods by a hostile neighbour, kills, a crowd, packet loss,
//! runs that ask for too much.
//!
//! The short tests run by default. The long ones print the figures of `docs/numbers/processes.md`; the
//! page says how to run them.

#![cfg(unix)]

mod answers;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "tests of settlement use the rest")]
#[path = "../../../settlement/tests/real_chain/anvil.rs"]
mod anvil;
#[cfg(target_os = "linux")]
mod attacker;
#[cfg(target_os = "linux")]
mod bounds;
#[cfg(target_os = "linux")]
mod chain;
#[cfg(target_os = "linux")]
mod crowd;
mod daemon;
mod daemons;
mod disputes;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod keys;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod loss;
#[cfg(target_os = "linux")]
mod newcomers;
mod removed;
mod tickets;
