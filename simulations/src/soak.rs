//! Many seeds, on all cores, and the report about them.
//!
//! Ten thousand seeds take longer than one wants to wait at once, so reports add up: a soak that continues where the
//! soak in the report ended is counted together with it.

mod shrink;

pub use shrink::{Shrunk, shrink};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{self, Domain};

use crate::markdown;
use crate::scenario::Scenario;
use crate::world::{Outcome, World};

/// What many seeds together showed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Soak {
    /// The first seed.
    pub from: u64,
    /// Seeds that were run.
    pub seeds: u64,
    /// Those of this call that broke a promise, lowest seed first.
    #[serde(skip)]
    pub failed: Vec<Outcome>,
    /// Seeds that broke a promise.
    pub broken: u64,
    /// Promises that were broken: how often, and the first seed.
    kinds: BTreeMap<String, (u64, u64)>,
    /// Seeds in which liars came to hold a third of a committee, so that the run need not finish.
    pub overrun: u64,
    /// Events of all seeds.
    pub events: u64,
    /// Virtual time of all seeds, in seconds.
    pub virtual_s: f64,
    /// Crashes of all seeds.
    pub crashes: u64,
    /// Rounds certified on every peer, over all seeds.
    pub rounds: u64,
    /// Real time.
    pub wall: Duration,
    /// Threads that shared the work.
    pub threads: usize,
    /// Seeds by their whole virtual seconds, for percentiles.
    lengths: BTreeMap<u64, u64>,
    /// Hash of the scenario.
    scenario: String,
}

/// Names a scenario, so that figures of another one are never added.
fn name_of(scenario: &Scenario) -> String {
    hash::digest(Domain::Simulation, format!("{scenario:?}").as_bytes()).short()
}

/// Runs seeds `from..from + seeds` on `threads` threads; after `limit` no further seed is started.
/// `progress` hears the number of seeds done and of failed ones.
pub fn soak(
    scenario: &Scenario,
    from: u64,
    seeds: u64,
    threads: usize,
    limit: Option<Duration>,
    progress: &(dyn Fn(u64, usize) + Sync),
) -> Soak {
    let started = Instant::now();
    let next = AtomicU64::new(from);
    let total = Mutex::new(Soak {
        from,
        threads,
        scenario: name_of(scenario),
        ..Soak::default()
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = limit.is_some_and(|limit| started.elapsed() >= limit);
                    if late || seed >= from.saturating_add(seeds) {
                        break;
                    }
                    let outcome = World::new(scenario, seed, None).run();
                    let mut total = total.lock().expect("no thread panics while it counts");
                    total.add(outcome);
                    progress(total.seeds, total.failed.len());
                }
            });
        }
    });
    let mut total = total
        .into_inner()
        .expect("no thread panics while it counts");
    total.failed.sort_by_key(|outcome| outcome.seed);
    total.wall = started.elapsed();
    total
}

impl Soak {
    fn add(&mut self, outcome: Outcome) {
        let virtual_s = outcome.virtual_us as f64 / 1e6;
        self.seeds += 1;
        self.events += outcome.events;
        self.virtual_s += virtual_s;
        self.crashes += u64::from(outcome.crashes);
        self.rounds += u64::from(outcome.rounds_certified);
        *self.lengths.entry(virtual_s as u64).or_default() += 1;
        self.overrun += u64::from(outcome.overrun.is_some());
        if !outcome.violations.is_empty() {
            self.broken += 1;
            let of = |v: &crate::oracle::Violation| v.promise.to_owned();
            for promise in outcome.violations.iter().map(of).collect::<BTreeSet<_>>() {
                let kind = self.kinds.entry(promise).or_insert((0, outcome.seed));
                *kind = (kind.0 + 1, kind.1.min(outcome.seed));
            }
            self.failed.push(outcome);
        }
    }

    /// These figures together with those of the seeds right before, if `earlier` are just those.
    pub fn after(mut self, earlier: &Self) -> Self {
        if earlier.scenario != self.scenario || earlier.from + earlier.seeds != self.from {
            return self;
        }
        self.from = earlier.from;
        self.seeds += earlier.seeds;
        self.broken += earlier.broken;
        self.overrun += earlier.overrun;
        self.events += earlier.events;
        self.virtual_s += earlier.virtual_s;
        self.crashes += earlier.crashes;
        self.rounds += earlier.rounds;
        self.wall += earlier.wall;
        self.threads = self.threads.max(earlier.threads);
        for (promise, (count, first)) in &earlier.kinds {
            let kind = self.kinds.entry(promise.clone()).or_insert((0, *first));
            *kind = (kind.0 + count, kind.1.min(*first));
        }
        for (length, seeds) in &earlier.lengths {
            *self.lengths.entry(*length).or_default() += seeds;
        }
        self
    }

    /// Seeds run in one second of real time.
    pub fn seeds_per_s(&self) -> f64 {
        self.seeds as f64 / self.wall.as_secs_f64()
    }

    /// The figures, as Markdown.
    pub fn markdown(&self, scenario: &Scenario, command: &str) -> String {
        let mut out = String::new();
        let mut row = |what: &str, figure: String| {
            let _ = writeln!(out, "| {what} | {figure} |");
        };
        row("command", format!("`{command}`"));
        row("scenario", scenario.describe());
        row("build", BUILD.to_owned());
        row("seeds", format!("{} from {}", self.seeds, self.from));
        row("seeds with a violation", self.broken.to_string());
        if self.overrun > 0 {
            let what =
                "seeds in which liars held a third of a committee (safety checked, liveness not)";
            row(what, self.overrun.to_string());
        }
        row("rounds certified on every peer", self.rounds.to_string());
        row("crashes and restarts", self.crashes.to_string());
        row(
            "events, each followed by all checks",
            self.events.to_string(),
        );
        row(
            "virtual time",
            format!("{:.1} hours", self.virtual_s / 3600.0),
        );
        let (p50, p99) = (self.percentile(0.50), self.percentile(0.99));
        row(
            "virtual time of a run, p50 / p99",
            format!("{p50:.0} s / {p99:.0} s"),
        );
        let wall = self.wall.as_secs_f64();
        row(
            "real time",
            format!("{wall:.0} s on {} threads", self.threads),
        );
        row("seeds per second", format!("{:.2}", self.seeds_per_s()));
        let faster = self.virtual_s / wall;
        row("virtual seconds per real second", format!("{faster:.0}"));
        let data = serde_json::to_string(self).expect("plain figures are JSON");
        let failures = self.failures();
        format!("| what | figure |\n|---|---|\n{out}{failures}\n{DATA}{data} -->")
    }

    fn failures(&self) -> String {
        let line = |(kind, (count, seed)): (&String, &(u64, u64))| {
            format!("\n- {kind}: {count} seeds, the first is {seed}")
        };
        self.kinds.iter().map(line).collect()
    }

    fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.seeds as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.lengths.iter().find(|(_, seeds)| {
            seen += **seeds;
            seen >= wanted
        });
        reached.map_or(0.0, |(length, _)| *length as f64)
    }
}

/// Begins the line of a report that a later soak reads.
const DATA: &str = "<!-- data ";

/// The figures of `scenario` that a report already holds.
pub fn earlier_figures(text: &str, scenario: &str) -> Option<Soak> {
    let block = &text[text.find(&format!("<!-- soak {scenario}: begin -->"))?..];
    let block = &block[..block.find(&format!("<!-- soak {scenario}: end -->"))?];
    let data = &block[block.find(DATA)? + DATA.len()..];
    serde_json::from_str(&data[..data.find(" -->")?]).ok()
}

/// How this binary was built, for the report.
const BUILD: &str = match cfg!(debug_assertions) {
    true => "development profile (optimised, debug assertions on)",
    false => "optimised, debug assertions off",
};

/// Puts `figures` between the marks of `scenario` in `text`; a text without them gets them at its end.
/// Everything outside the marks is written by hand and kept.
pub fn insert_figures(text: &str, scenario: &str, figures: &str) -> String {
    markdown::insert(text, &format!("soak {scenario}"), figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_next_seeds_are_added_and_of_any_others_are_not() {
        let part = |from, seeds, scenario: &str| Soak {
            from,
            seeds,
            broken: 1,
            kinds: BTreeMap::from([("kept".to_owned(), (1, from))]),
            lengths: BTreeMap::from([(from, seeds)]),
            scenario: scenario.into(),
            ..Soak::default()
        };
        let first = part(1, 10, "a");
        let both = part(11, 5, "a").after(&first);
        assert_eq!((both.from, both.seeds, both.broken), (1, 15, 2));
        assert_eq!(both.kinds["kept"], (2, 1));
        assert_eq!((both.percentile(0.5), both.percentile(0.99)), (1.0, 11.0));
        assert_eq!(part(12, 5, "a").after(&first).seeds, 5);
        assert_eq!(part(11, 5, "b").after(&first).seeds, 5);
        let data = serde_json::to_string(&both).unwrap();
        let text = insert_figures("", "a", &format!("| x |\n{DATA}{data} -->"));
        assert_eq!(earlier_figures(&text, "a").unwrap().seeds, 15);
        assert!(earlier_figures(&text, "b").is_none());
    }

    #[test]
    fn figures_replace_figures_and_leave_prose_alone() {
        let once = insert_figures("# Title\nprose\n", "a", "| 1 |");
        let twice = insert_figures(&format!("{once}more\n"), "a", "| 2 |");
        assert!(twice.starts_with("# Title\nprose\n"));
        assert!(twice.ends_with("more\n"));
        assert!(twice.contains("| 2 |") && !twice.contains("| 1 |"));
        let both = insert_figures(&twice, "b", "| 3 |");
        assert!(both.contains("| 2 |") && both.contains("| 3 |"));
    }
}
