//! Commits in time, and commits once more, under its own name, to the update of another member when it has seen that
//! update.

use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::Round;

use super::{Behaviour, Stage};

/// A second receipt, for an update of somebody else that it has seen.
#[derive(Default)]
pub(super) struct SecondReceipt {
    /// The last round in which it committed twice.
    done: Option<Round>,
}

impl SecondReceipt {
    /// Its own receipt of the open round and the update of another that is at hand.
    fn stolen(&self, stage: &Stage<'_>) -> Option<Contribution> {
        let view = stage.view()?;
        let open = view.head()?.round.next();
        let receipts: Vec<_> = (view.log().all())
            .filter_map(|(at, entry)| match entry {
                Entry::Contribution(receipt) if receipt.round == open => {
                    Some((at.author, *receipt))
                }
                _ => None,
            })
            .collect();
        let (_, own) = receipts.iter().find(|(author, _)| *author == stage.me)?;
        let has = |receipt: &Contribution| stage.scene.store.blob(&receipt.update.hash).is_some();
        let theirs = receipts
            .iter()
            .find(|(author, receipt)| *author != stage.me && has(receipt));
        let update = theirs?.1.update;
        (self.done < Some(open)).then_some(Contribution { update, ..*own })
    }
}

impl Behaviour for SecondReceipt {
    fn input(&mut self, stage: &mut Stage<'_>, input: Input) -> Option<Input> {
        if let Some(again) = self.stolen(stage) {
            self.done = Some(again.round);
            stage.act(Effect::OfferBlob(again.update.hash));
            stage.write(vec![Entry::Contribution(again)]);
        }
        Some(input)
    }
}
