//! Adapter training here and in PyTorch + PEFT, side by side in one run.
//!
//! ```text
//! cargo bench -p tributary-trainer --bench training -- [--write docs/numbers/training.md] [--pairs N]
//! ```
//! A random model of SmolLM2-135M's shape is written to a temporary folder. For each shape of a batch,
//! two children load it: this program again (`child`), and `peft_child.py` under `TRIBUTARY_PYTHON` (or
//! `python3`). They take turns, A B A B, a step at a time, on the same windows from the same adapter, so
//! that their losses must agree. Without PyTorch only this project is timed, and the page says so.
//! `report` makes the page; nothing here is installed.

mod child;
mod process;
mod report;
mod work;

use std::path::{Path, PathBuf};

use process::Child;
use report::{Product, Report, Side, Timed};

/// Windows and tokens of each.
const SHAPES: [(usize, usize); 2] = [(1, 256), (4, 128)];
/// Steps of each side before the clock counts.
const WARM_UP: usize = 2;
/// Pairs of steps unless asked otherwise.
const PAIRS: usize = 9;
/// Threads of each side.
const THREADS: usize = 2;

/// What went wrong, in words.
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "--child") {
        return child::run(&arguments[1..]);
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let pairs = value("--pairs").map_or(Ok(PAIRS), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    work::prepare(folder.path())?;
    let mut report = Report::new(THREADS);
    for (windows, context) in SHAPES {
        eprintln!("{windows} x {context}");
        let timed = shape(folder.path(), windows, context, pairs, &mut report)?;
        report.shapes.push(timed);
    }
    println!("{}", report.markdown());
    match value("--write") {
        Some(page) => report.write(&from_the_top(Path::new(&page))),
        None => Ok(()),
    }
}

/// Cargo starts benchmarks in the crate's folder; people name files from the workspace's.
fn from_the_top(page: &Path) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    top.join(page)
}

fn shape(
    folder: &Path,
    windows: usize,
    context: usize,
    pairs: usize,
    report: &mut Report,
) -> Result<Timed, Failure> {
    let mut ours = Child::ours(folder, THREADS, windows, context)?;
    let mut theirs = match Child::peft(folder, THREADS, windows, context) {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("PyTorch + PEFT is not timed: {error}");
            None
        }
    };
    let mut timed = Timed::new(windows, context);
    for pair in 0..WARM_UP + pairs {
        let (ms, loss) = ours.step()?;
        let other = theirs.as_mut().map(Child::step).transpose()?;
        eprintln!("  {ms:.0} ms, loss {loss:.6}; PyTorch {other:?}");
        if let Some((_, other)) = other
            && (other - loss).abs() > 1e-3
        {
            return Err(format!("losses differ: {loss} here, {other} in PyTorch").into());
        }
        if pair >= WARM_UP {
            timed.ours.push(ms);
            timed.theirs.extend(other.map(|(ms, _)| ms));
        }
    }
    timed.attribution = ours.numbers("attribution")?;
    timed.peak = Side {
        ours: ours.number("memory")?,
        theirs: theirs.as_mut().map(|t| t.number("memory")).transpose()?,
    };
    if let Some(theirs) = &mut theirs {
        report.versions = Some(theirs.ask("versions")?);
    }
    let rows = windows * context;
    for (inner, outputs) in [(576, 576), (576, 1536), (1536, 576), (576, 49_152)] {
        let command = format!("gemm {rows} {inner} {outputs}");
        let kernels = ours.numbers(&command)?;
        let torch = theirs.as_mut().map(|t| t.number(&command)).transpose()?;
        report.products.push(Product {
            rows,
            inner,
            outputs,
            kernels,
            torch,
        });
    }
    Ok(timed)
}
