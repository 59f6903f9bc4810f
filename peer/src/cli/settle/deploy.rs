//! `tributary settle deploy`: the contract, and what a run file says of it.

use serde::Serialize;
use tributary_attribution::settlement::ChainId;
use tributary_settlement::{Contract, DeployError, Node, deploy};

use super::{Context, Way, of_node, of_sending};
use crate::cli::args::DeployArgs;
use crate::problem::{Code, Problem};
use crate::terminal::{Failure, note};

/// `settle-deployed/1`.
#[derive(Serialize)]
struct Deployed {
    schema: &'static str,
    /// The chain's number.
    chain: u64,
    /// Where the settlement contract is.
    contract: String,
    /// The token that it holds.
    token: String,
    /// The account that deployed it. It has no power over it.
    account: String,
}

pub(super) async fn run(context: &Context, args: DeployArgs) -> Result<(), Failure> {
    let way = Way::of(context, args.chain)?;
    let config = way.config(ChainId(args.chain_id))?;
    let node = Node::connect(config).await.map_err(|why| of_node(&why))?;
    let sender = way.sender(node)?;
    note(format_args!(
        "deploying from account {}; each step waits until it is final",
        sender.account()
    ));
    let token = match args.token {
        Some(token) => token,
        None => deploy(&sender, Contract::TestOpen)
            .await
            .map_err(|why| failed(&why))?,
    };
    let wanted = Contract::Settlement {
        token,
        wraps: args.wraps,
    };
    let contract = deploy(&sender, wanted).await.map_err(|why| failed(&why))?;
    let deployed = Deployed {
        schema: "settle-deployed/1",
        chain: args.chain_id,
        contract: contract.to_string(),
        token: token.to_string(),
        account: sender.account().to_string(),
    };
    context.out.answer(&deployed, |d| {
        format!(
            "In a run file, with `chain = \"evm\"` and `weights = \"stake\"`:\n\n[settlement]\nid = {}\ncontract = \
             \"{}\"\ntoken = \"{}\"\n",
            d.chain, d.contract, d.token
        )
    })
}

fn failed(why: &DeployError) -> Failure {
    match why {
        DeployError::Node(why) => of_node(why),
        DeployError::Send(why) => of_sending(why),
        DeployError::OtherCode(_) => Failure::check(why.to_string()),
        other => Problem::new(Code::Refused, other.to_string()).into(),
    }
}
