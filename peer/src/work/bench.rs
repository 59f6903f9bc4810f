//! Where work waits for a slot, runs, and is superseded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tributary_protocol::entry::{Join, ScoreSheet};
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::id::{Round, RunId};
use tributary_protocol::work::{Computed, Work};

use super::{Cancel, Learner, Slots, WorkError};
use crate::event::Event;
use crate::health::Task;

/// Work that came to an end.
#[derive(Debug)]
pub(crate) enum Done {
    Trained(Trained),
    Scored(RunId, ScoreSheet),
    Failed(RunId, Task, String),
    Computed(Box<Computed>),
    /// What the node asked for cannot be answered: it would wait for ever.
    Broken(String),
}

/// Hands tasks to the learner, one training per run.
pub(crate) struct Bench {
    learner: Arc<dyn Learner>,
    slots: Slots,
    done: mpsc::UnboundedSender<Done>,
    events: broadcast::Sender<Event>,
    training: BTreeMap<RunId, Cancel>,
    scoring: BTreeMap<(RunId, Round), Cancel>,
}

impl Bench {
    pub(crate) fn new(
        learner: Arc<dyn Learner>,
        slots: Slots,
        events: broadcast::Sender<Event>,
    ) -> (Self, mpsc::UnboundedReceiver<Done>) {
        let (done, outcomes) = mpsc::unbounded_channel();
        let bench = Self {
            learner,
            slots,
            done,
            events,
            training: BTreeMap::new(),
            scoring: BTreeMap::new(),
        };
        (bench, outcomes)
    }

    pub(crate) fn joined(&self, run: RunId, join: &Join) {
        self.learner.joined(run, join);
    }

    /// Starts training; an unfinished one of the run is given up.
    pub(crate) fn train(&mut self, task: Box<TrainTask>) {
        let (run, round) = (task.run, task.round);
        self.cancel(run);
        let cancel = Cancel::new();
        self.training.insert(run, cancel.clone());
        let (learner, events) = (self.learner.clone(), self.events.clone());
        self.spawn((run, Task::Train), cancel.clone(), move || {
            let mut progress = |progress| {
                let _ = events.send(Event::Training {
                    run,
                    round,
                    progress,
                });
            };
            learner
                .train(&task, &cancel, &mut progress)
                .map(Done::Trained)
        });
    }

    /// Starts scoring, once per round.
    pub(crate) fn score(&mut self, task: Box<ScoreTask>) {
        let key = (task.run, task.round);
        self.scoring.retain(|_, cancel| !cancel.is_finished());
        if self.scoring.contains_key(&key) {
            return;
        }
        let cancel = Cancel::new();
        self.scoring.insert(key, cancel.clone());
        let learner = self.learner.clone();
        self.spawn((task.run, Task::Score), cancel.clone(), move || {
            let sheet = learner.score(&task, &cancel)?;
            Ok(Done::Scored(task.run, sheet))
        });
    }

    /// Computes what the node waits for, on a thread of its own: a training may hold every slot for minutes.
    pub(crate) fn compute(&self, work: Box<Work>) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let computed = tokio::task::spawn_blocking(move || work.run()).await;
            let message = match computed {
                Ok(computed) => Done::Computed(Box::new(computed)),
                Err(why) => Done::Broken(format!("the arithmetic of a round failed: {why}")),
            };
            let _ = done.send(message);
        });
    }

    pub(crate) fn cancel(&mut self, run: RunId) {
        if let Some(cancel) = self.training.remove(&run) {
            cancel.cancel();
        }
    }

    /// Training of the run ends with its next step.
    pub(crate) fn hurry(&self, run: RunId) {
        if let Some(training) = self.training.get(&run) {
            training.hurry();
        }
    }

    pub(crate) fn cancel_all(&mut self) {
        for cancel in self.training.values().chain(self.scoring.values()) {
            cancel.cancel();
        }
    }

    fn spawn(
        &self,
        (run, task): (RunId, Task),
        cancel: Cancel,
        work: impl FnOnce() -> Result<Done, WorkError> + Send + 'static,
    ) {
        let (slots, done) = (self.slots.clone(), self.done.clone());
        tokio::spawn(async move {
            let Ok(_slot) = slots.0.acquire().await else {
                return;
            };
            if cancel.is_cancelled() {
                return;
            }
            // A panic of the learner is a failure of the work, not of the peer.
            let outcome = match tokio::task::spawn_blocking(work).await {
                Ok(outcome) => outcome,
                Err(_) => Err(WorkError::Failed(
                    "the learner panicked; see the log".into(),
                )),
            };
            let wanted = !cancel.is_cancelled();
            cancel.finish();
            let message = match outcome {
                Ok(outcome) if wanted => outcome,
                Err(WorkError::Failed(why)) if wanted => Done::Failed(run, task, why),
                _ => return,
            };
            let _ = done.send(message);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Progress;
    use crate::work::quadratic::{Quadratic, train_task};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn bench(learner: Arc<dyn Learner>, slots: usize) -> (Bench, mpsc::UnboundedReceiver<Done>) {
        let (events, _) = broadcast::channel(16);
        Bench::new(learner, Slots::new(slots), events)
    }

    async fn next(done: &mut mpsc::UnboundedReceiver<Done>) -> Done {
        let wait = tokio::time::timeout(Duration::from_secs(10), done.recv());
        wait.await
            .expect("no work came back")
            .expect("the bench is gone")
    }

    /// Trains until cancelled; counts how many run at once.
    #[derive(Default)]
    struct Slow {
        now: AtomicUsize,
        most: AtomicUsize,
        rounds: parking_lot::Mutex<Vec<Round>>,
    }

    impl Learner for Slow {
        fn joined(&self, _: RunId, _: &Join) {}
        fn train(
            &self,
            task: &TrainTask,
            cancel: &Cancel,
            _: &mut dyn FnMut(Progress),
        ) -> Result<Trained, WorkError> {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.rounds.lock().push(task.round);
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(5));
                if cancel.is_cancelled() {
                    break;
                }
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            cancel.check()?;
            Ok(Trained {
                run: task.run,
                round: task.round,
                base: task.base,
                delta: Vec::new(),
                tokens: 1,
            })
        }
        fn score(&self, _: &ScoreTask, _: &Cancel) -> Result<ScoreSheet, WorkError> {
            panic!("scoring breaks");
        }
    }

    #[tokio::test]
    async fn later_training_supersedes_the_one_before() {
        let learner = Arc::new(Slow::default());
        let (mut bench, mut done) = bench(learner.clone(), 2);
        bench.train(Box::new(train_task(1)));
        tokio::time::sleep(Duration::from_millis(20)).await;
        bench.train(Box::new(train_task(2)));
        assert!(matches!(next(&mut done).await, Done::Trained(t) if t.round == Round(2)));
        assert!(done.try_recv().is_err(), "the superseded result came back");
    }

    #[tokio::test]
    async fn slots_bound_the_work_of_all_peers_of_a_process() {
        let learner = Arc::new(Slow::default());
        let (events, _) = broadcast::channel(16);
        let slots = Slots::new(2);
        let mut receivers = Vec::new();
        for n in 0..6 {
            let (mut bench, done) = Bench::new(learner.clone(), slots.clone(), events.clone());
            bench.train(Box::new(train_task(n)));
            receivers.push(done);
        }
        for done in &mut receivers {
            next(done).await;
        }
        assert_eq!(learner.most.load(Ordering::SeqCst), 2);
        assert_eq!(learner.rounds.lock().len(), 6);
    }

    #[tokio::test]
    async fn panic_of_the_learner_is_a_failure_of_the_work() {
        let (mut bench, mut done) = bench(Arc::new(Slow::default()), 1);
        bench.score(Box::new(crate::work::quadratic::score_task(1)));
        assert!(
            matches!(next(&mut done).await, Done::Failed(_, Task::Score, why) if why.contains("panicked"))
        );
    }

    #[tokio::test]
    async fn quadratic_learner_moves_towards_its_target() {
        let (mut bench, mut done) = bench(Arc::new(Quadratic::new(3.0)), 1);
        bench.train(Box::new(train_task(1)));
        let Done::Trained(trained) = next(&mut done).await else {
            panic!("training failed")
        };
        assert!(trained.delta.iter().all(|d| *d > 0.0));
    }
}
