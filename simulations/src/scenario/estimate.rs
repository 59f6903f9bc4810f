//! What a run takes of this machine, before anything is allocated for it.
//!
//! Every simulated peer is a whole node, which holds a log and a roster entry of every member: memory grows with the
//! square of the peers. A scenario that this machine cannot hold, or whose events pass what a run may take, is refused
//! with both numbers. The figures behind the estimate were measured: that of memory was within a quarter of what runs of 40
//! to 1,000 peers, 4 to 24 rounds and up to 100,000 parameters took, that of events within a factor of three.

use std::path::Path;

use super::Scenario;
use crate::files;

/// Events that one run may take before it counts as a storm. A smoke run takes a hundredth of it.
pub const MAX_EVENTS: u64 = 20_000_000;
/// Bytes that one node holds of one member: its log, its roster entry, its sketch.
const PAIR_BYTES: u64 = 2_600;
/// Bytes of a node that knows nobody, and of its connections.
const NODE_BYTES: u64 = 150_000;
/// Bytes that a node keeps of one contribution or one vote of a certified height.
const ITEM_BYTES: u64 = 850;
/// Adapters that a node holds at once: the certified one, the one before, its error feedback, and an update.
const ADAPTERS: u64 = 4;
/// Events that one peer sees of one contribution or one vote: the flood, its repetitions, its blob, a sync.
const ITEM_EVENTS: u64 = 3;
/// Events of one peer in one height that nobody else causes: ticks, timers, comparisons of ledgers.
const OWN_EVENTS: u64 = 60;
/// How far the estimate of events may be above what is counted in the end, at most.
const LEEWAY: u64 = 3;

/// What a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of memory.
    pub bytes: u64,
    /// Events, give or take a factor of three.
    pub events: u64,
}

impl Estimate {
    /// Of a scenario whose adapter has so many numbers; of a family its largest member.
    pub fn of(scenario: &Scenario, parameters: u64) -> Self {
        let draw = scenario.draw.as_ref();
        let peers = draw.map_or(scenario.peers, |draw| draw.peers[1]) as u64;
        let rounds = draw.and_then(|draw| draw.rounds);
        let heights = 2 + u64::from(rounds.map_or(scenario.rounds, |rounds| rounds[1]));
        let run = &scenario.run;
        let evaluators = scenario.evaluators as u64;
        let trains = peers.saturating_sub(evaluators);
        let included = u64::from(run.participants).min(trains);
        // Up to so many members all vote.
        let seats = match peers <= tributary_protocol::limits::MAX_COMMITTEE as u64 {
            true => peers,
            false => u64::from(run.committee),
        };
        let items = included.saturating_add(2 * seats);
        let product = |factors: &[u64]| factors.iter().fold(1u64, |a, b| a.saturating_mul(*b));
        let adapter = product(&[4, parameters]);
        let bytes = [
            product(&[peers, peers, PAIR_BYTES]),
            product(&[peers, NODE_BYTES]),
            product(&[peers, heights, included.saturating_add(seats), ITEM_BYTES]),
            product(&[peers, ADAPTERS, adapter]),
            // Evaluators keep what was public in the last turns; one node at a time decodes a round.
            product(&[
                evaluators.saturating_mul(4).saturating_add(1),
                included,
                adapter,
            ]),
            product(&[peers, scenario.link.degree as u64, 64]),
        ];
        Self {
            bytes: bytes.iter().fold(0, |sum, part| sum.saturating_add(*part)),
            events: product(&[
                peers,
                heights,
                items.saturating_mul(ITEM_EVENTS).saturating_add(OWN_EVENTS),
            ]),
        }
    }

    /// Whether one run fits this machine and the bound on events.
    ///
    /// # Errors
    /// Says what it takes, what there is, and what to change.
    pub fn check(&self) -> Result<(), String> {
        self.check_on(available_bytes(), 1)
    }

    /// Whether so many runs at once fit this machine.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_many(&self, runs: usize) -> Result<(), String> {
        self.check_on(available_bytes(), runs as u64)
    }

    fn check_on(&self, available: Option<u64>, runs: u64) -> Result<(), String> {
        if self.events / LEEWAY > MAX_EVENTS {
            return Err(format!(
                "it takes about {} million events, and a run may take {} million; lower `peers`, \
                 `rounds`, `run.participants` or `run.committee`",
                self.events / 1_000_000,
                MAX_EVENTS / 1_000_000,
            ));
        }
        let needed = self.bytes.saturating_mul(runs);
        let Some(available) = available.filter(|available| needed > *available) else {
            return Ok(());
        };
        let (at_once, remedy) = match runs {
            1 => (
                String::new(),
                "lower `peers`, `rounds` or the size of the adapter",
            ),
            runs => (format!(" for {runs} runs at once"), "give fewer --threads"),
        };
        Err(format!(
            "it takes about {} of memory{at_once}, and this machine has {} to give; {remedy}",
            size(needed),
            size(available),
        ))
    }
}

/// A size as people say it.
fn size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    match bytes {
        0..GIB => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ if bytes < 100 * GIB => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        _ => format!("{} GiB", bytes / GIB),
    }
}

/// Bytes that can be taken without swapping, where the system tells: the machine's, or fewer where a container grants
/// fewer.
fn available_bytes() -> Option<u64> {
    let text = |path: &str| files::read_text(Path::new(path), 1 << 20).ok();
    let info = text("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kibibytes * 1024;
    let granted = || {
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        let limit = number("/sys/fs/cgroup/memory.max")?;
        Some(limit.saturating_sub(number("/sys/fs/cgroup/memory.current")?))
    };
    Some(granted().map_or(machine, |granted| granted.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;

    #[test]
    fn memory_grows_with_the_square_of_the_peers_and_saturates() {
        let mut scenario = load("smoke").unwrap();
        let small = Estimate::of(&scenario, 48);
        scenario.peers *= 100;
        let large = Estimate::of(&scenario, 48);
        assert!(large.bytes > 1_000 * small.bytes, "{small:?} {large:?}");
        scenario.peers = usize::MAX;
        scenario.rounds = u32::MAX;
        let vast = Estimate::of(&scenario, u64::MAX);
        assert_eq!((vast.bytes, vast.events), (u64::MAX, u64::MAX));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let estimate = Estimate {
            bytes: 3 << 30,
            events: 1_000,
        };
        assert_eq!(estimate.check_on(Some(3 << 30), 1), Ok(()));
        assert_eq!(estimate.check_on(None, 1_000), Ok(()));
        let why = estimate.check_on(Some(2 << 30), 1).unwrap_err();
        assert!(why.contains("3.0 GiB") && why.contains("2.0 GiB"), "{why}");
        let why = estimate.check_on(Some(4 << 30), 64).unwrap_err();
        assert!(
            why.contains("192 GiB") && why.contains("--threads"),
            "{why}"
        );
        let stormy = Estimate {
            bytes: 1,
            events: (LEEWAY + 1) * MAX_EVENTS,
        };
        let why = stormy.check_on(None, 1).unwrap_err();
        assert!(
            why.contains("80 million") && why.contains("20 million"),
            "{why}"
        );
    }
}
