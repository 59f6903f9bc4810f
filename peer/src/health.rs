//! Typed warnings: what is degraded, and what its owner can do about it.

/// Something the owner should look after.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Nobody is connected.
    #[error("no peer is connected; check the --bootstrap addresses and your firewall")]
    Alone,
    /// A write failed; nothing is acknowledged any more.
    #[error("the store stopped: {0}")]
    Store(String),
    /// Work of a run failed.
    #[error("local work failed: {0}")]
    Work(String),
    /// The wall clock moved by itself.
    #[error(
        "the system clock jumped by {0} s; deadlines are not affected, but check the clock: times in blocks are read by people"
    )]
    ClockJump(i64),
    /// The learner's events came faster than they were handled.
    #[error(
        "input from peers was dropped by rate limits {0} times; a neighbour may be misbehaving"
    )]
    RateLimited(u64),
}
