//! Virtual-time federations of the same node that peers run.
//!
//! ```text
//!   scenario (TOML) + seed
//!          │
//!        world ── event heap, virtual clocks, crashes, splits
//!        │  │ └── link: when, if at all, does a message or a blob arrive
//!        │  └──── machine: protocol::node::Node, its disk (store), effects that wait for a sync
//!        │           └── learner/*: answers Train and Score
//!        ├── oracle: every promise, after every event
//!        └── record: a digest of everything, a timeline for people, a history for reports
//!                  │
//!        report ── tables, metrics, figures (plot), one page; compare and sweep over them
//! ```
//!
//! A scenario and a seed determine a run to the last byte, so a failing seed is a complete bug report:
//! `tributary-sim replay FILE --seed N --verbose` shows it. Modules: [`cli`], [`scenario`], [`world`], [`link`],
//! [`clock`], [`guard`], [`machine`], [`store`], [`behave`], [`learner`], [`oracle`], [`record`], [`report`],
//! [`plot`], [`markdown`], [`compare`], [`mod@bench`], [`sweep`], [`mod@soak`], [`federation`], [`files`], [`watch`]. What a scenario names (attacks, learners,
//! links) is in a [`catalogue`], to which a researcher's own program can add.

pub mod behave;
pub mod bench;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod compare;
mod consumer;
pub mod federation;
pub mod files;
pub mod guard;
pub mod learner;
pub mod link;
pub mod machine;
pub mod markdown;
pub mod named;
pub mod network;
pub mod oracle;
pub mod plot;
pub mod record;
pub mod report;
pub mod scenario;
pub mod soak;
pub mod store;
mod suggest;
pub mod sweep;
pub mod watch;
pub mod world;

pub use catalogue::Catalogue;
pub use named::Named;
pub use scenario::{Scenario, ScenarioError};
pub use soak::{Soak, soak};
pub use world::{Outcome, World};
