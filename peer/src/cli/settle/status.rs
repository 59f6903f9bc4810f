//! `tributary settle status`: what the chain has of a run, beside what the books say.

use std::collections::BTreeMap;

use serde::Serialize;
use tributary_attribution::settlement::calls::RootView;
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_ledger::view::short;
use tributary_settlement::{Asked, Chain, Facts, Seen, judge};

use super::{Context, Found, of_node};
use crate::identity::Identity;
use crate::terminal::Failure;

/// `settle-status/1`: a run on its chain, as of a final block. Amounts are base units of the chain, 10^-18 OPEN.
#[derive(Serialize)]
struct Status {
    schema: &'static str,
    run: String,
    /// The chain's number.
    chain: u64,
    /// The settlement contract.
    contract: String,
    /// Its token.
    token: String,
    /// The run's name there.
    key: String,
    /// As of which block.
    block: u64,
    /// When that was made, seconds of the chain's clock.
    time_s: u64,
    /// Deposited, ever.
    deposited_units: String,
    /// Fees, ever.
    fees_units: String,
    /// Paid to accounts, ever.
    paid_units: String,
    /// Back with the sponsor.
    reclaimed_units: String,
    /// Stake that counts.
    stake_units: String,
    /// The accepted root.
    accepted: Option<RootLine>,
    /// The root that waits.
    pending: Option<RootLine>,
    /// When it is accepted, seconds of the chain's clock.
    due_s: Option<u64>,
    /// Whether the chain's root is what the books say: `nothing`, `right`, `unjudged`, `wrong` or `accepted_wrong`.
    judged: &'static str,
    /// In words.
    says: String,
    /// The height that the books reach, and the newest root that enough stake signed.
    books: BooksLine,
    /// This peer's account.
    account: AccountLine,
}

#[derive(Serialize)]
struct RootLine {
    height: u64,
    total_units: String,
    closed: bool,
}

#[derive(Serialize)]
struct BooksLine {
    /// None before the genesis.
    height: Option<u32>,
    /// Of the newest root that more than two thirds of the stake signed.
    signed_height: Option<u64>,
    /// What it promises.
    signed_total_units: Option<String>,
    /// The stake of who signed it.
    signed_by_units: Option<String>,
}

#[derive(Serialize)]
struct AccountLine {
    account: String,
    /// What it holds of the token.
    holds_units: String,
    /// What of its stake counts.
    staked_units: String,
    /// What does not count yet.
    maturing_units: String,
    /// What waits to leave.
    leaving_units: String,
    /// What it was paid out of the run.
    claimed_units: String,
    /// Bonds of challenges that came back to it.
    credits_units: String,
}

pub(super) async fn run(context: &Context, found: &Found) -> Result<(), Failure> {
    let chain = found.chain().await?;
    let identity = Identity::read_file(&found.way.paths.key())?;
    let account = found.way.settings.wallet(&identity)?.account();
    let facts = facts(&chain, found, account).await?;
    let holds = chain.token().balance_of(account);
    let holds = chain.ask(&holds, &facts.block).await;
    let holds = holds.map_err(|why| of_node(&why))?;
    let seen = seen(&chain, found, &facts).await?;
    let status = status((&chain, found), &facts, (account, holds), &seen);
    context.out.answer(&status, text)?;
    match seen {
        Seen::Wrong { .. } | Seen::AcceptedWrong { .. } => {
            let said = format!("run {}: {seen}", short(&status.run));
            Err(Failure::finding(said).hint("`tributary settle challenge` challenges what waits"))
        }
        _ => Ok(()),
    }
}

async fn facts(chain: &Chain, found: &Found, account: Address) -> Result<Facts, Failure> {
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let mut accounts = found.books.signers();
    accounts.push(account);
    accounts.sort_unstable();
    accounts.dedup();
    let asked = Asked {
        accounts,
        channels: Vec::new(),
    };
    let facts = chain.facts(found.terms.key(), &asked, &block).await;
    facts.map_err(|why| of_node(&why))
}

/// What the books say of the chain's root.
async fn seen(chain: &Chain, found: &Found, facts: &Facts) -> Result<Seen, Failure> {
    let pending = facts.run.pending.map(|pending| pending.root.height);
    let root = match pending.unwrap_or(facts.run.accepted.height) {
        0 => None,
        height => found.at(height).await?.root(),
    };
    let of = |height| root.filter(|root| root.height == height);
    Ok(judge(&facts.run, chain.deployment(), of))
}

fn status(
    (chain, found): (&Chain, &Found),
    facts: &Facts,
    (account, holds): (Address, BaseUnits),
    seen: &Seen,
) -> Status {
    let (run, deployment) = (&facts.run, chain.deployment());
    Status {
        schema: "settle-status/1",
        run: found.run(),
        chain: deployment.chain.0,
        contract: deployment.contract.to_string(),
        token: chain.token().0.to_string(),
        key: found.terms.key().to_string(),
        block: facts.block.number,
        time_s: facts.block.time_s,
        deposited_units: run.deposited.0.to_string(),
        fees_units: run.fees.0.to_string(),
        paid_units: run.paid.0.to_string(),
        reclaimed_units: run.reclaimed.0.to_string(),
        stake_units: run.stake.0.to_string(),
        accepted: (run.accepted.height > 0).then(|| line(&run.accepted)),
        pending: run.pending.map(|pending| line(&pending.root)),
        due_s: run.pending.map(|pending| pending.due_s),
        judged: match seen {
            Seen::Nothing => "nothing",
            Seen::Right { .. } => "right",
            Seen::Unjudged { .. } => "unjudged",
            Seen::Wrong { .. } => "wrong",
            Seen::AcceptedWrong { .. } => "accepted_wrong",
        },
        says: seen.to_string(),
        books: books_line(found, facts),
        account: account_line(facts, account, holds),
    }
}

fn line(root: &RootView) -> RootLine {
    RootLine {
        height: root.height,
        total_units: root.total.0.to_string(),
        closed: root.closed,
    }
}

fn books_line(found: &Found, facts: &Facts) -> BooksLine {
    let stakes: BTreeMap<Address, BaseUnits> = (facts.accounts.iter())
        .map(|(account, facts)| (*account, facts.stake.counting))
        .collect();
    let quorum = found.books.newest_signed(&stakes, facts.run.stake);
    let quorum = quorum.as_ref();
    BooksLine {
        height: found.books.expected.checked_sub(1),
        signed_height: quorum.map(|quorum| quorum.root.height),
        signed_total_units: quorum.map(|quorum| quorum.root.total.0.to_string()),
        signed_by_units: quorum.map(|quorum| quorum.signed.0.to_string()),
    }
}

fn account_line(facts: &Facts, account: Address, holds: BaseUnits) -> AccountLine {
    let own = facts.accounts.get(&account).copied().unwrap_or_default();
    AccountLine {
        account: account.to_string(),
        holds_units: holds.0.to_string(),
        staked_units: own.stake.counting.0.to_string(),
        maturing_units: own.stake.maturing.0.to_string(),
        leaving_units: own.stake.leaving.0.to_string(),
        claimed_units: own.claimed.0.to_string(),
        credits_units: own.credits.0.to_string(),
    }
}

/// Base units as OPEN.
fn open(units: &str) -> String {
    let amount = units.parse().map(BaseUnits);
    amount.map_or_else(|_| units.to_owned(), super::open)
}

fn root_words(root: Option<&RootLine>) -> String {
    match root {
        None => "none".to_owned(),
        Some(root) => format!(
            "height {}, {} OPEN promised{}",
            root.height,
            open(&root.total_units),
            if root.closed {
                ", the deposit is closed"
            } else {
                ""
            }
        ),
    }
}

fn text(status: &Status) -> String {
    let own = &status.account;
    let signed = match (
        &status.books.signed_height,
        &status.books.signed_total_units,
    ) {
        (Some(height), Some(total)) => format!(
            "height {height}, {} OPEN promised, by {} OPEN of stake",
            open(total),
            open(status.books.signed_by_units.as_deref().unwrap_or("0"))
        ),
        _ => "none by more than two thirds of the stake".to_owned(),
    };
    format!(
        "run       {}\nchain     {}, contract {}, token {}\nblock     {} (final)\ndeposited {} OPEN, {} back with the \
         sponsor\nfees      {} OPEN\npaid      {} OPEN\nstake     {} OPEN count\naccepted  {}\npending   {}\nbooks     {}\nsigned    \
         {signed}\naccount   {}: holds {} OPEN, {} staked, {} maturing, {} leaving, {} claimed, {} of bonds to collect\n{}\n",
        status.run,
        status.chain,
        status.contract,
        status.token,
        status.block,
        open(&status.deposited_units),
        open(&status.reclaimed_units),
        open(&status.fees_units),
        open(&status.paid_units),
        open(&status.stake_units),
        root_words(status.accepted.as_ref()),
        root_words(status.pending.as_ref()),
        status.books.height.map_or_else(
            || "before the genesis".to_owned(),
            |h| format!("height {h}")
        ),
        own.account,
        open(&own.holds_units),
        open(&own.staked_units),
        open(&own.maturing_units),
        open(&own.leaving_units),
        open(&own.claimed_units),
        open(&own.credits_units),
        status.says,
    )
}
