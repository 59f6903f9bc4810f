//! An evaluator that does no work: it signs the first score sheet that it hears, and under each root what somebody else
//! signed there, without keeping books.

use std::collections::BTreeMap;

use tributary_attribution::settlement::Keccak;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::filing::{EvmSignature, RootSignature};
use tributary_protocol::id::Round;
use tributary_protocol::log::Unverified;
use tributary_protocol::wire::Message;

use super::copy_sheet::CopySheet;
use super::{Behaviour, LiarContext, money};
use crate::network::NETWORK;

/// Signs what others signed.
#[derive(Default)]
pub(super) struct LazyEvaluator {
    sheets: CopySheet,
    /// Signatures of others, by height; of each height the first that was heard.
    heard: BTreeMap<Round, RootSignature>,
    /// The height whose root it is to sign, until it has heard what to sign.
    open: Option<Round>,
}

impl LazyEvaluator {
    fn hear(&mut self, cx: &LiarContext<'_>, block: &[u8]) {
        let Ok(block) = Unverified::decode(block, NETWORK) else {
            return;
        };
        let said = block.block();
        for entry in said.entries.iter().filter(|_| said.author != cx.me) {
            if let Entry::RootSignature(given) = entry {
                self.heard.entry(given.round).or_insert(*given);
            }
        }
    }

    /// The signature of somebody else's root, once there is one to sign.
    fn sign(&mut self, cx: &LiarContext<'_>) -> Option<Entry> {
        let given = *self.heard.get(&self.open?)?;
        self.open = None;
        self.heard.retain(|round, _| *round > given.round);
        let signature = cx.account().sign(&Keccak(*given.root.as_bytes()));
        Some(Entry::RootSignature(RootSignature {
            signature: EvmSignature(*signature.as_bytes()),
            ..given
        }))
    }
}

impl Behaviour for LazyEvaluator {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Input::Gossip { bytes, .. } = &input
            && let Ok(Message::Block(block)) = Message::decode(bytes)
        {
            self.hear(cx, &block);
            let signed = self.sign(cx);
            cx.file(signed.into_iter().collect());
        }
        let input = self.sheets.input(cx, input)?;
        let input = money::refile(input, |filing| match filing {
            Entry::RootSignature(own) => {
                self.open = Some(own.round);
                self.sign(cx).into_iter().collect()
            }
            other => vec![other],
        });
        Some(input)
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        self.sheets.effect(cx, effect);
    }
}
