//! The only `select!` over the node's inputs: feeds it what happens, carries out what it wants.
//!
//! Effects are carried out in order, and [`Effect::Persist`] is a barrier
//! ([`tributary_protocol::outbox`]). When a commit fails nothing behind it is ever done: the driver stops, and so
//! does the daemon.

mod clock;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tributary_protocol::anchor::ChainFacts;
use tributary_protocol::entry::Join;
use tributary_protocol::event::{Command, Effect, Input, Notice, Record};
use tributary_protocol::id::{Blob, BlobHash, BlobRef, PeerId, RunId};
use tributary_protocol::node::Node;
use tributary_protocol::outbox::Outbox;
use tributary_protocol::time::Now;

use crate::event::Event;
use crate::health::{Health, Task, Warning};
use crate::indexer::Indexer;
use crate::metrics::Metrics;
use crate::net::{Net, NetEvent, NetEvents};
use crate::progress::RunProgress;
use crate::store::{Durable, Store, StoreError};
use crate::work::bench::{Bench, Done};
pub(crate) use clock::{Clock, now};
use timers::Timers;

/// Effects that may wait behind a barrier before new inputs have to wait as well.
const MAX_QUEUE: usize = 8192;
/// How often the wall clock is compared with the monotonic one.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// What is driven: the node, or a double of the same shape in tests.
pub(crate) trait DrivenNode: Send + 'static {
    /// See `Node::handle`.
    fn handle(&mut self, input: Input, now: Now) -> Vec<Effect>;
    /// Memberships that the owner asked for, for the learner.
    fn joins(&self) -> Vec<(RunId, Join)>;
    /// Where it stands in each run, for readers.
    fn progress(&self) -> Vec<RunProgress> {
        Vec::new()
    }
    /// Runs in which something else signed with this peer's key.
    fn key_twice(&self) -> Vec<RunId> {
        Vec::new()
    }
    /// Members of the runs that are not finished.
    fn members(&self) -> BTreeSet<PeerId> {
        BTreeSet::new()
    }
}

impl DrivenNode for Node {
    fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        Self::handle(self, input, now)
    }

    fn joins(&self) -> Vec<(RunId, Join)> {
        self.runs()
            .filter_map(|run| Some((run.id(), run.join()?.clone())))
            .collect()
    }

    fn progress(&self) -> Vec<RunProgress> {
        self.runs().map(|run| RunProgress::of(&run)).collect()
    }

    fn key_twice(&self) -> Vec<RunId> {
        let me = self.peer_id();
        (self.runs())
            .filter(|run| run.log().is_equivocator(me))
            .map(|run| run.id())
            .collect()
    }

    fn members(&self) -> BTreeSet<PeerId> {
        let open = self.runs().filter(|run| !run.is_finished());
        let rosters = open.filter_map(|run| Some(&run.head()?.roster));
        rosters
            .flat_map(|roster| roster.iter().map(|member| member.peer))
            .collect()
    }
}

/// What the daemon's face asks for.
pub(crate) enum Request<B> {
    /// A command of the owner; the sender hears once it is durable, or why the brain does not take it.
    Command(Command, oneshot::Sender<Result<(), String>>),
    /// What the chain of a run's money says.
    Chain(RunId, ChainFacts),
    /// A look at the brain between two inputs.
    Inspect(Box<dyn FnOnce(&B) + Send>),
    /// Compare what is known with these peers now, where they are connected.
    Compare(Vec<PeerId>),
    /// Every durable record.
    Records(oneshot::Sender<Result<Vec<Record>, StoreError>>),
    /// Finish what is queued and end.
    Stop,
}

/// What is put together to drive.
pub(crate) struct Parts<B> {
    pub(crate) brain: B,
    pub(crate) net: Net,
    pub(crate) net_events: NetEvents,
    pub(crate) store: Arc<Store>,
    pub(crate) bench: Bench,
    pub(crate) done: mpsc::UnboundedReceiver<Done>,
    pub(crate) requests: mpsc::Receiver<Request<B>>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) indexer: Indexer,
    pub(crate) progress: watch::Sender<Arc<Vec<RunProgress>>>,
}

/// Feeds a brain what happens and carries out its effects.
pub(crate) struct Driver<B> {
    parts: Parts<B>,
    clock: Clock,
    timers: Timers,
    outbox: Outbox,
    /// Commits under way, one for each barrier that is not durable.
    commits: VecDeque<Durable>,
    /// Commands that were fed and not answered, in order.
    unanswered: VecDeque<Unanswered>,
    fetching: BTreeSet<BlobHash>,
    fetched: mpsc::UnboundedReceiver<(BlobHash, Result<Blob, String>)>,
    fetch_out: mpsc::UnboundedSender<(BlobHash, Result<Blob, String>)>,
    /// Whether the brain was fed since readers were told where it stands.
    is_fed: bool,
    stopping: bool,
}

/// A command that waits for the disk.
struct Unanswered {
    /// Barriers that have to be durable before.
    after: u64,
    outcome: Result<(), String>,
    answer: oneshot::Sender<Result<(), String>>,
}

/// What one turn of the loop found.
enum Wake<B> {
    Durable(Result<(), StoreError>),
    Net(Option<NetEvent>),
    Timer,
    Work(Done),
    Fetched(BlobHash, Result<Blob, String>),
    Request(Option<Request<B>>),
    CheckClock,
}

impl<B: DrivenNode> Driver<B> {
    /// `clock` must be the one whose time the brain was restored with.
    pub(crate) fn new(parts: Parts<B>, clock: Clock) -> Self {
        let (fetch_out, fetched) = mpsc::unbounded_channel();
        Self {
            parts,
            clock,
            timers: Timers::default(),
            outbox: Outbox::default(),
            commits: VecDeque::new(),
            unanswered: VecDeque::new(),
            fetching: BTreeSet::new(),
            fetched,
            fetch_out,
            is_fed: true,
            stopping: false,
        }
    }

    /// Runs until told to stop, or until the store fails; the reason in that case.
    pub(crate) async fn run(mut self, first: Vec<Effect>) -> Option<String> {
        for (run, join) in self.parts.brain.joins() {
            self.parts.bench.joined(run, &join);
        }
        for run in self.parts.brain.key_twice() {
            self.on_key_twice(run);
        }
        self.parts.net.favour(self.parts.brain.members());
        self.enqueue(first);
        let mut clock_check = tokio::time::interval(CLOCK_CHECK);
        clock_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            self.publish();
            if let Err(why) = self.carry_out() {
                break Some(why.to_string());
            }
            self.answer_commands();
            if self.stopping && self.commits.is_empty() {
                break None;
            }
            let open = self.outbox.len() < MAX_QUEUE && !self.stopping;
            let wait = self.timers.next().map(|at| self.clock.until(at));
            let wake = tokio::select! {
                durable = wait_for(self.commits.front_mut()) => Wake::Durable(durable),
                request = self.parts.requests.recv(), if !self.stopping => Wake::Request(request),
                Some(done) = self.parts.done.recv(), if open => Wake::Work(done),
                Some((hash, got)) = self.fetched.recv(), if open => Wake::Fetched(hash, got),
                event = self.parts.net_events.next(), if open => Wake::Net(event),
                () = sleep(wait), if open => Wake::Timer,
                _ = clock_check.tick() => Wake::CheckClock,
            };
            if let Err(why) = self.on_wake(wake) {
                break Some(why);
            }
        };
        self.parts.bench.cancel_all();
        self.parts.net.shutdown().await;
        outcome
    }

    fn on_wake(&mut self, wake: Wake<B>) -> Result<(), String> {
        match wake {
            Wake::Durable(outcome) => {
                self.commits.pop_front();
                outcome.map_err(|why| {
                    self.parts.health.store_failed(why.to_string());
                    why.to_string()
                })?;
                self.outbox.durable();
            }
            Wake::Net(Some(event)) => self.on_net(event),
            Wake::Net(None) => return Err("the network stopped".into()),
            Wake::Timer => {
                let now = self.clock.now().monotonic;
                while let Some(timer) = self.timers.pop_due(now) {
                    self.feed(Input::Timer(timer));
                }
            }
            Wake::Work(done) => self.on_work(done)?,
            Wake::Fetched(hash, got) => {
                self.fetching.remove(&hash);
                self.parts.metrics.fetched(got.is_ok());
                match got {
                    Ok(blob) => self.feed(Input::Blob(blob)),
                    Err(why) => {
                        tracing::debug!("{why}");
                        self.feed(Input::BlobFailed(hash));
                    }
                }
            }
            Wake::Request(Some(request)) => self.on_request(request),
            Wake::Request(None) => self.stopping = true,
            Wake::CheckClock => {
                if let Some(seconds) = self.clock.jumped() {
                    tracing::warn!("{}", Warning::ClockJump(seconds));
                    (self.parts.health).clock_jumped(seconds, std::time::Instant::now());
                }
                let dropped = self.parts.net.dropped();
                (self.parts.health).dropped(dropped, std::time::Instant::now());
            }
        }
        Ok(())
    }

    fn on_net(&mut self, event: NetEvent) {
        self.feed(match event {
            NetEvent::Connected(peer) => Input::Connected(peer),
            NetEvent::Disconnected(peer) => Input::Disconnected(peer),
            NetEvent::Direct { from, bytes } => Input::Direct { from, bytes },
            NetEvent::Gossip { from, id, bytes } => Input::Gossip { from, id, bytes },
        });
    }

    fn on_work(&mut self, done: Done) -> Result<(), String> {
        match done {
            Done::Computed(computed) => self.feed(Input::Computed(computed)),
            Done::Broken(why) => return Err(why),
            Done::Trained(trained) => {
                self.parts.metrics.trained(trained.tokens);
                self.parts.health.work_done(trained.run, Task::Train);
                self.feed(Input::Trained(trained));
            }
            Done::Scored(run, sheet) => {
                self.parts.health.work_done(run, Task::Score);
                self.feed(Input::Scored { run, sheet });
            }
            Done::Failed(run, task, why) => {
                tracing::warn!("work for run {} failed: {why}", run.short());
                self.parts.health.work_failed(run, task, why.clone());
                let notice = Notice::CommandFailed {
                    run: Some(run),
                    why,
                };
                self.tell(Event::Notice(notice));
            }
        }
        Ok(())
    }

    fn on_request(&mut self, request: Request<B>) {
        match request {
            Request::Command(command, answer) => {
                if let Command::Follow {
                    run,
                    join: Some(join),
                } = &command
                {
                    self.parts.bench.joined(*run, &join.join);
                }
                self.command(command, answer);
            }
            Request::Chain(run, facts) => self.feed(Input::Chain { run, facts }),
            Request::Inspect(look) => look(&self.parts.brain),
            Request::Compare(peers) => {
                let connected = self.parts.net.connected();
                for peer in peers.into_iter().filter(|peer| connected.contains(peer)) {
                    // The brain compares ledgers with a peer that comes, and that may come twice.
                    self.feed(Input::Connected(peer));
                }
            }
            Request::Records(answer) => {
                let store = self.parts.store.clone();
                tokio::task::spawn_blocking(move || answer.send(store.load_all()));
            }
            Request::Stop => self.stopping = true,
        }
    }

    /// Feeds a command. What the brain says of it at once is its outcome: it refuses by a notice.
    fn command(&mut self, command: Command, answer: oneshot::Sender<Result<(), String>>) {
        let about = match &command {
            Command::Create(manifest) => manifest.run_id(),
            Command::Follow { run, .. } | Command::Leave(run) | Command::File { run, .. } => *run,
        };
        let is_leaving = matches!(command, Command::Leave(_));
        self.is_fed = true;
        let effects = (self.parts.brain).handle(Input::Command(command), self.clock.now());
        let refusal = effects.iter().find_map(|effect| match effect {
            Effect::Notify(Notice::CommandFailed { run, why })
                if run.is_none_or(|run| run == about) =>
            {
                Some(why.clone())
            }
            _ => None,
        });
        if is_leaving && refusal.is_none() {
            self.parts.health.work_over(about);
        }
        self.enqueue(effects);
        self.unanswered.push_back(Unanswered {
            after: self.outbox.pushed(),
            outcome: refusal.map_or(Ok(()), Err),
            answer,
        });
    }

    /// Answers the commands whose records, and all before them, are durable.
    fn answer_commands(&mut self) {
        let outbox = &self.outbox;
        let is_durable = |command: &mut Unanswered| outbox.has_reached(command.after);
        while let Some(command) = self.unanswered.pop_front_if(is_durable) {
            // The asker may have gone.
            let _ = command.answer.send(command.outcome);
        }
    }

    /// Tells readers where the brain stands, where an input changed it.
    fn publish(&mut self) {
        if std::mem::take(&mut self.is_fed) {
            let now = self.parts.brain.progress();
            self.parts.progress.send_if_modified(|known| {
                let is_news = **known != now;
                if is_news {
                    *known = Arc::new(now);
                }
                is_news
            });
        }
    }

    fn feed(&mut self, input: Input) {
        self.is_fed = true;
        let effects = self.parts.brain.handle(input, self.clock.now());
        self.enqueue(effects);
    }

    /// Records start on their way to the disk at once; everything behind them waits for it.
    fn enqueue(&mut self, effects: Vec<Effect>) {
        let parts = &self.parts;
        let persist = |records: Vec<Record>| {
            parts.metrics.persisted(&records);
            parts.indexer.feed(&records);
            self.commits.push_back(parts.store.persist(records));
        };
        self.outbox
            .push(effects, persist, |work| parts.bench.compute(work));
    }

    /// Does what is due, up to the next barrier.
    fn carry_out(&mut self) -> Result<(), StoreError> {
        if let Some(why) = self.parts.store.failure() {
            self.parts.health.store_failed(why.to_string());
            return Err(why);
        }
        while let Some(effect) = self.outbox.pop() {
            self.perform(effect);
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) {
        let parts = &mut self.parts;
        match effect {
            // A barrier that is passed.
            Effect::Persist(_) => {}
            Effect::Compute(work) => parts.bench.compute(work),
            Effect::Gossip { run, bytes } => parts.net.gossip(run, bytes),
            Effect::Send { to, bytes } => parts.net.send(to, bytes),
            Effect::Verdict { id, verdict } => {
                parts.metrics.judged(verdict);
                parts.net.verdict(id, verdict);
            }
            Effect::FetchBlob { blob, providers } => self.fetch(blob, providers),
            Effect::OfferBlob(hash) => parts.net.offer(hash),
            Effect::Train(task) => parts.bench.train(task),
            Effect::CancelTrain(run) => parts.bench.cancel(run),
            Effect::FinishTrain(run) => parts.bench.hurry(run),
            Effect::Score(task) => parts.bench.score(task),
            Effect::SetTimer { timer, at } => self.timers.set(timer, at),
            Effect::Subscribe(run) => parts.net.subscribe(run),
            Effect::Notify(notice) => {
                parts.metrics.notice(&notice);
                if let Notice::Refused { from, why } = &notice
                    && why.exposes_sender()
                {
                    parts.net.blame(*from);
                }
                if let Notice::Finished(run) = &notice {
                    parts.health.work_over(*run);
                }
                if matches!(notice, Notice::Certified { .. } | Notice::Finished(_)) {
                    parts.net.favour(parts.brain.members());
                }
                match &notice {
                    Notice::Equivocation { run, author } if *author == self.parts.net.me() => {
                        self.on_key_twice(*run);
                    }
                    notice => log(notice),
                }
                self.tell(Event::Notice(notice));
            }
        }
    }

    /// Others only hear that this peer is cut off; its owner hears why.
    fn on_key_twice(&self, run: RunId) {
        if self.parts.health.key_twice(run) {
            tracing::error!("{}", Warning::KeyTwice(run));
        }
    }

    fn fetch(&mut self, blob: BlobRef, providers: Vec<PeerId>) {
        if !self.fetching.insert(blob.hash) {
            return;
        }
        let (net, out) = (self.parts.net.clone(), self.fetch_out.clone());
        tokio::spawn(async move {
            let got = net.fetch(blob, &providers).await.map_err(|e| e.to_string());
            let _ = out.send((blob.hash, got));
        });
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.parts.events.send(event);
    }
}

async fn wait_for(commit: Option<&mut Durable>) -> Result<(), StoreError> {
    match commit {
        Some(durable) => durable.ready().await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A few lines a round, for the owner of the machine.
fn log(notice: &Notice) {
    match notice {
        Notice::Following(run) => tracing::info!("following run {}", run.short()),
        Notice::Certified {
            run,
            round,
            state,
            included,
            took_ms,
        } => tracing::info!(
            "run {} round {round} certified: {included} contributions, state {}, {took_ms} ms",
            run.short(),
            state.short()
        ),
        Notice::Finished(run) => tracing::info!("run {} finished", run.short()),
        Notice::Equivocation { run, author } => tracing::warn!(
            "run {}: peer {} signed two different things at one place; nothing of it counts from there on",
            run.short(),
            author.short()
        ),
        Notice::Refuted { run, round, why } => {
            let (run, why) = (run.to_string(), why.to_string());
            tracing::error!("{}", crate::view::refuted_words(&run, round.0, &why));
        }
        Notice::Declined { run, excess } => {
            tracing::warn!("{}", crate::settings::declined_words(run, excess));
        }
        Notice::CommandFailed { why, .. } => tracing::warn!("{why}"),
        Notice::Refused { from, why } => {
            tracing::debug!("refused a message that {} handed on: {why}", from.short());
        }
        Notice::Phase { .. } | Notice::Contributed { .. } => {}
    }
}
