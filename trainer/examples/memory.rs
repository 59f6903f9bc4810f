//! Holds the memory estimate of a training against what it takes (Linux only).
//!
//! `cargo run --release -p tributary-trainer --example memory MODEL [windows] [context] [rank]`
//!
//! MODEL is `brook`, a model folder, or `smol`: random weights in the shape of SmolLM2-135M. Prints the
//! foreseen and the measured bytes beyond the loaded base, and their ratio.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::model::{files, parameters};
use tributary_trainer::session::memory::{self, MemoryEstimate};
use tributary_trainer::{BaseModel, Session, TrainConfig, Windows};

/// Shape of SmolLM2-135M.
const SMOL: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0, "tie_word_embeddings": true, "max_position_embeddings": 8192,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("name brook, smol or a model folder")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |s| s.parse());
    let (batch, context, rank) = (number(4)?, number(128)?, number(8)? as u32);
    let base = match name.as_str() {
        "smol" => {
            let folder =
                std::env::temp_dir().join(format!("tributary-smol-{}", std::process::id()));
            let base = make_smol(&folder);
            std::fs::remove_dir_all(&folder)?;
            base?
        }
        other => BaseModel::open(other)?,
    };
    let shape = Arc::new(base.adapter_shape(rank, 2 * rank));
    let estimate = MemoryEstimate::new(base.config(), &shape, batch, context);
    println!("foreseen: {estimate}");

    let vocab = base.config().vocab;
    let tokens = (0..4 * batch * context).map(|i| (i * i % (vocab - 7)) as u32);
    let windows = Windows::from_tokens(vec![tokens.collect()], context, vocab)?;
    // Forgets the peak of loading.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory::resident_bytes().ok_or("this system does not tell")?;
    let adapter = Adapter::init(shape, &Digest::default());
    let config = TrainConfig {
        steps: 4,
        batch,
        ..TrainConfig::default()
    };
    let mut session = Session::new(&base, &adapter, windows, config)?;
    while !session.is_done() {
        println!("{}", session.step()?);
    }
    let peak = memory::peak_bytes().ok_or("this system does not tell")?;
    let taken = peak.saturating_sub(before);
    let foreseen = estimate.additional();
    println!(
        "{name} {batch} x {context}, rank {rank}: foreseen {} MiB, taken {} MiB, ratio {:.2} \
         (base {} MiB, peak {} MiB)",
        foreseen >> 20,
        taken >> 20,
        foreseen as f64 / taken as f64,
        before >> 20,
        peak >> 20
    );
    Ok(())
}

/// Random weights and brook's tokenizer, whose tokens are fewer than the rows.
fn make_smol(folder: &Path) -> Result<BaseModel, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let config = tributary_trainer::config::Config::from_json(SMOL.as_bytes())?;
    let weights = parameters::initialise(&config, 1);
    files::write(
        &folder.join("model.safetensors"),
        &weights,
        files::Precision::Bf16,
    )?;
    drop(weights);
    std::fs::write(folder.join("config.json"), SMOL)?;
    let tokenizer: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/assets/brook/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json"))?;
    Ok(BaseModel::from_dir(folder)?)
}
