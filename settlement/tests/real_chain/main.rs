//! The crate against anvil, a real chain in one process: the whole circle, and everything that goes wrong on the way.
//!
//! anvil comes from npm (`npm ci --ignore-scripts` in `tests/node`). Where it is not installed every test says so and ends,
//! unless `TRIBUTARY_NEEDS_ANVIL` is set, as in CI, where that is a failure.

mod anvil;
mod circle;
mod deploying;
mod nodes;
mod proxy;
mod sending;
mod turmoil;
mod world;
