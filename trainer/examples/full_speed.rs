//! Prints the speed of full-parameter training at the embedded model's shape.
//!
//! `cargo run --release -p tributary-trainer --example full_speed [steps]`

use tributary_trainer::config::{Biases, Config, Family, RopeScaling};
use tributary_trainer::full::{FullConfig, FullTrainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(10), |s| s.parse())?;
    let (windows, context) = (16, 256);
    let model = Config {
        family: Family::Llama,
        vocab: 4096,
        hidden: 256,
        ffn: 688,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        biases: Biases::default(),
        head_norms: false,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: true,
        max_context: 512,
        bos: None,
        eos: vec![0],
    };
    println!("{} parameters", model.parameters());
    let mut trainer = FullTrainer::new(model, FullConfig::default(), 1)?;
    let tokens: Vec<u32> = (0..windows * context)
        .map(|i| (i * i % 4093) as u32)
        .collect();
    for _ in 0..steps {
        let step = trainer.step(&tokens, windows, context, 1e-3)?;
        let rate = step.predicted as f64 / step.elapsed_ms * 1e3;
        println!(
            "step {} loss {:.4} {:.0} ms {rate:.0} tokens/s",
            step.step, step.loss, step.elapsed_ms
        );
    }
    Ok(())
}
