//! `tributary run ...`: open, join, leave and watch runs through the daemon; list, show and remove them without one.

mod watch;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::HEXLOWER;
use tributary_attribution::settlement::Address;
use tributary_ledger::view::short;
use tributary_protocol::codec;
use tributary_protocol::id::BlobRef;

use super::Context;
use super::args::RunCommand;
use super::status::runs_table;
use crate::api::Reader;
use crate::api::client::Client;
use crate::api::local::Local;
use crate::api::types::{CreateRequest, JoinRequest, RoleName, RunBrief, RunView, StatusView};
use crate::config::{BaseFacts, ChainName, RunFile};
use crate::home::HomePaths;
use crate::identity::Identity;
use crate::model::{self, share};
use crate::settings::Settings;
use crate::shard::neutral;
use crate::terminal::output::{Align, Table, bytes};
use crate::terminal::{Failure, note};
use crate::view::money_line;
use crate::view::phase_line;
use crate::view::tables::credits_table;

/// Said where no run of a peer nearby is known.
const NOBODY_NEAR: &str = "no peer of the local network follows a run that this one knows of; a daemon looks there with \
                           `tributary up --reach lan`, and hears of others within seconds";

pub(super) async fn run(context: &Context, command: RunCommand) -> Result<(), Failure> {
    let root = &context.home;
    match command {
        RunCommand::Create {
            file,
            join,
            holdout,
        } => create(context, &Client::open(root).await?, &file, join, &holdout).await,
        RunCommand::Join {
            id,
            role,
            datanet,
            holdout,
            base,
        } => {
            let request = JoinRequest {
                role,
                datanet,
                holdout: absolute_all(&holdout)?,
                base: base.as_deref().map(absolute).transpose()?,
            };
            let run = Client::open(root).await?.join(&id, &request).await?;
            context.out.answer(&run, |run| {
                format!(
                    "asked to join run {} ({}) as {}; members join at the next round\n\
                     next: {} run watch {}",
                    short(&run.run),
                    run.name,
                    role_word(role),
                    context.call,
                    short(&run.run)
                )
            })
        }
        RunCommand::Leave { id } => {
            let run = Client::open(root).await?.leave(&id).await?;
            context.out.answer(&run, |run| {
                format!(
                    "asked to leave run {} ({}) at the next round",
                    short(&run.run),
                    run.name
                )
            })
        }
        RunCommand::List { nearby } => {
            let mut runs: Vec<RunBrief> = Local::of(root).await?.runs().await?;
            runs.retain(|run| run.nearby || !nearby);
            if nearby && runs.is_empty() {
                note(NOBODY_NEAR);
            }
            context
                .out
                .answer(&runs, |runs| match runs.is_empty() && nearby {
                    true => String::new(),
                    false => runs_table(runs),
                })
        }
        RunCommand::Show { id } => {
            let run = Local::of(root).await?.run(&id).await?;
            context.out.answer(&run, show)
        }
        RunCommand::Rm { id, yes, abandon } => super::upkeep::remove(context, &id, yes, abandon),
        RunCommand::Watch { id } => watch::watch(context, &Client::open(root).await?, id).await,
    }
}

/// What a daemon says of itself.
fn understood<T: FromStr>(what: &str, said: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    said.parse().map_err(|e| {
        Failure::environment(format!(
            "the daemon's {what} {said:?} is not understood: {e}"
        ))
        .hint("daemon and command differ in version: restart the daemon")
    })
}

async fn create(
    context: &Context,
    client: &Client,
    path: &Path,
    join: bool,
    holdout: &[PathBuf],
) -> Result<(), Failure> {
    let file = RunFile::read(path)?;
    let status = client.status().await?;
    let creator = understood("id", &status.peer)?;
    let base = facts(context, &file)?;
    let mut manifest = file.manifest(creator, nonce(), &base)?;
    let sponsor = sponsor(context, &file, &status)?;
    file.settle(&mut manifest, sponsor)?;
    let evaluates = match manifest.is_bonded() {
        true => !holdout.is_empty(),
        false => manifest.may_evaluate(&creator),
    };
    let folder = if file.base == model::BROOK {
        None
    } else {
        Some(absolute(Path::new(&file.base))?)
    };
    let role = match (join, evaluates) {
        (true, true) => Some(RoleName::Both),
        (true, false) => Some(RoleName::Contributor),
        (false, true) => Some(RoleName::Evaluator),
        (false, false) => None,
    };
    let request = CreateRequest {
        manifest: HEXLOWER.encode(&codec::encode(&manifest)),
        base: folder.clone(),
        join: match role {
            None => None,
            Some(role) => Some(JoinRequest {
                role,
                datanet: None,
                holdout: absolute_all(holdout)?,
                base: folder,
            }),
        },
    };
    if let Some(role) = role
        && let Ok(Some(warning)) = neutral::check(&manifest, role.into(), !holdout.is_empty())
    {
        note(format_args!("warning: {warning}"));
    }
    let run = client.create(&request).await?;
    context.out.answer(&run, |run| {
        format!(
            "run    {}\nname   {}\nbase   {}\nrounds {}\n\nOthers take part by a ticket, which this prints:\n  {} \
             invite {}\nnext: {} run watch {}",
            run.run,
            run.name,
            run.base,
            run.rounds,
            context.call,
            short(&run.run),
            context.call,
            short(&run.run)
        )
    })
}

/// The account that pays for the run: on a real chain the one that the home's settings name.
fn sponsor(context: &Context, file: &RunFile, status: &StatusView) -> Result<Address, Failure> {
    if file.chain != ChainName::Evm {
        return understood("account", &status.account);
    }
    let paths = HomePaths::new(&context.home);
    let settings = Settings::read(&paths.config())?.chain;
    let identity = Identity::read_file(&paths.key())?;
    Ok(settings.wallet(&identity)?.account())
}

/// What the manifest says of the base, with its listing where members may hand it on.
fn facts(context: &Context, file: &RunFile) -> Result<BaseFacts, Failure> {
    let mut base = model::facts(&file.base)?;
    if file.share_base && file.base != model::BROOK {
        base.files = Some(list(context, Path::new(&file.base))?);
    }
    Ok(base)
}

/// Lists the base that members are to hand on, and says what its licence is.
fn list(context: &Context, base: &Path) -> Result<BlobRef, Failure> {
    let shown = base.display();
    note(format_args!(
        "reading {shown}, so that members can hand it on"
    ));
    let listing = share::list(base, &mut |_, _| ()).map_err(|e| Failure::from_error(&e))?;
    match listing.licence.as_str() {
        "" => note(format_args!(
            "warning: {shown} has neither a licence file nor `license:` in its README.md; make sure that its licence lets \
             members hand it on, or set `share_base = false`"
        )),
        licence => note(format_args!(
            "members hand {} on under its licence, {licence}, which has to allow that",
            bytes(listing.total())
        )),
    }
    let kept = share::keep(&HomePaths::new(&context.home), &listing.bytes());
    kept.map_err(|e| Failure::from_error(&e))
}

fn nonce() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has no source of random numbers");
    u64::from_le_bytes(bytes)
}

fn role_word(role: RoleName) -> &'static str {
    match role {
        RoleName::Contributor => "contributor",
        RoleName::Evaluator => "evaluator",
        RoleName::Both => "both",
    }
}

pub(super) fn absolute_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    paths.iter().map(|p| absolute(p)).collect()
}

/// The daemon may run in another folder than this command.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| {
        Failure::environment(format!(
            "cannot tell the full path of {}: {e}",
            path.display()
        ))
        .hint("give the full path")
    })
}

fn show(run: &RunView) -> String {
    let mut out = format!(
        "run       {}\nname      {}\nbase      {}\ndatanet   {}\ncreator   {}\nphase     {}\nbudget    \
         {} OPEN a nat, at most {} OPEN a round\n",
        run.brief.run,
        run.brief.name,
        run.brief.base,
        run.brief.datanet,
        run.creator,
        phase_line(run.brief.phase),
        tributary_protocol::id::MicroOpen(run.price_per_nat_micro_open.into()),
        tributary_protocol::id::MicroOpen(run.budget_micro_open.into()),
    );
    match &run.settlement {
        Some(settlement) => out.push_str(&format!("money     {}\n", money_line(settlement))),
        None => out.push_str("money     unfunded: the run names no chain\n"),
    }
    if let Some(adapter) = &run.adapter {
        out.push_str(&format!(
            "adapter   {} (round {})\n",
            adapter.id, adapter.round
        ));
    }
    let mut members = Table::new(&[
        ("member", Align::Left),
        ("name", Align::Left),
        ("role", Align::Left),
        ("tokens", Align::Right),
        ("its own", Align::Right),
    ]);
    for member in &run.roster {
        members.row([
            short(&member.peer),
            member.name.clone(),
            member.role.clone(),
            member.tokens.to_string(),
            member.own_tokens.to_string(),
        ]);
    }
    let mut rounds = Table::new(&[
        ("round", Align::Right),
        ("included", Align::Right),
        ("loss before", Align::Right),
        ("after", Align::Right),
        ("state", Align::Left),
    ]);
    let loss = |l: Option<f64>| l.map_or("-".to_owned(), |l| format!("{l:.4}"));
    for round in &run.history {
        rounds.row([
            round.round.to_string(),
            round.included.to_string(),
            loss(round.loss_before),
            loss(round.loss_after),
            short(&round.state_hash),
        ]);
    }
    for (table, empty) in [
        (members.render(), run.roster.is_empty()),
        (rounds.render(), run.history.is_empty()),
        (credits_table(&run.credits), run.credits.is_empty()),
    ] {
        if !empty {
            out.push('\n');
            out.push_str(&table);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_ledger::view::{CreditView, RoundView};

    #[test]
    fn a_run_is_shown_with_its_rounds_and_credits() {
        let text = show(&RunView {
            brief: RunBrief {
                name: "poets".to_owned(),
                ..RunBrief::default()
            },
            budget_micro_open: 1_500_000,
            history: vec![RoundView {
                round: 1,
                included: 6,
                loss_before: Some(3.25),
                loss_after: None,
                ..RoundView::default()
            }],
            credits: vec![CreditView {
                name: "alice".to_owned(),
                score_nanonats: -2_500_000,
                low_nanonats: -3_000_000,
                high_nanonats: 1_000_000,
                luck_nanonats: 1_500_000,
                credit: 250_000_000,
                micro_open: 42,
                ..CreditView::default()
            }],
            ..RunView::default()
        });
        assert!(text.contains("1.500000 OPEN a round"), "{text}");
        assert!(text.contains("3.2500      -"), "{text}");
        assert!(
            text.contains("-2.500  -3.000 .. +1.000  1.500  0.2500          42"),
            "{text}"
        );
    }
}
