//! Which server is asked first: pure.

use super::super::book::Prices;

/// Wait after a server's first failure, doubled for each further one.
const FIRST_PAUSE_MS: u64 = 1000;
/// Longest such wait.
const MOST_PAUSE_MS: u64 = 60_000;

/// What is known of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Models that it lists; None while it never answered.
    pub(super) models: Option<Vec<String>>,
    /// What it charges; None while it was never asked.
    pub(super) prices: Option<Prices>,
    /// Failures in a row.
    failures: u32,
    /// Until then it is asked after all others.
    pause_until_ms: u64,
}

impl Seen {
    pub(super) fn failed(&mut self, now_ms: u64) {
        let pause = FIRST_PAUSE_MS << self.failures.min(10);
        self.failures += 1;
        self.pause_until_ms = now_ms + pause.min(MOST_PAUSE_MS);
    }

    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.pause_until_ms = 0;
    }

    fn has(&self, model: &str) -> bool {
        let mut models = self.models.iter().flatten();
        models.any(|known| known == model)
    }
}

/// Servers that have `model`, the best first: those that did not fail lately, then the cheapest. A server whose price
/// nobody asked for yet counts as free, so that it is asked once.
pub(super) fn order(servers: &[Seen], model: &str, now_ms: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.len())
        .filter(|at| servers[*at].has(model))
        .collect();
    let key = |at: &usize| {
        let seen = &servers[*at];
        // As many tokens of prompts as of answers, for want of better.
        let price = seen.prices.map_or(0, |prices| prices.cost(1000, 1000).0);
        (seen.pause_until_ms > now_ms, price, seen.failures)
    };
    order.sort_by_key(key);
    order
}

#[cfg(test)]
mod tests {
    use tributary_protocol::id::MicroOpen;

    use super::*;

    fn seen(price: u128) -> Seen {
        Seen {
            models: Some(vec!["brook".into()]),
            prices: Some(Prices {
                prompt: MicroOpen(price),
                answer: MicroOpen(price),
            }),
            ..Seen::default()
        }
    }

    #[test]
    fn the_cheapest_server_that_has_the_model_is_asked_first_unless_it_failed_lately() {
        let mut servers = [seen(3), seen(1), seen(2), Seen::default()];
        assert_eq!(order(&servers, "brook", 0), [1, 2, 0]);
        assert!(order(&servers, "other", 0).is_empty());
        servers[1].failed(0);
        assert_eq!(order(&servers, "brook", FIRST_PAUSE_MS - 1), [2, 0, 1]);
        assert_eq!(order(&servers, "brook", FIRST_PAUSE_MS), [1, 2, 0]);
        for _ in 0..40 {
            servers[1].failed(0);
        }
        assert_eq!(order(&servers, "brook", MOST_PAUSE_MS - 1), [2, 0, 1]);
        servers[1].answered();
        assert_eq!(order(&servers, "brook", 0), [1, 2, 0]);
    }
}
