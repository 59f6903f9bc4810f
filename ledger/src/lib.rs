//! What a peer's records say, worked out from bytes alone.
//!
//! ```text
//!   records, blobs ──▶ archive ──▶ audit     does everything that was certified follow?
//!                         │  └───▶ explain   one payout, walked back to the data behind it
//!                         └──────▶ holdout   was a round scored on the drawn windows?
//!                         └──────▶ mark      what an earlier audit of the same bytes found
//!   files, names ────▶ seen, glance         which blobs were hashed; what a home that did not change was found to be
//!   records ─────────▶ index                every run, folded once: what readers are shown
//! ```
//!
//! The crate is synchronous: it opens no socket, no database and no file, starts no thread and prints nothing. A home
//! hands in its records as they were stored and its blobs through [`Blobs`]; the caller decides how an answer is
//! shown. Every error says what failed and why, and through [`Remedy`] what to do.

#![warn(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub mod account;
pub mod archive;
pub mod audit;
pub mod explain;
#[cfg(feature = "test-utils")]
pub mod fixture;
pub mod glance;
pub mod holdout;
pub mod index;
pub mod mark;
pub mod proof;
mod remedy;
pub mod report;
mod seal;
pub mod seen;
pub mod view;

pub use account::RunAccount;
pub use archive::{Archive, ArchivedRun, BlobError, Blobs};
pub use glance::Glance;
pub use index::{IndexedRun, LedgerIndex, Snapshot};
pub use mark::{Mark, Outcome};
pub use remedy::Remedy;
pub use report::{Fault, Report, RunReport};
pub use seen::{Look, Seen};

/// What to do about a ledger that does not hold.
const VERIFY_HINT: &str = "`tributary ledger verify` shows everything that is wrong";
