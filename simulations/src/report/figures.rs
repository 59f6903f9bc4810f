//! The figures of one run: each title is a sentence that says what was found in it.

use tributary_protocol::event::Phase;

use super::lanes::Doing;
use super::rows::{ParticipantRow, RoundRow, Tables, seconds};
use super::{Run, counted, few};
use crate::plot::bars::{self, Pieces};
use crate::plot::lanes::{self, Milestone, Stretch};
use crate::plot::lines::{self, Point, Series};
use crate::plot::{Axis, NARROW, Shape, byte_unit, bytes, colour, number, ranges};
use crate::record::What;

/// One figure.
pub struct Figure {
    /// File name without its ending.
    pub name: &'static str,
    /// The drawing.
    pub svg: String,
    /// What is drawn and how to read it.
    pub caption: String,
    /// The same drawing for wide pages, where it gains by width.
    pub wide: Option<String>,
}

/// Width of the timeline on wide pages.
const WIDE: f64 = 880.0;

/// All figures that there is something to draw for.
pub fn figures(run: &Run<'_>) -> Vec<Figure> {
    let all = [
        loss(run),
        rounds(run),
        scores(run),
        traffic(run),
        timeline(run),
    ];
    all.into_iter().flatten().collect()
}

/// The unit of losses and scores.
fn loss_unit(run: &Run<'_>) -> &'static str {
    let learner = run.scenario.make_learner(run.outcome.seed);
    learner.map_or("", |learner| learner.loss_unit())
}

fn loss(run: &Run<'_>) -> Option<Figure> {
    let last = run.scenario.rounds;
    let rows = || {
        run.tables
            .rounds
            .iter()
            .filter(move |row| row.round <= last)
    };
    let common: Vec<Point> = rows()
        .filter_map(|row| {
            Some(Point {
                at: f64::from(row.round),
                value: row.common_loss?,
                range: None,
            })
        })
        .collect();
    let hold_out: Vec<Point> = rows()
        .filter_map(|row| {
            Some(Point {
                at: f64::from(row.round),
                value: row.hold_out_loss?,
                range: row.hold_out_loss_low.zip(row.hold_out_loss_high),
            })
        })
        .collect();
    let (first, end) = (common.first()?, common.last()?);
    let way = match end.value < first.value {
        true => "fell",
        false => "rose",
    };
    let percent = 100.0 * (end.value / first.value - 1.0);
    let title = format!(
        "The loss {way} from {} to {} in {} rounds ({percent:+.0} %)",
        number(first.value),
        number(end.value),
        end.at
    );
    let series = [
        Series {
            name: "evaluators' hold-outs: median, least to greatest",
            colour: colour::ORANGE,
            shape: Shape::Square,
            points: hold_out,
        },
        Series {
            name: "common loss, without noise",
            colour: colour::BLUE,
            shape: Shape::Circle,
            points: common,
        },
    ];
    let unit = loss_unit(run);
    let axis = Axis {
        label: &format!("loss ({unit})"),
        format: number,
    };
    let drawn: Vec<Series<'_>> = series
        .into_iter()
        .filter(|s| !s.points.is_empty())
        .collect();
    Some(Figure {
        name: "loss",
        svg: lines::draw(&title, &drawn, "round (0 is before training)", &axis),
        caption: "Loss after each certified round. The common loss is the learner's own truth, which no \
                  peer sees; the hold-out losses are what the evaluators signed in their score sheets."
            .into(),
        wide: None,
    })
}

fn scores(run: &Run<'_>) -> Option<Figure> {
    let mut rows: Vec<(&ParticipantRow, f64, (f64, f64))> = (run.tables.participants.iter())
        .filter_map(|row| Some((row, row.score?, row.score_low.zip(row.score_high)?)))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let best = rows.first()?.0;
    let unsure = rows
        .iter()
        .filter(|(_, _, (low, high))| *low <= 0.0 && *high >= 0.0);
    let below = rows.iter().filter(|(_, _, (_, high))| *high < 0.0).count();
    let title = format!(
        "{} lowered the loss most; of {} scored contributors {} cannot be told from zero and {below} raised it",
        best.name,
        rows.len(),
        unsure.count(),
    );
    let liars = rows.iter().any(|(row, _, _)| !row.behaviour.is_empty());
    let drawn: Vec<ranges::Row> = (rows.iter())
        .map(|(row, score, range)| ranges::Row {
            name: with_behaviour(row),
            value: *score,
            range: *range,
            stands_out: !row.behaviour.is_empty(),
        })
        .collect();
    let legend = match liars {
        true => vec![
            (Some(Shape::Circle), colour::BLUE, "honest"),
            (Some(Shape::Diamond), colour::VERMILION, "dishonest"),
        ],
        false => Vec::new(),
    };
    let unit = loss_unit(run);
    let label = format!("score: what it took off the hold-out loss ({unit})");
    let axis = Axis {
        label: &label,
        format: number,
    };
    Some(Figure {
        name: "scores",
        svg: ranges::draw(&title, &drawn, &legend, &axis),
        caption: "Sum of each contributor's final round scores (Aumann-Shapley, median over the \
                  evaluators) with its interval: the rounds' half-widths added as squares, since every \
                  round draws its hold-out windows anew. An interval on both sides of zero says that the \
                  hold-outs were too small to tell."
            .into(),
        wide: None,
    })
}

fn with_behaviour(row: &ParticipantRow) -> String {
    match row.behaviour.is_empty() {
        true => row.name.clone(),
        false => format!("{} ({})", row.name, row.behaviour),
    }
}

/// What a round of a name is called in figures.
pub fn round_name(round: u32, last: u32) -> String {
    match round {
        0 => "genesis".into(),
        round if round > last => "closing".into(),
        round => format!("round {round}"),
    }
}

/// Why a round took as long as it did, in a few words; what took longer comes first.
pub fn reason(run: &Run<'_>, row: &RoundRow) -> String {
    let list = |text: &str| -> String {
        let names: Vec<&str> = text.split("; ").collect();
        few(&names, 2)
    };
    let mut parts = Vec::new();
    if row.round == 0 {
        parts.push(format!(
            "waited for {} members",
            run.scenario.run.min_members
        ));
    } else if !row.missing.is_empty() {
        parts.push(format!("went on without {}", list(&row.missing)));
    } else if let Some(last) = awaited(&run.tables, row.round) {
        parts.push(format!("waited longest for {last}"));
    }
    if row.attempts > 1 {
        let away = match row.committee_absent.is_empty() {
            true => String::new(),
            false => format!(" while members were away: {}", list(&row.committee_absent)),
        };
        parts.push(format!("{} attempts to agree{away}", row.attempts));
    }
    if row.certified_s - row.closed_s > row.closed_s - row.opened_s {
        parts.reverse();
    }
    parts.join("; ")
}

/// The participants whose updates came last at most peers.
fn awaited(tables: &Tables, round: u32) -> Option<String> {
    let mut counts = std::collections::BTreeMap::new();
    let waits = tables
        .waits
        .iter()
        .filter(|w| w.round == round && !w.last.is_empty());
    for wait in waits {
        *counts.entry(wait.last.as_str()).or_insert(0) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(name, _)| name.to_owned())
}

fn rounds(run: &Run<'_>) -> Option<Figure> {
    let rows = &run.tables.rounds;
    let last = run.scenario.rounds;
    let training = rows.iter().filter(|row| (1..=last).contains(&row.round));
    let longest = training.max_by(|a, b| a.took_s.total_cmp(&b.took_s))?;
    let why = reason(run, longest);
    let why = if why.is_empty() {
        why
    } else {
        format!(": {why}")
    };
    let title = format!(
        "Round {} took longest, {:.1} s{why}",
        longest.round, longest.took_s
    );
    let drawn: Vec<bars::Row> = (rows.iter())
        .map(|row| bars::Row {
            name: round_name(row.round, last),
            left: Vec::new(),
            right: vec![
                row.closed_s - row.opened_s,
                row.certified_s - row.closed_s,
                row.everywhere_s - row.certified_s,
            ],
            note: reason(run, row),
        })
        .collect();
    let pieces = Pieces {
        legend: &[
            (colour::BLUE, "training and collecting updates"),
            (colour::ORANGE, "agreeing on the certificate"),
            (colour::SKY, "until the last peer had it"),
        ],
        sides: None,
    };
    let axis = Axis {
        label: "virtual time since the certificate before (s)",
        format: number,
    };
    Some(Figure {
        name: "rounds",
        svg: bars::draw(&title, &drawn, &pieces, &axis),
        caption: "Where the time of each round went, and what it waited for. The last stretch runs beside \
                  the next round: it ends when the last peer, crashed and cut-off ones included, learnt \
                  of the certificate."
            .into(),
        wide: None,
    })
}

fn traffic(run: &Run<'_>) -> Option<Figure> {
    let mut rows: Vec<&ParticipantRow> = run.tables.participants.iter().collect();
    let sent = |row: &ParticipantRow| row.control_sent_bytes + row.payload_sent_bytes;
    rows.sort_by_key(|row| std::cmp::Reverse(sent(row)));
    let most = rows.first()?;
    let control: u64 = rows.iter().map(|row| row.control_sent_bytes).sum();
    let payload: u64 = rows.iter().map(|row| row.payload_sent_bytes).sum();
    let total = (control + payload) as f64;
    if total == 0.0 {
        return None;
    }
    let title = format!(
        "{} were sent, {:.0} % of it control messages; {} sent most, {}",
        bytes(total),
        100.0 * control as f64 / total,
        most.name,
        bytes(sent(most) as f64)
    );
    let received = |row: &ParticipantRow| row.control_received_bytes + row.payload_received_bytes;
    let longest = rows.iter().map(|row| sent(row).max(received(row))).max()?;
    let (unit, size) = byte_unit(longest as f64);
    let label = format!("{unit} over the whole run");
    let scaled = |pieces: [u64; 2]| pieces.map(|piece| piece as f64 / size).to_vec();
    let drawn: Vec<bars::Row> = (rows.iter())
        .map(|row| bars::Row {
            name: row.name.clone(),
            left: scaled([row.payload_received_bytes, row.control_received_bytes]),
            right: scaled([row.payload_sent_bytes, row.control_sent_bytes]),
            note: String::new(),
        })
        .collect();
    let pieces = Pieces {
        legend: &[
            (colour::ORANGE, "payload (blobs)"),
            (colour::BLUE, "control (messages)"),
        ],
        sides: Some(("received", "sent")),
    };
    let axis = Axis {
        label: &label,
        format: |value| number(value.abs()),
    };
    Some(Figure {
        name: "traffic",
        svg: bars::draw(&title, &drawn, &pieces, &axis),
        caption: "Bytes of each participant. A flooded message counts once for every receiver, all at its \
                  author, because the simulated mesh is one hop; lost messages count as sent. Blobs are \
                  counted at both ends when a transfer begins, failed transfers are not."
            .into(),
        wide: None,
    })
}

fn fill(doing: Doing) -> Option<&'static str> {
    match doing {
        Doing::Absent => None,
        Doing::Down => Some("#444444"),
        Doing::Phase(Phase::Gather) => Some("#E6E6E6"),
        Doing::Phase(Phase::Train) => Some(colour::GREEN),
        Doing::Phase(Phase::Collect) => Some(colour::SKY),
        Doing::Phase(Phase::Agree) => Some(colour::ORANGE),
        Doing::Phase(Phase::CatchUp) => Some(colour::PURPLE),
        Doing::Phase(Phase::Stopped) => Some(colour::VERMILION),
        Doing::Phase(Phase::Finished) => Some("#F4F4F4"),
    }
}

fn timeline(run: &Run<'_>) -> Option<Figure> {
    let tables = &run.tables;
    let last = run.scenario.rounds;
    let lanes: Vec<lanes::Lane> = (tables.lanes.iter().zip(&tables.participants))
        .map(|(lane, row)| lanes::Lane {
            name: row.name.clone(),
            stretches: (lane.spans.iter())
                .filter_map(|span| {
                    Some(Stretch {
                        span: (seconds(span.from), seconds(span.to)),
                        fill: fill(span.doing)?,
                    })
                })
                .collect(),
            apart: (lane.apart.iter())
                .map(|(from, to)| (seconds(*from), seconds(*to)))
                .collect(),
            crashes: lane.crashes.iter().map(|at| seconds(*at)).collect(),
        })
        .collect();
    let milestones: Vec<Milestone> = (tables.rounds.iter())
        .map(|row| Milestone {
            at: row.certified_s,
            name: round_name(row.round, last),
        })
        .collect();
    let legend = [
        (None, colour::GREEN, "trains"),
        (None, colour::SKY, "waits for updates"),
        (None, colour::ORANGE, "waits for the certificate"),
        (None, colour::PURPLE, "catches up"),
        (None, "#444444", "down"),
        (None, "#E6E6E6", "gathers, or has finished"),
        (Some(Shape::Diamond), colour::VERMILION, "crash"),
    ];
    let splits = run.count(|what| matches!(what, What::Split { .. }));
    let waiting: f64 = tables
        .participants
        .iter()
        .map(|p| p.waiting_s + p.agreeing_s)
        .sum();
    let present: f64 = tables
        .participants
        .iter()
        .map(|p| p.waiting_s + p.agreeing_s + p.training_s + p.catching_up_s + p.down_s)
        .sum();
    let title = format!(
        "{} and {} in {:.0} virtual seconds; participants waited for each other {:.0} % of their time in \
         rounds",
        counted(run.outcome.crashes as usize, "crash", "crashes"),
        counted(splits, "split", "splits"),
        seconds(run.outcome.virtual_us),
        100.0 * waiting / present.max(1e-9),
    );
    Some(Figure {
        name: "timeline",
        svg: lanes::draw(NARROW, &title, &lanes, &milestones, &legend),
        caption: "What each participant did over time. Vertical lines: the first peer held the round's \
                  certificate. A thick line through a lane: the participant stood on the smaller side of \
                  a split."
            .into(),
        wide: Some(lanes::draw(WIDE, &title, &lanes, &milestones, &legend)),
    })
}
