//! Reads the certified rounds out of a finished world: the longest chain, the sheets in its ledger,
//! the adapters on its disks.

use std::collections::BTreeMap;

use tributary_attribution::credit;
use tributary_attribution::significance::{Significance, TestedScore};
use tributary_protocol::entry::{Entry, Role, ScoreSheet, ShownSheet};
use tributary_protocol::id::{BlobHash, PeerId, Round, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::RunView;
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self, Head};

use super::history::{IncludedUpdate, Participant, PayFacts, RoundFacts, ScoreFacts, SheetFacts};
use crate::machine::Machine;

/// Everybody of a world, as reports name them.
pub(crate) fn participants(machines: &[Machine]) -> Vec<Participant> {
    let of = |(at, machine): (usize, &Machine)| Participant {
        name: format!("peer-{at:02}"),
        role: match machine.role {
            Role::Contributor => "contributor",
            Role::Evaluator => "evaluator",
            Role::Both => "both",
        },
        behaviour: (machine.liar.as_ref())
            .map(|liar| liar.attack.clone())
            .unwrap_or_default(),
        slowness: machine.slowness as f64 / 1_000.0,
    };
    machines.iter().enumerate().map(of).collect()
}

/// The certified rounds, told by the machine that knows most of them. `loss` measures an adapter's
/// numbers.
pub(crate) fn rounds(
    machines: &[Machine],
    run: &RunId,
    loss: &dyn Fn(&[f32]) -> f64,
) -> Vec<RoundFacts> {
    let views = machines.iter().filter_map(|m| m.node.as_ref()?.run(run));
    let Some(view) = views.max_by_key(|view| view.chain().len()) else {
        return Vec::new();
    };
    let Some(manifest) = view.manifest() else {
        return Vec::new();
    };
    let reader = Reader {
        machines,
        manifest,
        names: names(machines),
        sheets: sheets(&view),
        loss,
    };
    let values: Vec<(u32, &RoundValue)> = (view.chain().iter())
        .map(|certificate| (certificate.attempt, &certificate.value))
        .collect();
    let mut members = BTreeMap::new();
    let mut head = None;
    let mut significance = Significance::default();
    let mut out = Vec::with_capacity(values.len());
    for (at, (attempt, value)) in values.iter().enumerate() {
        let next = values.get(at + 1).map(|(_, value)| *value);
        let mut facts = reader.facts(value, next);
        let tested = next.map_or(Vec::new(), |next| significance.round(&next.scores));
        if next.is_some() && !value.included.is_empty() {
            (facts.scores, facts.pay) = reader.scores(value, &tested);
        }
        facts.attempt = *attempt;
        let committee = state::committee(manifest, run, head.as_ref());
        let seats = committee.members().iter();
        facts.committee = seats
            .filter_map(|peer| reader.names.get(peer).copied())
            .collect();
        facts.in_turn = reader.names.get(&committee.proposer(0)).copied();
        let drawn = head.iter().flat_map(|head: &Head| &head.participants);
        facts.expected = reader.named(drawn);
        // A node has followed this chain already, so it can be followed here.
        head = state::follow(manifest, *run, head.as_ref(), value).ok();
        let contributors = members
            .iter()
            .filter(|(_, role): &(_, &Role)| role.contributes());
        facts.contributors = reader.named(contributors.map(|(peer, _)| peer));
        members.extend(value.joins.iter().map(|j| (j.entry.author, j.role)));
        for leave in &value.leaves {
            members.remove(&leave.author);
        }
        out.push(facts);
    }
    out
}

/// Which participant stands behind each name; a liar may go by several.
pub(crate) fn names(machines: &[Machine]) -> BTreeMap<PeerId, usize> {
    let mut out = BTreeMap::new();
    for (at, machine) in machines.iter().enumerate() {
        out.insert(machine.id, at);
        let liar = machine.liar.as_ref();
        let others = liar.into_iter().flat_map(|liar| liar.names());
        out.extend(others.into_iter().map(|name| (name, at)));
    }
    out
}

fn sheets<'a>(view: &RunView<'a>) -> BTreeMap<Round, Vec<(EntryRef, &'a ScoreSheet)>> {
    let mut out: BTreeMap<Round, Vec<_>> = BTreeMap::new();
    for (at, entry) in view.log().all() {
        if let Entry::ScoreSheet(ShownSheet { sheet, .. }) = entry {
            out.entry(sheet.round).or_default().push((at, sheet));
        }
    }
    out
}

struct Reader<'a> {
    machines: &'a [Machine],
    manifest: &'a Manifest,
    names: BTreeMap<PeerId, usize>,
    sheets: BTreeMap<Round, Vec<(EntryRef, &'a ScoreSheet)>>,
    loss: &'a dyn Fn(&[f32]) -> f64,
}

impl Reader<'_> {
    fn facts(&self, value: &RoundValue, next: Option<&RoundValue>) -> RoundFacts {
        let who = |peer: &PeerId| self.names.get(peer).copied();
        let update = |i: &tributary_protocol::round::Included| {
            Some(IncludedUpdate {
                peer: who(&i.receipt.author)?,
                tokens: i.tokens,
                weight: i.weight,
                bytes: i.update.size,
            })
        };
        RoundFacts {
            round: value.round.0,
            attempt: 0,
            committee: Vec::new(),
            in_turn: None,
            contributors: Vec::new(),
            expected: Vec::new(),
            included: value.included.iter().filter_map(update).collect(),
            joins: (value.joins.iter())
                .filter_map(|j| who(&j.entry.author))
                .collect(),
            leaves: value.leaves.iter().filter_map(|l| who(&l.author)).collect(),
            common_loss: self.common_loss(&value.adapter.hash),
            sheets: self.sheets_of(value.round, next),
            scores: Vec::new(),
            judged: next.is_some_and(|next| !next.scores.is_empty()),
            pay: None,
        }
    }

    /// A liar that goes by several names counts once.
    fn named<'p>(&self, peers: impl Iterator<Item = &'p PeerId>) -> Vec<usize> {
        let mut out: Vec<usize> = peers
            .filter_map(|peer| self.names.get(peer).copied())
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    fn sheets_of(&self, round: Round, next: Option<&RoundValue>) -> Vec<SheetFacts> {
        let sheets = self.sheets.get(&round).into_iter().flatten();
        let facts = |(at, sheet): &(EntryRef, &ScoreSheet)| {
            Some(SheetFacts {
                evaluator: *self.names.get(&at.author)?,
                certified: next.is_some_and(|next| next.sheets.contains(at)),
                loss_before: sheet.loss_before,
                loss_after: sheet.loss_after,
            })
        };
        sheets.filter_map(facts).collect()
    }

    /// What a round's final scores pay.
    fn scores(
        &self,
        value: &RoundValue,
        tested: &[TestedScore],
    ) -> (Vec<ScoreFacts>, Option<PayFacts>) {
        let offer = credit::Offer::of_round(self.manifest, value);
        let Ok(credits) = credit::assign(tested, &offer, &credit::Served::default()) else {
            return (Vec::new(), None);
        };
        let line = |line: &credit::Credit| {
            Some(ScoreFacts {
                peer: *self.names.get(&line.peer())?,
                score: line.tested.score.score,
                low: line.tested.score.low,
                high: line.tested.score.high,
                credit: line.credit,
                amount: line.amount,
                is_held_back: line.tested.is_held_back(),
            })
        };
        let pay = PayFacts {
            outcome: credits.outcome,
            gain: credits.gain as f64 / 1e9,
            worth: credits.worth,
            waiting: credits.waiting,
        };
        (credits.lines.iter().filter_map(line).collect(), Some(pay))
    }

    fn common_loss(&self, adapter: &BlobHash) -> Option<f64> {
        let bytes = self.machines.iter().find_map(|m| m.store.blob(adapter))?;
        let shape = std::sync::Arc::new(self.manifest.model.adapter.clone());
        let adapter = tributary_protocol::adapter::Adapter::from_bytes(shape, bytes).ok()?;
        Some((self.loss)(adapter.values()))
    }
}
