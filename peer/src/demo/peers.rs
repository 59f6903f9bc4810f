//! The demo's peers: a home and a daemon each, started, listened to and stopped together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};
use tributary_protocol::entry::{Entry, Join, Role};
use tributary_protocol::event::{Command, JoinRequest, Notice, Phase};
use tributary_protocol::id::{Round, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::Resources;
use tributary_protocol::time::Timestamp;
use tributary_trainer::BaseModel;

use super::plan::Plan;
use crate::NETWORK;
use crate::daemon::{Daemon, DaemonConfig};
use crate::event::Event;
use crate::home::{Home, HomePaths};
use crate::model::{self, learner::ModelLearner};
use crate::net::{Address, Known, Reach};
use crate::shard::Committed;
use crate::terminal::Failure;
use crate::work::Slots;

/// Peers that a new one is told of; the rest it learns from them.
const INTRODUCTIONS: usize = 3;

/// How long the finished peers may look for updates of rounds they missed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the run may take to reach everybody.
const START: Duration = Duration::from_secs(300);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(50);
/// What every peer's wall clock reads: blocks carry it, and the same seed is to give the same bytes (2026-01-01, UTC).
const CLOCK: Timestamp = Timestamp(1_767_225_600_000);

/// The demo's peers, each with a home and a daemon.
pub(super) struct DemoPeers {
    run: RunId,
    names: Vec<String>,
    daemons: Vec<Daemon>,
    events: mpsc::UnboundedReceiver<(usize, Event)>,
    /// When all of them had the finished run.
    closed: Option<Instant>,
    /// Bytes up and down of each peer at its last certificate.
    last: Vec<(u64, u64)>,
    /// Bytes up and down of each peer in each round.
    traffic: BTreeMap<Round, BTreeMap<usize, (u64, u64)>>,
}

impl DemoPeers {
    /// Makes or opens every home, starts every daemon, and has them open and join the run.
    pub(super) async fn start(root: &Path, plan: &Plan, base: &BaseModel) -> Result<Self, Failure> {
        let manifest = plan.manifest(base)?;
        let run = manifest.run_id();
        let slots = Slots::new(std::thread::available_parallelism().map_or(1, usize::from));
        let (heard, events) = mpsc::unbounded_channel();
        let mut demo_peers = Self {
            run,
            names: plan.actors().into_iter().map(|a| a.name).collect(),
            daemons: Vec::new(),
            events,
            closed: None,
            last: Vec::new(),
            traffic: BTreeMap::new(),
        };
        let mut joins = Vec::new();
        for at in 0..demo_peers.names.len() {
            let (home, join) =
                tokio::task::block_in_place(|| make(root, plan, at, &manifest, base))?;
            let daemon = demo_peers.daemon(home, slots.clone()).await?;
            tokio::spawn(forward(at, daemon.subscribe(), heard.clone()));
            let traffic = total(&daemon);
            demo_peers.daemons.push(daemon);
            demo_peers.last.push(traffic);
            joins.push((at, join));
        }
        demo_peers.open(plan.creator(), manifest).await?;
        // The creator last. Joins name what their authors have seen of its log: with nothing said in it until all of them
        // have joined, the same seed gives the same joins, and the same state follows from them.
        joins.sort_by_key(|(at, _)| *at == plan.creator());
        for (at, join) in joins {
            if at == plan.creator() {
                demo_peers.others_asked(at).await?;
                // In the genesis, so that the first round is funded.
                demo_peers.daemons[at].deposit(demo_peers.run).await;
            }
            demo_peers.join(at, join).await?;
        }
        Ok(demo_peers)
    }

    async fn daemon(&self, home: Home, slots: Slots) -> Result<Daemon, Failure> {
        let peer = home.identity().peer_id();
        let learner = ModelLearner::new(home.paths().clone(), peer);
        let bootstrap: Vec<Address> = (self.daemons.iter().take(INTRODUCTIONS))
            .flat_map(Daemon::addresses)
            .collect();
        Daemon::start(DaemonConfig {
            home: Arc::new(home),
            network: NETWORK,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            reach: Reach::Loopback,
            known: Known::default(),
            relay: None,
            bootstrap,
            learner: Arc::new(learner),
            slots,
            archive: true,
            resources: Resources::default(),
            evidence: true,
            chain: crate::settings::ChainAccess::default(),
            still_clock: Some(CLOCK),
        })
        .await
        .map_err(|e| Failure::from_error(&e))
    }

    /// Opens the run, unless an earlier start did.
    async fn open(&self, creator: usize, manifest: Manifest) -> Result<(), Failure> {
        let (daemon, run) = (&self.daemons[creator], self.run);
        let known = daemon.inspect(move |node| node.run(&run).is_some()).await;
        if !known.map_err(|e| Failure::from_error(&e))? {
            let create = Command::Create(Box::new(manifest));
            daemon
                .command(create)
                .await
                .map_err(|e| Failure::from_error(&e))?;
        }
        Ok(())
    }

    /// Whether a peer has said that it joins.
    async fn has_asked(&self, at: usize) -> Result<bool, Failure> {
        let (daemon, run) = (&self.daemons[at], self.run);
        let me = daemon.peer_id();
        let asked = daemon.inspect(move |node| {
            node.run(&run).is_some_and(|run| {
                run.log()
                    .entries(me)
                    .any(|(_, entry)| matches!(entry, Entry::Join(_)))
            })
        });
        asked.await.map_err(|e| Failure::from_error(&e))
    }

    /// Waits until everybody but `last` has said that it joins.
    async fn others_asked(&self, last: usize) -> Result<(), Failure> {
        let since = Instant::now();
        for at in (0..self.daemons.len()).filter(|at| *at != last) {
            while !self.has_asked(at).await? {
                if since.elapsed() > START {
                    return Err(Failure::environment(format!(
                        "{} has not heard of the run for {} minutes",
                        self.names[at],
                        START.as_secs() / 60
                    ))
                    .hint("call the demo again with the same --home: it resumes"));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Asks for membership, unless an earlier start did.
    async fn join(&self, at: usize, join: JoinRequest) -> Result<(), Failure> {
        let (daemon, run) = (&self.daemons[at], self.run);
        if !self.has_asked(at).await? {
            let follow = Command::Follow {
                run,
                join: Some(join),
            };
            daemon
                .command(follow)
                .await
                .map_err(|e| Failure::from_error(&e))?;
        }
        Ok(())
    }

    /// The next event of any peer.
    ///
    /// # Errors
    /// When a daemon stopped by itself.
    pub(super) async fn next(&mut self) -> Result<(usize, Event), Failure> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(Failure::environment("every daemon of the demo has stopped")
                .hint("call the demo again with the same --home: it resumes")),
        }
    }

    /// Counts the bytes of the round that `event` closes for `actor`.
    pub(super) fn measure(&mut self, actor: usize, event: &Event) {
        if let Event::Notice(Notice::Certified { round, .. }) = event {
            let (up, down) = total(&self.daemons[actor]);
            let before = std::mem::replace(&mut self.last[actor], (up, down));
            let spent = (up.saturating_sub(before.0), down.saturating_sub(before.1));
            self.traffic.entry(*round).or_default().insert(actor, spent);
        }
    }

    /// The most that any peer sent, and that any received, in a round.
    pub(super) fn traffic_max(&self, round: Round) -> (u64, u64) {
        let spent = self.traffic.get(&round).into_iter().flatten();
        spent.fold((0, 0), |most, (_, spent)| {
            (most.0.max(spent.0), most.1.max(spent.1))
        })
    }

    /// Peers that have the finished run and every blob behind it. Once all have the run, those still
    /// waiting for blobs of rounds they missed are given [`PATIENCE`].
    ///
    /// # Errors
    /// When a daemon stopped by itself.
    pub(super) async fn finished(&mut self) -> Result<Vec<usize>, Failure> {
        let mut seen = Vec::new();
        for (at, daemon) in self.daemons.iter().enumerate() {
            let run = self.run;
            let look = daemon.inspect(move |node| {
                let run = node.run(&run)?;
                run.is_finished().then(|| run.awaited_blobs())
            });
            seen.push(look.await.map_err(|e| {
                Failure::environment(format!("{}: {e}", self.names[at])).hint(
                    "mend what it says, then call the demo again with the same --home: it resumes",
                )
            })?);
        }
        if seen.iter().all(Option::is_some) {
            self.closed.get_or_insert_with(Instant::now);
        }
        let enough = self.closed.is_some_and(|since| since.elapsed() > PATIENCE);
        let has_all = |awaited: &Option<usize>| awaited.is_some_and(|n| n == 0 || enough);
        Ok((0..seen.len()).filter(|at| has_all(&seen[*at])).collect())
    }

    /// Whether all peers are at one height, and there what the run promises is claimed, and the rest back with the sponsor.
    ///
    /// # Errors
    /// When a daemon stopped by itself.
    pub(super) async fn has_settled(&self) -> Result<bool, Failure> {
        let mut heights = BTreeSet::new();
        for (daemon, name) in self.daemons.iter().zip(&self.names) {
            let index = daemon.index().await;
            let Some(indexed) = index.run(&self.run) else {
                return Ok(false);
            };
            let view = indexed.settlement().unwrap_or_default();
            let paid = view.paid_micro_open;
            let is_claimed = view.accepted_micro_open == paid && view.claimed_micro_open == paid;
            let is_back = view.reclaimed_micro_open == view.left_micro_open;
            if view.deposited_micro_open > 0 && !(is_claimed && is_back) {
                return Ok(false);
            }
            let run = self.run;
            let height = daemon.inspect(move |node| node.run(&run).map(|run| run.chain().len()));
            heights.insert(
                height
                    .await
                    .map_err(|e| Failure::environment(format!("{name}: {e}")))?,
            );
        }
        Ok(heights.len() == 1)
    }

    /// What every peer is at, in one line, after nothing was heard of any for `minutes`. A step of a large model takes
    /// that long: it is no fault while somebody trains.
    pub(super) async fn silence(&self, minutes: u64) -> String {
        let (mut parts, mut trains) = (Vec::new(), false);
        for (at, daemon) in self.daemons.iter().enumerate() {
            let run = self.run;
            let seen = daemon.inspect(move |node| {
                let run = node.run(&run)?;
                Some((run.head().map(|h| h.round), run.phase(), run.arrived()))
            });
            let state = match seen.await {
                Ok(Some((round, phase, arrived))) => {
                    trains |= phase == Some(Phase::Train);
                    state(round, phase, arrived)
                }
                Ok(None) => "has not heard of the run".to_owned(),
                Err(e) => e.to_string(),
            };
            parts.push(format!("{} {state}", self.names[at]));
        }
        let parts = parts.join("; ");
        match trains {
            true => format!("no step has ended for {minutes} minutes: {parts}"),
            false => format!("warning: nothing has happened for {minutes} minutes: {parts}"),
        }
    }

    /// Stops every daemon and waits until its store is closed.
    pub(super) async fn shutdown(self) {
        let stopping = self.daemons.into_iter().map(Daemon::shutdown);
        futures::future::join_all(stopping).await;
    }
}

fn total(daemon: &Daemon) -> (u64, u64) {
    let traffic = daemon.traffic();
    (
        traffic.control_up + traffic.payload_up,
        traffic.control_down + traffic.payload_down,
    )
}

/// What a peer is at, in words.
fn state(round: Option<Round>, phase: Option<Phase>, (here, expected): (usize, usize)) -> String {
    let phase = phase.map_or("has not begun", |p| crate::view::phase_words(p.into()).1);
    match round {
        None => format!("is {phase}, {here} of {expected} members have joined"),
        Some(round) => {
            format!(
                "is {phase}, round {round} is certified and {here} of {expected} updates are here"
            )
        }
    }
}

/// The home of one actor with its committed text, and the join that names it.
fn make(
    root: &Path,
    plan: &Plan,
    at: usize,
    manifest: &Manifest,
    base: &BaseModel,
) -> Result<(Home, JoinRequest), Failure> {
    let identity = plan.identity(at);
    let home = Home::open_or_create(plan.home(root, at), &identity)?;
    let actor = plan.actors().swap_remove(at);
    if home.identity().peer_id() != actor.peer {
        return Err(Failure::environment(format!(
            "the key in {} is not the one of this demo",
            home.paths().root().display()
        ))
        .hint("name another folder with --home"));
    }
    let reading = (manifest.model.base.hash, manifest.training.context);
    let (role, train, holdout) = if actor.trains {
        (Role::Contributor, plan.texts[at].train.clone(), Vec::new())
    } else {
        let text = plan.evaluator_text(at - plan.creator());
        (Role::Evaluator, Vec::new(), text)
    };
    let holdout = model::holdout(base, &holdout, manifest.training.context)?;
    let committed = Committed::new(&identity, reading, train, holdout);
    let tokens = model::tokens(base, &committed, role)?;
    provide(home.paths(), plan, manifest)?;
    let join = Join {
        name: actor.name,
        role,
        root: committed.write(home.paths())?,
        tokens,
        fingerprints: committed.fingerprints(),
        beacon: Default::default(),
        sketch: None,
        bind: None,
    };
    let sketch = committed.sketch(manifest);
    Ok((home, JoinRequest { join, sketch }))
}

/// Tells a home where a base other than `brook` is, so that its daemon finds it alone.
fn provide(home: &HomePaths, plan: &Plan, manifest: &Manifest) -> Result<(), Failure> {
    if plan.base != model::BROOK {
        model::provide(home, &manifest.model.base, Some(Path::new(&plan.base)))?;
    }
    Ok(())
}

async fn forward(
    actor: usize,
    mut events: broadcast::Receiver<Event>,
    heard: mpsc::UnboundedSender<(usize, Event)>,
) {
    loop {
        match events.recv().await {
            Ok(event) => {
                if heard.send((actor, event)).is_err() {
                    return;
                }
            }
            // What is missed shows when the peers are looked at.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_is_at_is_said_in_words() {
        let training = state(Some(Round(1)), Some(Phase::Train), (0, 4));
        assert_eq!(
            training,
            "is training on this machine's shard, round 1 is certified and 0 of 4 updates are here"
        );
        let gathering = state(None, Some(Phase::Gather), (2, 9));
        assert!(
            gathering.ends_with("2 of 9 members have joined"),
            "{gathering}"
        );
    }
}
