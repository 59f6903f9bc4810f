//! A server that keeps its vouchers: it serves, and neither files answers nor claims what they were paid.

use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};

use super::{Behaviour, LiarContext, money};

/// Files nothing of its answers.
pub(super) struct HoardingServer;

impl Behaviour for HoardingServer {
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::File { run, mut filings }) = input else {
            return Some(input);
        };
        // A channel's deposit is filed without answers, its claim with them.
        let is_answers = |filing: &Entry| matches!(filing, Entry::Answers(_));
        if filings.iter().any(is_answers) {
            filings.retain(|filing| !is_answers(filing) && !money::is_of_channels(filing));
        }
        Some(Input::Command(Command::File { run, filings }))
    }
}
