//! Steps that one transaction does: deposit, post, confirm, sweep, claim, halt, reclaim, collect.

use std::collections::BTreeMap;

use serde::Serialize;
use tributary_attribution::settlement::calls::Payment;
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_ledger::view::short;
use tributary_settlement::{ActionError, Actions, Asked, Block, Chain, Done, Facts};

use super::{Context, Found, of_action, of_node, open};
use crate::problem::{Code, Problem};
use crate::terminal::{Failure, note};

/// `settle-step/1`: a step that is done, and final.
#[derive(Serialize)]
pub(super) struct Step {
    schema: &'static str,
    run: String,
    /// Which one.
    step: &'static str,
    /// Who did it.
    account: String,
    /// False: there was nothing to do as of that block.
    sent: bool,
    /// Its block; where nothing was sent, the last final one.
    block: u64,
    /// The transaction, if one was sent.
    transaction: Option<String>,
    /// What its gas cost, wei.
    fee_wei: Option<String>,
    /// What it came to.
    says: String,
}

impl Step {
    pub(super) fn new(
        (found, account): (&Found, Address),
        step: &'static str,
        done: Done,
        says: String,
    ) -> Self {
        let (block, receipt) = match done {
            Done::AlreadySo(block) => (block.number, None),
            Done::Sent(receipt) => (receipt.block, Some(receipt)),
        };
        Self {
            schema: "settle-step/1",
            run: found.run(),
            step,
            account: account.to_string(),
            sent: receipt.is_some(),
            block,
            transaction: receipt.map(|receipt| receipt.hash.to_string()),
            fee_wei: receipt.map(|receipt| receipt.fee_wei.to_string()),
            says,
        }
    }

    pub(super) fn answer(&self, context: &Context) -> Result<(), Failure> {
        context.out.answer(self, |step| match &step.transaction {
            Some(transaction) => format!(
                "{}\nby transaction {transaction} in block {}, which is final and cost {} wei",
                step.says,
                step.block,
                step.fee_wei.as_deref().unwrap_or_default()
            ),
            None => format!(
                "already so as of the final block {}: {}",
                step.block, step.says
            ),
        })
    }
}

/// Says that a step waits, before it does.
pub(super) fn waits(account: Address) {
    note(format_args!(
        "account {account}; the step is done when its transaction is final, and can be asked for again if this is interrupted"
    ));
}

/// `tributary budget`.
pub(super) async fn deposit(
    context: &Context,
    found: &Found,
    total: BaseUnits,
) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.deposit(&found.terms, total).await;
    let done = done.map_err(|why| of_action(&why))?;
    let says = format!(
        "{} OPEN at least are deposited for the run, ever",
        open(total)
    );
    Step::new((found, actions.account()), "deposit", done, says).answer(context)
}

/// `tributary settle post`.
pub(super) async fn post(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    let chain = actions.chain();
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let (facts, stakes) = staked(found, chain, &block).await?;
    let Some(quorum) = found.books.newest_signed(&stakes, facts.run.stake) else {
        let text = format!(
            "no root of run {} that is kept was signed by more than two thirds of the {} OPEN of stake that count on the chain",
            short(&found.run()),
            open(facts.run.stake)
        );
        return Err(Failure::from(Problem::new(Code::Refused, text).hint(
            "wait until more members have signed (their daemons do), and until their stake counts: `tributary settle status`",
        )));
    };
    waits(actions.account());
    let done = actions.post(&found.terms, &quorum.root, &quorum.signatures);
    let done = done.await.map_err(|why| of_action(&why))?;
    let says = format!(
        "the root of height {}, which promises {} OPEN and which {} of {} OPEN of stake signed, is posted",
        quorum.root.height,
        open(quorum.root.total),
        open(quorum.signed),
        open(facts.run.stake)
    );
    Step::new((found, actions.account()), "post", done, says).answer(context)
}

/// The run at a block, and what of its members' stake counts there.
async fn staked(
    found: &Found,
    chain: &Chain,
    block: &Block,
) -> Result<(Facts, BTreeMap<Address, BaseUnits>), Failure> {
    let asked = Asked {
        accounts: found.books.signers(),
        channels: Vec::new(),
    };
    let facts = chain.facts(found.terms.key(), &asked, block).await;
    let facts = facts.map_err(|why| of_node(&why))?;
    let stakes = (facts.accounts.iter())
        .map(|(account, facts)| (*account, facts.stake.counting))
        .collect();
    Ok((facts, stakes))
}

/// `tributary settle confirm`.
pub(super) async fn confirm(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    let (chain, run) = (actions.chain(), short(&found.run()).to_owned());
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let (facts, stakes) = staked(found, chain, &block).await?;
    let pending = facts.run.pending;
    let Some(pending) = pending.filter(|root| root.challenger.is_some()) else {
        let says = format!("no root of run {run} is challenged");
        let done = Done::AlreadySo(block);
        return Step::new((found, actions.account()), "confirm", done, says).answer(context);
    };
    if found.terms.arbiter.is_some() {
        let text = format!("the terms of run {run} name an arbiter, who alone answers challenges");
        return Err(Problem::new(Code::Refused, text).into());
    }
    let all = facts.run.stake;
    let place = (chain.deployment(), pending.digest);
    let quorum = match found.books.answered(place, &stakes, all) {
        Some(Ok(quorum)) => quorum,
        Some(Err(so_far)) => {
            let text = format!(
                "of the {} OPEN of stake that count for run {run}, {} have answered the challenge, and more than two thirds must",
                open(all),
                open(so_far)
            );
            return Err(Failure::from(Problem::new(Code::Refused, text).hint(
                "wait: daemons that read the chain sign (`tributary up --chain-rpc URL`), and the next certificate brings what \
                 they signed here",
            )));
        }
        None => {
            return Err(Failure::finding(format!(
                "the root of height {} that waits for run {run} is not one that the books keep, so nobody should confirm it",
                pending.root.height
            ))
            .hint("`tributary ledger verify` checks the books; without an answer the root is void"));
        }
    };
    waits(actions.account());
    let done = actions.confirm(&found.terms, &quorum.root, &quorum.signatures);
    let done = done.await.map_err(|why| of_action(&why))?;
    let says = format!(
        "the root of height {} stands, as {} of {} OPEN of stake say, and the challenger's bond is burned",
        quorum.root.height,
        open(quorum.signed),
        open(all)
    );
    Step::new((found, actions.account()), "confirm", done, says).answer(context)
}

/// `tributary settle sweep`.
pub(super) async fn sweep(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.sweep(found.terms.key()).await;
    let says = "what had arrived in the run's till is among its fees".to_owned();
    say(context, found, (&actions, "sweep"), (done, says))
}

/// `tributary settle halt`.
pub(super) async fn halt(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.halt(&found.terms).await;
    let says = format!(
        "the run ends: signed roots can be posted for {} s more, and then `tributary settle reclaim` takes back what none promised",
        found.terms.window_s
    );
    say(context, found, (&actions, "halt"), (done, says))
}

/// `tributary settle reclaim`.
pub(super) async fn reclaim(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.reclaim(&found.terms).await;
    let says = format!(
        "account {} has what no root of the run promised",
        found.terms.sponsor
    );
    say(context, found, (&actions, "reclaim"), (done, says))
}

/// `tributary settle collect`.
pub(super) async fn collect(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.collect().await;
    let says = "bonds that came back to the account are paid".to_owned();
    say(context, found, (&actions, "collect"), (done, says))
}

fn say(
    context: &Context,
    found: &Found,
    (actions, step): (&Actions, &'static str),
    (done, says): (Result<Done, ActionError>, String),
) -> Result<(), Failure> {
    let done = done.map_err(|why| of_action(&why))?;
    Step::new((found, actions.account()), step, done, says).answer(context)
}

/// `tributary settle claim`.
pub(super) async fn claim(context: &Context, found: &Found, all: bool) -> Result<(), Failure> {
    let actions = found.actions().await?;
    let (chain, me) = (actions.chain(), actions.account());
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let run = chain.settlement().runs(found.terms.key());
    let accepted = chain.ask(&run, &block).await.map_err(|why| of_node(&why))?;
    let accepted = accepted.accepted;
    if accepted.height == 0 {
        let text = format!(
            "the chain has accepted no root of run {} as of block {}, so nothing can be claimed",
            short(&found.run()),
            block.number
        );
        return Err(Failure::from(Problem::new(Code::Refused, text).hint(
            "`tributary settle post` posts one; it is accepted when it has waited its window",
        )));
    }
    let books = found.at(accepted.height).await?;
    let balances = books
        .balances()
        .filter(|balances| balances.root().hash == accepted.balances);
    let Some(balances) = balances else {
        return Err(not_in_the_books(found, accepted.height, books.expected));
    };
    let mut accounts: Vec<Address> = books.accounts().copied().collect();
    accounts.retain(|account| all || *account == me);
    let proofs = accounts
        .iter()
        .filter_map(|account| balances.prove(account));
    let payments: Vec<Payment> = proofs
        .map(|proof| Payment {
            run: found.terms.key(),
            proof,
            unwrap: false,
        })
        .collect();
    let sum = payments.iter().map(|payment| payment.proof.balance.0);
    let sum = BaseUnits(sum.fold(0, u128::saturating_add));
    let says = format!(
        "{} accounts have the {} OPEN that the root of height {} promises them, ever",
        payments.len(),
        open(sum),
        accepted.height
    );
    if payments.is_empty() {
        return Step::new((found, me), "claim", Done::AlreadySo(block), says).answer(context);
    }
    waits(me);
    let done = actions.claim(&payments).await;
    let done = done.map_err(|why| of_action(&why))?;
    Step::new((found, me), "claim", done, says).answer(context)
}

/// An accepted root that this home's books do not have.
fn not_in_the_books(found: &Found, height: u64, expected: u32) -> Failure {
    let run = short(&found.run()).to_owned();
    if height >= u64::from(expected) {
        let text = format!("the books of run {run} do not reach height {height} yet");
        return Failure::from(
            Problem::new(Code::Refused, text).hint("let the daemon run until they do"),
        );
    }
    Failure::finding(format!(
        "the root of height {height} that the chain accepted for run {run} is not what the books say"
    ))
    .hint("`tributary ledger verify` checks the books; tell the members of the run")
}
