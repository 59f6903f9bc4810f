//! Options of the commands that bring peers together.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tributary_protocol::limits;

use super::{UpGatewayArgs, UpServeArgs, parse_id, up_to};
use crate::api::types::RoleName;
use crate::net::Reach;
use crate::settings::{Bounds, ChainSettings};

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// Address of a peer to connect to first, as its `tributary status` prints it; `IP:PORT` and `NAME:PORT` are
    /// taken as well. Repeatable.
    #[arg(long, value_name = "ADDR")]
    pub bootstrap: Vec<String>,
    /// How far to reach: peers of this machine, of the local network, or anywhere. Kept in the home's config.toml.
    #[arg(long, value_enum)]
    pub reach: Option<Reach>,
    /// Address to listen on for other peers, TCP and UDP, in place of what `--reach` says. Port 0 takes a free one.
    /// Without this option the port is chosen once and kept.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Loopback address for this machine's own commands. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub control: SocketAddr,
    /// KiB a second that updates may take of the uplink. Sparse updates are made thinner until every
    /// member that needs one has it within the run's grace window.
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub upload_limit: Option<u64>,
    /// Train only the first so many components of a run's adapters, on a machine that cannot hold all. Alpha
    /// times this must be a multiple of the run's rank.
    #[arg(long, value_name = "R", value_parser = up_to(limits::MAX_RANK))]
    pub rank: Option<u32>,
    /// Answer other members of a run that ask which spans of an answer stand in this peer's shard, sixteen
    /// words or more at a time. Off unless asked for here or by `evidence = true` in the home's config.toml.
    #[arg(long)]
    pub evidence: bool,
    /// Serve a relay for members and those that this peer invites, at the address that others reach it at: a public one of
    /// this machine, or one whose port the router forwards (TCP and UDP).
    #[arg(long, value_name = "IP:PORT")]
    pub relay: Option<SocketAddr>,
    /// Have a relay carry packets for this peer, as `tributary relay` prints it. Kept. Repeatable.
    #[arg(long, value_name = "ADDR")]
    pub via: Vec<String>,
    /// Return when the daemon answers and leave it running; its log goes to `daemon.log` in the home.
    #[arg(long)]
    pub detach: bool,
    /// What runs may take of this machine.
    #[command(flatten)]
    pub bounds: Bounds,
    /// The real chain on which the money of runs lies. What is given is kept in the home's config.toml.
    #[command(flatten)]
    pub chain: ChainSettings,
    /// Answers for clients.
    #[command(flatten)]
    pub serve: UpServeArgs,
    /// Answers of servers.
    #[command(flatten)]
    pub gateway: UpGatewayArgs,
}

/// Options of `invite`.
#[derive(Clone, Debug, Args)]
pub struct InviteArgs {
    /// The run's id, or its first digits. May be left out where this peer follows one run that is open.
    #[arg(value_parser = parse_id)]
    pub run: Option<String>,
    /// How long the ticket lives: a number and `m`, `h` or `d`.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_life)]
    pub expires: u64,
    /// Tickets that were given out.
    #[arg(long, conflicts_with_all = ["run", "revoke"])]
    pub list: bool,
    /// Take a ticket back, by the invitation that was printed with it: this peer's relay refuses it from now on.
    #[arg(long, value_name = "INVITATION", conflicts_with = "run")]
    pub revoke: Option<String>,
}

/// Options of `join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// The ticket, as `tributary invite` printed it.
    pub ticket: String,
    /// Files to train on; they are copied into this peer's shard and never leave the machine.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Name that other people see, when this makes the key.
    #[arg(long)]
    pub name: Option<String>,
    /// What to do in the run.
    #[arg(long, value_enum, default_value_t = RoleName::Contributor)]
    pub role: RoleName,
    /// Text to score rounds on (evaluators).
    #[arg(long, value_name = "FILE")]
    pub holdout: Vec<PathBuf>,
    /// A folder with the base model; without one it is fetched from peers, where it is not in this program.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Join without asking.
    #[arg(long)]
    pub yes: bool,
    /// Fetch the run's adapter and nothing else: no membership, no training.
    #[arg(long, conflicts_with_all = ["data", "holdout", "yes"])]
    pub read_only: bool,
    /// The folder for the adapter; the run's name unless given.
    #[arg(long, value_name = "DIR", requires = "read_only")]
    pub out: Option<PathBuf>,
}

/// Options of `relay`.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// The address that others reach this machine at; the relay listens on its port, TCP and UDP.
    #[arg(value_name = "IP:PORT")]
    pub at: SocketAddr,
    /// A peer that may use it, and whose tickets it takes, as `tributary status` prints its id. Repeatable.
    #[arg(long = "for", value_name = "PEER", required = true)]
    pub served: Vec<String>,
}

/// Seconds of `90m`, `12h` or `7d`.
fn parse_life(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and m, h or d, such as 90m, 12h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let count: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let seconds = match unit {
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    count.checked_mul(seconds).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tickets_life_is_a_number_and_a_unit() {
        assert_eq!(parse_life("7d"), Ok(604_800));
        assert_eq!(parse_life("90m"), Ok(5_400));
        for text in [
            "",
            "d",
            "7",
            "7w",
            "-1d",
            "1.5h",
            "7 d",
            "99999999999999999999d",
            "é",
        ] {
            assert!(parse_life(text).is_err(), "{text}");
        }
    }
}
