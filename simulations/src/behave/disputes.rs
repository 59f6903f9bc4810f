//! Dishonesty around disputes: an evaluator that makes its scores up, a member that disputes scores that are right, and jurors
//! that find the opposite of what they see.

use tributary_protocol::entry::Entry;
use tributary_protocol::event::Input;
use tributary_protocol::filing::{DisputeStep, Disputed, Finding};
use tributary_protocol::id::PeerId;
use tributary_protocol::round::EntryRef;

use super::money::{EachHeight, refile};
use super::{Behaviour, LiarContext, pick_sheets};

/// The entry that opens a dispute.
pub(crate) fn open_dispute(sheet: EntryRef, peer: PeerId, reason: &str) -> Entry {
    let reason = reason.to_owned();
    Entry::Dispute(DisputeStep::Open(Disputed {
        sheet,
        peer,
        reason,
    }))
}

/// An evaluator whose sheets say that its friends helped and that others harmed.
pub(super) struct LyingEvaluator;

impl Behaviour for LyingEvaluator {
    fn input(&mut self, cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Scored { sheet, .. } = &mut input {
            pick_sheets::bend(sheet, &cx.friends());
        }
        Some(input)
    }
}

/// A juror that says that right scores fail and that wrong ones hold.
pub(super) struct LyingJuror;

impl Behaviour for LyingJuror {
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let opposite = |filing| match filing {
            Entry::Dispute(DisputeStep::Find(at, found)) => {
                let found = match found {
                    Finding::Holds => Finding::Fails,
                    Finding::Fails | Finding::Unshown | Finding::Unreached => Finding::Holds,
                };
                vec![Entry::Dispute(DisputeStep::Find(at, found))]
            }
            other => vec![other],
        };
        Some(refile(input, opposite))
    }
}

/// A member that disputes whatever it may, right or wrong: honest evaluators wait for their pay meanwhile.
#[derive(Default)]
pub(super) struct FrivolousChallenger {
    heights: EachHeight,
}

/// The newest score of somebody else that it may dispute.
fn disputable(cx: &LiarContext<'_>) -> Option<(EntryRef, PeerId)> {
    let (books, friends) = (cx.world.books?, cx.friends());
    let sheets = books.disputable().filter_map(|(sheet, round, scored)| {
        let may = |peer: &&PeerId| {
            let score = (sheet, *peer);
            (books.check_dispute(cx.world.manifest, &cx.me, score)).is_ok()
        };
        let is_other = !friends.contains(&sheet.author);
        let peer = scored.iter().find(may).filter(|_| is_other)?;
        Some((round, *sheet, *peer))
    });
    sheets.max().map(|(_, sheet, peer)| (sheet, peer))
}

impl Behaviour for FrivolousChallenger {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        if self.heights.look(cx).is_none() {
            return;
        }
        let opened = disputable(cx);
        let opened = opened.map(|(sheet, peer)| open_dispute(sheet, peer, "it is wrong"));
        cx.file(opened.into_iter().collect());
    }
}
