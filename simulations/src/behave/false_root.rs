//! A member that signs roots of its own: another digest than its books lead to, by its own account's key.

use tributary_attribution::settlement::{EvmKey, Keccak};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::filing::{EvmSignature, RootSignature};
use tributary_protocol::hash::Digest;

use super::{Behaviour, LiarContext};

/// Signs another digest in place of each root's.
pub(super) struct FalseRoot;

impl Behaviour for FalseRoot {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::File { run, filings }) = input else {
            return Some(input);
        };
        let bend = |filing| match filing {
            Entry::RootSignature(honest) => Entry::RootSignature(lie(cx, honest)),
            other => other,
        };
        let filings = filings.into_iter().map(bend).collect();
        Some(Input::Command(Command::File { run, filings }))
    }
}

fn lie(cx: &LiarContext<'_>, honest: RootSignature) -> RootSignature {
    let key = EvmKey::of_peer(cx.key);
    let mut digest = *honest.root.as_bytes();
    digest[0] ^= 1;
    RootSignature {
        root: Digest::from_bytes(digest),
        signature: EvmSignature(*key.sign(&Keccak(digest)).as_bytes()),
        ..honest
    }
}
