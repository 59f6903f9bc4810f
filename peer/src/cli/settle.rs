//! `tributary settle ...`, `stake`, `unstake`, `budget`, `price`: the money of runs on a real chain.
//!
//! What is earned and signed comes from the home's books, whether a daemon runs on it or not; what is deposited, staked,
//! posted and paid comes from the chain. Steps are [`tributary_settlement::Actions`]: each is done once, however often it is
//! asked for. On a run of the test chain the daemon does all of it by itself, and the commands say so.

mod books;
mod deploy;
mod price;
mod sentence;
mod stake;
mod status;
mod steps;
mod watch;

use std::io;
use std::sync::Arc;

use serde::Serialize;
use tributary_attribution::run_books::{deployment_of, terms_of};
use tributary_attribution::settlement::{BaseUnits, ChainId, Terms};
use tributary_ledger::view::{SettlementView, short};
use tributary_protocol::id::MicroOpen;
use tributary_protocol::manifest::{Manifest, Settlement, SettlementChain};
use tributary_settlement::{
    ActionError, Actions, Chain, Config, ConnectError, FileTable, Node, NodeError, SendError,
    Sender,
};

use self::books::Books;
use super::Context;
use super::args::{AmountArgs, SettleArgs, SettleCommand};
use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::BooksRequest;
use crate::home::{HomePaths, disk};
use crate::identity::Identity;
use crate::problem::{Code, Problem};
use crate::settings::{ChainSettings, Settings};
use crate::terminal::Failure;
use crate::view::money_line;

pub(super) async fn run(context: &Context, command: SettleCommand) -> Result<(), Failure> {
    match command {
        SettleCommand::Deploy(args) => deploy::run(context, args).await,
        SettleCommand::Status(args) => match Found::of(context, args).await? {
            Place::Real(found) => status::run(context, &found).await,
            Place::Test(run) => run.say(context, "it posts roots and claims"),
        },
        SettleCommand::Post(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::post(context, &found).await,
            Place::Test(run) => run.say(context, "members post the roots in turn"),
        },
        SettleCommand::Challenge(args) => match Found::of(context, args).await? {
            Place::Real(found) => watch::challenge(context, &found).await,
            Place::Test(run) => run.say(context, "every peer recomputes each root and each block"),
        },
        SettleCommand::Claim(args) => {
            let all = args.all;
            let args = SettleArgs {
                run: args.run,
                chain: args.chain,
            };
            match Found::of(context, args).await? {
                Place::Real(found) => steps::claim(context, &found, all).await,
                Place::Test(run) => run.say(context, "members claim when the run is closed"),
            }
        }
        SettleCommand::Confirm(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::confirm(context, &found).await,
            Place::Test(run) => run.say(context, "members answer challenges of right roots"),
        },
        SettleCommand::Sweep(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::sweep(context, &found).await,
            Place::Test(run) => run.say(context, "members gather what servers claimed"),
        },
        SettleCommand::Halt(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::halt(context, &found).await,
            Place::Test(run) => run.say(context, "roots are posted at every few heights"),
        },
        SettleCommand::Reclaim(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::reclaim(context, &found).await,
            Place::Test(run) => run.say(context, "the creator takes the rest back"),
        },
        SettleCommand::Sentence(args) => {
            let dispute = args.dispute;
            let args = SettleArgs {
                run: args.run,
                chain: args.chain,
            };
            match Found::of(context, args).await? {
                Place::Real(found) => sentence::run(context, &found, &dispute).await,
                Place::Test(run) => run.say(context, "members carry out sentences"),
            }
        }
        SettleCommand::Collect(args) => match Found::of(context, args).await? {
            Place::Real(found) => steps::collect(context, &found).await,
            Place::Test(run) => run.say(context, "a bond that comes back is test OPEN"),
        },
        SettleCommand::Watch(args) => match Found::of(context, args).await? {
            Place::Real(found) => watch::watch(context, &found).await,
            Place::Test(run) => run.say(context, "every peer recomputes each root and each block"),
        },
    }
}

/// `tributary stake`.
pub(super) async fn stake(context: &Context, args: AmountArgs) -> Result<(), Failure> {
    match found(context, &args).await? {
        Place::Real(found) => stake::stake(context, &found, args.amount).await,
        Place::Test(run) => run.say(context, "each member bonds one test OPEN"),
    }
}

/// `tributary unstake`.
pub(super) async fn unstake(context: &Context, args: AmountArgs) -> Result<(), Failure> {
    match found(context, &args).await? {
        Place::Real(found) => stake::unstake(context, &found, args.amount).await,
        Place::Test(run) => run.say(context, "what a member bonded stays, and is worth nothing"),
    }
}

/// `tributary budget`.
pub(super) async fn budget(context: &Context, args: AmountArgs) -> Result<(), Failure> {
    match found(context, &args).await? {
        Place::Real(found) => steps::deposit(context, &found, args.amount).await,
        Place::Test(run) => run.say(
            context,
            "its creator deposits the budgets of all rounds in the genesis",
        ),
    }
}

/// `tributary price`.
pub(super) async fn price(context: &Context, args: SettleArgs) -> Result<(), Failure> {
    price::run(context, args).await
}

async fn found(context: &Context, args: &AmountArgs) -> Result<Place, Failure> {
    let args = SettleArgs {
        run: args.run.clone(),
        chain: args.chain.clone(),
    };
    Found::of(context, args).await
}

/// How this home reaches a chain.
struct Way {
    settings: ChainSettings,
    paths: HomePaths,
}

impl Way {
    /// As the options say, and else the home's settings.
    fn of(context: &Context, given: ChainSettings) -> Result<Self, Failure> {
        let paths = HomePaths::new(&context.home);
        let kept = Settings::read(&paths.config())?.chain;
        Ok(Self {
            settings: given.or(kept)?,
            paths,
        })
    }

    fn config(&self, chain: ChainId) -> Result<Config, Failure> {
        self.settings.config(chain).ok_or_else(|| {
            Failure::environment(format!("nothing says where a node of chain {chain} is"))
                .hint("give its URL with --chain-rpc, or as `rpc` under [chain] in the home's config.toml")
        })
    }

    /// Transactions of this peer's account, which this process alone sends from now on.
    fn sender(&self, node: Node) -> Result<Sender, Failure> {
        let identity = Identity::read_file(&self.paths.key())?;
        let wallet = self.settings.wallet(&identity)?;
        let folder = self.paths.chain();
        let kept = |e: io::Error| {
            let text = format!(
                "the table of transactions in {} cannot be opened: {e}",
                folder.display()
            );
            match e.kind() {
                io::ErrorKind::WouldBlock => Failure::from(Problem::new(Code::Refused, text)),
                _ => Failure::environment(text)
                    .hint("make the folder writable for your user, or free some disk space"),
            }
        };
        disk::make_folder(&folder).map_err(kept)?;
        let chain = node.config().chain;
        let table = FileTable::open(&folder, chain, wallet.account()).map_err(kept)?;
        Ok(Sender::open(node, wallet, Arc::new(table))?)
    }
}

/// Where a run's money lies.
enum Place {
    Real(Box<Found>),
    Test(OnTestChain),
}

/// A run whose money lies on a real chain, its books, and the way there.
struct Found {
    way: Way,
    local: Local,
    /// Roots that are kept, without what they pay.
    books: Books,
    manifest: Manifest,
    settlement: Settlement,
    terms: Terms,
}

impl Found {
    async fn of(context: &Context, args: SettleArgs) -> Result<Place, Failure> {
        let local = Local::of(&context.home).await?;
        let view = local.books(&args.run, BooksRequest::default()).await?;
        let books = Books::read(&view)?;
        let manifest = books.manifest()?;
        let Some(settlement) = manifest.payment.settlement else {
            return Err(Failure::environment(format!(
                "the money of run {} lies nowhere: its file says `chain = \"none\"`",
                short(&view.run)
            ))
            .hint("open another run with a chain"));
        };
        if settlement.chain == SettlementChain::Test {
            let money = local.run(&view.run).await?.settlement.unwrap_or_default();
            let run = view.run;
            return Ok(Place::Test(OnTestChain { run, money }));
        }
        let terms = terms_of(manifest.run_id(), &settlement);
        Ok(Place::Real(Box::new(Self {
            way: Way::of(context, args.chain)?,
            local,
            books,
            manifest,
            settlement,
            terms,
        })))
    }

    fn run(&self) -> String {
        self.manifest.run_id().to_string()
    }

    /// The contract, which is the one that the manifest names and holds its token.
    async fn chain(&self) -> Result<Chain, Failure> {
        let deployment = deployment_of(&self.settlement);
        let config = self.way.config(deployment.chain)?;
        let chain = Chain::connect(config, deployment.contract).await;
        let chain = chain.map_err(|why| match why {
            ConnectError::Node(why) => of_node(&why),
            other => Failure::from_error(&other),
        })?;
        let SettlementChain::Evm { token, .. } = self.settlement.chain else {
            return Ok(chain);
        };
        match chain.token().0.0 == token.0 {
            true => Ok(chain),
            false => Err(Failure::check(format!(
                "the contract {} holds the token {}, and the run's manifest names another one",
                deployment.contract,
                chain.token().0
            ))
            .hint("send it no money; ask the run's creator")),
        }
    }

    /// Steps of this peer's account.
    async fn actions(&self) -> Result<Actions, Failure> {
        let chain = self.chain().await?;
        let sender = self.way.sender(chain.node().clone())?;
        Ok(Actions::new(chain, sender))
    }

    /// The books of one height.
    async fn at(&self, height: u64) -> Result<Books, Failure> {
        let height = u32::try_from(height).unwrap_or(u32::MAX);
        let asked = BooksRequest {
            height: Some(height),
        };
        Books::read(&self.local.books(&self.run(), asked).await?)
    }
}

/// `settle-test-chain/1`: a run whose daemon does all that by itself.
struct OnTestChain {
    run: String,
    money: SettlementView,
}

#[derive(Serialize)]
struct TestChainSays<'a> {
    schema: &'static str,
    run: &'a str,
    /// What the daemons do.
    by_itself: &'static str,
    money: &'a SettlementView,
}

impl OnTestChain {
    fn say(&self, context: &Context, by_itself: &'static str) -> Result<(), Failure> {
        let said = TestChainSays {
            schema: "settle-test-chain/1",
            run: &self.run,
            by_itself,
            money: &self.money,
        };
        context.out.answer(&said, |said| {
            format!(
                "run {} settles on the test chain, where its daemons do this by themselves: {by_itself}\nmoney  {}\nstake  {} \
                 OPEN of members count",
                short(said.run),
                money_line(said.money),
                MicroOpen(said.money.staked_micro_open.into()),
            )
        })
    }
}

/// An amount of OPEN for people: no more decimals than it has.
fn open(amount: BaseUnits) -> String {
    let text = amount.to_string();
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Why a chain was not read, as commands fail.
fn of_node(why: &NodeError) -> Failure {
    let code = match why {
        NodeError::Rpc(_) | NodeError::NothingFinal { .. } | NodeError::Backwards { .. } => {
            Code::Unreachable
        }
        _ => Code::Environment,
    };
    Problem::new(code, why.to_string()).into()
}

/// Why nothing was sent, or nothing came of it.
fn of_sending(why: &SendError) -> Failure {
    let code = match why {
        SendError::Node(why) => return of_node(why),
        SendError::OnItsWay { .. } => Code::Unreachable,
        SendError::Refused { .. }
        | SendError::Reverted { .. }
        | SendError::Withdrawn { .. }
        | SendError::Superseded { .. }
        | SendError::NotTaken { .. }
        | SendError::Fees(_) => Code::Refused,
        _ => Code::Environment,
    };
    Problem::new(code, why.to_string()).into()
}

/// Why a step was not done.
fn of_action(why: &ActionError) -> Failure {
    match why {
        ActionError::Node(why) => of_node(why),
        ActionError::Send(why) => of_sending(why),
        ActionError::NotPending { .. } => Problem::new(Code::Refused, why.to_string()).into(),
        other => Failure::from_error(other),
    }
}
