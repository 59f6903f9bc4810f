//! A sponsor that looks at what rounds brought before it deposits: it pays only if it likes what it sees.

use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::id::Round;

use super::{Behaviour, LiarContext};

/// The height from which on it lets its transactions out.
pub(crate) const FROM: Round = Round(3);

/// Keeps its transactions back until some rounds are judged.
pub(super) struct LateDeposit;

impl Behaviour for LateDeposit {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let certified = cx.view().and_then(|view| Some(view.head()?.round));
        match input {
            Input::Command(Command::File { run, mut filings }) if certified < Some(FROM) => {
                filings.retain(|filing| !matches!(filing, Entry::Transaction(_)));
                let left = Input::Command(Command::File { run, filings });
                Some(left)
            }
            _ => Some(input),
        }
    }
}
