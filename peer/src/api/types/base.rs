//! The base model of a run on this machine, and how far it is fetched from peers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The base model of a run, as it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BaseView {
    /// Its name.
    pub base: String,
    /// Whether it is on this machine, whole.
    pub here: bool,
    /// Whether the run's creator lets members hand it on.
    pub shared: bool,
    /// Whether it is being fetched now.
    pub fetching: bool,
    /// Bytes that are here of one that is being fetched.
    pub bytes_done: u64,
    /// Bytes in all of one that is being fetched; 0 before its listing has come.
    pub bytes_total: u64,
    /// Bytes a second since the fetch began.
    pub bytes_per_second: u64,
    /// Peers that send.
    pub providers: Vec<String>,
}
