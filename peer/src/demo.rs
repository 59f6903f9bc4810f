//! `tributary demo`: a federation from start to finish in one process.
//!
//! ```text
//!   plan (who, which text, which run) ──▶ cast (a home and a daemon each) ──▶ story ──▶ screen
//!                                               │ sockets on loopback          events
//!                                               ▼
//!                              stopped homes ──▶ ending (verify, losses, shares) ──▶ report
//! ```
//! Every peer is complete: own folder, key, swarm, endpoint, store. They share nothing but the loaded
//! base model and the number of worker slots. The ending reads the stopped homes, not the process: what
//! it reports is what is on the disk. Killed at any moment and started again on the same folder, the
//! peers go on where their ledgers end.

pub mod check;
mod ending;
mod folder;
pub mod narrator;
pub mod options;
mod peers;
pub mod plan;
pub mod report;
pub mod screen;
pub mod texts;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tributary_protocol::id::Round;

use crate::home::HomePaths;
use crate::model;
use crate::terminal::output::Out;
use crate::terminal::{Failure, Format, note};
use narrator::{Narrator, Show};
use options::DemoArgs;
use peers::DemoPeers;
use plan::{Measured, Plan};
use screen::Screen;

/// How often the peers are looked at besides their events.
const LOOK: Duration = Duration::from_secs(1);
/// How long the peers have to post the last root and to claim.
const SETTLE: Duration = Duration::from_secs(60);
/// Silence after which a person is told that something may be wrong.
const SILENCE: Duration = Duration::from_secs(120);

/// Runs the command. `home` is the demo's folder; without one it gets a new one.
///
/// # Errors
/// A [`Failure`] says what failed, why, and what to do; a ledger that does not hold is one.
pub async fn run(out: &Out, home: Option<PathBuf>, args: DemoArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let is_passing = home.is_none();
    let root = match home {
        Some(home) => std::path::absolute(&home).map_err(|e| {
            Failure::environment(format!(
                "cannot tell the full path of {}: {e}",
                home.display()
            ))
            .hint("give the full path with --home")
        })?,
        None => folder::new()?,
    };
    if HomePaths::new(&root).key().exists() {
        return Err(Failure::environment(format!(
            "{} is the home of a peer, and a demo has a folder of its own",
            root.display()
        ))
        .hint("name another folder with --home"));
    }
    let screen = Screen::open();
    let begun = tokio::task::block_in_place(|| begin(&root, &args));
    if is_passing {
        match &begun {
            Ok(_) => folder::remove_earlier(),
            Err(_) => folder::take_back(&root),
        }
    }
    let (base, plan) = begun?;
    screen.line(&format!(
        "{} contributors and 3 evaluators on {}, {} rounds, in {}",
        plan.contributors.len(),
        plan.base,
        plan.rounds,
        root.display()
    ));
    let plan = match tokio::task::block_in_place(|| plan.is_finished(&root)) {
        true => {
            screen.line("this demo was finished before; reading what it left");
            plan
        }
        false => play(&root, plan, &base, &screen).await?,
    };
    screen.waiting("ending: checking every ledger, measuring every domain");
    let report = tokio::task::block_in_place(|| ending::report(&root, &plan, &base, &args));
    let mut report = report?;
    screen.close();
    report.wall_s = started.elapsed().as_secs_f64();
    out.answer(&report, report::Report::text)?;
    if out.format() == Format::Json {
        note(report.text());
    }
    if !report.ledger_verified || !report.state_hashes_equal {
        return Err(
            Failure::check("the demo's ledgers do not hold").hint(format!(
                "`tributary ledger verify --home {}` names every fault",
                root.display()
            )),
        );
    }
    Ok(())
}

/// The base model, and what the demo is to be.
fn begin(root: &Path, args: &DemoArgs) -> Result<(tributary_trainer::BaseModel, Plan), Failure> {
    let base = model::open(&args.base)?;
    let plan = Plan::prepare(root, args, &base)?;
    Ok((base, plan))
}

/// Starts the peers, shows what they do, and stops them when all have the finished run.
async fn play(
    root: &Path,
    mut plan: Plan,
    base: &tributary_trainer::BaseModel,
    screen: &Screen,
) -> Result<Plan, Failure> {
    screen.waiting("start: making homes and sockets for every peer");
    let mut demo_peers = DemoPeers::start(root, &plan, base).await?;
    let mut narrator = Narrator::new(plan.actors(), plan.rounds, plan.steps);
    let mut look = tokio::time::interval(LOOK);
    let mut heard = Instant::now();
    while !narrator.is_finished() {
        tokio::select! {
            event = demo_peers.next() => {
                let (actor, event) = event?;
                heard = Instant::now();
                for show in narrator.on(actor, &event) {
                    screen.show(&show);
                }
                demo_peers.measure(actor, &event);
                note_rounds(root, &mut plan, &demo_peers, &narrator)?;
            }
            _ = look.tick() => {
                // Events can be missed, and a restarted peer may have had everything from the start.
                for actor in demo_peers.finished().await? {
                    narrator.finish(actor);
                }
                if heard.elapsed() > SILENCE {
                    heard = Instant::now();
                    screen.line(&demo_peers.silence(SILENCE.as_secs() / 60).await);
                }
            }
        }
    }
    screen.waiting("settle: roots are posted, and everybody claims");
    let since = Instant::now();
    while since.elapsed() < SETTLE && !demo_peers.has_settled().await? {
        tokio::time::sleep(LOOK).await;
    }
    screen.show(&Show::Done(1.0));
    screen.waiting("stop: closing every peer");
    demo_peers.shutdown().await;
    Ok(plan)
}

/// Keeps what was measured of a round once every peer has certified it.
fn note_rounds(
    root: &Path,
    plan: &mut Plan,
    demo_peers: &DemoPeers,
    narrator: &Narrator,
) -> Result<(), Failure> {
    let peers = plan.actors().len();
    for round in (1..=plan.rounds)
        .filter(|r| !plan.measured.contains_key(r))
        .collect::<Vec<_>>()
    {
        let mut took: Vec<u64> = narrator
            .seen(Round(round))
            .map(|(_, seen)| seen.took_ms)
            .collect();
        if took.len() < peers {
            continue;
        }
        took.sort_unstable();
        let (up, down) = demo_peers.traffic_max(Round(round));
        let measured = Measured {
            bytes_up_max: up,
            bytes_down_max: down,
            certificate_ms: took[took.len() / 2],
        };
        plan.measured.insert(round, measured);
        plan.write(root)?;
    }
    Ok(())
}
