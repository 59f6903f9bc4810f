//! Options of the commands about money on a real chain.

use clap::{Args, Subcommand};
use tributary_attribution::settlement::{Address, BaseUnits};

use super::parse_id;
use crate::config::parse_open;
use crate::settings::ChainSettings;

/// Commands about the money of runs on a real chain.
#[derive(Clone, Debug, Subcommand)]
pub enum SettleCommand {
    /// Put the settlement contract on a chain, for any number of runs, and print what a run file says of it. One that this
    /// account deployed before is found.
    Deploy(DeployArgs),
    /// What the chain has of a run's money, and whether that is what the books say.
    Status(SettleArgs),
    /// Post the newest root that more than two thirds of the run's stake signed.
    Post(SettleArgs),
    /// Challenge the root that waits, for the run's bond, if it is not what the books say.
    Challenge(SettleArgs),
    /// Answer a challenge of the root that waits with the signatures of more than two thirds of the run's stake, if it is what
    /// the books say.
    Confirm(SettleArgs),
    /// Have this peer's account paid what the accepted root promises it.
    Claim(ClaimArgs),
    /// Compare every posted root with the books and challenge a wrong one, until it is stopped.
    Watch(SettleArgs),
    /// Move what lies in the run's till into its fees, so that roots can promise it.
    Sweep(SettleArgs),
    /// As its creator, end a run whose chain has accepted no root for as long as its terms say.
    Halt(SettleArgs),
    /// Give the creator of an ended run what no root promised.
    Reclaim(SettleArgs),
    /// Bring the sentence that a dispute ended with to the contract; again a window later, to carry it out.
    Sentence(SentenceArgs),
    /// Have this peer's account paid the bonds of challenges that came back to it.
    Collect(SettleArgs),
}

/// A run whose money lies on a real chain.
#[derive(Clone, Debug, Args)]
pub struct SettleArgs {
    /// The run's id, or its first digits.
    #[arg(value_parser = parse_id)]
    pub run: String,
    /// How the chain is reached.
    #[command(flatten)]
    pub chain: ChainSettings,
}

/// Options of `settle sentence`.
#[derive(Clone, Debug, Args)]
pub struct SentenceArgs {
    /// The run's id, or its first digits.
    #[arg(value_parser = parse_id)]
    pub run: String,
    /// The dispute's id, or its first digits: `tributary dispute list RUN`.
    pub dispute: String,
    /// How the chain is reached.
    #[command(flatten)]
    pub chain: ChainSettings,
}

/// Options of `settle deploy`.
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// The chain's number (EIP-155); OpenLedger's is 1612.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub chain_id: u64,
    /// The ERC-20 token that the contract holds.
    #[arg(long, value_name = "ACCOUNT", required_unless_present = "test_token")]
    pub token: Option<Address>,
    /// Deploy a token that anybody mints, for test networks, and have the contract hold that.
    #[arg(long, conflicts_with_all = ["token", "wraps"])]
    pub test_token: bool,
    /// The token wraps the chain's native coin, as WETH9 does, and accounts may be paid in that.
    #[arg(long)]
    pub wraps: bool,
    /// How the chain is reached.
    #[command(flatten)]
    pub chain: ChainSettings,
}

/// Options of `settle claim`.
#[derive(Clone, Debug, Args)]
pub struct ClaimArgs {
    /// The run's id, or its first digits.
    #[arg(value_parser = parse_id)]
    pub run: String,
    /// Have every account paid, and pay the gas for all.
    #[arg(long)]
    pub all: bool,
    /// How the chain is reached.
    #[command(flatten)]
    pub chain: ChainSettings,
}

/// Options of `stake`, `unstake` and `budget`.
#[derive(Clone, Debug, Args)]
pub struct AmountArgs {
    /// The run's id, or its first digits.
    #[arg(value_parser = parse_id)]
    pub run: String,
    /// What is to be there in the end, in OPEN, whatever is there now: the command may be repeated.
    #[arg(value_name = "AMOUNT", value_parser = parse_units)]
    pub amount: BaseUnits,
    /// How the chain is reached.
    #[command(flatten)]
    pub chain: ChainSettings,
}

/// An amount of OPEN in base units.
fn parse_units(text: &str) -> Result<BaseUnits, String> {
    let amount = parse_open(text)?;
    BaseUnits::from_micro(amount).map_err(|why| why.to_string())
}
