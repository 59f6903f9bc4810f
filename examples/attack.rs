//! An attack of one's own: a liar that trains as everybody does and publishes the opposite.
//!
//! A scenario names it: `[[liars]] behaviour = "opposite"`. This program is `tributary-sim` with that name added:
//!
//!     cargo run -p tributary-simulations --example attack -- run smoke --set 'liars=[{ behaviour = "opposite", count = 3 }]'

use std::process::ExitCode;

use tributary_protocol::event::Input;
use tributary_simulations::behave::{Attack, Behaviour, LiarContext};
use tributary_simulations::{Catalogue, cli};

struct Opposite;

impl Behaviour for Opposite {
    fn input(&mut self, _cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Trained(trained) = &mut input {
            trained.delta.iter_mut().for_each(|number| *number *= -1.0);
        }
        Some(input)
    }
}

fn catalogue() -> Catalogue {
    let attack = Attack::new(|_| Box::new(Opposite));
    let about = "publishes the opposite of what its training gave";
    Catalogue::default().attack("opposite", about, attack)
}

fn main() -> ExitCode {
    cli::main_with(catalogue())
}

#[test]
fn liars_that_publish_the_opposite_break_no_promise_and_leave_a_worse_adapter() {
    use tributary_simulations::{World, scenario};
    let (name, smoke) = scenario::text("smoke").expect("built in");
    let run = |liars: &str| {
        let scenario = scenario::parse_from(&catalogue().into(), &name, &(smoke.clone() + liars));
        let outcome = World::new(&scenario.expect("accepted"), 1, None).run();
        assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
        outcome.loss.expect("certified adapters").1
    };
    let honest = run("");
    let attacked = run("\n[[liars]]\nbehaviour = \"opposite\"\ncount = 3\n");
    assert!(attacked > 1.02 * honest, "{attacked} beside {honest}");
}
