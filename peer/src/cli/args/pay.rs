//! Options of being paid for answers, and of paying for them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tributary_attribution::settlement::Address;
use tributary_protocol::id::MicroOpen;

/// Options of `serve` for a server that is paid.
#[derive(Clone, Debug, Default, Args)]
pub struct PayArgs {
    /// What 1,000 tokens of a prompt cost, in micro-OPEN. With a price every answer is paid for by a voucher, drawn on what
    /// `--allow` grants.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub price_prompt: Option<MicroOpen>,
    /// What 1,000 tokens of an answer cost, in micro-OPEN.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub price_answer: Option<MicroOpen>,
    /// A payer's account, which its `tributary gateway` prints, and what it may spend here in all, in micro-OPEN. Repeatable.
    #[arg(long, value_name = "ACCOUNT=AMOUNT", value_parser = parse_grant)]
    pub allow: Vec<(Address, MicroOpen)>,
    /// A file of such grants, one a line.
    #[arg(long, value_name = "FILE")]
    pub allow_file: Option<PathBuf>,
    /// What one payer may owe without a claim on its channel, and what it is trusted with on a deposit that its run's chain
    /// does not show yet, in micro-OPEN.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = parse_amount)]
    pub exposure: MicroOpen,
}

impl PayArgs {
    /// Whether answers are paid for.
    pub fn is_paid(&self) -> bool {
        self.price_prompt.is_some() || self.price_answer.is_some()
    }
}

/// Options of `gateway`.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Servers to ask: `http://HOST:PORT`. Repeatable, or several with commas between them.
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub server: Vec<String>,
    /// Where to listen, on this machine alone. Port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8421")]
    pub listen: SocketAddr,
    /// What one request may cost, in micro-OPEN.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = parse_amount)]
    pub most: MicroOpen,
    /// What all requests may cost until the gateway stops, in micro-OPEN.
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = parse_amount)]
    pub budget: MicroOpen,
    /// Agree to the shares that servers say of answers paid through a run's channel: whose data shaped them is paid for them.
    /// Of one answer in twenty the server shows a jury of the run's members what was asked and answered. Without it the
    /// run's credits decide, and nobody is shown anything.
    #[arg(long)]
    pub agree: bool,
    /// The servers' base, by which tokens are counted closely: `brook`, or a folder in Hugging Face layout. Without it every
    /// byte of an answer may be a token.
    #[arg(long)]
    pub base: Option<String>,
    /// A file with the bearer tokens of servers that want one: a line `URL TOKEN` for each.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

pub(super) fn parse_amount(text: &str) -> Result<MicroOpen, String> {
    let amount = text.parse().map(MicroOpen);
    amount.map_err(|_| "write a whole number of micro-OPEN, such as 2500".to_owned())
}

/// `ACCOUNT=AMOUNT`.
pub(in crate::cli) fn parse_grant(text: &str) -> Result<(Address, MicroOpen), String> {
    let wrong = "write ACCOUNT=AMOUNT: an account with 0x and 40 digits, and micro-OPEN";
    let (account, amount) = text.split_once('=').ok_or(wrong)?;
    let account = account.trim().parse();
    Ok((
        account.map_err(|why| format!("{wrong}; {why}"))?,
        parse_amount(amount.trim())?,
    ))
}
