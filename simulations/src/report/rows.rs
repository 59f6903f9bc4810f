//! The rows of the tables, with units last in their names.
//!
//! One struct per CSV file; the JSON file holds the same rows. Times are virtual seconds from the start,
//! losses and scores are nats per predicted token (for the quadratic learner: plain values), sizes are
//! bytes.

use serde::Serialize;
use tributary_protocol::event::Phase;

use super::lanes::{Doing, Lane, lanes};
use super::stall::{Cause, Course, Wait, causes, courses, waits};
use crate::clock::Micros;
use crate::record::{History, RoundFacts, What};
use crate::world::Outcome;

/// One certified round: the genesis is round 0, the closing height follows the last training round.
#[derive(Clone, Debug, Serialize)]
pub struct RoundRow {
    /// The round.
    pub round: u32,
    /// The round before was certified.
    pub opened_s: f64,
    /// The first peer stopped waiting for updates.
    pub closed_s: f64,
    /// The first peer held the certificate.
    pub certified_s: f64,
    /// The last peer that ever learnt of it held the certificate.
    pub everywhere_s: f64,
    /// From opened to certified.
    pub took_s: f64,
    /// Committee members.
    pub committee: usize,
    /// Those of them that crashed or were cut off while the committee was to agree, with which of both.
    pub committee_absent: String,
    /// Consensus attempts; more than one means that proposals or votes did not arrive in time.
    pub attempts: u32,
    /// Contributors that were members.
    pub expected: usize,
    /// Contributions that made the step.
    pub included: usize,
    /// Expected and not included, with the cause: `peer-03 (crashed)`, apart by semicolons.
    pub missing: String,
    /// Common loss after the round, without noise; empty when no peer held the adapter.
    pub common_loss: Option<f64>,
    /// Median over the evaluators' sheets: hold-out loss after the round; empty without sheets.
    pub hold_out_loss: Option<f64>,
    /// The least of them.
    pub hold_out_loss_low: Option<f64>,
    /// The greatest.
    pub hold_out_loss_high: Option<f64>,
    /// Score sheets in the ledger.
    pub sheets: usize,
    /// Sheets that the next certificate counted.
    pub sheets_certified: usize,
    /// Whether scores became final.
    pub judged: bool,
    /// Members admitted with this certificate.
    pub joins: usize,
    /// Members that left with it.
    pub leaves: usize,
    /// Crashes while it was open.
    pub crashes: usize,
    /// Control bytes that all peers sent while it was open.
    pub control_bytes: u64,
    /// Payload bytes that all peers sent while it was open.
    pub payload_bytes: u64,
}

/// One participant over the whole run.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantRow {
    /// Index in the scenario.
    pub participant: usize,
    /// Name.
    pub name: String,
    /// `contributor`, `evaluator` or `both`.
    pub role: &'static str,
    /// What it does that it should not; empty for the honest.
    pub behaviour: String,
    /// How much longer than an ordinary peer it trains.
    pub slowness: f64,
    /// Training rounds in which a contribution of it was expected.
    pub rounds_expected: usize,
    /// Those in which it was included.
    pub rounds_included: usize,
    /// Sum of its final scores; empty when there is none.
    pub score: Option<f64>,
    /// Lower end: the rounds' lower half-widths added as squares, since each round draws its windows
    /// anew.
    pub score_low: Option<f64>,
    /// Upper end, from the upper half-widths in the same way.
    pub score_high: Option<f64>,
    /// What its credits paid, in OPEN.
    pub earned_open: f64,
    /// Crashes.
    pub crashes: usize,
    /// Time dead.
    pub down_s: f64,
    /// Time cut off by splits.
    pub cut_off_s: f64,
    /// Time training.
    pub training_s: f64,
    /// Time waiting for updates of others.
    pub waiting_s: f64,
    /// Time waiting for certificates.
    pub agreeing_s: f64,
    /// Time fetching state.
    pub catching_up_s: f64,
    /// Bytes of control messages sent, lost ones included; counted as in [`crate::record::Bytes`].
    pub control_sent_bytes: u64,
    /// Bytes of control messages received, duplicates included; counted as in [`crate::record::Bytes`].
    pub control_received_bytes: u64,
    /// Bytes of blobs served; counted as in [`crate::record::Bytes`].
    pub payload_sent_bytes: u64,
    /// Bytes of blobs fetched; counted as in [`crate::record::Bytes`].
    pub payload_received_bytes: u64,
}

/// One participant in one training round.
#[derive(Clone, Debug, Serialize)]
pub struct ContributionRow {
    /// The round.
    pub round: u32,
    /// Index in the scenario.
    pub participant: usize,
    /// Name.
    pub name: String,
    /// `included`, why it is missing, or why none was expected.
    pub outcome: &'static str,
    /// Tokens that it weighs; empty when not included.
    pub tokens: Option<u64>,
    /// Size of the update.
    pub update_bytes: Option<u64>,
    /// Final score; empty when not judged.
    pub score: Option<f64>,
    /// Lower end of its interval.
    pub score_low: Option<f64>,
    /// Upper end of its interval.
    pub score_high: Option<f64>,
    /// Part of the round's budget, 0 to 1.
    pub credit: Option<f64>,
    /// What that paid, in OPEN.
    pub earned_open: Option<f64>,
}

/// Bytes of one participant while one round was open.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficRow {
    /// The open round; the one above the closing height is the time after it.
    pub round: usize,
    /// Index in the scenario.
    pub participant: usize,
    /// Name.
    pub name: String,
    /// Bytes of control messages sent, lost ones included; counted as in [`crate::record::Bytes`].
    pub control_sent_bytes: u64,
    /// Bytes of control messages received, duplicates included; counted as in [`crate::record::Bytes`].
    pub control_received_bytes: u64,
    /// Bytes of blobs served; counted as in [`crate::record::Bytes`].
    pub payload_sent_bytes: u64,
    /// Bytes of blobs fetched; counted as in [`crate::record::Bytes`].
    pub payload_received_bytes: u64,
}

/// Which participant waited for which others.
#[derive(Clone, Debug, Serialize)]
pub struct WaitRow {
    /// The round.
    pub round: u32,
    /// Index of who waited.
    pub participant: usize,
    /// Its name.
    pub name: String,
    /// From its own update to the end of the collection.
    pub waited_s: f64,
    /// The participant whose update came last; empty when none came.
    pub last: String,
    /// The participants whose updates it went on without, separated by semicolons.
    pub missing: String,
}

/// All tables of one run, and what they were read from.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `rounds.csv`.
    pub rounds: Vec<RoundRow>,
    /// `participants.csv`.
    pub participants: Vec<ParticipantRow>,
    /// `contributions.csv`.
    pub contributions: Vec<ContributionRow>,
    /// `traffic.csv`.
    pub traffic: Vec<TrafficRow>,
    /// `waits.csv`.
    pub waits: Vec<WaitRow>,
    pub(super) lanes: Vec<Lane>,
    pub(super) courses: Vec<Course>,
    /// By place in the chain, then by participant.
    pub(super) causes: Vec<Vec<Cause>>,
}

/// Seconds of virtual time.
pub(super) fn seconds(at: Micros) -> f64 {
    at as f64 / 1e6
}

fn open(amount: u128) -> f64 {
    amount as f64 / 1e6
}

impl Tables {
    /// Reads everything out of a recorded run that took `rounds` training rounds at most.
    pub fn of(history: &History, outcome: &Outcome, rounds: u32) -> Self {
        let lanes = lanes(history, outcome.virtual_us);
        let courses = courses(history);
        let causes: Vec<Vec<Cause>> = (history.rounds.iter().zip(&courses))
            .map(|(facts, course)| causes(history, &lanes, facts, course))
            .collect();
        let mut out = Self {
            rounds: Vec::new(),
            participants: Vec::new(),
            contributions: contributions(history, &causes, rounds),
            traffic: traffic(history),
            waits: (waits(history).iter())
                .map(|w| wait_row(history, w))
                .collect(),
            lanes,
            courses,
            causes,
        };
        out.rounds = out.round_rows(history);
        let everybody = 0..history.participants.len();
        out.participants = everybody
            .map(|peer| out.participant_row(history, peer, rounds))
            .collect();
        out
    }

    fn round_rows(&self, history: &History) -> Vec<RoundRow> {
        let all = history.rounds.iter().zip(&self.courses).zip(&self.causes);
        all.map(|((facts, course), causes)| RoundRow {
            committee_absent: absent(history, &self.lanes, facts, course),
            ..round_row(history, facts, course, causes)
        })
        .collect()
    }

    fn participant_row(&self, history: &History, peer: usize, rounds: u32) -> ParticipantRow {
        let who = &history.participants[peer];
        let own: Vec<&ContributionRow> = (self.contributions.iter())
            .filter(|row| row.participant == peer && row.round <= rounds)
            .collect();
        let count = |is: fn(&str) -> bool| own.iter().filter(|row| is(row.outcome)).count();
        let scores = || own.iter().filter_map(|row| row.score);
        let judged = scores().next().is_some();
        let score: f64 = scores().sum();
        let half = |end: fn(&ContributionRow) -> Option<f64>| {
            let halves = own.iter().filter_map(|row| Some(end(row)? - row.score?));
            halves.map(|half| half * half).sum::<f64>().sqrt()
        };
        let lane = &self.lanes[peer];
        let spent = |phase| {
            let is = move |doing| doing == Doing::Phase(phase);
            seconds(lane.spent((0, Micros::MAX), is))
        };
        let bytes = history.bytes_of(peer);
        ParticipantRow {
            participant: peer,
            name: who.name.clone(),
            role: who.role,
            behaviour: who.behaviour.clone(),
            slowness: who.slowness,
            rounds_expected: count(|outcome| {
                let excused = [Cause::Evaluator, Cause::NotAMember, Cause::NotDrawn];
                excused.iter().all(|cause| cause.name() != outcome)
            }),
            rounds_included: count(|outcome| outcome == Cause::Included.name()),
            score: judged.then_some(score),
            score_low: judged.then(|| score - half(|row| row.score_low)),
            score_high: judged.then(|| score + half(|row| row.score_high)),
            // An empty sum of floats is minus zero.
            earned_open: 0.0 + own.iter().filter_map(|row| row.earned_open).sum::<f64>(),
            crashes: lane.crashes.len(),
            down_s: seconds(lane.spent((0, Micros::MAX), |doing| doing == Doing::Down)),
            cut_off_s: seconds(lane.cut_off((0, Micros::MAX))),
            training_s: spent(Phase::Train),
            waiting_s: spent(Phase::Collect),
            agreeing_s: spent(Phase::Agree),
            catching_up_s: spent(Phase::CatchUp),
            control_sent_bytes: bytes.control_sent,
            control_received_bytes: bytes.control_received,
            payload_sent_bytes: bytes.payload_sent,
            payload_received_bytes: bytes.payload_received,
        }
    }
}

fn name(history: &History, peer: usize) -> String {
    history.participants[peer].name.clone()
}

fn names(history: &History, peers: &[usize]) -> String {
    let names: Vec<String> = peers.iter().map(|peer| name(history, *peer)).collect();
    names.join("; ")
}

fn wait_row(history: &History, wait: &Wait) -> WaitRow {
    WaitRow {
        round: wait.round,
        participant: wait.peer,
        name: name(history, wait.peer),
        waited_s: seconds(wait.waited),
        last: wait.last.map_or(String::new(), |peer| name(history, peer)),
        missing: names(history, &wait.missing),
    }
}

/// Committee members that were away while the committee was to agree.
fn absent(history: &History, lanes: &[Lane], facts: &RoundFacts, course: &Course) -> String {
    let window = (course.closed, course.certified);
    let away = |seat: &usize| {
        let lane = &lanes[*seat];
        let why = match lane.spent(window, |doing| doing == Doing::Down) {
            0 if lane.cut_off(window) > 0 => "cut off",
            0 => return None,
            _ => "crashed",
        };
        Some(format!("{} ({why})", name(history, *seat)))
    };
    let away: Vec<String> = facts.committee.iter().filter_map(away).collect();
    away.join("; ")
}

fn round_row(history: &History, facts: &RoundFacts, course: &Course, causes: &[Cause]) -> RoundRow {
    let mut losses: Vec<f64> = (facts.sheets.iter())
        .map(|sheet| sheet.loss_after.as_nats())
        .collect();
    losses.sort_by(f64::total_cmp);
    let missing: Vec<String> = (causes.iter().enumerate())
        .filter(|(_, cause)| facts.round > 0 && cause.is_missing() && !facts.included.is_empty())
        .map(|(peer, cause)| format!("{} ({})", name(history, peer), cause.name()))
        .collect();
    let open = |at: Micros| course.opened <= at && at < course.certified;
    let is_crash = |what: &What| matches!(what, What::Crash { .. });
    let moments = history.moments.iter();
    let crashes = moments.filter(|m| open(m.at) && is_crash(&m.what));
    let at = facts.round as usize;
    let traffic = history.traffic.iter();
    let bytes = || traffic.clone().filter_map(move |rounds| rounds.get(at));
    // Neither the genesis nor the closing height takes contributions.
    let trains = !facts.included.is_empty();
    RoundRow {
        round: facts.round,
        opened_s: seconds(course.opened),
        closed_s: seconds(course.closed),
        certified_s: seconds(course.certified),
        everywhere_s: seconds(course.everywhere),
        took_s: seconds(course.certified - course.opened),
        committee: facts.committee.len(),
        committee_absent: String::new(),
        attempts: facts.attempt + 1,
        expected: if trains { facts.expected.len() } else { 0 },
        included: facts.included.len(),
        missing: missing.join("; "),
        common_loss: facts.common_loss,
        hold_out_loss: super::median(&losses),
        hold_out_loss_low: losses.first().copied(),
        hold_out_loss_high: losses.last().copied(),
        sheets: facts.sheets.len(),
        sheets_certified: facts.sheets.iter().filter(|s| s.certified).count(),
        judged: facts.judged,
        joins: facts.joins.len(),
        leaves: facts.leaves.len(),
        crashes: crashes.count(),
        control_bytes: bytes().map(|b| b.control_sent).sum(),
        payload_bytes: bytes().map(|b| b.payload_sent).sum(),
    }
}

fn contributions(history: &History, causes: &[Vec<Cause>], rounds: u32) -> Vec<ContributionRow> {
    let mut out = Vec::new();
    let training = (history.rounds.iter().zip(causes))
        .filter(|(facts, _)| (1..=rounds).contains(&facts.round));
    for (facts, causes) in training {
        for (peer, cause) in causes.iter().enumerate() {
            let included = facts.included.iter().filter(|i| i.peer == peer);
            let scores = || facts.scores.iter().filter(move |s| s.peer == peer);
            // A liar under several names is one participant: its parts add up.
            let sum =
                |of: fn(&crate::record::ScoreFacts) -> f64| scores().map(of).reduce(|a, b| a + b);
            out.push(ContributionRow {
                round: facts.round,
                participant: peer,
                name: name(history, peer),
                outcome: cause.name(),
                tokens: included.clone().map(|i| i.tokens).reduce(|a, b| a + b),
                update_bytes: included.map(|i| i.bytes).reduce(|a, b| a + b),
                score: sum(|s| s.score.as_nats()),
                score_low: sum(|s| s.low.as_nats()),
                score_high: sum(|s| s.high.as_nats()),
                credit: sum(|s| s.credit.as_f64()),
                earned_open: sum(|s| open(s.amount.0)),
            });
        }
    }
    out
}

fn traffic(history: &History) -> Vec<TrafficRow> {
    let rounds = history.traffic.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = Vec::new();
    for round in 0..rounds {
        for (participant, own) in history.traffic.iter().enumerate() {
            let bytes = own.get(round).copied().unwrap_or_default();
            out.push(TrafficRow {
                round,
                participant,
                name: name(history, participant),
                control_sent_bytes: bytes.control_sent,
                control_received_bytes: bytes.control_received,
                payload_sent_bytes: bytes.payload_sent,
                payload_received_bytes: bytes.payload_received,
            });
        }
    }
    out
}
