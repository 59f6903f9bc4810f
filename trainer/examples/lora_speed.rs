//! Prints the speed of adapter training, evaluation, gradients and generation with a model folder, or
//! with the embedded model for the word `brook`, on the device that `TRIBUTARY_DEVICE` names.
//!
//! `cargo run --release -p tributary-trainer --example lora_speed MODEL [steps] [windows] [context] [rank]`

use std::sync::Arc;
use std::time::Instant;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::{
    BaseModel, GenerateConfig, Session, TrainConfig, Windows, evaluate, generate, loss_and_gradient,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = (arguments.next()).ok_or("name a model folder, or brook for the embedded model")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |s| s.parse());
    let (steps, batch, context, rank) = (number(8)?, number(4)?, number(128)?, number(8)?);

    let start = Instant::now();
    let base = BaseModel::open(&model)?;
    println!("loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    println!("{}", base.device().reason);
    if let Some(warning) = &base.device().warning {
        println!("warning {}: {warning}", warning.code());
    }
    let shape = Arc::new(base.adapter_shape(rank as u32, 2 * rank as u32));
    let adapter = Adapter::init(shape, &Digest::default());
    println!("{} adapter parameters", adapter.values().len());

    let vocab = base.config().vocab;
    let tokens = (0..32 * context).map(|i| (i * i % (vocab - 7)) as u32);
    let windows = Windows::from_tokens(vec![tokens.collect()], context, vocab)?;
    let config = TrainConfig {
        steps: steps as u32,
        batch,
        ..TrainConfig::default()
    };
    let mut session = Session::new(&base, &adapter, windows.clone(), config)?;
    while !session.is_done() {
        let step = session.step()?;
        let rate = step.predicted as f64 / step.elapsed_ms * 1e3;
        println!(
            "step {:>3}  {:>6.0} ms  {rate:>7.0} tokens/s",
            step.step, step.elapsed_ms
        );
    }
    let rate = |start: Instant, tokens: u64| tokens as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let loss = evaluate(&base, Some(&adapter), &windows)?;
    println!("evaluate   {:>7.0} tokens/s", rate(start, loss.predicted));
    let start = Instant::now();
    let gradient = loss_and_gradient(&base, &adapter, &windows)?;
    println!(
        "gradient   {:>7.0} tokens/s",
        rate(start, gradient.predicted)
    );
    let start = Instant::now();
    let config = GenerateConfig {
        max_tokens: 64,
        ..GenerateConfig::default()
    };
    let answer = generate(&base, Some(&adapter), "The house", &config)?;
    println!(
        "generate   {:>7.0} tokens/s",
        rate(start, answer.token_ids.len() as u64)
    );
    println!("The house{}", answer.text);
    Ok(())
}
