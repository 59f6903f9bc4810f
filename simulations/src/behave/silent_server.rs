//! A server that claims what consumers paid and says nothing of its answers: whose data shaped them should stay its secret.

use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};

use super::{Behaviour, LiarContext};

/// Files claims without answers.
pub(super) struct SilentServer;

impl Behaviour for SilentServer {
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::File { run, mut filings }) = input else {
            return Some(input);
        };
        filings.retain(|filing| !matches!(filing, Entry::Answers(_)));
        Some(Input::Command(Command::File { run, filings }))
    }
}
