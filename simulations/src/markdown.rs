//! Figures for people: means with intervals, tables, and their place in a page.

use std::fmt::Write as _;
use std::path::Path;

use tributary_attribution::interval::{self, Interval};

use crate::files;

/// Mean and 95 % interval over seeds; `None` where a seed has no figure or there are fewer than two.
pub fn over_seeds(figures: &[Option<f64>]) -> Option<Interval> {
    let values: Option<Vec<f64>> = figures.iter().copied().collect();
    let values = values.filter(|values| values.len() >= interval::MIN_BATCHES)?;
    Some(interval::of(
        &values,
        &vec![1.0 / values.len() as f64; values.len()],
    ))
}

/// `4.321 ± 0.012`, or what stands for no figure.
pub fn with_half(interval: Option<Interval>, digits: usize, otherwise: &str) -> String {
    match interval {
        Some(Interval { mean, half }) => {
            // What rounds to zero has no sign.
            let mean = format!("{mean:.digits$}");
            let is_zero = mean.trim_start_matches(['-', '0', '.']).is_empty();
            let mean = mean.strip_prefix('-').filter(|_| is_zero).unwrap_or(&mean);
            format!("{mean} ± {half:.digits$}")
        }
        None => otherwise.to_owned(),
    }
}

/// A table in Markdown.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "| {} |\n|{}\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

/// Puts `figures` between the marks called `mark` in `text`; a text without them gets them at its end.
/// Everything outside the marks is written by hand and kept.
pub fn insert(text: &str, mark: &str, figures: &str) -> String {
    let begin = format!("<!-- {mark}: begin -->");
    let end = format!("<!-- {mark}: end -->");
    let block = format!("{begin}\n{figures}\n{end}");
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{block}{}", &text[..from], &text[to + end.len()..])
        }
        _ => format!("{}\n\n{block}\n", text.trim_end()),
    }
}

/// Whether figures can be put into this file, as far as can be told before there are any.
///
/// # Errors
/// When it is there and cannot be read.
pub fn check(path: &Path) -> Result<(), String> {
    files::read_page(path)
        .map(drop)
        .map_err(|why| refused(path, &why))
}

fn refused(path: &Path, why: &std::io::Error) -> String {
    let at = path.display();
    format!("cannot write {at}: {why}; give another place to --write")
}

/// [`insert`] into a file.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write(path: &Path, mark: &str, figures: &str) -> Result<(), String> {
    let text = files::read_page(path).map_err(|why| refused(path, &why))?;
    std::fs::write(path, insert(&text, mark, figures)).map_err(|why| refused(path, &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_needs_every_seed() {
        let found = over_seeds(&[Some(1.0), Some(2.0), Some(3.0)]).unwrap();
        assert!((found.mean - 2.0).abs() < 1e-12);
        // Student's t with two degrees of freedom, times 1 / sqrt(3).
        assert!((found.half - 4.303 / 3f64.sqrt()).abs() < 1e-3);
        assert!(over_seeds(&[Some(1.0), None]).is_none());
        assert!(over_seeds(&[Some(1.0)]).is_none());
        assert_eq!(with_half(None, 2, "none"), "none");
        assert_eq!(with_half(Some(found), 1, ""), "2.0 ± 2.5");
        let (mean, half) = (-0.04, 0.26);
        let nearly_none = Some(Interval { mean, half });
        assert_eq!(with_half(nearly_none, 1, ""), "0.0 ± 0.3");
        assert_eq!(with_half(nearly_none, 2, ""), "-0.04 ± 0.26");
    }

    #[test]
    fn figures_replace_figures_and_leave_prose_alone() {
        let once = insert("# Title\nprose\n", "learning", "| 1 |");
        let twice = insert(&format!("{once}more\n"), "learning", "| 2 |");
        assert!(twice.starts_with("# Title\nprose\n") && twice.ends_with("more\n"));
        assert!(twice.contains("| 2 |") && !twice.contains("| 1 |"));
    }
}
