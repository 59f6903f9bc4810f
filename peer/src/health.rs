//! Typed warnings: what is degraded, and what its owner can do about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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
        "the system clock jumped by {0} s; deadlines are not affected, but check the clock, because \
         people read the times in blocks"
    )]
    ClockJump(i64),
    /// Input was dropped.
    #[error(
        "{0} messages of peers were dropped by rate limits; a neighbour may be misbehaving, or this \
         machine is too slow for the runs it follows"
    )]
    RateLimited(u64),
}

/// Warnings that hold, the latest of each kind. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<u8, Warning>>>);

impl Health {
    pub(crate) fn raise(&self, warning: Warning) {
        let kind = match warning {
            Warning::Store(_) => 0,
            Warning::Work(_) => 1,
            Warning::ClockJump(_) => 2,
            Warning::Alone => 3,
            Warning::RateLimited(_) => 4,
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(kind, warning);
    }

    /// Everything raised, and what follows from the figures at hand.
    pub(crate) fn now(&self, connected: usize, dropped: u64) -> Vec<Warning> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out: Vec<Warning> = held.values().cloned().collect();
        if connected == 0 {
            out.push(Warning::Alone);
        }
        if dropped > 0 {
            out.push(Warning::RateLimited(dropped));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_warning_of_each_kind_holds() {
        let health = Health::default();
        health.raise(Warning::Work("first".into()));
        health.raise(Warning::Work("second".into()));
        health.raise(Warning::ClockJump(9));
        let now = health.now(2, 0);
        assert_eq!(now, [Warning::Work("second".into()), Warning::ClockJump(9)]);
        assert_eq!(health.now(0, 1).len(), 4);
    }
}
