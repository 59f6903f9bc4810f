//! Follows the protocol and sends false numbers: what its training gave is changed before its node encodes it.
//!
//! These are the attacks of [`update`](super::update) that a member can play alone, without seeing what the others send.
//! They work on any learner, formulas and real models alike.

use std::collections::BTreeMap;

use tributary_protocol::event::Input;

use super::update::{scale, sign_flip};
use super::{Behaviour, LiarContext};

/// What becomes of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poison {
    /// Their opposite.
    SignFlip,
    /// A hundred times themselves.
    Scale,
    /// Zeros.
    FreeRider,
    /// Those of its first training that moved the same factors.
    Stale,
}

/// A member that sends other numbers than its training gave.
pub(super) struct PoisonUpdate {
    poison: Poison,
    /// The first training of each set of factors, by whether a number moved.
    first: BTreeMap<Vec<bool>, Vec<f32>>,
}

impl PoisonUpdate {
    pub(super) fn new(poison: Poison) -> Self {
        Self {
            poison,
            first: BTreeMap::new(),
        }
    }

    fn poisoned(&mut self, own: Vec<f32>) -> Vec<f32> {
        match self.poison {
            Poison::SignFlip => sign_flip::update(&own),
            Poison::Scale => scale::update(&own),
            Poison::FreeRider => vec![0.0; own.len()],
            Poison::Stale => {
                let moved = halves(&own);
                self.first.entry(moved).or_insert(own).clone()
            }
        }
    }
}

/// Which of sixty-four parts of an update moved: enough to tell its factors apart.
fn halves(own: &[f32]) -> Vec<bool> {
    let parts = own.chunks(own.len().div_ceil(64).max(1));
    parts
        .map(|part| part.iter().any(|number| *number != 0.0))
        .collect()
}

impl Behaviour for PoisonUpdate {
    fn input(&mut self, _cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Trained(trained) = &mut input {
            let own = std::mem::take(&mut trained.delta);
            trained.delta = self.poisoned(own);
        }
        Some(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{load, parse};
    use crate::world::World;

    #[test]
    fn each_poison_changes_numbers_as_its_name_says() {
        let own = vec![1.0, -2.0, 0.0];
        let sent = |poison| PoisonUpdate::new(poison).poisoned(own.clone());
        assert_eq!(sent(Poison::SignFlip), [-1.0, 2.0, 0.0]);
        assert_eq!(sent(Poison::Scale), [100.0, -200.0, 0.0]);
        assert_eq!(sent(Poison::FreeRider), [0.0; 3]);
        let mut stale = PoisonUpdate::new(Poison::Stale);
        assert_eq!(stale.poisoned(own.clone()), own);
        assert_eq!(stale.poisoned(vec![5.0, 6.0, 0.0]), own);
        assert_eq!(stale.poisoned(vec![0.0, 0.0, 7.0]), [0.0, 0.0, 7.0]);
    }

    #[test]
    fn scaled_updates_ruin_a_mean_and_are_clipped_by_a_robust_rule() {
        let quiet = load("smoke").unwrap();
        let loss = |aggregation: &str, liars: usize| {
            let mut scenario = quiet.clone();
            (scenario.link.loss, scenario.churn.per_round) = (0.0, 0.0);
            scenario.partitions.clear();
            let mut text = toml::to_string(&scenario).unwrap();
            text = text.replace(
                "aggregation = \"clipped-mean\"",
                &format!("aggregation = {aggregation}"),
            );
            text += &format!("\n[[liars]]\nbehaviour = \"scale\"\ncount = {liars}\n");
            let outcome = World::new(&parse("poisoned", &text).unwrap(), 1, None).run();
            assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
            outcome.loss.expect("certified adapters").1
        };
        let (honest, mean) = (loss("\"mean\"", 0), loss("\"mean\"", 4));
        let clipped = loss("\"clipped-mean\"", 4);
        assert!(mean > 100.0 * honest, "{mean} beside {honest}");
        assert!(clipped < 2.0 * honest, "{clipped} beside {honest}");
    }
}
