//! What is compared.

use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::{FactorSchedule, UpdateCodec};

use super::{MEMBERS, RANK, ROUNDS, STEPS};
use tributary_simulations::federation::{Outer, Weight};

/// A way to learn from eight members' text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// For people, and in the names of cells.
    pub(super) name: &'static str,
    /// How it learns.
    pub(super) way: Way,
    /// The method whose rates were tried for this one: itself, or one that differs only in what moves the
    /// best rate little.
    pub(super) tuned_as: &'static str,
    /// Learning rates that are tried, where this method is tuned as itself.
    pub(super) rates: [f64; 3],
    /// Whether it is also measured on Dirichlet mixes.
    pub(super) on_every_mix: bool,
}

/// How a method trains.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Rounds of a federation.
    Federated(Federated),
    /// One machine with all the text.
    Centralised {
        /// Optimizer steps; the batch follows from equal tokens.
        steps: u32,
    },
    /// Every member for itself.
    Alone,
}

/// How a federation learns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Federated {
    pub(super) schedule: FactorSchedule,
    pub(super) codec: UpdateCodec,
    pub(super) rank: u32,
    /// Rounds that the same local steps are cut in.
    pub(super) rounds: u32,
    pub(super) outer: Outer,
    pub(super) weight: Weight,
    /// What each member's steps are divided by: how slow it is.
    pub(super) pace: [u32; MEMBERS],
    /// What each member's rank is divided by: how little it can hold.
    pub(super) ranks: [u32; MEMBERS],
}

/// The codec of the default: 64 of 4,096 numbers.
pub(super) const SPARSE: UpdateCodec = sparse(64);
/// The densest sparse codec that with `alternate` stays at a hundredth of both factors in f32.
pub(super) const SPARSE_160: UpdateCodec = sparse(160);

const fn sparse(top: u16) -> UpdateCodec {
    UpdateCodec::Sparse {
        top,
        feedback: Ppb(950_000_000),
    }
}

const EVEN: [u32; MEMBERS] = [1; MEMBERS];
/// Half of the members do all steps, a quarter half of them, a quarter a quarter.
const SLOW: [u32; MEMBERS] = [1, 2, 1, 4, 1, 2, 1, 4];
/// Half of the members train all components, a quarter half of them, a quarter a quarter.
const FEW: [u32; MEMBERS] = [1, 2, 1, 4, 1, 2, 1, 4];
/// DiLoCo's outer momentum with an outer rate that leaves the long-run step at twice the plain one: at
/// DiLoCo's 0.9 and 0.7 it would be seven times, which a dozen rounds do not bear.
const NESTEROV: Outer = Outer::Nesterov {
    momentum: 0.5,
    rate: 1.0,
};
/// As long a step in the long run, without a memory.
const DOUBLE: Outer = Outer::Nesterov {
    momentum: 0.0,
    rate: 2.0,
};

/// The protocol's default.
const SPARSE_BOTH: &str = "both, sparse";
/// Half the bytes of the default.
const SPARSE_ALTERNATE: &str = "alternate, sparse";
/// What that loses by its codec is the difference to this.
const DENSE_ALTERNATE: &str = "alternate, dense f32";
const SLOW_BY_TOKENS: &str = "both, sparse, slow members, by tokens";
const SLOW_EQUAL: &str = "both, sparse, slow members, all equal";
const FEW_RANKS: &str = "both, sparse, ranks 8, 4 and 2";
/// The baseline that everything is compared with.
pub(super) const FEDIT: &str = "both, dense f32 (FedIT)";
/// One machine in as many steps as all members together do.
pub(super) const CENTRAL_MANY: &str = "centralised, many small steps";
/// One machine in as many steps as one member does.
pub(super) const CENTRAL_FEW: &str = "centralised, few large steps";
/// Every member for itself.
pub(super) const ALONE: &str = "alone";

impl Federated {
    fn new(schedule: FactorSchedule, codec: UpdateCodec) -> Self {
        Self {
            schedule,
            codec,
            rank: RANK,
            rounds: ROUNDS,
            outer: Outer::Plain,
            weight: Weight::Tokens,
            pace: EVEN,
            ranks: EVEN,
        }
    }

    fn paced(mut self, pace: [u32; MEMBERS]) -> Self {
        self.pace = pace;
        self
    }

    fn equal(mut self) -> Self {
        self.weight = Weight::Equal;
        self
    }
}

impl Method {
    /// Everything that is compared, the schedules by codecs first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Self::grid();
        all.extend(Self::references());
        all.extend(Self::variants());
        all
    }

    fn grid() -> Vec<Self> {
        use FactorSchedule::{Alternate, Both, FreezeA};
        use UpdateCodec::{DenseF32, DenseInt8};
        [
            (SPARSE_ALTERNATE, Alternate, SPARSE, SPARSE_ALTERNATE, true),
            (
                "alternate, int8",
                Alternate,
                DenseInt8,
                DENSE_ALTERNATE,
                false,
            ),
            (DENSE_ALTERNATE, Alternate, DenseF32, DENSE_ALTERNATE, false),
            (SPARSE_BOTH, Both, SPARSE, SPARSE_BOTH, true),
            ("both, int8", Both, DenseInt8, FEDIT, false),
            (FEDIT, Both, DenseF32, FEDIT, true),
            ("freeze-a, sparse", FreezeA, SPARSE, SPARSE_ALTERNATE, false),
            ("freeze-a, int8", FreezeA, DenseInt8, DENSE_ALTERNATE, false),
            (
                "freeze-a, dense f32",
                FreezeA,
                DenseF32,
                DENSE_ALTERNATE,
                false,
            ),
        ]
        .map(|(name, schedule, codec, tuned_as, on_every_mix)| Self {
            name,
            way: Way::Federated(Federated::new(schedule, codec)),
            tuned_as,
            rates: match name {
                SPARSE_ALTERNATE | SPARSE_BOTH => [8e-3, 16e-3, 32e-3],
                DENSE_ALTERNATE => [4e-3, 8e-3, 16e-3],
                _ => [2e-3, 4e-3, 8e-3],
            },
            on_every_mix,
        })
        .to_vec()
    }

    fn references() -> [Self; 3] {
        let steps = ROUNDS * STEPS;
        let many = steps * MEMBERS as u32;
        [
            (
                CENTRAL_MANY,
                Way::Centralised { steps: many },
                [5e-4, 1e-3, 2e-3],
            ),
            (CENTRAL_FEW, Way::Centralised { steps }, [2e-3, 4e-3, 8e-3]),
            (ALONE, Way::Alone, [1e-3, 2e-3, 4e-3]),
        ]
        .map(|(name, way, rates)| Self {
            name,
            way,
            tuned_as: name,
            rates,
            on_every_mix: true,
        })
    }

    fn variants() -> Vec<Self> {
        use FactorSchedule::{Alternate, Both};
        use UpdateCodec::{DenseF32, DenseInt8};
        let usual = Federated::new(Both, SPARSE);
        let more_rounds = Federated {
            rounds: 2 * ROUNDS,
            ..usual
        };
        let wide = Federated {
            rank: 2 * RANK,
            ..Federated::new(Alternate, DenseF32)
        };
        let narrow = Federated {
            rank: 1,
            rounds: 1,
            ..Federated::new(Both, DenseInt8)
        };
        let outer = |outer, how: Federated| Federated { outer, ..how };
        let slow = usual.paced(SLOW);
        let few = Federated {
            ranks: FEW,
            ..usual
        };
        let dense = Federated::new(Both, DenseF32);
        let alternate = Federated::new(Alternate, DenseInt8);
        let finer = Federated::new(Alternate, SPARSE_160);
        [
            ("alternate, sparse 160", finer, SPARSE_ALTERNATE, None),
            ("alternate, dense f32, rank 16", wide, DENSE_ALTERNATE, None),
            ("both, int8, rank 1, one round", narrow, FEDIT, None),
            (
                "alternate, int8, Nesterov",
                outer(NESTEROV, alternate),
                DENSE_ALTERNATE,
                None,
            ),
            own("both, dense f32, Nesterov", outer(NESTEROV, dense), 2e-3),
            own("both, dense f32, outer rate 2", outer(DOUBLE, dense), 2e-3),
            own("both, sparse, Nesterov", outer(NESTEROV, usual), 2e-3),
            own("both, sparse, outer rate 2", outer(DOUBLE, usual), 2e-3),
            own("both, sparse, 48 rounds", more_rounds, 8e-3),
            (SLOW_BY_TOKENS, slow, SPARSE_BOTH, None),
            (SLOW_EQUAL, slow.equal(), SPARSE_BOTH, None),
            (FEW_RANKS, few, SPARSE_BOTH, None),
        ]
        .map(|(name, how, tuned_as, lowest)| Self {
            name,
            way: Way::Federated(how),
            tuned_as,
            rates: lowest.map_or([0.0; 3], |rate: f64| [rate, 2.0 * rate, 4.0 * rate]),
            on_every_mix: false,
        })
        .to_vec()
    }
}

/// A variant that moves the best rate: it is tried with rates of its own, from `lowest` on.
fn own(
    name: &'static str,
    how: Federated,
    lowest: f64,
) -> (&'static str, Federated, &'static str, Option<f64>) {
    (name, how, name, Some(lowest))
}
