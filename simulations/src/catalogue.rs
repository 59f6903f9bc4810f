//! What scenarios and studies can choose by name: attacks, learners, links and aggregation rules.
//!
//! [`Catalogue::default`] has the built-in ones. A researcher's own program adds to it and hands it to
//! [`cli::main_with`](crate::cli::main_with) or [`scenario::load_from`](crate::scenario::load_from); a scenario keeps the
//! catalogue that its names were checked against.

use std::sync::Arc;

use tributary_protocol::aggregate::Rule;
use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::Aggregation;

use crate::behave::{self, Attack};
use crate::learner::{self, Learner, LearnerPlan, MakeLearner, Members};
use crate::link::{self, LinkModel, LinkPlan, MakeLink};
use crate::named::Named;

/// Share of the tokens that the robust rules among [`Catalogue::rules`] are told to expect from liars.
pub const TOLERATE: Ppb = Ppb(340_000_000);

/// Everything that is chosen by name.
#[derive(Debug)]
pub struct Catalogue {
    /// What a scenario's `liars` can do: `behaviour = "..."`.
    pub attacks: Named<Attack>,
    /// What the peers of a scenario learn: `learner.kind = "..."`.
    pub learners: Named<MakeLearner>,
    /// How messages and blobs travel: `link.model = "..."`.
    pub links: Named<MakeLink>,
    /// How a study combines updates. Runs, simulated ones too, have those of the protocol alone: what a certificate rests
    /// on is named in the manifest's signed bytes.
    pub rules: Named<dyn Rule>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            attacks: behave::built_in(),
            learners: learner::built_in(),
            links: link::built_in(),
            rules: rules(),
        }
    }
}

impl Catalogue {
    /// Adds an attack.
    ///
    /// # Panics
    /// As [`Named::add`], like the other three.
    pub fn attack(mut self, name: &str, about: &str, attack: Attack) -> Self {
        self.attacks.add(name, about, Arc::new(attack));
        self
    }

    /// Adds a learner, made from its plan for these peers by a seed.
    pub fn learner<F>(mut self, name: &str, about: &str, make: F) -> Self
    where
        F: Fn(&LearnerPlan, Members, u64) -> Result<Box<dyn Learner>, String>
            + Send
            + Sync
            + 'static,
    {
        self.learners.add(name, about, Arc::new(make));
        self
    }

    /// Adds a link model, made from its plan.
    pub fn link<F>(mut self, name: &str, about: &str, make: F) -> Self
    where
        F: Fn(&LinkPlan) -> Result<Box<dyn LinkModel>, String> + Send + Sync + 'static,
    {
        self.links.add(name, about, Arc::new(make));
        self
    }

    /// Adds an aggregation rule.
    pub fn rule(mut self, name: &str, about: &str, rule: impl Rule + 'static) -> Self {
        self.rules.add(name, about, Arc::new(rule));
        self
    }
}

/// The rules of the protocol.
fn rules() -> Named<dyn Rule> {
    let tolerate = TOLERATE;
    let mut rules: Named<dyn Rule> = Named::new("aggregation rule");
    for (name, about, rule) in [
        ("mean", "mean, weighted by tokens", Aggregation::Mean),
        (
            "clipped mean",
            "clipped to the median length, then the mean",
            Aggregation::ClippedMean,
        ),
        (
            "Multi-Krum",
            "clipped, mixed with neighbours, then Multi-Krum",
            Aggregation::MultiKrum { tolerate },
        ),
        (
            "centred clip",
            "clipped, mixed, then centred clipping",
            Aggregation::CentredClip { tolerate },
        ),
        (
            "geometric median",
            "clipped, mixed, then the geometric median",
            Aggregation::GeometricMedian { tolerate },
        ),
        (
            "agreement",
            "clipped, without those that work against the others, then the mean",
            Aggregation::Agreement { tolerate },
        ),
    ] {
        rules.add(name, about, Arc::new(rule));
    }
    rules
}
