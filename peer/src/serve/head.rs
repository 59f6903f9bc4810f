//! What every answer begins with, and how its usage is told.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;

use super::Shop;
use super::answer::Total;
use super::types::{PromptDetails, Usage};

/// What all pieces of an answer share.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Drawn for this answer.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// As it was asked for.
    pub(super) model: String,
    /// Changes with base, precision and version.
    pub(super) fingerprint: String,
}

impl Head {
    /// Of a new answer.
    pub(super) fn new(shop: &Shop, model: &str) -> Self {
        let mut id = [0; 12];
        getrandom::fill(&mut id).expect("the system has no source of random numbers");
        Self {
            id: HEXLOWER.encode(&id),
            created: now(),
            model: model.to_owned(),
            fingerprint: shop.fingerprint.clone(),
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    // A clock before 1970 is one that nobody set.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// As clients read it.
pub(super) fn usage(total: &Total) -> Usage {
    Usage {
        prompt_tokens: total.prompt,
        completion_tokens: total.answer,
        total_tokens: total.prompt + total.answer,
        prompt_tokens_details: PromptDetails {
            cached_tokens: total.cached,
        },
    }
}
