//! The scoring rule against its theory, and money from contributions to statements.
//!
//! `toy` holds the losses with known answers, `path` compares the path integral with exact Shapley
//! values, `round_trip` runs a federation to its statements, `limits` shows what the rule cannot do.

mod limits;
mod path;
mod round_trip;
mod toy;
