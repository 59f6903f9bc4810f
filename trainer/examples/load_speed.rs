//! Prints how long a Hugging Face folder takes to load and the most memory the process held.
//!
//! `cargo run --release -p tributary-trainer --example load_speed FOLDER`

use std::time::Instant;

use tributary_trainer::BaseModel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: load_speed FOLDER")?;
    let start = Instant::now();
    let base = BaseModel::open(&folder)?;
    let seconds = start.elapsed().as_secs_f64();
    let numbers = base.config().parameters();
    println!(
        "{folder}: {numbers} numbers in {seconds:.2} s, {:.0} MB in f32, hash {}",
        numbers as f64 * 4e-6,
        base.hash()
    );
    // Linux tells the high-water mark; elsewhere there is nothing to print.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!(
            "most memory held: {}",
            line.trim_start_matches("VmHWM:").trim()
        );
    }
    Ok(())
}
