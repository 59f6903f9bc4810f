//! Which score sheets of the round before count: those that were sealed before others were shown.
//!
//! An evaluator commits to its sheet ([`SheetSeal`](crate::entry::SheetSeal)), and shows it once the others have sealed theirs or their time is
//! over. A sheet names the seals that its author had seen by then, so from the shown sheets alone anybody can tell who
//! sealed in time: a sheet counts where at least half of the others that count name its seal. Who reads a sheet before it
//! seals its own is named by none of the honest ones, and those are the most while fewer than a third lie. Honest
//! evaluators name all that was in time, so no third can shut one of them out.
//!
//! What two evaluators tell each other aside is beyond any rule.

use std::collections::BTreeMap;

use super::{Head, RoundSources, is_first};
use crate::aggregate;
use crate::entry::{Entry, ScoreSheet, SheetSeal, ShownSheet};
use crate::id::PeerId;
use crate::logset::LogSet;
use crate::panel::Panel;
use crate::reject::Rejection;
use crate::round::{EntryRef, FinalScore, RoundValue};

/// The sheets that count among those that were shown: evaluator and the seals it had seen ([`ShownSheet::seals`]).
/// Those that too few seats name are taken out, and the rest is looked at again, until it stands.
pub fn timely_sheets(panel: &Panel, shown: &BTreeMap<PeerId, u32>) -> Vec<PeerId> {
    let mut counted: Vec<(PeerId, usize, u32)> = (shown.iter())
        .filter_map(|(peer, seals)| Some((*peer, panel.place(peer)?, *seals)))
        .collect();
    loop {
        let names = |(peer, place, _): &(PeerId, usize, u32)| {
            let others = counted.iter().filter(|(other, _, _)| other != peer);
            let seats = others.map(|(other, _, seals)| (panel.seats_of(other), seals >> place & 1));
            let (all, by) = seats.fold((0, 0), |(all, by), (seats, names)| {
                (all + seats, by + if names == 1 { seats } else { 0 })
            });
            2 * by >= all
        };
        let kept: Vec<(PeerId, usize, u32)> = counted.iter().copied().filter(names).collect();
        if kept.len() == counted.len() {
            return kept.into_iter().map(|(peer, _, _)| peer).collect();
        }
        counted = kept;
    }
}

/// Whether a sheet judges the round that `head` certified.
pub fn sheet_fits(
    sheet: &ScoreSheet,
    author: &PeerId,
    head: Option<&Head>,
    judged: Option<&RoundValue>,
) -> bool {
    let (Some(head), Some(judged)) = (head, judged) else {
        return false;
    };
    head.panel.contains(author)
        && (head.roster.get(author)).is_some_and(|member| member.role.evaluates())
        && sheet.round == head.round
        && sheet.state == head.hash
        && sheet.scores.len() == judged.included.len()
        && (sheet.scores.iter().zip(&judged.included)).all(|(s, i)| s.peer == i.receipt.author)
}

/// The author's first seal for the round of each of these sheets, in their order; nothing for a sheet without.
pub(super) fn seals_of(sheets: &[EntryRef], log: &LogSet) -> Vec<EntryRef> {
    let seal = |at: &EntryRef| {
        let round = as_shown(log, at)?.sheet.round;
        let mut before = log.entries(at.author);
        let found = before
            .find(|(_, entry)| matches!(entry, Entry::SheetSeal(seal) if seal.round == round))?;
        Some(found.0)
    };
    sheets.iter().filter_map(seal).collect()
}

/// Checks that the sheets of a value judge the round before, are what their authors sealed, and were sealed in time.
pub(super) fn check(
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Result<(), Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    let log = sources.log;
    let nobody = Panel::default();
    let panel = head.map_or(&nobody, |head| &head.panel);
    let mut shown = BTreeMap::new();
    if value.seals.len() != value.sheets.len() {
        return contradiction("a score sheet without its seal");
    }
    for (at, sealed) in value.sheets.iter().zip(&value.seals) {
        let Some(ShownSheet { sheet, seals }) = as_shown(log, at) else {
            return contradiction("a score sheet does not judge the round before");
        };
        let fits = sheet_fits(sheet, &at.author, head, sources.judged);
        if !fits || seals & !panel.all_seals() != 0 {
            return contradiction("a score sheet does not judge the round before");
        }
        let is_before = sealed.author == at.author && sealed.position() < at.position();
        let Some(Entry::SheetSeal(seal)) = log.entry(sealed).filter(|_| is_before) else {
            return contradiction("a score sheet without its seal");
        };
        if *seal != sheet.seal(&at.author) {
            return contradiction("a score sheet is not what its author sealed");
        }
        let same = |entry: &Entry| matches!(entry, Entry::SheetSeal(SheetSeal { round, .. }) if *round == seal.round);
        if !is_first(log, sealed, same) {
            return contradiction("a seal is not its author's first for the round");
        }
        shown.insert(at.author, *seals);
    }
    match timely_sheets(panel, &shown).len() == shown.len() {
        true => Ok(()),
        false => contradiction("a score sheet was sealed after others were shown"),
    }
}

/// The final scores that the sheets of a value come to.
pub(super) fn final_scores(
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Vec<FinalScore> {
    let (Some(judged), Some(head)) = (sources.judged, head) else {
        return Vec::new();
    };
    let sheets: Vec<(PeerId, &ScoreSheet)> = (value.sheets.iter())
        .filter_map(|at| Some((at.author, &as_shown(sources.log, at)?.sheet)))
        .collect();
    aggregate::final_scores(&sheets, &judged.included, &head.panel)
}

fn as_shown<'a>(log: &'a LogSet, at: &EntryRef) -> Option<&'a ShownSheet> {
    match log.entry(at)? {
        Entry::ScoreSheet(shown) => Some(shown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::Digest;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn counted(evaluators: u8, shown: &[(u8, u32)]) -> Vec<u8> {
        let panel = Panel::equal((0..evaluators).map(peer));
        let shown = shown.iter().map(|(n, seals)| (peer(*n), *seals)).collect();
        let counted = timely_sheets(&panel, &shown);
        (0..evaluators)
            .filter(|n| counted.contains(&peer(*n)))
            .collect()
    }

    #[test]
    fn sheets_whose_authors_saw_every_seal_all_count() {
        assert_eq!(
            counted(4, &[(0, 15), (1, 15), (2, 15), (3, 15)]),
            [0, 1, 2, 3]
        );
        assert_eq!(counted(1, &[(0, 1)]), [0]);
        assert_eq!(counted(4, &[]), []);
    }

    #[test]
    fn a_sheet_that_was_sealed_after_the_others_were_shown_does_not_count() {
        let honest = 0b0111;
        assert_eq!(
            counted(4, &[(0, honest), (1, honest), (2, honest), (3, 15)]),
            [0, 1, 2]
        );
        // One that shows its own sheet early to let a friend in.
        assert_eq!(
            counted(5, &[(0, 7), (1, 7), (2, 7), (3, 31), (4, 31)]),
            [0, 1, 2]
        );
    }

    #[test]
    fn one_evaluator_of_four_that_names_nobody_shuts_nobody_out() {
        assert_eq!(
            counted(4, &[(0, 15), (1, 15), (2, 15), (3, 0)]),
            [0, 1, 2, 3]
        );
        assert_eq!(counted(3, &[(0, 7), (1, 7), (2, 0)]), [0, 1, 2]);
    }

    #[test]
    fn whoever_is_no_evaluator_does_not_count_and_changes_nothing() {
        assert_eq!(counted(2, &[(0, 3), (1, 3), (9, 0)]), [0, 1]);
    }

    #[test]
    fn seals_count_by_the_seats_of_those_who_name_them() {
        let panel = Panel::new([(peer(0), 3), (peer(1), 1), (peer(2), 1)]);
        let shown = |masks: [u32; 3]| {
            (masks.iter().zip(0..))
                .map(|(m, n)| (peer(n), *m))
                .collect()
        };
        // The first has most seats and names none of the others.
        let counted = timely_sheets(&panel, &shown([0b001, 0b111, 0b111]));
        assert_eq!(counted, [peer(0)]);
        // Both others leave it out.
        let counted = timely_sheets(&panel, &shown([0b111, 0b110, 0b110]));
        assert_eq!(counted, [peer(1), peer(2)]);
    }

    proptest! {
        #[test]
        fn honest_sheets_count_and_late_ones_do_not_while_fewer_than_a_third_lie(
            evaluators in 1u8..=32, liars in 0u8..11, masks in prop::collection::vec(any::<u32>(), 11),
            late in any::<u32>(),
        ) {
            let liars = liars.min((evaluators - 1) / 3);
            let honest = evaluators - liars;
            let is_late = |n: u8| late >> n & 1 == 1;
            let in_time = (0..evaluators).filter(|n| *n < honest || !is_late(*n));
            let seen = in_time.fold(0u32, |mask, n| mask | 1 << n);
            let mask = |n: u8| if n < honest { seen } else { masks[usize::from(n - honest)] };
            let shown: Vec<(u8, u32)> = (0..evaluators).map(|n| (n, mask(n))).collect();
            let counted = counted(evaluators, &shown);
            prop_assert!((0..honest).all(|n| counted.contains(&n)));
            prop_assert!(counted.iter().all(|n| seen >> n & 1 == 1));
        }
    }
}
