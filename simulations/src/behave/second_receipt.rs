//! Commits in time, and commits once more, under its own name, to the update of another member when it has seen that
//! update.

use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::Round;

use super::{Behaviour, LiarContext};

/// A second receipt, for an update of somebody else that it has seen.
#[derive(Default)]
pub(super) struct SecondReceipt {
    /// The last round in which it committed twice.
    done: Option<Round>,
}

impl SecondReceipt {
    /// Its own receipt of the open round and the update of another that is at hand.
    fn stolen(&self, cx: &LiarContext<'_>) -> Option<Contribution> {
        let view = cx.view()?;
        let open = view.head()?.round.next();
        let receipts: Vec<_> = (view.log().all())
            .filter_map(|(at, entry)| match entry {
                Entry::Contribution(receipt) if receipt.round == open => {
                    Some((at.author, *receipt))
                }
                _ => None,
            })
            .collect();
        let (_, own) = receipts.iter().find(|(author, _)| *author == cx.me)?;
        let has = |receipt: &Contribution| cx.world.store.blob(&receipt.update.hash).is_some();
        let theirs = receipts
            .iter()
            .find(|(author, receipt)| *author != cx.me && has(receipt));
        let update = theirs?.1.update;
        (self.done < Some(open)).then_some(Contribution { update, ..*own })
    }
}

impl Behaviour for SecondReceipt {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Some(again) = self.stolen(cx) {
            self.done = Some(again.round);
            cx.act(Effect::OfferBlob(again.update.hash));
            cx.write(vec![Entry::Contribution(again)]);
        }
        Some(input)
    }
}
