//! A real chain as members see it: blocks that become final, stakes that come and go, nodes that are behind, say for a while
//! what a reorganisation then takes back, or are asked by nobody honest.
//!
//! Nobody in the world follows this chain from its transactions; each machine reads it, as a daemon reads a node.

use std::collections::BTreeMap;

use tributary_attribution::run_books::bind_of;
use tributary_protocol::anchor::{Anchor, ChainBlock, ChainFacts, ChainMoney};
use tributary_protocol::event::Input;
use tributary_protocol::filing::{Bind, EvmAddress};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{MicroOpen, PeerId};
use tributary_protocol::manifest::SettlementChain;

use super::World;
use super::settle::account;
use crate::clock::{Micros, ms};
use crate::scenario::ChainName;

/// Micro-OPEN in an OPEN.
const OPEN: u64 = 1_000_000;
/// The least stake that admits anybody.
pub(super) const LEAST: u64 = OPEN;
/// Most stake that a machine puts up, in OPEN.
const MOST: u64 = 9;
/// No stake moves while a run begins.
const SETTLED_BLOCKS: u64 = 4;

/// Where the contracts lie.
pub(super) fn chain() -> SettlementChain {
    SettlementChain::Evm {
        id: 1612,
        contract: EvmAddress([0x71; 20]),
        token: EvmAddress([0x72; 20]),
    }
}

/// How far machines have read the chain, and what they read.
#[derive(Default)]
pub(super) struct Reading {
    /// Of each machine: its boot, and the block that it read last.
    read: BTreeMap<usize, (u32, u64)>,
    /// Stakes of all machines at each block so far, in OPEN.
    stakes: Vec<Vec<u64>>,
}

impl World {
    /// What a machine joins with, where stake admits: the account that the stake is of.
    pub(super) fn bind_of(&self, at: usize) -> Option<Bind> {
        let settlement = self.manifest.payment.settlement?;
        (self.scenario.run.chain == ChainName::Modelled).then(|| {
            let machine = &self.machines[at];
            let run = self.manifest.run_id();
            bind_of(run, &settlement, machine.id, &account(machine.seed))
        })
    }

    /// Has a machine read the chain, if a block has become final for it since it did. Time alone decides which.
    pub(super) fn read_chain(&mut self, at: usize) {
        if self.scenario.run.chain != ChainName::Modelled {
            return;
        }
        let machine = &self.machines[at];
        if machine
            .node
            .as_ref()
            .is_none_or(|node| node.run(&self.run).is_none())
        {
            return;
        }
        let plan = self.scenario.chain;
        // Nodes are behind by up to a block.
        let behind = self.lot(b"behind", at as u64, 0) % (plan.block_ms.max(1) * 1_000);
        let since: Micros = self.now.saturating_sub(behind);
        let number = since / ms(plan.block_ms.max(1));
        let before = self
            .reading
            .read
            .get(&at)
            .filter(|(boot, _)| *boot == machine.boot);
        let before = before.map(|(_, number)| *number);
        if number == 0 || before.is_some_and(|before| before >= number) {
            return;
        }
        self.reading.read.insert(at, (machine.boot, number));
        let run = self.run;
        // What was taken back is read again with the next block.
        let again = before.filter(|before| self.is_reorganised(at, *before));
        for (number, is_taken_back) in again
            .map(|before| (before, false))
            .into_iter()
            .chain([(number, self.is_reorganised(at, number))])
        {
            let facts = self.facts(number, is_taken_back);
            self.feed(at, Input::Chain { run, facts });
        }
    }

    /// A number that follows from seed, words and places.
    fn lot(&self, what: &[u8], one: u64, other: u64) -> u64 {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"chain").update(what);
        hasher.update(&self.oracle.seed().to_le_bytes());
        hasher
            .update(&one.to_le_bytes())
            .update(&other.to_le_bytes());
        let bytes = hasher.finalize();
        let (first, _) = bytes.as_bytes().split_at(8);
        u64::from_le_bytes(first.try_into().expect("eight bytes"))
    }

    fn is_drawn(&self, what: &[u8], at: usize, block: u64, share: f64) -> bool {
        (self.lot(what, at as u64, block) as f64) < share * u64::MAX as f64
    }

    /// Whether a machine's node says of a block what is taken back later.
    fn is_reorganised(&self, at: usize, block: u64) -> bool {
        self.is_drawn(b"reorg", at, block, self.scenario.chain.reorgs)
    }

    /// Stakes at a block, in OPEN.
    fn stakes(&mut self, block: u64) -> &[u64] {
        // Whose stake is gone is not admitted, and the first height waits for everybody who is there.
        let least = u64::from(!self.has_begun());
        while self.reading.stakes.len() as u64 <= block {
            let number = self.reading.stakes.len() as u64;
            let next: Vec<u64> = (0..self.machines.len())
                .map(|at| {
                    let drawn = self.lot(b"stake", at as u64, number);
                    let moves = number > SETTLED_BLOCKS
                        && self.is_drawn(b"moves", at, number, self.scenario.chain.moves);
                    match self.reading.stakes.last() {
                        Some(_) if moves => (drawn % (MOST + 1)).max(least),
                        Some(before) => before[at],
                        None => 1 + drawn % MOST,
                    }
                })
                .collect();
            self.reading.stakes.push(next);
        }
        &self.reading.stakes[block as usize]
    }

    /// Whether some honest machine has seen the run's first height certified.
    fn has_begun(&self) -> bool {
        let honest = self.machines.iter();
        honest
            .filter(|machine| machine.liar.is_none())
            .filter_map(|machine| machine.node.as_ref()?.run(&self.run))
            .any(|view| !view.chain().is_empty())
    }

    /// What the chain says of a block, or what it said before it was reorganised: there everybody has half as much.
    fn facts(&mut self, block: u64, is_taken_back: bool) -> ChainFacts {
        let unit = if is_taken_back { OPEN / 2 } else { OPEN };
        let ids: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        let stakes = ids.into_iter().zip(self.stakes(block).to_vec());
        let mut stakes: Vec<(PeerId, u64)> = stakes
            .filter(|(_, stake)| *stake > 0)
            .map(|(peer, stake)| (peer, stake * unit))
            .collect();
        stakes.sort_unstable();
        let payment = &self.manifest.payment;
        let rounds = u128::from(self.manifest.plan.rounds);
        ChainFacts {
            block: ChainBlock {
                number: block,
                hash: self.block_hash(block, is_taken_back),
            },
            money: ChainMoney {
                deposited: MicroOpen(payment.budget_per_round.0 * rounds),
                fees: MicroOpen(0),
            },
            stakes,
            channels: Vec::new(),
        }
    }

    fn block_hash(&self, block: u64, is_taken_back: bool) -> Digest {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"block").update(&block.to_le_bytes());
        hasher.update(&[u8::from(is_taken_back)]);
        hasher.finalize()
    }

    /// Holds every anchor that an honest machine has certified against what could be read.
    pub(super) fn check_anchors(&mut self) {
        if self.scenario.run.chain != ChainName::Modelled {
            return;
        }
        let honest = self.machines.iter().enumerate();
        let honest = honest.filter(|(_, machine)| machine.liar.is_none());
        let mut anchors = Vec::new();
        for (at, machine) in honest {
            let Some(view) = machine.node.as_ref().and_then(|node| node.run(&self.run)) else {
                continue;
            };
            let values = view.chain().iter().map(|certificate| &certificate.value);
            anchors
                .extend(values.filter_map(|value| Some((at, value.round, value.anchor.clone()?))));
        }
        for (at, round, anchor) in anchors {
            if !self.was_read(&anchor) {
                let what = format!("round {round}: {anchor:?}");
                self.oracle.invented_anchor(self.now, at, what);
            }
        }
    }

    /// Whether some honest machine can have read what an anchor says.
    fn was_read(&mut self, anchor: &Anchor) -> bool {
        let block = anchor.block.number;
        let is_past = block <= self.now / ms(self.scenario.chain.block_ms.max(1));
        is_past
            && [false, true]
                .map(|back| self.facts(block, back).agrees(anchor))
                .contains(&true)
    }
}
