//! The tree of commands and options.

mod adapter;
mod answering;
mod dispute;
mod network;
mod pay;
mod serve;
mod settle;

use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use tributary_protocol::limits;
use tributary_trainer::Schedule;
use tributary_trainer::data::Format as DataFormat;
use tributary_trainer::device::{DEVICE_VARIABLE, Request};

use super::ledger::Export;
use super::upkeep::GcArgs;
use crate::api::types::RoleName;
use crate::demo::options::DemoArgs;
use crate::terminal::{Failure, Format};
pub use adapter::AdapterCommand;
pub use answering::{UpGatewayArgs, UpServeArgs};
pub use dispute::DisputeCommand;
pub use network::{InviteArgs, JoinArgs, RelayArgs, UpArgs};
pub(super) use pay::parse_grant;
pub use pay::{GatewayArgs, PayArgs};
pub use serve::{PrecisionName, ServeArgs};
pub use settle::{AmountArgs, ClaimArgs, DeployArgs, SentenceArgs, SettleArgs, SettleCommand};

/// Fine-tune together on data that stays where it is, and pay those whose data helped.
#[derive(Clone, Debug, Parser)]
#[command(name = "tributary", version, propagate_version = true)]
pub struct Cli {
    /// The peer's folder: key, ledger, data.
    #[arg(long, global = true, env = "TRIBUTARY_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// How answers are printed; JSON is one object on stdout, everything else goes to stderr.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make this peer's folder and key.
    Init(InitArgs),
    /// Run the daemon until it is stopped.
    Up(UpArgs),
    /// Stop the daemon.
    Down,
    /// Invite others to a run with one line that they paste.
    Invite(InviteArgs),
    /// Take part in a run by a ticket: makes the key, starts the daemon, connects and joins.
    Join(JoinArgs),
    /// How this peer reaches others and they it, and what is in the way.
    Reach,
    /// Carry the packets of peers that find no direct way to each other.
    Relay(RelayArgs),
    /// What this peer is doing, or where it stood when its daemon stopped.
    Status(StatusArgs),
    /// Open, join and watch runs.
    #[command(subcommand)]
    Run(RunCommand),
    /// Remove what no run of this home needs: blobs that none names, unfinished files, free pages of the ledger.
    Gc(GcArgs),
    /// The data this peer trains on.
    #[command(subcommand)]
    Datanet(DatanetCommand),
    /// What runs produce.
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// The signed account of who did what, and who is owed what.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Scores that somebody holds to be wrong: open a dispute, see what juries find, appeal.
    #[command(subcommand)]
    Dispute(DisputeCommand),
    /// The money of runs on a real chain: deploy, post, claim, challenge.
    #[command(subcommand)]
    Settle(SettleCommand),
    /// Put up stake of this peer's account in a run, until AMOUNT is there; given again it has ripe stake count.
    Stake(AmountArgs),
    /// Take stake out of a run, until AMOUNT is left; given again it pays out what has waited its cool-down.
    Unstake(AmountArgs),
    /// Deposit what a run pays, until AMOUNT was deposited, ever.
    Budget(AmountArgs),
    /// What a run pays for rounds and answers, and what gas costs on its chain now.
    Price(SettleArgs),
    /// Who shaped an answer of a run's adapter, from certified bytes.
    Why(WhyArgs),
    /// Fine-tune an adapter on this machine's files alone, without a network.
    Train(TrainArgs),
    /// Measure a model's loss on a text.
    Eval(EvalArgs),
    /// Let a model go on from a prompt.
    Generate(GenerateArgs),
    /// Answer OpenAI's clients with a base and its adapters, until it is stopped.
    Serve(ServeArgs),
    /// Let this machine's programs ask servers as OpenAI's, and pay them with this peer's key.
    Gateway(GatewayArgs),
    /// Base models of this program, for other programs.
    #[command(subcommand)]
    Base(BaseCommand),
    /// A federated run from start to finish in one process, over real sockets.
    Demo(DemoArgs),
    /// The contract of the control API, for programs.
    #[command(subcommand)]
    Api(ApiCommand),
    /// Print what lets a shell complete commands and options.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual, one page a command.
    Man {
        /// The folder to make.
        dir: PathBuf,
    },
}

impl Command {
    /// Whether it reads or writes a peer's folder.
    pub(super) fn needs_home(&self) -> bool {
        match self {
            // Whoever is paid has a key and keeps accounts.
            Self::Serve(args) => args.pay.is_paid(),
            Self::Train(_)
            | Self::Eval(_)
            | Self::Generate(_)
            | Self::Demo(_)
            | Self::Api(_)
            | Self::Base(_)
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Adapter(AdapterCommand::Verify { .. })
            | Self::Ledger(LedgerCommand::Check { .. }) => false,
            Self::Init(_)
            | Self::Up(_)
            | Self::Down
            | Self::Status(_)
            | Self::Invite(_)
            | Self::Join(_)
            | Self::Reach
            | Self::Relay(_)
            | Self::Run(_)
            | Self::Gc(_)
            | Self::Dispute(_)
            | Self::Datanet(_)
            | Self::Adapter(_)
            | Self::Ledger(_)
            | Self::Gateway(_)
            | Self::Settle(_)
            | Self::Stake(_)
            | Self::Unstake(_)
            | Self::Budget(_)
            | Self::Price(_)
            | Self::Why(_) => true,
        }
    }
}

/// Options of `status`.
#[derive(Clone, Copy, Debug, Args)]
pub struct StatusArgs {
    /// Go on with everything that happens, until the daemon stops. Needs the daemon.
    #[arg(long)]
    pub watch: bool,
}

/// Commands about the control API.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ApiCommand {
    /// Print the OpenAPI document of this version, as `docs/openapi.json` has it.
    Openapi,
}

/// Options of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Name that other people see.
    #[arg(long)]
    pub name: Option<String>,
}

/// Commands about base models.
#[derive(Clone, Debug, Subcommand)]
pub enum BaseCommand {
    /// Write a base of this program as a Hugging Face folder, for transformers, PEFT or vLLM.
    Export {
        /// Its name: `brook`.
        name: String,
        /// The folder to make.
        dir: PathBuf,
    },
}

/// Commands about runs.
#[derive(Clone, Debug, Subcommand)]
pub enum RunCommand {
    /// Open a run from a TOML file. Needs the daemon.
    Create {
        /// The run file; `examples/run.toml` shows every key.
        file: PathBuf,
        /// Also join it, training on this peer's shard of its Datanet.
        #[arg(long)]
        join: bool,
        /// Text that this peer scores rounds on, when the run file names it as an evaluator. Needed with `--join` in a run
        /// that weighs by own text: nobody there scores others on a part of its own shard.
        #[arg(long, value_name = "FILE")]
        holdout: Vec<PathBuf>,
    },
    /// Ask to become a member at the next round. Needs the daemon.
    Join {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
        /// What to do in it.
        #[arg(long, value_enum, default_value_t = RoleName::Contributor)]
        role: RoleName,
        /// The shard to train on, when it is not named as the run's Datanet.
        #[arg(long, value_name = "NAME")]
        datanet: Option<String>,
        /// Text to score rounds on (evaluators); default: a tenth of the shard, never trained on. A peer that also trains
        /// needs one in a run that weighs by own text.
        #[arg(long, value_name = "FILE")]
        holdout: Vec<PathBuf>,
        /// A folder with the base model, when the run's base is not `brook`.
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
    },
    /// Ask to be a member no longer, from the next round.
    Leave {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Runs that this peer knows.
    List {
        /// Only those that peers of the local network follow. The daemon has to reach there: `up --reach lan`.
        #[arg(long)]
        nearby: bool,
    },
    /// One run: settings, rounds, credits.
    Show {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Remove a run from this disk, while no daemon runs. What this peer signed in it stays, so that it never signs
    /// another history, and `run join` goes on with that. So do shards, exported adapters, and blobs that other runs need.
    Rm {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
        /// Remove it unasked.
        #[arg(long)]
        yes: bool,
        /// Remove it although it is open and this peer is a member: what of its work is not certified yet is lost, and
        /// so are the updates that others would fetch from here.
        #[arg(long)]
        abandon: bool,
    },
    /// Follow a run's phases as they happen.
    Watch {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

/// Commands about data.
#[derive(Clone, Debug, Subcommand)]
pub enum DatanetCommand {
    /// Add text or JSONL files to this peer's shard of a Datanet. They never leave this machine.
    Add {
        /// The Datanet.
        name: String,
        /// Files: plain text, or JSONL with a `text` in each line.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Remove this peer's copies of files from its shard. A run that it joined with them goes on with what it committed
    /// to then.
    Remove {
        /// The Datanet.
        name: String,
        /// Names of files, as `datanet list --files` shows them.
        #[arg(required_unless_present = "all")]
        files: Vec<String>,
        /// Remove all of them.
        #[arg(long, conflicts_with = "files")]
        all: bool,
    },
    /// Shards on this machine.
    List {
        /// Show the names of the files as well.
        #[arg(long)]
        files: bool,
    },
}

/// Commands about the ledger.
#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check every byte that this home relies on: signatures, links, certificates, aggregates, states,
    /// scores, credits and balances. Of a run whose bytes are those of the last check, only that is checked again.
    Verify {
        /// Check everything again, whatever was checked before: for a home that somebody else had.
        #[arg(long)]
        full: bool,
    },
    /// Who is owed what, and why, and what changed from one part of a run to the next.
    Statement {
        /// Only this run.
        #[arg(value_parser = parse_id)]
        id: Option<String>,
        /// Rounds of the parts that are compared; a quarter of the run unless given.
        #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
        by: Option<u32>,
        /// Every posting, for other programs; `--format json` has them too.
        #[arg(long, value_enum, value_name = "KIND")]
        export: Option<Export>,
    },
    /// Why a contribution was paid what it was: from the payout line back to the shard, each step
    /// checked.
    Explain {
        /// The receipt by the first digits of its id, as `ledger statement` prints it, or RUN/ROUND,
        /// or RUN/ROUND/PEER.
        receipt: String,
    },
    /// Write what a contribution was paid, with everything that proves it to whoever has no home.
    Proof {
        /// The receipt, as `ledger explain` takes it.
        receipt: String,
        /// Where to write the proof.
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Check such a proof by its own bytes; needs no home.
    Check {
        /// What `proof` wrote.
        file: PathBuf,
    },
    /// Show which hold-out windows this evaluator scored a round on, and that it had committed to them.
    ProveHoldout {
        /// The run, in full or by its first digits.
        #[arg(value_parser = parse_id)]
        run: String,
        /// The scored round.
        round: u32,
        /// Where to write the proof.
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Check such a proof of any evaluator of a run in this home.
    CheckHoldout {
        /// What `prove-holdout` wrote.
        file: PathBuf,
    },
}

/// Options of `train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// Text, JSONL, JSON, CSV, TSV or Parquet files, also packed as .gz or .zst. Rows have `text`, `prompt` and
    /// `completion`, `messages`, or what ShareGPT and Alpaca write.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The PEFT folder to write. One that is not empty is left as it is.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the adapter in a folder that is not empty.
    #[arg(long)]
    pub force: bool,
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// LoRA rank, on all seven linears of every layer.
    #[arg(long, default_value_t = 8, value_parser = up_to(limits::MAX_RANK))]
    pub rank: u32,
    /// LoRA alpha. Default: twice the rank.
    #[arg(long, value_parser = up_to(limits::MAX_ALPHA))]
    pub alpha: Option<u32>,
    /// Passes over the data.
    #[arg(long, default_value_t = 1.0, conflicts_with = "steps")]
    pub epochs: f64,
    /// Optimizer steps, in place of epochs.
    #[arg(long)]
    pub steps: Option<u32>,
    /// Windows computed at a time.
    #[arg(long, default_value_t = 4)]
    pub batch: usize,
    /// Batches of one step.
    #[arg(long, default_value_t = 1)]
    pub accumulate: usize,
    /// Tokens a window. Default: 512, or what the model can take.
    #[arg(long)]
    pub context: Option<usize>,
    /// Highest learning rate of AdamW.
    #[arg(long, default_value_t = 2e-4)]
    pub learning_rate: f64,
    /// What the rate does after the warm-up: constant, linear or cosine.
    #[arg(long, default_value_t = Schedule::Cosine)]
    pub schedule: Schedule,
    /// Steps over which the rate rises; below 1, their share of all steps.
    #[arg(long, default_value_t = 0.03)]
    pub warm_up: f64,
    /// Longest gradient that a step follows; 0 never clips.
    #[arg(long, default_value_t = 1.0)]
    pub clip: f64,
    /// Seed of the adapter, the order of data and what is held out.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of the data that losses are measured on and that is not trained on; 0 holds nothing out.
    #[arg(long, default_value_t = 0.05, conflicts_with = "holdout_file")]
    pub holdout: f64,
    /// A file that losses are measured on, in place of a share of the data.
    #[arg(long, value_name = "FILE")]
    pub holdout_file: Option<PathBuf>,
    /// Which documents share a window; none sees another.
    #[arg(long, value_enum, default_value_t = PackingName::Fit)]
    pub packing: PackingName,
    /// Format of the files, in place of what their content says: text, jsonl, json, csv or parquet.
    #[arg(long)]
    pub data_format: Option<DataFormat>,
    /// End at the first row that cannot be used, instead of counting it.
    #[arg(long)]
    pub strict: bool,
    /// Folder that keeps the training, so that it can go on after a stop.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Steps between two checkpoints.
    #[arg(long, default_value_t = 50, requires = "checkpoint")]
    pub every: u32,
    /// Go on from the checkpoint.
    #[arg(long, requires = "checkpoint")]
    pub resume: bool,
    /// Start even when the training needs more memory than is free.
    #[arg(long)]
    pub allow_swap: bool,
    /// What computes: auto, cpu, or a GPU back end of this build (wgpu, vulkan, cuda).
    #[arg(long, env = DEVICE_VARIABLE, default_value_t = Request::Auto)]
    pub device: Request,
}

/// Which documents share a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackingName {
    /// As many as fit, longest first.
    Fit,
    /// None.
    Apart,
    /// In an order drawn by the seed.
    Shuffled,
}

/// Options of `eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// A PEFT folder.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The text, or rows of any format that `train` reads.
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// Tokens a window. Default: 512, or what the model can take.
    #[arg(long)]
    pub context: Option<usize>,
    /// What computes: auto, cpu, or a GPU back end of this build (wgpu, vulkan, cuda).
    #[arg(long, env = DEVICE_VARIABLE, default_value_t = Request::Auto)]
    pub device: Request,
}

/// Options of `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// A PEFT folder.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The beginning; with --chat, what the user says.
    #[arg(long, allow_hyphen_values = true)]
    pub prompt: String,
    /// Put the prompt into the base's chat template and let the model answer.
    #[arg(long)]
    pub chat: bool,
    /// What the system message says.
    #[arg(
        long,
        requires = "chat",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    pub system: Option<String>,
    /// Tokens to add at most.
    #[arg(long, default_value_t = 64)]
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Seed of the draws when the temperature is above 0.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What computes: auto, cpu, or a GPU back end of this build (wgpu, vulkan, cuda).
    #[arg(long, env = DEVICE_VARIABLE, default_value_t = Request::Auto)]
    pub device: Request,
}

/// Options of `why`.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// Adapter or run of this home by the first digits of its id, or the PEFT folder of one; may be
    /// left out when the home has only one run.
    #[arg(long, value_name = "ID|DIR", default_value = "")]
    pub adapter: String,
    /// Base of an adapter that is given as a folder: `brook`, or a folder in Hugging Face layout.
    #[arg(long, default_value = "brook")]
    pub base: String,
    /// The prompt.
    #[arg(long, allow_hyphen_values = true)]
    pub prompt: String,
    /// The answer; without it the adapter gives one.
    #[arg(long, allow_hyphen_values = true)]
    pub answer: Option<String>,
    /// Tokens of the adapter's own answer at most.
    #[arg(long, default_value_t = 32)]
    pub max_tokens: usize,
}

/// A number from one to `most`.
fn up_to(most: u32) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(most))
}

/// The id of a run or an adapter, or its first digits.
pub(super) fn parse_id(text: &str) -> Result<String, String> {
    let digits = text.to_ascii_lowercase();
    let fits = (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(digits).ok_or_else(|| {
        "an id has up to 64 digits from 0 to 9 and a to f; `tributary run list` shows those of runs".to_owned()
    })
}

/// The folder when neither `--home` nor `TRIBUTARY_HOME` names one.
///
/// # Errors
/// When the system does not say where the user's data belongs.
pub fn default_home() -> Result<PathBuf, Failure> {
    home_from(|name| std::env::var_os(name).map(PathBuf::from))
}

fn home_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let user = || variable("HOME").filter(|p| p.is_absolute());
    let data = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        user().map(|home| home.join("Library/Application Support"))
    } else {
        (variable("XDG_DATA_HOME").filter(|p| p.is_absolute()))
            .or_else(|| user().map(|home| home.join(".local/share")))
    };
    data.map(|folder| folder.join("tributary")).ok_or_else(|| {
        Failure::environment("no home: the system names no folder for this user's data")
            .hint("give one with --home DIR or TRIBUTARY_HOME")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    #[cfg(not(any(windows, target_os = "macos")))]
    fn home_follows_the_data_folder_of_the_platform() {
        let none = home_from(|_| None).unwrap_err();
        assert!(none.to_string().contains("--home"), "{none}");
        let user = home_from(|n| (n == "HOME").then(|| "/u".into())).unwrap();
        assert_eq!(user, PathBuf::from("/u/.local/share/tributary"));
        let xdg = home_from(|n| Some(if n == "HOME" { "/u" } else { "/data" }.into())).unwrap();
        assert_eq!(xdg, PathBuf::from("/data/tributary"));
        let relative = home_from(|n| Some(if n == "HOME" { "/u" } else { "data" }.into())).unwrap();
        assert_eq!(relative, PathBuf::from("/u/.local/share/tributary"));
    }
}
