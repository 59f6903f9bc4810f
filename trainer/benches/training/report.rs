//! The page of figures.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::{Failure, work};

const BEGIN: &str = "<!-- speed: begin -->";
const END: &str = "<!-- speed: end -->";

/// A figure of each side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) ours: f64,
    pub(crate) theirs: Option<f64>,
}

/// What was timed of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) windows: usize,
    pub(crate) context: usize,
    /// Milliseconds of each step; the other side's step of the same pair has the same index.
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
    /// Peak resident memory in bytes.
    pub(crate) peak: Side,
    /// Milliseconds of a step, an evaluation, a gradient and a dot product.
    pub(crate) attribution: Vec<f64>,
}

impl Timed {
    pub(crate) fn new(windows: usize, context: usize) -> Self {
        Self {
            windows,
            context,
            ours: Vec::new(),
            theirs: Vec::new(),
            peak: Side::default(),
            attribution: Vec::new(),
        }
    }

    fn tokens_per_s(&self, ms: f64) -> f64 {
        (self.windows * self.context) as f64 / ms * 1e3
    }

    /// Achieved operations per second in units of 10^9.
    fn gflops(&self) -> f64 {
        work::operations(self.windows, self.context) / median(&self.ours) / 1e6
    }
}

/// A matrix product, `[rows, inner] x [outputs, inner]^T`.
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) inner: usize,
    pub(crate) outputs: usize,
    /// GFLOP/s of the two kernels here.
    pub(crate) kernels: Vec<f64>,
    /// And of PyTorch.
    pub(crate) torch: Option<f64>,
}

/// Everything that was measured.
pub(crate) struct Report {
    threads: usize,
    pub(crate) versions: Option<String>,
    pub(crate) shapes: Vec<Timed>,
    pub(crate) products: Vec<Product>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `12,345` for 12345.4.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Report {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            versions: None,
            shapes: Vec::new(),
            products: Vec::new(),
        }
    }

    /// Fastest product that anything reached with this many rows, in GFLOP/s.
    fn ceiling(&self, rows: usize) -> f64 {
        let products = self.products.iter().filter(|p| p.rows == rows);
        let speeds = products.flat_map(|p| p.kernels.iter().chain(&p.torch));
        speeds.copied().fold(0.0, f64::max)
    }

    /// The page's part between the marks.
    pub(crate) fn markdown(&self) -> String {
        let mut out = self.conditions();
        out.push_str(&self.steps());
        out.push_str(&self.gemms());
        out.push_str(&self.attribution());
        out
    }

    fn conditions(&self) -> String {
        let versions = match &self.versions {
            Some(versions) => format!("{versions}, against this project"),
            None => "This project alone: no PyTorch was found".into(),
        };
        format!(
            "{versions} at {} ({}). {}, {} threads each, {}. Load at the start {}.\n\n",
            output("git", &["rev-parse", "--short", "HEAD"]),
            output("rustc", &["--version"]),
            processor(),
            self.threads,
            output("date", &["+%d %B %Y"]),
            std::fs::read_to_string("/proc/loadavg").map_or_else(
                |_| "unknown".into(),
                |load| load.split(' ').next().unwrap_or("unknown").to_owned()
            ),
        )
    }

    fn steps(&self) -> String {
        let mut out = String::from(
            "| batch | tokens/s here | PyTorch + PEFT | ratio of medians | ratio by pairs | \
             share of the gemm ceiling | peak memory here | PyTorch + PEFT | ratio |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for timed in &self.shapes {
            let ours = median(&timed.ours);
            let ratios: Vec<f64> = (timed.ours.iter().zip(&timed.theirs))
                .map(|(ours, theirs)| theirs / ours)
                .collect();
            let (low, high) = (ratios.iter()).fold((f64::INFINITY, 0.0f64), |(low, high), r| {
                (low.min(*r), high.max(*r))
            });
            let ceiling = self.ceiling(timed.windows * timed.context);
            let side = |found: bool, text: String| if found { text } else { "not run".into() };
            let paired = !ratios.is_empty();
            let theirs = median(&timed.theirs);
            let peak = timed.peak.theirs.unwrap_or(f64::NAN);
            let _ = writeln!(
                out,
                "| {} x {} | {} | {} | {} | {} | {:.0} of {:.0} GFLOP/s, **{:.0} %** | {} MB | {} | {} |",
                timed.windows,
                timed.context,
                count(timed.tokens_per_s(ours)),
                side(paired, count(timed.tokens_per_s(theirs))),
                side(paired, format!("**{:.2}**", theirs / ours)),
                side(paired, format!("{low:.2} to {high:.2}")),
                timed.gflops(),
                ceiling,
                timed.gflops() / ceiling * 100.0,
                count(timed.peak.ours / 1e6),
                side(paired, format!("{} MB", count(peak / 1e6))),
                side(paired, format!("**{:.2}**", timed.peak.ours / peak)),
            );
        }
        let pairs = self.shapes.first().map_or(0, |timed| timed.ours.len());
        let _ = writeln!(
            out,
            "\nMedians of {pairs} steps of each side, taken in turns.\n"
        );
        out
    }

    fn gemms(&self) -> String {
        let mut out = String::from(
            "| f32 product, GFLOP/s | this project's kernel | burn (gemm) | PyTorch |\n|---|---|---|---|\n",
        );
        for Product {
            rows,
            inner,
            outputs,
            kernels,
            torch,
        } in &self.products
        {
            let torch = torch.map_or("not run".into(), |t| format!("{t:.0}"));
            let kernels: Vec<String> = kernels.iter().map(|k| format!("{k:.0}")).collect();
            let kernels = kernels.join(" | ");
            let _ = writeln!(
                out,
                "| [{rows}, {inner}] x [{outputs}, {inner}]^T | {kernels} | {torch} |"
            );
        }
        out.push('\n');
        out
    }

    fn attribution(&self) -> String {
        let mut out = String::from(
            "| batch | step | evaluation | its operations per second, of a step's | gradient | \
             gradient and 8 dot products, of a step |\n|---|---|---|---|---|---|\n",
        );
        for timed in &self.shapes {
            let [step, evaluation, gradient, dot] = timed.attribution[..] else {
                continue;
            };
            let (windows, context) = (timed.windows, timed.context);
            let share =
                work::forward_operations(windows, context) / work::operations(windows, context);
            let _ = writeln!(
                out,
                "| {windows} x {context} | {step:.0} ms | {evaluation:.0} ms | {:.2} | {gradient:.0} ms | {:.2} |",
                share * step / evaluation,
                (gradient + 8.0 * dot) / step,
            );
        }
        out
    }

    /// Replaces what stands between the page's marks.
    pub(crate) fn write(&self, page: &Path) -> Result<(), Failure> {
        let text = std::fs::read_to_string(page)?;
        let marks =
            (text.split_once(BEGIN)).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
        let (head, (_, tail)) = marks.ok_or_else(|| format!("{} has no marks", page.display()))?;
        let new = format!("{head}{BEGIN}\n{}{END}{tail}", self.markdown());
        Ok(std::fs::write(page, new)?)
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".into())
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let vectors: Vec<&str> = (flags.split(' '))
        .filter(|flag| ["avx2", "fma", "avx512f", "avx512_bf16"].contains(flag))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = field("model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    format!("{name}, {cores} cores, {}", vectors.join(" "))
}
