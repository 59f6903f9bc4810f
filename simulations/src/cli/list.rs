//! `list`: what the binary carries.

use super::Answer;
use crate::scenario;

pub(super) fn execute() -> Answer {
    for name in scenario::builtin_names() {
        println!("{}", scenario::load(name)?.describe());
    }
    Ok(true)
}
