//! `tributary stake` and `unstake`: what this peer's account has put up in a run.

use serde::Serialize;
use tributary_attribution::settlement::calls::StakeView;
use tributary_attribution::settlement::{Address, BaseUnits};
use tributary_ledger::view::short;
use tributary_settlement::{Actions, Block, Done};

use super::{Context, Found, of_action, of_node, open};
use crate::cli::settle::steps::waits;
use crate::terminal::Failure;

/// `settle-stake/1`: an account's stake in a run, as of a final block. Amounts are base units of the chain.
#[derive(Serialize)]
struct Stake {
    schema: &'static str,
    run: String,
    account: String,
    /// As of which block.
    block: u64,
    /// When that was made, seconds of the chain's clock.
    time_s: u64,
    /// What counts.
    counting_units: String,
    /// What does not count yet.
    maturing_units: String,
    /// When it may, if the command is given again: seconds of the chain's clock.
    matures_s: u64,
    /// What waits to leave.
    leaving_units: String,
    /// When it may, likewise.
    leaves_s: u64,
    /// Transactions of this command.
    transactions: Vec<String>,
    #[serde(skip)]
    view: StakeView,
}

/// Puts up stake until `total` is there, and has what is ripe count.
pub(super) async fn stake(
    context: &Context,
    found: &Found,
    total: BaseUnits,
) -> Result<(), Failure> {
    let actions = found.actions().await?;
    let (key, me) = (found.terms.key(), actions.account());
    waits(me);
    let mut sent = Vec::new();
    let (_, before) = view(&actions, found).await?;
    if is_ripe(&actions, before.maturing, before.mature_s).await? {
        sent.push(actions.activate(key, me).await);
    }
    sent.push(actions.bond(&found.terms, total).await);
    answer(context, (found, &actions), sent).await
}

/// Takes stake out until `rest` is left, and pays out what has waited its cool-down.
pub(super) async fn unstake(
    context: &Context,
    found: &Found,
    rest: BaseUnits,
) -> Result<(), Failure> {
    let actions = found.actions().await?;
    waits(actions.account());
    let mut sent = Vec::new();
    let (_, before) = view(&actions, found).await?;
    if is_ripe(&actions, before.leaving, before.leaves_s).await? {
        sent.push(actions.withdraw(found.terms.key()).await);
    }
    sent.push(actions.unbond(&found.terms, rest).await);
    answer(context, (found, &actions), sent).await
}

async fn view(actions: &Actions, found: &Found) -> Result<(Block, StakeView), Failure> {
    let chain = actions.chain();
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let stakes = chain
        .settlement()
        .stakes(found.terms.key(), actions.account());
    let view = chain.ask(&stakes, &block).await;
    Ok((block, view.map_err(|why| of_node(&why))?))
}

async fn is_ripe(actions: &Actions, amount: BaseUnits, at_s: u64) -> Result<bool, Failure> {
    let block = actions.chain().finalized().await;
    let block = block.map_err(|why| of_node(&why))?;
    Ok(amount > BaseUnits(0) && at_s <= block.time_s)
}

async fn answer(
    context: &Context,
    (found, actions): (&Found, &Actions),
    sent: Vec<Result<Done, tributary_settlement::ActionError>>,
) -> Result<(), Failure> {
    let mut transactions = Vec::new();
    for done in sent {
        if let Done::Sent(receipt) = done.map_err(|why| of_action(&why))? {
            transactions.push(receipt.hash.to_string());
        }
    }
    let (block, view) = view(actions, found).await?;
    let account: Address = actions.account();
    let stake = Stake {
        schema: "settle-stake/1",
        run: found.run(),
        account: account.to_string(),
        block: block.number,
        time_s: block.time_s,
        counting_units: view.counting.0.to_string(),
        maturing_units: view.maturing.0.to_string(),
        matures_s: view.mature_s,
        leaving_units: view.leaving.0.to_string(),
        leaves_s: view.leaves_s,
        transactions,
        view,
    };
    context
        .out
        .answer(&stake, |stake| text(stake, &context.call))
}

fn text(stake: &Stake, call: &str) -> String {
    let view = &stake.view;
    let mut text = format!(
        "account {} in run {}, as of the final block {}\n{} OPEN count",
        stake.account,
        short(&stake.run),
        stake.block,
        open(view.counting)
    );
    let wait = |at_s: u64| match at_s.saturating_sub(stake.time_s) {
        0 => "now".to_owned(),
        seconds => format!("in {seconds} s of the chain's clock"),
    };
    if view.maturing > BaseUnits(0) {
        text.push_str(&format!(
            "\n{} OPEN may count {}; then give `{call} stake {} AMOUNT` again",
            open(view.maturing),
            wait(view.mature_s),
            short(&stake.run)
        ));
    }
    if view.leaving > BaseUnits(0) {
        text.push_str(&format!(
            "\n{} OPEN may leave {}; then give `{call} unstake {} AMOUNT` again",
            open(view.leaving),
            wait(view.leaves_s),
            short(&stake.run)
        ));
    }
    for transaction in &stake.transactions {
        text.push_str(&format!("\ntransaction {transaction} is final"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_with_the_command_that_ends_the_waiting() {
        let whole = |amount: u128| BaseUnits(amount * 1_000_000_000_000_000_000);
        let view = StakeView {
            counting: whole(1),
            maturing: BaseUnits(whole(2).0 + whole(1).0 / 2),
            leaving: whole(30),
            mature_s: 1_100,
            leaves_s: 900,
            sentence: None,
        };
        let stake = Stake {
            schema: "settle-stake/1",
            run: "3f".repeat(32),
            account: "0x1".into(),
            block: 32,
            time_s: 1_000,
            counting_units: String::new(),
            maturing_units: String::new(),
            matures_s: 1_100,
            leaving_units: String::new(),
            leaves_s: 900,
            transactions: vec!["0xab".into()],
            view,
        };
        let said = text(&stake, "tributary");
        for part in [
            "\n1 OPEN count",
            "\n2.5 OPEN may count in 100 s",
            "\n30 OPEN may leave now",
            "`tributary unstake 3f",
            "transaction 0xab is final",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
