//! What an error of this crate says besides its message.

/// An error that knows whether the ledger is wrong, and what its reader can do.
pub trait Remedy: std::error::Error {
    /// Whether what was looked at is wrong, rather than missing or badly asked for.
    fn is_wrong(&self) -> bool;

    /// What to do about it, where there is something.
    fn hint(&self) -> Option<String>;
}
