//! Jury duty: scores the windows of disputed sheets again, and shows this peer's own to juries.
//!
//! ```text
//!   books: a jury with this peer sits ──► Summons ──► evaluator's daemon (Shower) ──► windows with their proofs
//!                                                                                       │ scored again here
//!   books ◄── Dispute::Find ◄── keeper ◄── finding ◄────────────────────────────────────┘
//! ```
//!
//! A juror that lacks the base or an update finds nothing: what it cannot know is held against nobody. An evaluator that is
//! connected and shows nothing until the jury's time is nearly over, or that shows other windows than it committed to, has
//! shown none; one that no connection leads to by then is said to be unreached, which costs pay and no stake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tributary_attribution::run_books::{Dispute, RunBooks, Stage};
use tributary_ledger::holdout::{HoldoutProof, Judged};
use tributary_ledger::{Archive, Remedy};
use tributary_protocol::filing::Finding;
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::limits::MAX_EVIDENCE_BYTES;
use tributary_protocol::node::Node;
use tributary_protocol::round::EntryRef;
use tributary_protocol::summons::Summons;

use crate::driver::Request;
use crate::home::HomePaths;
use crate::keeper::Keeper;
use crate::net::{Net, Unanswered};
use crate::progress::RunProgress;
use crate::verify::{self, holdout};

/// How often disputes are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Windows that are asked for in one dispute at most: no run draws more.
const MAX_WINDOWS: usize = tributary_protocol::limits::MAX_SCORE_WINDOWS as usize;

/// What is durable in this home, as an archive.
async fn archived<R: Send + 'static>(
    requests: &mpsc::WeakSender<Request<Node>>,
    home: &HomePaths,
    look: impl FnOnce(&Archive, &HomePaths) -> R + Send + 'static,
) -> Option<R> {
    let (answer, wait) = oneshot::channel();
    requests
        .upgrade()?
        .send(Request::Records(answer))
        .await
        .ok()?;
    let records = wait.await.ok()?.ok()?;
    let home = home.clone();
    let looking = move || look(&verify::archive_of(&records, &home), &home);
    tokio::task::spawn_blocking(looking).await.ok()
}

/// A dispute that this peer judges.
struct Duty {
    at: EntryRef,
    evaluator: PeerId,
    round: Round,
    peer: PeerId,
    /// Heights that the jury still has.
    left: u32,
}

impl Duty {
    fn of(books: &RunBooks, (at, dispute): (&EntryRef, &Dispute), me: &PeerId) -> Option<Self> {
        let Stage::Sitting(until) = dispute.stage else {
            return None;
        };
        let is_due = dispute.jury.contains(me) && !dispute.findings.contains_key(me);
        is_due.then_some(Self {
            at: *at,
            evaluator: dispute.sheet.author,
            round: dispute.round,
            peer: dispute.peer,
            left: until.0.saturating_sub(books.expected().0),
        })
    }
}

/// Why a juror finds nothing yet.
enum Unknown {
    /// Another look may go better.
    Later,
    /// It will not.
    Never(String),
}

/// Judges while the daemon runs; what shows this peer's own windows to juries.
pub(crate) fn start(
    (keeper, net): (&Keeper, &Net),
    requests: &mpsc::WeakSender<Request<Node>>,
    home: &HomePaths,
    progress: &watch::Receiver<Arc<Vec<RunProgress>>>,
) -> Shower {
    let juror = Juror {
        keeper: keeper.clone(),
        net: net.clone(),
        requests: requests.clone(),
        home: home.clone(),
        given_up: BTreeMap::new(),
    };
    tokio::spawn(juror.run(progress.clone()));
    Shower {
        keeper: keeper.clone(),
        requests: requests.clone(),
        home: home.clone(),
        last: None,
    }
}

/// Judges the disputes that this peer is drawn for.
struct Juror {
    keeper: Keeper,
    net: Net,
    requests: mpsc::WeakSender<Request<Node>>,
    home: HomePaths,
    /// Disputes of which this peer cannot know.
    given_up: BTreeMap<EntryRef, String>,
}

impl Juror {
    /// Looks again and again, until the driver ends.
    async fn run(mut self, progress: watch::Receiver<Arc<Vec<RunProgress>>>) {
        let mut beat = tokio::time::interval(EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if progress.has_changed().is_err() {
                return;
            }
            let runs: Vec<RunId> = progress.borrow().iter().map(|run| run.run).collect();
            for run in runs {
                self.look(run).await;
            }
        }
    }

    async fn look(&mut self, run: RunId) {
        let me = self.keeper.peer();
        let due = self.keeper.with_books(&run, |books| {
            let disputes = books.disputes();
            let duties = disputes.filter_map(|dispute| Duty::of(books, dispute, &me));
            Some(duties.collect::<Vec<Duty>>())
        });
        for duty in due.unwrap_or_default() {
            if self.given_up.contains_key(&duty.at) || self.keeper.has_found(&run, &duty.at) {
                continue;
            }
            match self.judge(run, &duty).await {
                Ok(finding) => {
                    tracing::info!(
                        "run {}: as a juror of a dispute about round {} this peer found that the score {}",
                        run.short(),
                        duty.round,
                        says(finding)
                    );
                    self.keeper.find(run, duty.at, finding).await;
                }
                Err(Unknown::Later) => {}
                Err(Unknown::Never(why)) => {
                    tracing::warn!(
                        "run {}: this peer is a juror of a dispute about round {} and cannot judge it: {why}",
                        run.short(),
                        duty.round
                    );
                    self.given_up.insert(duty.at, why);
                }
            }
        }
    }

    async fn judge(&self, run: RunId, duty: &Duty) -> Result<Finding, Unknown> {
        let proof = match self.summon(run, duty).await {
            Ok(proof) => proof,
            // What was shown is no proof, or nothing is shown to a neighbour whose time is nearly over.
            Err(Refusal::Unreadable) => return Ok(Finding::Unshown),
            Err(Refusal::Silent) if duty.left <= 1 => return Ok(Finding::Unshown),
            Err(Refusal::Apart) if duty.left <= 1 => return Ok(Finding::Unreached),
            Err(Refusal::Silent | Refusal::Apart) => return Err(Unknown::Later),
        };
        let (wanted_run, round, evaluator) = (run.to_string(), duty.round.0, duty.evaluator);
        let is_asked = (proof.run == wanted_run && proof.round == round)
            && proof.evaluator == evaluator.to_string();
        if !is_asked {
            return Ok(Finding::Unshown);
        }
        let peer = duty.peer;
        let judged = archived(&self.requests, &self.home, move |archive, home| {
            holdout::judge(archive, home, &proof, &peer)
        });
        match judged.await {
            Some(Ok(Judged::Unknown(why))) => Err(Unknown::Never(why)),
            Some(Ok(judged)) => judged.finding().ok_or(Unknown::Later),
            Some(Err(why)) if why.is_wrong() => Ok(Finding::Unshown),
            Some(Err(why)) => Err(Unknown::Never(why.to_string())),
            None => Err(Unknown::Later),
        }
    }

    /// Has the evaluator show all drawn windows, some with each answer.
    async fn summon(&self, run: RunId, duty: &Duty) -> Result<HoldoutProof, Refusal> {
        if duty.evaluator == self.keeper.peer() {
            return Err(Refusal::Apart);
        }
        let mut whole: Option<HoldoutProof> = None;
        loop {
            let from = whole.as_ref().map_or(0, |proof| proof.drawn.len());
            let summons = Summons::new(run, duty.at, from as u32);
            let answer = self.net.ask(duty.evaluator, summons.encode()).await;
            let bytes = answer.map_err(|why| match why {
                Unanswered::Apart => Refusal::Apart,
                Unanswered::Silent(_) => Refusal::Silent,
            })?;
            let mut part: HoldoutProof =
                serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable)?;
            let is_last = part.drawn.is_empty();
            let proof = whole.get_or_insert_with(|| HoldoutProof {
                drawn: Vec::new(),
                ..part.clone()
            });
            proof.drawn.append(&mut part.drawn);
            if is_last || proof.drawn.len() > MAX_WINDOWS {
                return whole.ok_or(Refusal::Unreadable);
            }
        }
    }
}

/// Why there are no windows.
enum Refusal {
    Apart,
    Silent,
    Unreadable,
}

fn says(finding: Finding) -> &'static str {
    match finding {
        Finding::Holds => "holds",
        Finding::Fails => "fails",
        Finding::Unshown => "is not shown",
        Finding::Unreached => "cannot be judged, as its evaluator was not reached",
    }
}

/// Shows juries the windows of this peer's own sheets.
pub(crate) struct Shower {
    keeper: Keeper,
    requests: mpsc::WeakSender<Request<Node>>,
    home: HomePaths,
    /// What was shown last: all jurors of a dispute ask for it.
    last: Option<(EntryRef, HoldoutProof)>,
}

impl Shower {
    /// What a juror is shown; nothing is said to anybody else.
    pub(crate) async fn answer(&mut self, from: PeerId, summons: Summons) -> Option<Vec<u8>> {
        let (me, run, at) = (self.keeper.peer(), summons.run, summons.dispute);
        let round = self.keeper.with_books(&run, |books| {
            let mut disputes = books.disputes();
            let (_, dispute) = disputes.find(|(name, _)| **name == at)?;
            let sits = matches!(dispute.stage, Stage::Sitting(_)) && dispute.jury.contains(&from);
            (sits && dispute.sheet.author == me).then_some(dispute.round)
        })?;
        let proof = match self.last.take() {
            Some((name, proof)) if name == at => proof,
            _ => {
                let prove = move |archive: &Archive, home: &HomePaths| {
                    holdout::prove(archive, home, me, (&run.to_string(), round.0))
                };
                match archived(&self.requests, &self.home, prove).await? {
                    Ok(proof) => proof,
                    Err(why) => {
                        tracing::warn!(
                            "run {}: a jury asks for the windows that round {round} was scored on, and they cannot be shown: {}",
                            run.short(),
                            why.message()
                        );
                        return None;
                    }
                }
            }
        };
        let part = part(&proof, summons.from as usize);
        self.last = Some((at, proof));
        part
    }
}

/// Windows from one on, as many as fit an answer.
fn part(proof: &HoldoutProof, from: usize) -> Option<Vec<u8>> {
    let windows = proof.drawn.get(from..).unwrap_or_default();
    let mut count = windows.len();
    loop {
        let part = HoldoutProof {
            drawn: windows[..count].to_vec(),
            ..proof.clone()
        };
        let bytes = serde_json::to_vec(&part).ok()?;
        match bytes.len() <= MAX_EVIDENCE_BYTES {
            true => return Some(bytes),
            // A window that no answer carries is shown to nobody; contexts are far shorter.
            false if count <= 1 => return None,
            false => count /= 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_ledger::holdout::DrawnWindow;

    use super::*;

    #[test]
    fn windows_are_shown_in_parts_that_fit_and_come_to_the_whole() {
        let window = |place| DrawnWindow {
            place,
            salt: "ab".repeat(32),
            tokens: vec![49_151; 512],
            path: vec!["cd".repeat(32); 14],
        };
        let proof = HoldoutProof {
            drawn: (0..64).map(window).collect(),
            ..HoldoutProof::default()
        };
        let mut got = Vec::new();
        let mut parts = 0;
        loop {
            let bytes = part(&proof, got.len()).expect("a window fits");
            assert!(bytes.len() <= MAX_EVIDENCE_BYTES);
            let mut read: HoldoutProof = serde_json::from_slice(&bytes).expect("its layout");
            if read.drawn.is_empty() {
                break;
            }
            got.append(&mut read.drawn);
            parts += 1;
        }
        assert_eq!(got, proof.drawn);
        assert!((2..64).contains(&parts), "{parts}");
        let huge = HoldoutProof {
            drawn: vec![DrawnWindow {
                tokens: vec![49_151; MAX_EVIDENCE_BYTES],
                ..window(0)
            }],
            ..HoldoutProof::default()
        };
        assert_eq!(part(&huge, 0), None);
    }
}
