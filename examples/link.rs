//! A link model of one's own: two continents, with a slow sea between even and odd peers.
//!
//! A scenario names it, `[link] model = "continents"`; this program is `tributary-sim` with that name added:
//!
//!     cargo run -p tributary-simulations --example link -- run smoke --set link.model=continents --set link.options.across_ms=400

use std::process::ExitCode;

use rand_chacha::ChaCha8Rng;
use tributary_simulations::clock::{Micros, ms};
use tributary_simulations::link::{Arrivals, LinkModel, LinkPlan, Way};
use tributary_simulations::{Catalogue, cli};

/// Latencies on one continent and across the sea; a blob takes as long as a question and its answer.
struct Continents([Micros; 2]);

impl LinkModel for Continents {
    fn message(&self, way: Way, at: Micros, _rng: &mut ChaCha8Rng) -> Arrivals {
        [Some(at + self.0[(way.from + way.to) % 2]), None, None]
    }

    fn transfer(&self, way: Way, _size: u64, at: Micros, rng: &mut ChaCha8Rng) -> Option<Micros> {
        let [asked, ..] = self.message(way, at, rng);
        asked.map(|asked| 2 * asked - at)
    }

    fn give_up(&self) -> Micros {
        4 * self.0[1] + ms(500)
    }
}

fn make(plan: &LinkPlan) -> Result<Box<dyn LinkModel>, String> {
    let Some(toml::Value::Integer(across)) = plan.options.get("across_ms") else {
        return Err("`link.options.across_ms` is missing".into());
    };
    let far = plan.latency_ms + across.unsigned_abs();
    Ok(Box::new(Continents([plan.latency_ms, far].map(ms))))
}

fn catalogue() -> Catalogue {
    Catalogue::default().link("continents", "a slow sea between even and odd peers", make)
}

fn main() -> ExitCode {
    cli::main_with(catalogue())
}

#[test]
fn a_wide_sea_slows_the_run_and_stops_no_round() {
    use tributary_simulations::{World, scenario};
    let run = |across: &str| {
        let set = ["link.model=continents", across].map(str::to_owned);
        let scenario = scenario::load_with(&catalogue().into(), "smoke", &set).expect("accepted");
        let outcome = World::new(&scenario, 1, None).run();
        outcome.violations.is_empty().then_some(outcome.virtual_us)
    };
    let narrow = run("link.options.across_ms=0").expect("kept promises");
    let wide = run("link.options.across_ms=400").expect("kept promises");
    assert!(wide > narrow + 2_000_000, "{narrow} and {wide}");
}
