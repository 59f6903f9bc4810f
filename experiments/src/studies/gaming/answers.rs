//! The cheater's part of answers to questions that it may have trained on, and what asking them costs.

use serde::{Deserialize, Serialize};
use tributary_attribution::fee::{self, Fees, Shaped, Source};
use tributary_attribution::query::stretch::{Stretch, shares};
use tributary_attribution::settlement::Address;
use tributary_attribution::{Account, Moved, TokenLoss};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Ppb, Round, RunId};
use tributary_protocol::manifest::RevenueSplit;
use tributary_protocol::round::EntryRef;
use tributary_trainer::{BaseModel, Windows, evaluate, tokens_loss_and_gradient};

use super::setup::Setup;
use crate::learner::mean;
use tributary_simulations::federation::{Closed, peer};

/// Rounds of a stage: a run is looked at in quarters, as `tributary why` does.
const STAGE: usize = 3;
/// Tokens of a window that are the question; the rest is the answer.
const PROMPT: usize = 8;
/// The price of an answer; any will do.
const FEE: u128 = 1_000_000;
/// The split that the simulator's runs have.
const REVENUE: RevenueSplit = RevenueSplit {
    contributors: Ppb(700_000_000),
    base_author: Ppb(100_000_000),
    server: Ppb(100_000_000),
    committee: Ppb(50_000_000),
    stakers: Ppb(50_000_000),
};

/// Means over the questions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The cheater's share, nobody's part included in the whole.
    pub(super) share: f64,
    /// The greatest over the questions.
    pub(super) most: f64,
    /// What a consumer that is the cheater gets back of its fee, mean and greatest.
    pub(super) back: f64,
    pub(super) most_back: f64,
    /// The same when it serves the answer itself and holds all seats of the committee.
    pub(super) back_serving: f64,
    /// Loss of the answers, nats per token.
    pub(super) loss: f64,
}

impl Asked {
    pub(super) fn of(setup: &Setup, history: &[Closed]) -> Self {
        let stages: Vec<(Adapter, Moved)> = history.chunks(STAGE).map(stage).collect();
        let last = &history[history.len() - 1];
        let shape = last.before.shape().clone();
        let after = added(last.before.values(), &last.step, 1.0);
        let adapter = Adapter::new(shape, after).expect("a small step stays finite");
        let cheater = peer(setup.honest());
        let mut found = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for window in setup.queries() {
            let (prompt, answer) = window.split_at(PROMPT);
            let moved: Vec<TokenLoss> = losses(setup.base(), &adapter, prompt, answer);
            let gradient = |(middle, _): &(Adapter, Moved)| {
                let found = tokens_loss_and_gradient(setup.base(), middle, prompt, answer);
                let found = found.expect("a window has a gradient");
                let tokens = found.predicted as f32;
                found.gradient.iter().map(|g| tokens * g).collect()
            };
            let stretch = Stretch {
                gradients: stages.iter().map(gradient).collect(),
                tokens: moved.clone(),
            };
            let shares = shares(&[stretch], stages.iter().map(|(_, moved)| moved));
            let shares = shares.expect("an answer with tokens and gradients").shares;
            let line = shares.shares.iter().find(|line| line.peer == cheater);
            found.0.push(line.map_or(0.0, |line| line.share.as_f64()));
            found.1.push(back(&shares, cheater, false));
            found.2.push(back(&shares, cheater, true));
            found
                .3
                .push(mean(&moved.iter().map(|t| t.adapter).collect::<Vec<_>>()));
        }
        let (shares, backs, serving, losses) = found;
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        Self {
            share: mean(&shares),
            most: most(&shares),
            back: mean(&backs),
            most_back: most(&backs),
            back_serving: mean(&serving),
            loss: mean(&losses),
        }
    }
}

/// The adapter half way through some rounds, and what was moved in them.
fn stage(rounds: &[Closed]) -> (Adapter, Moved) {
    let before = &rounds[0].before;
    let mut values = before.values().to_vec();
    let mut moved = Moved::default();
    for closed in rounds {
        values = added(&values, &closed.step, 0.5);
        moved
            .add(&closed.contributions)
            .expect("contributions of one run");
    }
    let middle = Adapter::new(before.shape().clone(), values);
    (middle.expect("between two adapters lie adapters"), moved)
}

fn added(values: &[f32], step: &[f32], part: f32) -> Vec<f32> {
    values.iter().zip(step).map(|(v, s)| v + part * s).collect()
}

/// What the cheater gets back of a fee that it pays, a part of it.
fn back(shares: &tributary_attribution::AnswerShares, me: PeerId, serves: bool) -> f64 {
    let other = peer(0);
    let serving = if serves { me } else { other };
    let weight = |share: Ppb| u128::from(share.0);
    let named = shares.shares.iter();
    let fees = Fees {
        run: RunId::default(),
        round: Round(0),
        source: Source::Answers {
            at: EntryRef::default(),
            server: serving,
            payer: Address::default(),
        },
        amount: MicroOpen(FEE),
        revenue: REVENUE,
        base: Some(Digest::default()),
        committee: vec![(serving, 1)],
        stakers: vec![(other, 1)],
        shaped: Shaped {
            agreed: named.map(|one| (one.peer, weight(one.share))).collect(),
            nobody: weight(shares.nobody),
            by_credits: 0,
        },
        credits: Vec::new(),
    };
    let mine = [
        Account::Contributor(me),
        Account::Server(me),
        Account::Committee(me),
    ];
    let postings = fee::postings(&fees).expect("a policy that is a whole");
    let got = postings
        .iter()
        .filter(|posting| mine.contains(&posting.account));
    got.map(|posting| posting.amount.0 as f64).sum::<f64>() / FEE as f64
}

/// Loss of each token of an answer without and with the adapter: what a text gets longer by with the token.
fn losses(base: &BaseModel, adapter: &Adapter, prompt: &[u32], answer: &[u32]) -> Vec<TokenLoss> {
    let text = [prompt, answer].concat();
    let sum = |adapter: Option<&Adapter>, length: usize| {
        let windows =
            Windows::from_tokens(vec![text[..length].to_vec()], length, base.config().vocab);
        let found = evaluate(base, adapter, &windows.expect("a piece of a window"));
        found.map_or(f64::NAN, |found| found.nll * found.predicted as f64)
    };
    (prompt.len()..text.len())
        .map(|length| {
            let token = |adapter| (sum(adapter, length + 1) - sum(adapter, length)).max(0.0);
            TokenLoss {
                base: token(None),
                adapter: token(Some(adapter)),
            }
        })
        .collect()
}
