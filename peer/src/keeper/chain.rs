//! Reads the real chains of this peer's runs, and tells the node what they say.
//!
//! ```text
//!   books, joins ──► which accounts, which channels ──┐
//!   node of the chain ──► finalized block, every 16th ─┴──► ChainFacts ──► Request::Chain ──► anchors
//! ```
//!
//! Members leave a value unanswered whose anchor says something else than they read themselves, so all of them read the same
//! blocks: those whose numbers are multiples of [`EVERY`]. The newest [`KEPT`] are read again when somebody joins or binds, so
//! that what was read earlier and later agrees. The newest final block says whether a posted root is challenged: the keeper answers
//! for a right one. Nothing is sent from here.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tributary_attribution::run_books::{Asked, terms_of};
use tributary_attribution::settlement::{Address, ChainId};
use tributary_protocol::anchor::{ChainBlock, ChainFacts, ChainMoney, ChannelClaimed};
use tributary_protocol::filing::Bind;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::limits;
use tributary_protocol::manifest::{Manifest, SettlementChain};
use tributary_protocol::node::Node;
use tributary_settlement::{self as settlement, Block, Chain, ConnectError, Facts, NodeError};

use super::{Keeper, is_on_real_chain};
use crate::driver::Request;
use crate::progress::RunProgress;
use crate::settings::ChainSettings;

/// Numbers of the blocks that are read are multiples of this.
const EVERY: u64 = 16;
/// Blocks that are read again when what is asked changes: others may name one while this peer has seen later ones.
const KEPT: u64 = 4;

/// Why a run's chain was not read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(
        "the contract holds the token {found}, and the run's manifest says {wanted}; have nothing to do with that run's money"
    )]
    Token { found: Address, wanted: Address },
}

/// Reads chains while the daemon runs.
pub(crate) struct ChainReader {
    keeper: Keeper,
    settings: ChainSettings,
    chains: BTreeMap<(u64, Address), Chain>,
    /// What the node was told, by run and block.
    told: BTreeMap<RunId, BTreeMap<u64, (Asked, ChainFacts)>>,
    /// What the owner was told last of a run whose chain was not read.
    said: BTreeMap<RunId, String>,
}

impl ChainReader {
    pub(crate) fn new(keeper: Keeper, settings: ChainSettings) -> Self {
        Self {
            keeper,
            settings,
            chains: BTreeMap::new(),
            told: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Looks again and again, until the driver ends.
    pub(crate) async fn run(mut self, progress: watch::Receiver<Arc<Vec<RunProgress>>>) {
        let mut beat = tokio::time::interval(self.settings.every());
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            // The driver has ended.
            if progress.has_changed().is_err() {
                return;
            }
            let runs = progress.borrow().clone();
            for run in runs.iter() {
                if let Some(manifest) = run.manifest.as_deref()
                    && is_on_real_chain(manifest)
                {
                    self.look(run.run, manifest).await;
                }
            }
        }
    }

    /// Reads a run's chain once; the owner hears of what is new in the way.
    async fn look(&mut self, run: RunId, manifest: &Manifest) {
        let short = run.short();
        if self.settings.rpc.is_none() {
            let said = format!(
                "run {short} has its money on a real chain, and this peer reads none: it follows what other members read, and \
                 admits nobody by stake; to read it, start `tributary up --chain-rpc URL`"
            );
            return self.say(run, &said);
        }
        match self.read(run, manifest).await {
            Ok(()) => {
                if self.said.remove(&run).is_some() {
                    tracing::info!("run {short}: its chain is read again");
                }
            }
            Err(why) => self.say(run, &format!("run {short}: its chain is not read: {why}")),
        }
    }

    fn say(&mut self, run: RunId, words: &str) {
        if self.said.get(&run).is_none_or(|said| said != words) {
            tracing::warn!("{words}");
            self.said.insert(run, words.to_owned());
        }
    }

    async fn read(&mut self, run: RunId, manifest: &Manifest) -> Result<(), ReadError> {
        let Some(chain) = self.chain(manifest).await? else {
            return Ok(());
        };
        let Some(asked) = self.asked(run).await else {
            return Ok(());
        };
        let last = chain.finalized().await?;
        if let Some(terms) = &manifest.payment.settlement {
            let run_now = chain.settlement().runs(terms_of(run, terms).key());
            let pending = chain.ask(&run_now, &last).await?.pending;
            let challenged = pending.filter(|root| root.challenger.is_some());
            let digest = challenged.map(|root| root.digest);
            self.keeper.note_challenge(run, digest).await;
        }
        let newest = last.number / EVERY;
        // Before the first multiple there is nothing that the members would read alike.
        let first = newest.saturating_sub(KEPT - 1).max(1);
        for number in (first..=newest).map(|at| at * EVERY) {
            let told = self.told.entry(run).or_default();
            if told
                .get(&number)
                .is_some_and(|(before, _)| *before == asked)
            {
                continue;
            }
            let block = chain.node().final_block(number).await?;
            let facts = match facts(&chain, manifest, &asked, &block).await {
                Ok(facts) => facts,
                // The contract is younger than this block.
                Err(NodeError::Answer(_)) => continue,
                Err(other) => return Err(other.into()),
            };
            while told.len() > limits::MAX_CHAIN_FACTS {
                told.pop_first();
            }
            let before = told.insert(number, (asked.clone(), facts.clone()));
            if before.is_some_and(|(_, before)| before == facts) {
                continue;
            }
            if let Some(requests) = self.keeper.requests.upgrade() {
                // A driver that has stopped asks for nothing more.
                let _ = requests.send(Request::Chain(run, facts)).await;
            }
        }
        Ok(())
    }

    /// The run's contract, checked when it is first asked.
    async fn chain(&mut self, manifest: &Manifest) -> Result<Option<Chain>, ReadError> {
        let terms = manifest.payment.settlement;
        let Some(SettlementChain::Evm {
            id,
            contract,
            token,
        }) = terms.map(|terms| terms.chain)
        else {
            return Ok(None);
        };
        let (contract, wanted) = (Address(contract.0), Address(token.0));
        if !self.chains.contains_key(&(id, contract)) {
            let Some(config) = self.settings.config(ChainId(id)) else {
                return Ok(None);
            };
            let chain = Chain::connect(config, contract).await?;
            self.chains.insert((id, contract), chain);
        }
        let chain = self.chains.get(&(id, contract)).cloned();
        match chain.as_ref().map(|chain| chain.token().0) {
            Some(found) if found != wanted => Err(ReadError::Token { found, wanted }),
            _ => Ok(chain),
        }
    }

    /// What is asked about a run now: accounts of members and of those who ask to be one, and channels of filed answers.
    async fn asked(&self, run: RunId) -> Option<Asked> {
        let (answer, wait) = oneshot::channel();
        let look = move |node: &Node| {
            let joins = node.run(&run).map(|view| {
                let binds = view
                    .joins()
                    .filter_map(|(peer, join)| Some((peer, join.bind?)));
                binds.collect::<Vec<(PeerId, Bind)>>()
            });
            let _ = answer.send(joins);
        };
        let request = Request::Inspect(Box::new(look));
        self.keeper.requests.upgrade()?.send(request).await.ok()?;
        let joins = wait.await.ok()??;
        self.keeper.with_books(&run, |books| {
            books.settled()?;
            Some(books.asked(joins.iter().map(|(peer, bind)| (*peer, bind))))
        })
    }
}

/// What a block says of a run, as anchors take it over.
async fn facts(
    chain: &Chain,
    manifest: &Manifest,
    asked: &Asked,
    block: &Block,
) -> Result<ChainFacts, NodeError> {
    let terms = manifest.payment.settlement.as_ref();
    let Some(terms) = terms.map(|terms| terms_of(manifest.run_id(), terms)) else {
        return Ok(ChainFacts::default());
    };
    let questions = settlement::Asked {
        accounts: asked.stakers.iter().map(|(_, account)| *account).collect(),
        channels: asked.channels.clone(),
    };
    let facts = chain.facts(terms.key(), &questions, block).await?;
    Ok(taken(&facts, asked))
}

fn taken(facts: &Facts, asked: &Asked) -> ChainFacts {
    let stake = |(peer, account): &(PeerId, Address)| {
        let counting = facts.accounts.get(account)?.stake.counting.to_micro_floor();
        // The protocol counts no more than its own bound.
        let stake = u64::try_from(counting.0).unwrap_or(limits::MAX_STAKE);
        (stake > 0).then_some((*peer, stake.min(limits::MAX_STAKE)))
    };
    let mut channels: Vec<ChannelClaimed> = (facts.channels.iter())
        .map(|(channel, money)| ChannelClaimed {
            channel: Digest::from_bytes(channel.0.0),
            claimed: money.claimed.to_micro_floor(),
        })
        .filter(|channel| channel.claimed.0 > 0)
        .collect();
    channels.sort_unstable();
    ChainFacts {
        block: ChainBlock {
            number: facts.block.number,
            hash: Digest::from_bytes(facts.block.hash.0),
        },
        money: ChainMoney {
            deposited: facts.run.deposited.to_micro_floor(),
            fees: facts.run.fees.to_micro_floor(),
        },
        stakes: asked.stakers.iter().filter_map(stake).collect(),
        channels,
    }
}

#[cfg(test)]
mod tests {
    use tributary_attribution::settlement::calls::{RunView, StakeView};
    use tributary_attribution::settlement::{BaseUnits, Keccak};
    use tributary_attribution::voucher::ChannelId;
    use tributary_protocol::id::MicroOpen;
    use tributary_settlement::{AccountFacts, ChannelFacts};

    use super::*;

    const MICRO: u128 = 1_000_000_000_000;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn channel(n: u8, claimed: u128) -> (ChannelId, ChannelFacts) {
        let facts = ChannelFacts {
            balance: BaseUnits(claimed),
            claimed: BaseUnits(claimed),
        };
        (ChannelId(Keccak([n; 32])), facts)
    }

    #[test]
    fn a_block_says_whole_micro_open_of_what_counts_and_names_nobody_without_stake() {
        let staked = |counting| AccountFacts {
            stake: StakeView {
                counting: BaseUnits(counting),
                maturing: BaseUnits(9 * MICRO),
                ..StakeView::default()
            },
            ..AccountFacts::default()
        };
        let amounts = [2 * MICRO + 1, MICRO - 1, u128::MAX];
        let accounts = (1..)
            .zip(amounts)
            .map(|(n, amount)| (Address([n; 20]), staked(amount)));
        let facts = Facts {
            block: Block {
                number: 32,
                hash: Keccak([7; 32]),
                time_s: 1,
            },
            run: RunView {
                deposited: BaseUnits(5 * MICRO + 3),
                fees: BaseUnits(MICRO),
                ..RunView::default()
            },
            till: Address::ZERO,
            in_till: BaseUnits(0),
            accounts: accounts.collect(),
            channels: [
                channel(9, 3 * MICRO),
                channel(2, MICRO),
                channel(5, MICRO - 1),
            ]
            .into(),
        };
        let asked = Asked {
            stakers: (1..=4).map(|n| (peer(n), Address([n; 20]))).collect(),
            channels: facts.channels.keys().copied().collect(),
        };
        let taken = taken(&facts, &asked);
        assert_eq!(taken.stakes, [(peer(1), 2), (peer(3), limits::MAX_STAKE)]);
        let claimed: Vec<MicroOpen> = taken.channels.iter().map(|one| one.claimed).collect();
        assert_eq!(claimed, [MicroOpen(1), MicroOpen(3)]);
        assert_eq!(
            (taken.money.deposited, taken.money.fees),
            (MicroOpen(5), MicroOpen(1))
        );
        assert_eq!(taken.block.number, 32);
    }
}
