//! An evaluator that scores nothing: it waits for the first score sheet of somebody else and signs the same lines.

use tributary_protocol::entry::{Entry, ScoreSheet, ShownSheet};
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::{PeerId, RunId, StateHash};
use tributary_protocol::log::Unverified;
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Waits for a sheet of another evaluator and signs it as its own.
#[derive(Default)]
pub(super) struct CopySheet {
    /// The round that its node wants scored, and the state it is of, until it has a sheet.
    open: Option<(RunId, StateHash)>,
    /// The last sheet of somebody else that it has heard.
    heard: Option<ScoreSheet>,
}

impl CopySheet {
    fn hear(&mut self, me: PeerId, block: &[u8]) {
        let Ok(block) = Unverified::decode(block, NETWORK) else {
            return;
        };
        let said = block.block();
        for entry in said.entries.iter().filter(|_| said.author != me) {
            if let Entry::ScoreSheet(ShownSheet { sheet, .. }) = entry {
                self.heard = Some(sheet.clone());
            }
        }
    }

    fn copy(&mut self, cx: &mut LiarContext<'_>) {
        let Some((run, state)) = self.open else {
            return;
        };
        if let Some(sheet) = self.heard.clone().filter(|sheet| sheet.state == state) {
            self.open = None;
            cx.tell(Input::Scored { run, sheet });
        }
    }
}

impl Behaviour for CopySheet {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Input::Gossip { bytes, .. } = &input
            && let Ok(Message::Block(block)) = Message::decode(bytes)
        {
            self.hear(cx.me, &block);
            self.copy(cx);
        }
        Some(input)
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        match effect {
            Effect::Score(task) => {
                self.open = Some((task.run, task.state));
                self.copy(cx);
            }
            effect => cx.act(effect),
        }
    }
}
