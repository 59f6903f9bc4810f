//! `tributary run watch`: a run's events as a person wants to read them, with names, losses, times, and how long it will
//! take.
//!
//! Events name peers by their keys and know nothing of scores, so the run is asked for again after each certificate;
//! what is not known yet shows as a short key. [`Watch`] decides what is said and has neither clock nor network.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tributary_ledger::view::short;

use crate::api::Reader;
use crate::api::client::Client;
use crate::api::types::event::EventView;
use crate::api::types::{EventsRequest, RunPhase, RunView};
use crate::cli::{Context, status};
use crate::terminal::output::duration;
use crate::terminal::{Failure, Format, note};
use crate::view;

/// How often a step of the own training is shown.
const STEP_EVERY_MS: u64 = 10_000;
/// How long after a certificate the run is asked for again: its scores are looked up meanwhile.
const SETTLE: Duration = Duration::from_millis(300);

/// Follows the run until it is finished or somebody ends the command.
pub(super) async fn watch(context: &Context, client: &Client, id: String) -> Result<(), Failure> {
    let run = client.run(&id).await?;
    let request = EventsRequest {
        run: Some(run.brief.run.clone()),
    };
    if context.out.format() == Format::Json {
        return status::follow(context, client, &request).await;
    }
    note(heading(&run));
    if run.brief.finished {
        let id = run.brief.run.clone();
        let lines = Watch::default().lines(&EventView::Finished { run: id }, &run, 0);
        return (context.out).answer(&run, |_| lines.join("\n"));
    }
    let (id, known) = (run.brief.run.clone(), Arc::new(Mutex::new(run)));
    let (certified, seen) = (Arc::new(Notify::new()), known.clone());
    let look_again = async {
        loop {
            certified.notified().await;
            tokio::time::sleep(SETTLE).await;
            // What cannot be had now shows as it did before.
            if let Ok(run) = client.run(&id).await {
                *seen.lock() = run;
            }
        }
    };
    let (began, mut watch) = (Instant::now(), Watch::default());
    let mut stdout = std::io::stdout();
    let print = |event: EventView| {
        let at_ms = began.elapsed().as_millis() as u64;
        let lines = watch.lines(&event, &known.lock(), at_ms);
        if matches!(event, EventView::Certified { .. }) {
            certified.notify_one();
        }
        // A closed pipe ends the watch; that is how `| head` says it has enough.
        let is_heard = (lines.iter())
            .try_for_each(|line| writeln!(stdout, "{line}"))
            .and_then(|()| stdout.flush())
            .is_ok();
        is_heard && !matches!(event, EventView::Finished { .. })
    };
    tokio::select! {
        ended = client.events(&request, print) => Ok(ended?),
        () = look_again => Ok(()),
    }
}

fn heading(run: &RunView) -> String {
    let names: Vec<&str> = run.roster.iter().map(|m| m.name.as_str()).collect();
    let members = match names.is_empty() {
        true => String::new(),
        false => format!(", members {}", names.join(", ")),
    };
    format!(
        "run {} ({}): {} rounds{members}",
        short(&run.brief.run),
        run.brief.name,
        run.brief.rounds
    )
}

/// What was said, as far as it decides what is said next.
#[derive(Default)]
struct Watch {
    /// When a step was shown.
    stepped: Option<u64>,
    /// Milliseconds that training rounds took.
    took: Vec<u64>,
    /// The last round whose hold-out losses were shown.
    scored: Option<u32>,
}

impl Watch {
    /// The lines that an event is worth, `at_ms` after the watch began.
    fn lines(&mut self, event: &EventView, run: &RunView, at_ms: u64) -> Vec<String> {
        let mut said = self.scores(run);
        said.extend(self.said(event, run, at_ms));
        let at = clock(at_ms);
        said.into_iter()
            .map(|line| format!("{at}  {line}"))
            .collect()
    }

    /// Losses on the hold-out that were not shown yet: a round's come with the next certificate.
    fn scores(&mut self, run: &RunView) -> Vec<String> {
        let shown = self.scored;
        let fresh = run.history.iter().filter(|r| Some(r.round) > shown);
        let mut lines = Vec::new();
        for round in fresh {
            if let (Some(before), Some(after)) = (round.loss_before, round.loss_after) {
                let number = round.round;
                lines.push(format!(
                    "round {number} scored: hold-out loss {before:.4} before, {after:.4} after"
                ));
                self.scored = Some(number);
            }
        }
        lines
    }

    fn said(&mut self, event: &EventView, run: &RunView, at_ms: u64) -> Option<String> {
        match event {
            EventView::Training {
                round,
                step,
                steps,
                loss,
                ..
            } => {
                let due = self
                    .stepped
                    .is_none_or(|last| at_ms - last >= STEP_EVERY_MS);
                (due || step == steps).then(|| {
                    self.stepped = Some(at_ms);
                    format!("round {round} step {step} of {steps}: own loss {loss:.4}")
                })
            }
            EventView::Contributed {
                round,
                peer,
                arrived,
                expected,
                ..
            } => {
                let name = name(run, peer);
                Some(format!(
                    "round {round} update of {name} is here, {arrived} of {expected}"
                ))
            }
            EventView::Certified {
                round,
                included,
                took_ms,
                ..
            } => Some(self.certified((*round, *included, *took_ms), run)),
            EventView::Phase { round, phase, .. } => Some(phase_of(*round, *phase, run)),
            event => Some(view::line(event)),
        }
    }

    fn certified(&mut self, (round, included, took_ms): (u32, u32, u64), run: &RunView) -> String {
        let rounds = run.brief.rounds;
        let took = duration(took_ms);
        if round == 0 {
            return format!("start certified after {took}");
        }
        if round > rounds + 1 {
            return format!("epoch {} certified after {took}", round - rounds - 1);
        }
        if round > rounds {
            return format!("closing certified after {took}: the scores of all rounds are final");
        }
        self.took.push(took_ms);
        let mean = self.took.iter().sum::<u64>() / self.took.len() as u64;
        let left = match u64::from(rounds - round) {
            0 => String::new(),
            left => format!(", about {} to go", duration(left * mean)),
        };
        format!("round {round} of {rounds} certified after {took}: {included} updates{left}")
    }
}

/// What is waited for, with the round in words: the first height and the last one are no training rounds.
fn phase_of(round: u32, phase: RunPhase, run: &RunView) -> String {
    let closing = round > run.brief.rounds;
    match (round, phase) {
        (0, _) => format!("start {}", view::phase_line(phase)),
        (_, RunPhase::Collect) if closing => "closing collect: waiting for score sheets".to_owned(),
        _ if closing => format!("closing {}", view::phase_line(phase)),
        _ => format!("round {round} {}", view::phase_line(phase)),
    }
}

/// A member's name, or what is known of it.
fn name(run: &RunView, peer: &str) -> String {
    let member = run.roster.iter().find(|member| member.peer == peer);
    member.map_or_else(|| short(peer), |member| member.name.clone())
}

fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_ledger::view::{MemberView, RoundView};

    fn run() -> RunView {
        let mut run = RunView::default();
        run.brief.rounds = 3;
        run.roster.push(MemberView {
            peer: "ab".repeat(32),
            name: "amy".to_owned(),
            ..MemberView::default()
        });
        run
    }

    fn certified(round: u32, took_ms: u64) -> EventView {
        EventView::Certified {
            run: "cd".repeat(32),
            round,
            state: "ef".repeat(32),
            included: 2,
            took_ms,
        }
    }

    #[test]
    fn a_certificate_tells_how_long_the_rest_will_take() {
        let (mut watch, run) = (Watch::default(), run());
        let line = |watch: &mut Watch, round, took| {
            watch
                .lines(&certified(round, took), &run, 65_000)
                .join("\n")
        };
        assert_eq!(
            line(&mut watch, 0, 900),
            "01:05  start certified after 900 ms"
        );
        assert_eq!(
            line(&mut watch, 1, 10_000),
            "01:05  round 1 of 3 certified after 10.0 s: 2 updates, about 20.0 s to go"
        );
        assert!(line(&mut watch, 2, 20_000).ends_with("about 15.0 s to go"));
        assert!(line(&mut watch, 3, 20_000).ends_with("2 updates"));
        assert!(line(&mut watch, 4, 1_000).contains("scores of all rounds are final"));
    }

    #[test]
    fn the_first_and_the_last_height_have_names_of_their_own() {
        let run = run();
        assert!(phase_of(0, RunPhase::Gather, &run).starts_with("start gather: "));
        assert!(phase_of(3, RunPhase::Train, &run).starts_with("round 3 train: "));
        let sheets = phase_of(4, RunPhase::Collect, &run);
        assert_eq!(sheets, "closing collect: waiting for score sheets");
    }

    #[test]
    fn members_have_names_and_strangers_keys() {
        let (mut watch, run) = (Watch::default(), run());
        let mut of = |peer: &str| {
            let event = EventView::Contributed {
                run: String::new(),
                round: 1,
                peer: peer.repeat(32),
                arrived: 1,
                expected: 2,
            };
            watch.lines(&event, &run, 0).join("\n")
        };
        assert_eq!(of("ab"), "00:00  round 1 update of amy is here, 1 of 2");
        assert!(of("12").contains("update of 1212121212"), "{}", of("12"));
    }

    #[test]
    fn losses_of_a_round_are_shown_once_when_they_are_known() {
        let (mut watch, mut run) = (Watch::default(), run());
        assert_eq!(watch.lines(&certified(1, 1), &run, 0).len(), 1);
        run.history.push(RoundView {
            round: 1,
            loss_before: Some(5.0),
            loss_after: Some(4.5),
            ..RoundView::default()
        });
        let lines = watch.lines(&certified(2, 1), &run, 0);
        assert_eq!(
            lines[0],
            "00:00  round 1 scored: hold-out loss 5.0000 before, 4.5000 after"
        );
        assert_eq!(watch.lines(&certified(3, 1), &run, 0).len(), 1);
    }

    #[test]
    fn steps_are_shown_every_ten_seconds_and_at_the_end() {
        let (mut watch, run) = (Watch::default(), run());
        let mut shown = |step, at| {
            let event = EventView::Training {
                run: String::new(),
                round: 1,
                step,
                steps: 40,
                loss: 4.0,
                tokens: 1,
            };
            watch.lines(&event, &run, at).len()
        };
        assert_eq!(shown(1, 0), 1);
        assert_eq!(shown(2, 9_000), 0);
        assert_eq!(shown(3, 10_000), 1);
        assert_eq!(shown(40, 11_000), 1);
    }
}
