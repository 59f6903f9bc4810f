//! Whole runs through `Node::handle` in one thread, honest and under attack.
//!
//! `runs` has honest members alone, `forgotten` those whose owner removed the run; `filings` what they file for the
//! books, during a run and after its closing; `bonded` members whose stake weighs; `hostile`, `strangers`, `captured` and `generated` are about what others say and
//! sign. The nodes and their network are those of `tributary_protocol::test_utils`.

mod bonded;
mod captured;
mod filings;
mod forgotten;
mod generated;
mod hostile;
mod runs;
mod strangers;
