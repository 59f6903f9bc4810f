//! Options of `up` that have the daemon answer clients: those of `serve` and `gateway`, under names of their own.
//!
//! They become the arguments of these commands, so that nothing behind the command line knows two kinds.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::Error;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use tributary_protocol::id::MicroOpen;

use super::pay::parse_amount;
use super::serve::parse_adapter;
use super::{GatewayArgs, PayArgs, PrecisionName, ServeArgs};

/// Options of `up` for a server in the daemon.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Answering clients")]
pub struct UpServeArgs {
    /// Answer OpenAI's clients as well, as `tributary serve` does, until the daemon stops.
    #[arg(long)]
    pub serve: bool,
    /// What is served: `brook`, or a folder in Hugging Face layout.
    #[arg(long, value_name = "BASE", default_value = "brook", requires = "serve")]
    pub serve_base: String,
    /// An adapter and the name that clients ask for it by: a PEFT folder, or the id of an adapter or a run, which this
    /// daemon fetches where the home does not hold it. Repeatable.
    #[arg(long, value_name = "NAME=DIR|ID", value_parser = parse_adapter, requires = "serve")]
    pub serve_adapter: Vec<(String, String)>,
    /// Where clients are answered. Port 0 takes a free one. An address that other machines reach needs a token.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8420",
        requires = "serve"
    )]
    pub serve_listen: SocketAddr,
    /// A further name that clients call the server by, such as that of a proxy before it. Repeatable.
    #[arg(long, value_name = "NAME[:PORT]", requires = "serve")]
    pub serve_host: Vec<String>,
    /// A file of tokens, one a line, any of which lets a client in. The environment variable TRIBUTARY_SERVE_TOKEN holds
    /// one more.
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub serve_token_file: Option<PathBuf>,
    /// How the served weights are kept in memory.
    #[arg(long, value_enum, default_value_t = PrecisionName::F32, requires = "serve")]
    pub serve_precision: PrecisionName,
    /// Threads that compute answers; default: one for each core. Training has its own.
    #[arg(long, value_name = "N", value_parser = super::up_to(256), requires = "serve")]
    pub serve_threads: Option<u32>,
    /// MiB of memory for what requests have read, and for what is kept of it for later ones.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = super::up_to(1 << 20), requires = "serve")]
    pub serve_cache: u32,
    /// MiB of memory for adapters. Beyond that the one that was not asked for the longest makes room; it is loaded again
    /// when it is asked for.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = super::up_to(1 << 20), requires = "serve")]
    pub serve_adapter_memory: u32,
    /// Who pays.
    #[command(flatten)]
    pub pay: ServedPay,
}

impl UpServeArgs {
    /// What is to be served, if anything.
    pub fn wanted(self) -> Option<ServeArgs> {
        self.serve.then_some(ServeArgs {
            base: self.serve_base,
            adapter: self.serve_adapter,
            listen: self.serve_listen,
            host: self.serve_host,
            token_file: self.serve_token_file,
            precision: self.serve_precision,
            threads: self.serve_threads,
            cache: self.serve_cache,
            adapter_memory: self.serve_adapter_memory,
            pay: self.pay.0,
        })
    }
}

/// The options of `serve` about pay, each of which needs `--serve` here.
#[derive(Clone, Debug, Default)]
pub struct ServedPay(pub PayArgs);

impl ServedPay {
    fn needing_serve(command: Command) -> Command {
        let own = PayArgs::augment_args(Command::new("pay"));
        let names: Vec<_> = own
            .get_arguments()
            .map(|arg| arg.get_id().clone())
            .collect();
        names.into_iter().fold(command, |command, name| {
            command.mut_arg(name, |arg| arg.requires("serve"))
        })
    }
}

impl Args for ServedPay {
    fn augment_args(command: Command) -> Command {
        Self::needing_serve(PayArgs::augment_args(command))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::needing_serve(PayArgs::augment_args_for_update(command))
    }
}

impl FromArgMatches for ServedPay {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        PayArgs::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Options of `up` for a gateway in the daemon.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Asking servers for this machine's programs")]
pub struct UpGatewayArgs {
    /// Let this machine's programs ask these servers as OpenAI's, as `tributary gateway` does, and pay them with this
    /// peer's key: `http://HOST:PORT`. Repeatable, or several with commas between them.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub gateway: Vec<String>,
    /// Where programs reach the gateway, on this machine alone. Port 0 takes a free one.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8421",
        requires = "gateway"
    )]
    pub gateway_listen: SocketAddr,
    /// What one request may cost, in micro-OPEN.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = parse_amount, requires = "gateway")]
    pub gateway_most: MicroOpen,
    /// What all requests may cost until the daemon stops, in micro-OPEN.
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = parse_amount, requires = "gateway")]
    pub gateway_budget: MicroOpen,
    /// Agree to the shares that servers say of answers paid through a run's channel: whose data shaped them is paid for them.
    /// Without it the run's credits decide.
    #[arg(long, requires = "gateway")]
    pub gateway_agree: bool,
    /// The servers' base, by which tokens are counted closely: `brook`, or a folder in Hugging Face layout. Without it every
    /// byte of an answer may be a token.
    #[arg(long, value_name = "BASE", requires = "gateway")]
    pub gateway_base: Option<String>,
    /// A file with the bearer tokens of servers that want one: a line `URL TOKEN` for each.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    pub gateway_token_file: Option<PathBuf>,
}

impl UpGatewayArgs {
    /// The gateway that is wanted, if any.
    pub fn wanted(self) -> Option<GatewayArgs> {
        (!self.gateway.is_empty()).then_some(GatewayArgs {
            server: self.gateway,
            listen: self.gateway_listen,
            most: self.gateway_most,
            budget: self.gateway_budget,
            agree: self.gateway_agree,
            base: self.gateway_base,
            token_file: self.gateway_token_file,
        })
    }
}
