//! This project's side: loads the model once and answers a command per line.
//!
//! Commands are those of `peft_child.py`; `gemm` answers with the speed of both kernels there are here,
//! and `attribution` with milliseconds of a step, of an evaluation, of a gradient and of a dot product.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use tributary_trainer::gradient::dot;
use tributary_trainer::{BaseModel, Session, TrainConfig, Windows, evaluate, loss_and_gradient};

use crate::{Failure, work};

/// Runs of each timing, of which the median or the best counts.
const RUNS: usize = 7;

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let [model, _, windows, context] = arguments else {
        return Err("a child takes MODEL ADAPTER WINDOWS CONTEXT".into());
    };
    let (batch, context): (usize, usize) = (windows.parse()?, context.parse()?);
    let base = BaseModel::from_dir(Path::new(model))?;
    // The folder is for the other side; a fresh adapter, which changes nothing, is refused on import.
    let adapter = work::fresh_adapter(&base);
    let windows = work::windows(base.config().vocab, batch, context)?;
    let config = TrainConfig {
        steps: u32::MAX,
        batch,
        learning_rate: 1e-4,
        ..TrainConfig::default()
    };
    let mut session = Session::new(&base, &adapter, windows.clone(), config)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["step"] => {
                let start = Instant::now();
                let step = session.step()?;
                println!("{} {}", ms(start), step.loss);
            }
            ["attribution"] => println!("{}", attribution(&base, &mut session, &windows)?),
            ["gemm", rows, inner, outputs] => {
                let [rows, inner, outputs] = [rows.parse()?, inner.parse()?, outputs.parse()?];
                let lanes = tributary_trainer::ceiling::product_gflops(rows, inner, outputs, RUNS);
                println!("{lanes} {}", burn_gflops(rows, inner, outputs));
            }
            ["memory"] => println!("{}", peak_bytes()?),
            other => return Err(format!("unknown command {other:?}").into()),
        }
    }
    Ok(())
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The median time of some work, in milliseconds.
fn median(mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        work()?;
        times.push(ms(start));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn attribution(
    base: &BaseModel,
    session: &mut Session,
    windows: &Windows,
) -> Result<String, Failure> {
    let step = median(|| {
        session.step()?;
        Ok(())
    })?;
    let adapter = session.adapter().clone();
    let evaluation = median(|| {
        evaluate(base, Some(&adapter), windows)?;
        Ok(())
    })?;
    let mut found = loss_and_gradient(base, &adapter, windows)?;
    let gradient = median(|| {
        found = loss_and_gradient(base, &adapter, windows)?;
        Ok(())
    })?;
    let product = median(|| {
        std::hint::black_box(dot(&found.gradient, adapter.values()));
        Ok(())
    })?;
    Ok(format!("{step} {evaluation} {gradient} {product}"))
}

/// Best speed of burn's f32 matrix product on the CPU, `[rows, inner] x [outputs, inner]^T`.
fn burn_gflops(rows: usize, inner: usize, outputs: usize) -> f64 {
    let device = Device::flex();
    let random = |shape| Tensor::<2>::random(shape, Distribution::Default, &device);
    let (a, b) = (random([rows, inner]), random([outputs, inner]));
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        std::hint::black_box(a.clone().matmul(b.clone().transpose()));
        best = best.min(start.elapsed().as_secs_f64());
    }
    2e-9 * (rows * inner * outputs) as f64 / best
}

fn peak_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no VmHWM in /proc/self/status")?.parse::<u64>()? * 1024)
}
