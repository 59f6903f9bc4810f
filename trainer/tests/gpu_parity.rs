//! The model on a GPU back end against the model on the CPU: losses, gradients, training steps, tokens.
//!
//! Built with the feature `wgpu`, `vulkan` or `cuda` only, and run on the device that
//! `TRIBUTARY_DEVICE` names: `wgpu`, `vulkan` or `cuda` where there is a GPU, `wgpu-software` where there
//! is none (`.ci/wgpu`). `-- --nocapture` prints the differences that docs/numbers/devices.md records.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tributary_protocol::adapter::Adapter;
use tributary_trainer::device::{DEVICE_VARIABLE, Kind, Request};
use tributary_trainer::generate::generate_ids;
use tributary_trainer::{
    BaseModel, GenerateConfig, Session, TrainConfig, Windows, brook, evaluate, import_peft,
    loss_and_gradient,
};

/// Largest difference of a mean loss, as a share of it; llvmpipe differs by less than 4e-7.
const LOSS: f64 = 2e-6;
/// Largest difference of a gradient, as a share of its tensor's largest element; llvmpipe: 1.1e-5.
const GRADIENT: f32 = 1e-4;
/// Largest distance of what three training steps changed, as a share of its length; llvmpipe: 1.3e-4.
/// AdamW's first steps divide each gradient by its own size, so small differences grow.
const STEPS: f64 = 1.5e-3;

fn request() -> Request {
    let request = Request::from_env().expect("a device");
    assert!(
        !matches!(request, Request::Auto | Request::Cpu),
        "set {DEVICE_VARIABLE} to wgpu, vulkan or cuda, or to wgpu-software without a GPU"
    );
    request
}

/// The same model twice: on the GPU and on the CPU.
fn pair(open: impl Fn(Request) -> BaseModel) -> [BaseModel; 2] {
    let pair = [open(request()), open(Request::Cpu)];
    assert_ne!(pair[0].device().kind, Kind::Cpu);
    assert_eq!(pair[1].device().kind, Kind::Cpu);
    pair
}

/// Tiny models of several families with their PEFT adapters, as transformers wrote them.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let mut cases = entries(&folder);
    cases.retain(|p| p.join("golden.json").exists());
    assert!(cases.len() >= 2);
    cases
}

/// What a folder holds, in order of names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Both factors far from zero, so that every gradient is.
fn adapter(base: &BaseModel) -> Adapter {
    let shape = Arc::new(base.adapter_shape(8, 16));
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.1 - 0.05
    };
    let values = (0..shape.parameters()).map(|_| draw()).collect();
    Adapter::new(shape, values).expect("finite")
}

fn tokens(base: &BaseModel, count: usize) -> Vec<u32> {
    let vocab = base.config().vocab as u32;
    (0..count as u32)
        .map(|i| (i * i * 7 + i * 13 + 5) % vocab)
        .collect()
}

/// Losses of the base and of the adapter, and gradients of both factors.
fn compare(name: &str, [gpu, cpu]: &[BaseModel; 2], adapter: &Adapter, windows: &Windows) {
    let mut worst = 0.0f64;
    for adapter in [None, Some(adapter)] {
        let [here, there] = [gpu, cpu].map(|base| evaluate(base, adapter, windows).expect("loss"));
        assert_eq!(here.predicted, there.predicted);
        worst = worst.max((here.nll - there.nll).abs() / there.nll);
    }
    let [here, there] =
        [gpu, cpu].map(|b| loss_and_gradient(b, adapter, windows).expect("gradient"));
    worst = worst.max((here.loss - there.loss).abs() / there.loss);
    let mut gradient = 0.0f32;
    for segment in adapter.shape().segments() {
        let (here, there) = (
            &here.gradient[segment.range()],
            &there.gradient[segment.range()],
        );
        let largest = there.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        assert!(largest > 0.0, "{name}: {segment:?} has no gradient");
        let apart = here.iter().zip(there).map(|(a, b)| (a - b).abs());
        gradient = gradient.max(apart.fold(0.0, f32::max) / largest);
    }
    println!(
        "| {name} | {:.4} | {worst:.1e} | {gradient:.1e} |",
        there.loss
    );
    assert!(worst <= LOSS, "{name}: losses differ by {worst:.1e}");
    assert!(
        gradient <= GRADIENT,
        "{name}: gradients differ by {gradient:.1e}"
    );
}

#[test]
fn losses_and_gradients_of_every_family_are_those_of_the_cpu() {
    for folder in cases() {
        let bases = pair(|request| BaseModel::from_dir_on(&folder, request).expect("loads"));
        let vocab = bases[1].config().vocab;
        let windows = Windows::from_tokens(vec![tokens(&bases[1], 72)], 24, vocab);
        let windows = windows.expect("windows");
        let family = folder.file_name().expect("a name").to_string_lossy();
        for path in entries(&folder.join("adapters")) {
            let adapter = import_peft(&path, &bases[1]).expect("the adapter loads");
            let name = path.file_name().expect("a name").to_string_lossy();
            compare(&format!("{family}, {name}"), &bases, &adapter, &windows);
        }
    }
}

#[test]
fn losses_and_gradients_of_the_embedded_model_are_those_of_the_cpu() {
    let bases = pair(|request| BaseModel::open_on("brook", request).expect("loads"));
    let text: String = brook::HELD_OUT_SAMPLE.chars().take(1500).collect();
    let windows = Windows::from_text(&bases[1], &text, 128).expect("windows");
    compare("brook", &bases, &adapter(&bases[1]), &windows);
}

/// Loss of each step, what three steps changed, and tokens per second of the last two.
fn three_steps(base: &BaseModel, adapter: &Adapter) -> (Vec<f64>, Vec<f32>, f64) {
    let windows = Windows::from_text(base, brook::HELD_OUT_SAMPLE, 64).expect("windows");
    let config = TrainConfig {
        steps: 3,
        batch: 2,
        ..TrainConfig::default()
    };
    let mut session = Session::new(base, adapter, windows, config).expect("starts");
    let mut losses = Vec::new();
    let (mut predicted, mut ms) = (0, 0.0);
    while !session.is_done() {
        let report = session.step().expect("steps");
        losses.push(report.loss);
        // The first step also compiles the kernels.
        if report.step > 1 {
            predicted += report.predicted;
            ms += report.elapsed_ms;
        }
    }
    (losses, session.finish(), predicted as f64 / ms * 1e3)
}

#[test]
fn three_training_steps_go_where_those_of_the_cpu_go() {
    let bases = pair(|request| BaseModel::open_on("brook", request).expect("loads"));
    let adapter = adapter(&bases[1]);
    let [here, there] = bases.each_ref().map(|base| three_steps(base, &adapter));
    for (base, (losses, _, rate)) in bases.iter().zip([&here, &there]) {
        let device = &base.device().reason;
        println!("{device}: {rate:.0} tokens/s trained, losses {losses:.6?}");
    }
    for (a, b) in here.0.iter().zip(&there.0) {
        assert!((a - b).abs() <= LOSS * b, "{a} {b}");
    }
    let length = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    };
    let apart = length(&mut here.1.iter().zip(&there.1).map(|(a, b)| a - b));
    let share = apart / length(&mut there.1.iter().copied());
    println!("three steps end {share:.1e} of their length apart");
    assert!(share <= STEPS, "{share}");
    // A seed means the same bytes on the same device.
    assert_eq!(three_steps(&bases[0], &adapter).1, here.1);
}

#[test]
fn greedy_tokens_are_those_of_the_cpu() {
    let bases = pair(|request| BaseModel::open_on("brook", request).expect("loads"));
    let adapter = adapter(&bases[1]);
    let prompt = bases[1].encode("The river ran").expect("encodes");
    let config = GenerateConfig {
        max_tokens: 16,
        exact: true,
        ..GenerateConfig::default()
    };
    for adapter in [None, Some(&adapter)] {
        let [here, there] = bases.each_ref().map(|base| {
            let start = Instant::now();
            let answer = generate_ids(base, adapter, &prompt, &config).expect("generates");
            let rate = answer.token_ids.len() as f64 / start.elapsed().as_secs_f64();
            println!("{}: {rate:.0} tokens/s generated", base.device().reason);
            answer.token_ids
        });
        assert_eq!(here, there);
    }
}
