//! Jury duty: scores the windows of disputed sheets again, computes drawn shares of answers again, and shows juries what this
//! peer's own word was made of.
//!
//! ```text
//!   books: a jury with this peer sits ──► Summons ──► the other's daemon (Shower) ──► windows with their proofs, or what was said
//!                                                                                       │ computed again here
//!   books ◄── Dispute::Find ◄── keeper ◄── finding ◄────────────────────────────────────┘
//! ```
//!
//! A juror that lacks the base or an update finds nothing: what it cannot know is held against nobody. Whoever is connected and
//! shows nothing until the jury's time is nearly over, or shows other things than it committed to, has shown none; one that no
//! connection leads to by then is said to be unreached, which costs pay and no stake.

mod shares;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tributary_attribution::run_books::{Dispute, DisputedScore, Matter, RunBooks, Stage};
use tributary_ledger::holdout::{HoldoutProof, Judged};
use tributary_ledger::{Archive, Remedy};
use tributary_protocol::filing::{Answers, Finding};
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
use shares::Shown;

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
    matter: Matter,
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
            matter: dispute.matter.clone(),
            left: until.0.saturating_sub(books.expected().0),
        })
    }

    /// What it is about, for people.
    fn subject(&self) -> String {
        match self.matter.score() {
            Some(score) => format!("a dispute about round {}", score.round),
            None => format!("a check of shares of {}", self.matter.author().short()),
        }
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
                    let what = if duty.matter.score().is_some() {
                        "score"
                    } else {
                        "answer"
                    };
                    tracing::info!(
                        "run {}: as a juror of {} this peer found that the {what} {}",
                        run.short(),
                        duty.subject(),
                        says(finding)
                    );
                    self.keeper.find(run, duty.at, finding).await;
                }
                Err(Unknown::Later) => {}
                Err(Unknown::Never(why)) => {
                    tracing::warn!(
                        "run {}: this peer is a juror of {} and cannot judge it: {why}",
                        run.short(),
                        duty.subject()
                    );
                    self.given_up.insert(duty.at, why);
                }
            }
        }
    }

    async fn judge(&self, run: RunId, duty: &Duty) -> Result<Finding, Unknown> {
        let found = match duty.matter.score() {
            Some(score) => self.judge_score(run, duty, score).await,
            None => self.judge_shares(run, duty).await,
        };
        found.unwrap_or_else(|refusal| match refusal {
            // What was shown is no proof, or nothing is shown to a neighbour whose time is nearly over.
            Refusal::Unreadable => Ok(Finding::Unshown),
            Refusal::Silent if duty.left <= 1 => Ok(Finding::Unshown),
            Refusal::Apart if duty.left <= 1 => Ok(Finding::Unreached),
            Refusal::Silent | Refusal::Apart => Err(Unknown::Later),
        })
    }

    async fn judge_score(
        &self,
        run: RunId,
        duty: &Duty,
        score: &DisputedScore,
    ) -> Result<Result<Finding, Unknown>, Refusal> {
        let proof = self.windows(run, duty).await?;
        let is_asked = (proof.run == run.to_string() && proof.round == score.round.0)
            && proof.evaluator == score.sheet.author.to_string();
        if !is_asked {
            return Ok(Ok(Finding::Unshown));
        }
        let peer = score.peer;
        let judged = archived(&self.requests, &self.home, move |archive, home| {
            holdout::judge(archive, home, &proof, &peer)
        });
        Ok(match judged.await {
            Some(Ok(Judged::Unknown(why))) => Err(Unknown::Never(why)),
            Some(Ok(judged)) => judged.finding().ok_or(Unknown::Later),
            Some(Err(why)) if why.is_wrong() => Ok(Finding::Unshown),
            Some(Err(why)) => Err(Unknown::Never(why.to_string())),
            None => Err(Unknown::Later),
        })
    }

    async fn judge_shares(
        &self,
        run: RunId,
        duty: &Duty,
    ) -> Result<Result<Finding, Unknown>, Refusal> {
        let matter = duty.matter.clone();
        let drawn = match &matter {
            Matter::Shares { drawn, .. } => drawn.len(),
            Matter::Score(_) => 0,
        };
        let shown = self.said(run, duty, drawn).await?;
        let judged = archived(&self.requests, &self.home, move |archive, home| {
            shares::judge((archive, home), (run, &matter), &shown)
        });
        Ok(match judged.await {
            Some(judged) => judged.map_err(Unknown::Never),
            None => Err(Unknown::Later),
        })
    }

    /// Has whose word is judged show more of what it was made of, from a place on.
    async fn summon(&self, run: RunId, duty: &Duty, from: usize) -> Result<Vec<u8>, Refusal> {
        let author = duty.matter.author();
        if author == self.keeper.peer() {
            return Err(Refusal::Apart);
        }
        let summons = Summons::new(run, duty.at, from as u32);
        let answer = self.net.ask(author, summons.encode()).await;
        answer.map_err(|why| match why {
            Unanswered::Apart => Refusal::Apart,
            Unanswered::Silent(_) => Refusal::Silent,
        })
    }

    /// All drawn windows, some with each answer.
    async fn windows(&self, run: RunId, duty: &Duty) -> Result<HoldoutProof, Refusal> {
        let mut whole: Option<HoldoutProof> = None;
        loop {
            let from = whole.as_ref().map_or(0, |proof| proof.drawn.len());
            let bytes = self.summon(run, duty, from).await?;
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

    /// What was said in all drawn answers.
    async fn said(&self, run: RunId, duty: &Duty, drawn: usize) -> Result<Shown, Refusal> {
        let mut whole = Shown::default();
        while whole.answers.len() < drawn {
            let bytes = self.summon(run, duty, whole.answers.len()).await?;
            let mut part: Shown =
                serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable)?;
            if part.answers.is_empty() {
                break;
            }
            whole.answers.append(&mut part.answers);
        }
        Ok(whole)
    }
}

/// Why nothing is shown.
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
        Finding::Unreached => "cannot be judged, as its author was not reached",
    }
}

/// Shows juries the windows of this peer's own sheets, and what was said in its server's own answers.
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
        let matter = self.keeper.with_books(&run, |books| {
            let mut disputes = books.disputes();
            let (_, dispute) = disputes.find(|(name, _)| **name == at)?;
            let sits = matches!(dispute.stage, Stage::Sitting(_)) && dispute.jury.contains(&from);
            (sits && dispute.matter.author() == me).then(|| dispute.matter.clone())
        })?;
        match matter.score() {
            Some(score) => self.windows((run, at, score.round), summons.from).await,
            None => self.said(run, matter, summons.from).await,
        }
    }

    async fn said(&self, run: RunId, matter: Matter, from: u32) -> Option<Vec<u8>> {
        let keeper = self.keeper.clone();
        let channel = move |answers: &Answers| {
            keeper.with_books(&run, |books| {
                let settled = books.settled()?;
                let account = books.account(&keeper.peer())?;
                let config = settled.channel_of(account, answers)?;
                Some(config.id(&settled.channels()))
            })
        };
        archived(&self.requests, &self.home, move |archive, home| {
            shares::show((archive, home), (run, &matter), (channel, from as usize))
        })
        .await?
    }

    /// The windows of one of this peer's sheets.
    async fn windows(
        &mut self,
        (run, at, round): (RunId, EntryRef, Round),
        from: u32,
    ) -> Option<Vec<u8>> {
        let me = self.keeper.peer();
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
        let part = part(&proof, from as usize);
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
