//! Many seeds, on all cores, and the report about them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::scenario::Scenario;
use crate::world::{Outcome, World};

/// What many seeds together showed.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    /// The first seed.
    pub from: u64,
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that broke a promise, lowest seed first.
    pub failed: Vec<Outcome>,
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
    /// Virtual seconds of each seed, for percentiles.
    lengths: Vec<f64>,
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
        ..Soak::default()
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = limit.is_some_and(|limit| started.elapsed() >= limit);
                    if late || seed >= from + seeds {
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
    total.lengths.sort_by(f64::total_cmp);
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
        self.lengths.push(virtual_s);
        if !outcome.violations.is_empty() {
            self.failed.push(outcome);
        }
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
        row("seeds with a violation", self.failed.len().to_string());
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
        format!("| what | figure |\n|---|---|\n{out}{}", self.failures())
    }

    fn failures(&self) -> String {
        let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for outcome in &self.failed {
            for violation in &outcome.violations {
                let entry = kinds.entry(violation.promise).or_insert((0, outcome.seed));
                entry.0 += 1;
            }
        }
        let line = |(kind, (count, seed)): (&&str, &(u64, u64))| {
            format!("\n- {kind}: {count} times, first with seed {seed}")
        };
        kinds.iter().map(line).collect()
    }

    fn percentile(&self, share: f64) -> f64 {
        let last = self.lengths.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.lengths.get(at).copied().unwrap_or(0.0)
    }
}

/// How this binary was built, for the report.
const BUILD: &str = match cfg!(debug_assertions) {
    true => "development profile (optimised, debug assertions on)",
    false => "optimised, debug assertions off",
};

/// Puts `figures` between the marks of `scenario` in `text`; a text without them gets them at its end.
/// Everything outside the marks is written by hand and kept.
pub fn insert_figures(text: &str, scenario: &str, figures: &str) -> String {
    let begin = format!("<!-- soak {scenario}: begin -->");
    let end = format!("<!-- soak {scenario}: end -->");
    let block = format!("{begin}\n{figures}\n{end}");
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{block}{}", &text[..from], &text[to + end.len()..])
        }
        _ => format!("{}\n{block}\n", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
