//! `tributary price`: what a run pays by its manifest, and what its chain asks for now.

use serde::Serialize;
use tributary_attribution::settlement::ChainId;
use tributary_ledger::view::short;
use tributary_protocol::id::{MicroOpen, Ppb};
use tributary_protocol::manifest::{Manifest, SettlementChain, Weights};
use tributary_settlement::{GasPrice, Node, gas_price};

use super::books::Books;
use super::{Context, Way, of_node, of_sending};
use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::BooksRequest;
use crate::cli::args::SettleArgs;
use crate::terminal::Failure;

/// Gas of a root with seven signers, the third of a run or a later one (`attribution/contracts/gas.txt`).
const POST_GAS: u128 = 116_348;
/// Gas of an account's first claim in a run (likewise).
const CLAIM_GAS: u128 = 111_415;

/// `price/1`.
#[derive(Serialize)]
struct Price {
    schema: &'static str,
    run: String,
    name: String,
    /// Training rounds.
    rounds: u32,
    /// The most that a round pays.
    budget_micro_open: u64,
    /// What a round pays for each nat per token that it gains, within its budget.
    price_per_nat_micro_open: u64,
    /// Who has which part of what a round pays.
    round: Vec<Part>,
    /// Who has which part of what an answer is paid; its price is its server's.
    answer: Vec<Part>,
    /// What each member has to have put up.
    least_stake_micro_open: u64,
    /// `test`, `none`, or the chain's number.
    chain: String,
    /// What gas costs there now; none where it costs nothing, or nothing says where a node is.
    gas: Option<Gas>,
}

#[derive(Serialize)]
struct Part {
    who: &'static str,
    /// Billionths.
    share_ppb: u32,
}

/// Wei, as decimal digits.
#[derive(Serialize)]
struct Gas {
    base_wei: String,
    tip_wei: String,
    /// Gas of a post with seven signers, as measured.
    post_gas: String,
    /// What that would cost now.
    post_wei: String,
    /// Gas of an account's first claim, as measured.
    claim_gas: String,
    /// What that would cost now.
    claim_wei: String,
}

pub(super) async fn run(context: &Context, args: SettleArgs) -> Result<(), Failure> {
    let local = Local::of(&context.home).await?;
    let view = local.books(&args.run, BooksRequest::default()).await?;
    let manifest = Books::read(&view)?.manifest()?;
    let way = Way::of(context, args.chain)?;
    let chain = manifest.payment.settlement.map(|terms| terms.chain);
    let gas = match chain {
        Some(SettlementChain::Evm { id, .. }) if way.settings.rpc.is_some() => {
            let node = Node::connect(way.config(ChainId(id))?).await;
            let node = node.map_err(|why| of_node(&why))?;
            Some(gas_price(&node).await.map_err(|why| of_sending(&why))?)
        }
        _ => None,
    };
    let price = of(&manifest, chain, gas);
    context.out.answer(&price, text)
}

fn of(manifest: &Manifest, chain: Option<SettlementChain>, gas: Option<GasPrice>) -> Price {
    let payment = &manifest.payment;
    let micro = |amount: MicroOpen| u64::try_from(amount.0).unwrap_or(u64::MAX);
    let part = |(who, share): (&'static str, Ppb)| Part {
        who,
        share_ppb: share.0,
    };
    let (round, answer) = (&payment.round, &payment.revenue);
    let rounds = [
        ("contributors, by credit", round.contributors),
        ("evaluators whose sheets count", round.evaluators),
        ("members that signed the root", round.members),
    ];
    let answers = [
        ("contributors, by what shaped it", answer.contributors),
        ("the base's author", answer.base_author),
        ("the server", answer.server),
        ("members that signed the root", answer.committee),
        ("stakers", answer.stakers),
    ];
    Price {
        schema: "price/1",
        run: manifest.run_id().to_string(),
        name: manifest.name.clone(),
        rounds: manifest.plan.rounds,
        budget_micro_open: micro(payment.budget_per_round),
        price_per_nat_micro_open: micro(payment.price_per_nat),
        round: rounds.map(part).into(),
        answer: answers.map(part).into(),
        least_stake_micro_open: match manifest.updates.weights {
            Weights::Stake { least } => least,
            _ => 0,
        },
        chain: match chain {
            None => "none".to_owned(),
            Some(SettlementChain::Test) => "test".to_owned(),
            Some(SettlementChain::Evm { id, .. }) => id.to_string(),
        },
        gas: gas.map(|gas| {
            let cost = |units: u128| units.saturating_mul(gas.base_wei.saturating_add(gas.tip_wei));
            Gas {
                base_wei: gas.base_wei.to_string(),
                tip_wei: gas.tip_wei.to_string(),
                post_gas: POST_GAS.to_string(),
                post_wei: cost(POST_GAS).to_string(),
                claim_gas: CLAIM_GAS.to_string(),
                claim_wei: cost(CLAIM_GAS).to_string(),
            }
        }),
    }
}

fn text(price: &Price) -> String {
    let open = |micro: u64| MicroOpen(micro.into());
    let parts = |parts: &[Part]| {
        let words = parts.iter().filter(|part| part.share_ppb > 0);
        let words =
            words.map(|part| format!("{} % {}", f64::from(part.share_ppb) * 1e-7, part.who));
        words.collect::<Vec<_>>().join(", ")
    };
    let gas = match (price.chain.as_str(), &price.gas) {
        ("test", _) => {
            "nothing: the test chain takes no gas, and its OPEN is worth nothing".to_owned()
        }
        ("none", _) => "nothing: the run has no chain, and pays nothing".to_owned(),
        (chain, None) => {
            format!("not known: give the URL of a node of chain {chain} with --chain-rpc")
        }
        (chain, Some(gas)) => format!(
            "{} wei a unit on chain {chain}, and {} wei for whoever makes the block; a post of {} gas costs {} wei, a claim of \
             {} gas {} wei",
            gas.base_wei, gas.tip_wei, gas.post_gas, gas.post_wei, gas.claim_gas, gas.claim_wei
        ),
    };
    format!(
        "run     {} ({})\nround   {} OPEN for each nat a token that it gains, and {} OPEN at most, in {} rounds\n        {}\nanswer  \
         what its server asks\n        {}\nstake   {} OPEN at least of each member\ngas     {gas}\n",
        short(&price.run),
        price.name,
        open(price.price_per_nat_micro_open),
        open(price.budget_micro_open),
        price.rounds,
        parts(&price.round),
        parts(&price.answer),
        open(price.least_stake_micro_open),
    )
}

#[cfg(test)]
mod tests {
    use tributary_protocol::test_utils::fixture;

    use super::*;

    #[test]
    fn a_run_says_what_it_pays_to_whom_and_what_gas_costs() {
        let manifest = fixture::manifest();
        let gas = GasPrice {
            base_wei: 7,
            tip_wei: 1,
        };
        let chain = SettlementChain::Evm {
            id: 1612,
            contract: Default::default(),
            token: Default::default(),
        };
        let said = text(&of(&manifest, Some(chain), Some(gas)));
        let post = format!("a post of 116348 gas costs {} wei", 116_348 * 8);
        for part in [
            "7 wei a unit on chain 1612",
            &post,
            "contributors, by credit",
            "the server",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let unknown = text(&of(&manifest, Some(chain), None));
        assert!(unknown.contains("--chain-rpc"), "{unknown}");
        let test = text(&of(&manifest, Some(SettlementChain::Test), None));
        assert!(test.contains("takes no gas"), "{test}");
    }
}
