//! Chooses among score sheets: as a proposer those that favour it and its friends, as an evaluator by writing one.
//!
//! A proposer tries what the scores become with sheets left out, and proposes the value that leaves its friends
//! furthest above the others. An evaluator says that friends helped and that others harmed.

use std::collections::BTreeSet;

use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::{NanoNats, PeerId};
use tributary_protocol::limits;
use tributary_protocol::round::{EntryRef, RoundValue};

use super::instead::{Instead, rebuilt};
use super::{Behaviour, LiarContext};

/// Sheets up to which it tries all sets of them; of more, all sets that lack one.
const FEW_SHEETS: usize = 5;
/// By how much it exaggerates, times the largest score of the sheet.
const EXAGGERATION: i64 = 4;
/// The score that it invents where all are zero: a thousandth of a nat.
const INVENTED: i64 = 1_000_000;

/// Score sheets that favour its friends: as an evaluator it writes them, as a proposer it leaves others out.
#[derive(Default)]
pub(super) struct PickSheets(Instead);

/// The sheet with friends above everybody else.
pub(super) fn bend(sheet: &mut ScoreSheet, friends: &BTreeSet<PeerId>) {
    let largest = sheet.scores.iter().map(|line| line.score.0.abs()).max();
    let most = EXAGGERATION * largest.unwrap_or_default().max(INVENTED);
    let most = most.min(limits::MAX_NANO_NATS);
    for line in &mut sheet.scores {
        let is_friend = friends.contains(&line.peer);
        let score = NanoNats(if is_friend { most } else { -most });
        (line.score, line.low, line.high) = (score, score, score);
        line.luck = NanoNats(if is_friend { 0 } else { most });
    }
}

/// Sets of sheets that a proposer may choose from, all of them first.
fn sets(sheets: &[EntryRef]) -> Vec<Vec<EntryRef>> {
    let all = sheets.len();
    let without = |left_out: u32| {
        let kept = sheets.iter().enumerate();
        let kept = kept.filter(|(at, _)| left_out & (1 << at) == 0);
        kept.map(|(_, sheet)| *sheet).collect()
    };
    match all {
        0..=FEW_SHEETS => (0..1 << all).map(without).collect(),
        _ => {
            let lacking = |at: usize| [&sheets[..at], &sheets[at + 1..]].concat();
            let mut out = vec![sheets.to_vec()];
            out.extend((0..all).map(lacking));
            out
        }
    }
}

/// How far the scores of friends are above those of the others.
fn favour(value: &RoundValue, friends: &BTreeSet<PeerId>) -> i128 {
    let sign = |peer: &PeerId| if friends.contains(peer) { 1 } else { -1 };
    (value.scores.iter())
        .map(|line| sign(&line.peer) * i128::from(line.score.0))
        .sum()
}

/// The value whose sheets favour friends most, where it is another one.
pub(super) fn picked(value: &RoundValue, cx: &LiarContext<'_>) -> Option<RoundValue> {
    let friends = cx.friends();
    let mut best = (favour(value, &friends), None);
    for sheets in sets(&value.sheets) {
        let Some(other) = rebuilt(value, cx, |selection| selection.sheets = sheets) else {
            continue;
        };
        let favour = favour(&other, &friends);
        if favour > best.0 {
            best = (favour, Some(other));
        }
    }
    best.1
}

impl Behaviour for PickSheets {
    fn input(&mut self, cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Scored { sheet, .. } = &mut input {
            bend(sheet, &cx.friends());
        }
        Some(input)
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        self.0.say(cx, effect, picked);
    }
}
