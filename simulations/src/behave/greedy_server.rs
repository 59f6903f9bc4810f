//! A server that says its own data shaped every answer, under a signature of its own, and files every answer twice.

use tributary_attribution::settlement::{EvmKey, Keccak};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::{AgreedShares, Answers, EvmSignature};
use tributary_protocol::id::Ppb;

use super::{Behaviour, LiarContext};

/// Writes itself into each answer's shares.
pub(super) struct GreedyServer;

impl Behaviour for GreedyServer {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::File { run, filings }) = input else {
            return Some(input);
        };
        let bend = |filing| match filing {
            Entry::Answers(honest) => {
                let bent = Entry::Answers(lie(cx, honest));
                vec![bent.clone(), bent]
            }
            other => vec![other],
        };
        let filings = filings.into_iter().flat_map(bend).collect();
        Some(Input::Command(Command::File { run, filings }))
    }
}

fn lie(cx: &LiarContext<'_>, mut answers: Answers) -> Answers {
    let key = EvmKey::of_peer(cx.key);
    for answer in &mut answers.answers {
        answer.shares = Some(AgreedShares {
            text: answer.response,
            shares: vec![(cx.key.peer_id(), Ppb::ONE)],
            signature: EvmSignature(*key.sign(&Keccak([7; 32])).as_bytes()),
        });
    }
    answers
}
