//! A run's money on its chain: the terms, the roots that members sign, and on the test chain the chain itself.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::anchor::{Anchor, ChainFacts, ChainMoney};
use tributary_protocol::filing::{self, Bind, Confirm, EvmAddress, EvmSignature, RootSignature};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Round, RunId};
use tributary_protocol::manifest::{Settlement, SettlementChain};
use tributary_protocol::roster::Roster;

use super::anchored::{Anchored, OwnFacts, block_of};
use super::payees::Payees;
use crate::settlement::calls;
use crate::settlement::{
    self, Address, Balances, BaseUnits, Binding, ChainId, Deployment, EvmKey, Keccak, Key, Root,
    Signature, Terms,
};
use crate::test_chain::{Outcome, TestChain, Transaction};
use crate::voucher::{self, ChannelId};

/// Seconds of the test chain's time between two heights: time follows rounds.
pub const SECONDS_PER_HEIGHT: u64 = 60;
/// Roots that are kept besides the accepted and the pending one: members sign within a height or two.
const KEPT_ROOTS: usize = 64;

/// The terms that a manifest names, as the contract hashes them.
pub fn terms_of(run: RunId, settlement: &Settlement) -> Terms {
    let units = |amount| BaseUnits::from_micro(amount).unwrap_or(BaseUnits(u128::MAX));
    Terms {
        run,
        sponsor: Address(settlement.sponsor.0),
        arbiter: settlement.arbiter.map(|arbiter| Address(arbiter.0)),
        rate_per_s: units(settlement.rate_per_s),
        challenge_bond: units(settlement.challenge_bond),
        min_stake: units(settlement.min_stake),
        window_s: settlement.window_s.into(),
        cooldown_s: settlement.cooldown_s.into(),
        halt_s: settlement.halt_s.into(),
    }
}

/// Where the contract of a run's money lies.
pub fn deployment_of(settlement: &Settlement) -> Deployment {
    match settlement.chain {
        SettlementChain::Test => TestChain::deployed().settlement_deployment(),
        SettlementChain::Evm { id, contract, .. } => Deployment {
            chain: ChainId(id),
            contract: Address(contract.0),
        },
    }
}

/// An account's word that a peer of a run is paid there, and that the account's stake is the peer's.
pub fn bind_of(run: RunId, settlement: &Settlement, peer: PeerId, key: &EvmKey) -> Bind {
    let run = terms_of(run, settlement).key();
    let digest = Binding { run, peer }.digest(&deployment_of(settlement));
    Bind {
        account: EvmAddress(key.address().0),
        signature: EvmSignature(*key.sign(&digest).as_bytes()),
    }
}

/// The root of one height, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// What is signed.
    pub root: Root,
    /// Its digest for the run's contract.
    pub digest: Keccak,
    /// State of the test chain after that height.
    pub chain: Option<Digest>,
    /// What each account is paid under it.
    pub accounts: BTreeMap<Address, BaseUnits>,
    /// How many lines stand under it.
    pub lines: usize,
    /// Signatures by account.
    pub signatures: BTreeMap<Address, Signature>,
    /// Answers to a challenge of it, by account.
    pub confirms: BTreeMap<Address, Signature>,
}

impl SignedRoot {
    /// The tree under it.
    pub fn balances(&self) -> Balances {
        Balances::build(&self.accounts).expect("a root was made of them")
    }
}

/// The chain of a run's money.
#[derive(Clone)]
enum RunChain {
    /// The test chain, run here; where members are bonded, with what anchors have to say of it.
    Test(Box<TestChain>, Option<OwnFacts>),
    /// A real one, as anchors tell of it.
    Real(Anchored),
}

/// A run's money on its chain.
#[derive(Clone)]
pub struct Settled {
    terms: Terms,
    key: Key,
    deployment: Deployment,
    chain: RunChain,
    roots: BTreeMap<Round, SignedRoot>,
    /// Members that signed another state of the test chain or another root than follows here, with the height.
    dissent: BTreeMap<(Round, PeerId), RootSignature>,
    /// Transactions of the last height that were refused, and why.
    refused: Vec<(Address, String)>,
    /// Evidence of the sentences that the test chain has taken.
    sentenced: BTreeSet<Keccak>,
}

impl Settled {
    pub(super) fn new(run: RunId, settlement: &Settlement, is_bonded: bool) -> Self {
        let terms = terms_of(run, settlement);
        let chain = match settlement.chain {
            SettlementChain::Test => {
                let facts = is_bonded.then(OwnFacts::default);
                RunChain::Test(Box::default(), facts)
            }
            SettlementChain::Evm { token, .. } => RunChain::Real(Anchored {
                token: Address(token.0),
                ..Anchored::default()
            }),
        };
        Self {
            key: terms.key(),
            terms,
            deployment: deployment_of(settlement),
            chain,
            roots: BTreeMap::new(),
            dissent: BTreeMap::new(),
            refused: Vec::new(),
            sentenced: BTreeSet::new(),
        }
    }

    /// The account that a bind names, if its key signed for this run and peer.
    pub(super) fn bound_account(&self, peer: PeerId, bind: &Bind) -> Option<Address> {
        let account = Address(bind.account.0);
        let signature = Signature::from_bytes(&bind.signature.0).ok()?;
        let digest = self.binding(peer).digest(&self.deployment);
        let is_end = [Address::ZERO, Address::LAST].contains(&account);
        (!is_end && signature.recover(&digest) == Ok(account)).then_some(account)
    }

    /// What a peer's account signs to be bound to it.
    pub fn binding(&self, peer: PeerId) -> Binding {
        Binding {
            run: self.key,
            peer,
        }
    }

    /// Takes a member's signature; whether it is under the root that follows here, and the chain's state with it.
    pub(super) fn take_signature(
        &mut self,
        author: PeerId,
        account: Address,
        given: &RootSignature,
    ) -> bool {
        let Some(known) = self.roots.get_mut(&given.round) else {
            return false;
        };
        let Ok(signature) = Signature::from_bytes(&given.signature.0) else {
            return false;
        };
        let is_same = *given.root.as_bytes() == known.digest.0 && given.chain == known.chain;
        if !is_same {
            self.dissent.insert((given.round, author), *given);
            return false;
        }
        if signature.recover(&known.digest) != Ok(account) {
            return false;
        }
        known.signatures.insert(account, signature);
        true
    }

    /// Takes a member's answer to a challenge of the root that follows here.
    pub(super) fn take_confirm(&mut self, account: Address, given: &Confirm) {
        let Some(known) = self.roots.get(&given.round) else {
            return;
        };
        let is_same = *given.root.as_bytes() == known.digest.0;
        let digest = self.confirmed(&known.root, known.digest);
        let signature = Signature::from_bytes(&given.signature.0);
        if let (true, Ok(signature)) = (is_same, signature)
            && signature.recover(&digest.digest(&self.deployment)) == Ok(account)
            && let Some(known) = self.roots.get_mut(&given.round)
        {
            known.confirms.insert(account, signature);
        }
    }

    /// What members sign where a root with this digest is challenged, and right.
    pub(super) fn confirmed(&self, root: &Root, digest: Keccak) -> settlement::Confirm {
        settlement::Confirm {
            run: self.key,
            height: root.height,
            root: digest,
        }
    }

    /// Runs a height's transactions on the test chain; what is deposited after it, rounded down to whole micro-OPEN.
    pub(super) fn run_block<'a>(
        &mut self,
        round: Round,
        sent: impl Iterator<Item = (Address, &'a filing::Transaction)>,
    ) -> MicroOpen {
        let chain = match &mut self.chain {
            RunChain::Test(chain, _) => chain,
            RunChain::Real(anchored) => return anchored.money.deposited,
        };
        let transactions: Vec<Transaction> = sent
            .map(|(from, transaction)| Transaction {
                from,
                to: Address(transaction.to.0),
                data: transaction.data.clone(),
            })
            .collect();
        let outcomes = chain.block(time_of(round), &transactions);
        let done = transactions.iter().zip(&outcomes);
        let done = done.filter(|(_, outcome)| matches!(outcome, Outcome::Done { .. }));
        let contract = self.deployment.contract;
        let sentences = done.filter(|(transaction, _)| transaction.to == contract);
        let terms = &self.terms;
        let sentences =
            sentences.filter_map(|(transaction, _)| calls::slash_of(terms, &transaction.data));
        let sentences = sentences.map(|slash| slash.evidence);
        self.sentenced.extend(sentences);
        let refused = transactions.iter().zip(outcomes);
        self.refused = refused
            .filter_map(|(transaction, outcome)| match outcome {
                Outcome::Done { .. } => None,
                Outcome::Refused { reason, .. } => Some((transaction.from, reason.to_string())),
            })
            .collect();
        chain.run(self.key).deposited.to_micro_floor()
    }

    /// The root of a height, from what accounts are paid by now, and which part of it fees cover.
    pub(super) fn close_height(&mut self, round: Round, payees: &Payees, is_closed: bool) {
        let units = |amount: &MicroOpen| {
            BaseUnits::from_micro(*amount).expect("no more than was deposited and swept")
        };
        let accounts: BTreeMap<Address, BaseUnits> = (payees.paid().iter())
            .map(|(account, amount)| (*account, units(amount)))
            .collect();
        let sum = Balances::build(&accounts)
            .expect("accounts of members")
            .root();
        let root = Root {
            run: self.key,
            height: round.0.into(),
            balances: sum.hash,
            total: sum.sum,
            fees: units(&payees.of_fees()),
            lines: payees.line_sum().root(),
            closed: is_closed,
        };
        let chain = self.chain();
        let signed = SignedRoot {
            digest: root.digest(&self.deployment),
            root,
            chain: chain.map(|chain| Digest::from_bytes(chain.state().0)),
            accounts,
            lines: payees.lines().len(),
            signatures: BTreeMap::new(),
            confirms: BTreeMap::new(),
        };
        let state = signed.chain;
        self.roots.insert(round, signed);
        self.forget_roots();
        let stakes = self.stakers(payees);
        if let (RunChain::Test(_, Some(facts)), Some(state)) = (&mut self.chain, state) {
            facts.note(ChainFacts {
                block: block_of(round, state),
                stakes,
                ..ChainFacts::default()
            });
        }
    }

    /// Takes over, or holds against the test chain, what a certified value says of the chain; `roster` is that after it.
    pub(super) fn take_anchor(&mut self, round: Round, anchor: &Anchor, roster: &Roster) {
        match &mut self.chain {
            RunChain::Test(_, Some(facts)) => facts.check(round, anchor),
            RunChain::Test(_, None) => {}
            RunChain::Real(anchored) => anchored.take(anchor, roster),
        }
    }

    /// What the test chain says after the last height, for anchors: of bonded runs.
    pub fn chain_facts(&self) -> Option<&ChainFacts> {
        match &self.chain {
            RunChain::Test(_, facts) => facts.as_ref()?.last(),
            RunChain::Real(_) => None,
        }
    }

    /// Heights whose anchor says something else than the test chain did.
    pub fn wrong_anchors(&self) -> &[Round] {
        match &self.chain {
            RunChain::Test(_, Some(facts)) => &facts.wrong,
            RunChain::Test(_, None) | RunChain::Real(_) => &[],
        }
    }

    /// What anchors say of a real chain: the run's money there, and the micro-OPEN of members' stake that count.
    pub fn anchored(&self) -> Option<(ChainMoney, u64)> {
        match &self.chain {
            RunChain::Test(..) => None,
            RunChain::Real(anchored) => {
                let stakes = anchored.stakes.iter().map(|(_, stake)| *stake);
                Some((anchored.money, stakes.fold(0, u64::saturating_add)))
            }
        }
    }

    /// Fees that came into the contract, ever.
    pub(super) fn swept(&self) -> MicroOpen {
        match &self.chain {
            RunChain::Test(chain, _) => chain.run(self.key).fees.to_micro_floor(),
            RunChain::Real(anchored) => anchored.money.fees,
        }
    }

    /// What was claimed of a channel, ever.
    pub(super) fn claimed(&self, channel: ChannelId) -> MicroOpen {
        match &self.chain {
            RunChain::Test(chain, _) => chain.channel(channel).claimed.to_micro_floor(),
            RunChain::Real(anchored) => anchored.claimed.get(&channel).copied().unwrap_or_default(),
        }
    }

    /// The one token that the contract holds.
    pub fn token(&self) -> Address {
        match &self.chain {
            RunChain::Test(..) => TestChain::deployed().token,
            RunChain::Real(anchored) => anchored.token,
        }
    }

    /// Where the run's fees arrive.
    pub fn till(&self) -> Address {
        self.deployment.till(self.key)
    }

    /// Where channels are held that pay the run's till.
    pub fn channels(&self) -> Deployment {
        voucher::stock(self.deployment.chain)
    }

    /// Keeps the newest roots, and what the chain has accepted or waits for.
    fn forget_roots(&mut self) {
        let on_chain = self.on_chain();
        let newest = self.roots.keys().rev().nth(KEPT_ROOTS).copied();
        self.roots.retain(|round, _| {
            Some(*round) > newest || on_chain.contains(&Some(u64::from(round.0)))
        });
        let oldest = self.roots.keys().next().copied();
        self.dissent.retain(|(round, _), _| Some(*round) >= oldest);
    }

    fn on_chain(&self) -> [Option<u64>; 2] {
        let view = self.chain().map(|chain| chain.run(self.key));
        let pending = view.and_then(|view| view.pending);
        [
            view.map(|view| view.accepted.height),
            pending.map(|pending| pending.root.height),
        ]
    }

    /// Whether the contract holds at least what came and has not left, and no more of deposit and of fees is promised than
    /// came. It may hold more: bonds of challengers, stake of who is paid nowhere any more, and what anybody sent it.
    pub(super) fn is_conserved(&self, payees: &Payees) -> bool {
        let Some(chain) = self.chain() else {
            return self.is_covered();
        };
        let run = chain.run(self.key);
        let stakes = payees
            .accounts()
            .map(|account| chain.stake(self.key, account).all().0);
        let came = run.deposited.0 + run.fees.0 + stakes.sum::<u128>();
        let left = run.paid.0 + run.reclaimed.0;
        chain.balance(self.deployment.contract).0 + left >= came && self.is_covered()
    }

    /// Whether the last root promises no more of deposit and of fees than came.
    fn is_covered(&self) -> bool {
        let (deposited, swept) = match &self.chain {
            RunChain::Test(chain, _) => {
                let run = chain.run(self.key);
                (run.deposited, run.fees)
            }
            RunChain::Real(anchored) => {
                let units = |amount| BaseUnits::from_micro(amount).unwrap_or(BaseUnits(u128::MAX));
                (units(anchored.money.deposited), units(anchored.money.fees))
            }
        };
        self.roots.last_key_value().is_none_or(|(_, signed)| {
            let (total, fees) = (signed.root.total.0, signed.root.fees.0);
            fees <= total && fees <= swept.0 && total - fees <= deposited.0
        })
    }

    /// Peers whose accounts have stake that counts, with micro-OPEN of it, ordered.
    pub(super) fn stakers(&self, payees: &Payees) -> Vec<(PeerId, u64)> {
        let chain = match &self.chain {
            RunChain::Test(chain, _) => chain,
            RunChain::Real(anchored) => return anchored.stakes.clone(),
        };
        let stake = |account| chain.stake(self.key, account).counting.to_micro_floor().0;
        let bound = payees
            .stakers()
            .map(|(peer, account)| (peer, stake(account)));
        let bound = bound.filter(|(_, stake)| *stake > 0);
        bound
            .map(|(peer, stake)| (peer, u64::try_from(stake).unwrap_or(u64::MAX)))
            .collect()
    }

    /// Evidence of the sentences that the test chain has taken.
    pub(super) fn sentenced(&self) -> &BTreeSet<Keccak> {
        &self.sentenced
    }

    /// What the run's money is bound by.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The run's name on its chain.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The contract.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The test chain, where the run settles there.
    pub fn chain(&self) -> Option<&TestChain> {
        match &self.chain {
            RunChain::Test(chain, _) => Some(chain),
            RunChain::Real(_) => None,
        }
    }

    /// Roots that are kept, by height.
    pub fn roots(&self) -> &BTreeMap<Round, SignedRoot> {
        &self.roots
    }

    /// Members that signed another root, or another state of the test chain, than follows here.
    pub fn dissent(&self) -> impl Iterator<Item = (Round, PeerId)> {
        self.dissent.keys().copied()
    }

    /// Transactions of the last height that the test chain refused: from which account, and why.
    pub fn refused(&self) -> &[(Address, String)] {
        &self.refused
    }
}

/// The test chain's time at a height, seconds.
pub(super) fn time_of(round: Round) -> u64 {
    // The first block has a time above zero, as contracts read zero as "never".
    SECONDS_PER_HEIGHT * (u64::from(round.0) + 1)
}
