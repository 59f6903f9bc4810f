//! Results side by side, and thresholds on what may have become worse.
//!
//! The first result is the baseline. A threshold is an upper or lower bound on one metric of every
//! other result: absolute (`0.5`), or relative to the baseline (`+0.1`, `-5%`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::files;
use crate::plot::{bytes, number};
use crate::report::folder;
use crate::report::metrics::{self, METRICS};
use crate::suggest::nearest;
use crate::sweep::page;

/// Why results cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// No such result.
    #[error(
        "cannot read {path}: {source}; give an output folder of `run`, or its {}",
        folder::RESULT
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something else.
    #[error(
        "{path} is no result of `run`: {why}; give an output folder of `run`, or its {}",
        folder::RESULT
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A threshold that cannot be meant.
    #[error("threshold `{text}` is refused: {why}")]
    Threshold {
        /// As given.
        text: String,
        /// What is wrong and what to write.
        why: String,
    },
}

/// One result.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The folder or file, as given.
    pub name: String,
    /// Name of the scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Digest of the run.
    pub digest: String,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
}

impl Measured {
    /// Reads a result: a folder of `run --out`, or its result file.
    ///
    /// # Errors
    /// See [`CompareError`].
    pub fn read(name: &str) -> Result<Self, CompareError> {
        let given = Path::new(name);
        let path = match given.is_dir() {
            true if given.join(page::RESULT).is_file() => given.join(page::RESULT),
            true => given.join(folder::RESULT),
            false => given.to_owned(),
        };
        let foreign = |why: &str| CompareError::Foreign {
            path: path.clone(),
            why: why.to_owned(),
        };
        let text = files::read_text(&path, files::MAX_RESULT_BYTES).map_err(|source| {
            CompareError::Unreadable {
                path: path.clone(),
                source,
            }
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|why| foreign(&why.to_string()))?;
        if value["schema"] == "sim-sweep/1" {
            return Err(foreign(
                "it is a sweep, whose rows stand side by side already",
            ));
        }
        if value["schema"] != "sim-result/1" {
            return Err(foreign("its schema is not sim-result/1"));
        }
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let metrics = value["metrics"]
            .as_object()
            .ok_or_else(|| foreign("it has no metrics"))?;
        Ok(Self {
            name: name.into(),
            scenario: word("scenario"),
            seed: value["seed"]
                .as_u64()
                .ok_or_else(|| foreign("it has no seed"))?,
            digest: word("digest"),
            metrics: (metrics.iter())
                .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
                .collect(),
        })
    }
}

/// A bound on one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Threshold {
    /// As given, with its direction.
    pub text: String,
    /// The metric.
    pub metric: String,
    /// From above or from below.
    #[serde(skip)]
    upper: bool,
    #[serde(skip)]
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Absolute(f64),
    /// Added to the baseline.
    Offset(f64),
    /// Share of the baseline's size, added to it.
    Share(f64),
}

impl Threshold {
    /// Reads `METRIC=BOUND`; `upper` says whether it may not be exceeded or not be missed.
    ///
    /// # Errors
    /// [`CompareError::Threshold`].
    pub fn parse(text: &str, upper: bool) -> Result<Self, CompareError> {
        let refused = |why: String| CompareError::Threshold {
            text: text.into(),
            why,
        };
        let (metric, bound) = (text.split_once('='))
            .ok_or_else(|| refused("write METRIC=BOUND, for example final_loss=+1%".into()))?;
        let (metric, bound) = (metric.trim(), bound.trim());
        if metrics::named(metric).is_none() {
            let known: Vec<&str> = METRICS.iter().map(|m| m.name).collect();
            return Err(refused(nearest("metric", metric, &known)));
        }
        let relative = bound.starts_with(['+', '-']);
        let digits = bound.strip_suffix('%').unwrap_or(bound);
        let size: f64 =
            (digits.parse().ok().filter(|size: &f64| size.is_finite())).ok_or_else(|| {
                refused(format!(
                    "`{bound}` is no bound; write 0.5, +0.1, or +1% relative to the first"
                ))
            })?;
        let bound = match (relative, bound.ends_with('%')) {
            (true, true) => Bound::Share(size / 100.0),
            (true, false) => Bound::Offset(size),
            (false, false) => Bound::Absolute(size),
            (false, true) => {
                let why =
                    format!("a share is relative to the first result: write +{bound} or -{bound}");
                return Err(refused(why));
            }
        };
        let way = if upper { "--max" } else { "--min" };
        Ok(Self {
            text: format!("{way} {text}"),
            metric: metric.into(),
            upper,
            bound,
        })
    }

    /// The bound, given the baseline's value.
    pub fn limit(&self, baseline: f64) -> f64 {
        match self.bound {
            Bound::Absolute(bound) => bound,
            Bound::Offset(offset) => baseline + offset,
            Bound::Share(share) => baseline + share * baseline.abs(),
        }
    }

    /// Whether `value` keeps to it.
    pub fn holds(&self, baseline: f64, value: f64) -> bool {
        match self.upper {
            true => value <= self.limit(baseline),
            false => value >= self.limit(baseline),
        }
    }
}

/// A threshold that a result does not keep to.
#[derive(Clone, Debug, Serialize)]
pub struct Breach {
    /// The threshold.
    pub threshold: String,
    /// The result.
    pub result: String,
    /// In one sentence.
    pub what: String,
}

/// Every breach. A metric that the baseline or a result lacks is one: it cannot be vouched for.
pub fn breaches(results: &[Measured], thresholds: &[Threshold]) -> Vec<Breach> {
    let Some((baseline, others)) = results.split_first() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for threshold in thresholds {
        let metric = &threshold.metric;
        for other in others {
            let values = (baseline.metrics.get(metric)).zip(other.metrics.get(metric));
            let what = match values {
                Some((first, value)) if threshold.holds(*first, *value) => continue,
                Some((first, value)) => format!(
                    "{}: {metric} is {}, {} {} allowed ({} in {})",
                    other.name,
                    number(*value),
                    if threshold.upper {
                        "at most"
                    } else {
                        "at least"
                    },
                    number(threshold.limit(*first)),
                    number(*first),
                    baseline.name
                ),
                None => format!(
                    "{}: {metric} is missing in one of the two results",
                    other.name
                ),
            };
            out.push(Breach {
                threshold: threshold.text.clone(),
                result: other.name.clone(),
                what,
            });
        }
    }
    out
}

/// The table: a row per metric, the values of all results, changes against the first.
pub fn table(results: &[Measured]) -> Vec<Vec<String>> {
    let row = |metric: &metrics::Metric| {
        let values: Vec<Option<f64>> = (results.iter())
            .map(|result| result.metrics.get(metric.name).copied())
            .collect();
        values.iter().any(Option::is_some).then(|| {
            let first = values.first().copied().flatten();
            let mut row = vec![metric.name.to_owned(), metric.unit.to_owned()];
            for (nth, value) in values.iter().enumerate() {
                let write = if metric.unit == "B" { bytes } else { number };
                row.push(value.map_or("none".into(), write));
                if nth > 0 {
                    row.push(first.zip(*value).map_or(String::new(), change));
                }
            }
            row
        })
    };
    METRICS.iter().filter_map(row).collect()
}

fn change((first, value): (f64, f64)) -> String {
    match first {
        _ if first == value => "=".into(),
        _ if first == 0.0 => format!("{:+}", value),
        _ => format!("{:+.1} %", 100.0 * (value - first) / first.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, loss: f64) -> Measured {
        Measured {
            name: name.into(),
            scenario: "s".into(),
            seed: 1,
            digest: String::new(),
            metrics: BTreeMap::from([("final_loss".to_owned(), loss)]),
        }
    }

    #[test]
    fn bounds_are_absolute_or_relative_to_the_first() {
        let holds = |text: &str, upper, first, value| {
            Threshold::parse(text, upper).unwrap().holds(first, value)
        };
        assert!(holds("final_loss=+1%", true, 2.0, 2.02));
        assert!(!holds("final_loss=+1%", true, 2.0, 2.021));
        assert!(holds("final_loss=+0.5", true, 2.0, 2.5));
        assert!(!holds("final_loss=1.9", true, 2.0, 2.0));
        assert!(holds("included_share=-5%", false, 0.8, 0.76));
        assert!(!holds("included_share=-5%", false, 0.8, 0.75));
        // A share of a negative baseline still goes the way of its sign.
        assert!(!holds("final_loss=+1%", true, -2.0, -1.9));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_advice() {
        for (text, advice) in [
            ("final_los=+1%", "did you mean `final_loss`"),
            ("final_loss", "METRIC=BOUND"),
            ("final_loss=much", "no bound"),
            ("final_loss=1%", "write +1%"),
        ] {
            let error = Threshold::parse(text, true).unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn a_missing_metric_is_a_breach_and_not_a_pass() {
        let threshold = [Threshold::parse("crashes=+1", true).unwrap()];
        let found = breaches(&[measured("a", 1.0), measured("b", 1.0)], &threshold);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("missing"), "{}", found[0].what);
    }

    #[test]
    fn every_result_but_the_first_is_judged() {
        let threshold = [Threshold::parse("final_loss=+10%", true).unwrap()];
        let results = [measured("a", 1.0), measured("b", 1.05), measured("c", 1.2)];
        let found = breaches(&results, &threshold);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].what.starts_with("c: final_loss is 1.2"),
            "{}",
            found[0].what
        );
    }
}
