//! The strategies: who plays them, and what is expected of them.
//!
//! Members of the scenario `economy` are not bonded, so stake decides about roots alone, and `bribed` and `withheld` strategies
//! are about that. Strategies of stake are played in `staked`, where it is what members are drawn and weighed by.

use super::TARGET;

/// What a strategy may bring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At most this part beyond honesty.
    Within(f64),
    /// At most this part, which is more than [`TARGET`], and why.
    Known(f64, &'static str),
    /// Whatever it takes, and what it needs for that.
    Beyond(&'static str),
}

/// Attacks by name, and how many members play each.
pub type Members = &'static [(&'static str, usize)];

/// Where a strategy is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Members are invited, and all count the same.
    Invited,
    /// Members are bonded: one owner, under one name in the honest run, beside nine others. The sponsor deposits once their
    /// stake counts.
    Bonded,
    /// The same, with updates that are added by weight and not clipped before.
    Unclipped,
    /// The same as bonded, with a sponsor that deposits with the genesis: rounds are paid in which nobody's stake counts yet.
    Early,
}

impl Stage {
    /// Its built-in scenario.
    pub fn scenario(self) -> &'static str {
        match self {
            Self::Invited => "economy",
            Self::Bonded | Self::Unclipped | Self::Early => "staked",
        }
    }
}

/// One way not to be honest.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Its name.
    pub name: &'static str,
    /// What its members do.
    pub about: &'static str,
    /// Where it is played.
    pub stage: Stage,
    /// Who plays it, of ten members; an owner's names beyond its first are more than these.
    pub members: Members,
    /// Whether an honest member disputes made-up scores beside it. In the honest run there are none.
    pub is_disputed: bool,
    /// Batches of answers that are sold behind the closing.
    pub answers: u32,
    /// Whether the consumer that buys them is one of its members: it would buy none in the honest run.
    pub owns_consumer: bool,
    /// What it may bring.
    pub bound: Bound,
}

impl Strategy {
    const fn new(name: &'static str, about: &'static str, members: Members) -> Self {
        Self {
            name,
            about,
            stage: Stage::Invited,
            members,
            is_disputed: false,
            answers: 0,
            owns_consumer: false,
            bound: Bound::Within(TARGET),
        }
    }

    const fn on(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    const fn disputed(mut self) -> Self {
        self.is_disputed = true;
        self
    }

    const fn selling(mut self) -> Self {
        self.answers = BATCHES;
        self
    }

    const fn to_itself(mut self) -> Self {
        self.owns_consumer = true;
        self
    }

    const fn bounded(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// Who is watched in the honest run: the member in whose place a strategy serves, or the owner under one name.
    pub(super) fn honest(&self) -> Members {
        match (self.stage, self.honest_answers()) {
            (Stage::Bonded | Stage::Unclipped | Stage::Early, _) => &[("one_of_names", 1)],
            (Stage::Invited, 1..) => &[("honest_server", 1)],
            (Stage::Invited, 0) => &[],
        }
    }

    /// Batches of answers that are sold in the honest run.
    pub(super) fn honest_answers(&self) -> u32 {
        match self.owns_consumer {
            true => 0,
            false => self.answers,
        }
    }
}

/// Batches of answers that a server sells: 400 answers of a hundredth of an OPEN each.
const BATCHES: u32 = 10;

const STRETCH: &str = "updates are clipped to the median length of their round and not brought to it, so a shorter one may be \
                       stretched up to there";

const JUMP: &str = "on the test chain the part of fees for stake, a twentieth, goes by the stake of that height, and not by the \
                    lesser of two anchors";

/// All of them. Known bounds are of 200 rounds: in shorter runs one round is a larger part.
#[rustfmt::skip]
pub const STRATEGIES: [Strategy; 30] = [
    Strategy::new("honest", "three members that follow the protocol: the measure itself", &[("honest", 3)])
        .bounded(Bound::Within(0.0)),
    Strategy::new("lazy_evaluator", "copies the first score sheet that it hears, and signs the roots that others signed", &[("lazy_evaluator", 1)]),
    Strategy::new("greedy_tokens", "names twice the tokens that it trained on", &[("greedy_tokens", 1)]),
    Strategy::new("greedy_update", "sends its update a hundred times as long", &[("scale", 1)])
        .bounded(Bound::Known(0.20, STRETCH)),
    Strategy::new("greedy_scores", "an evaluator that scores its friend up and all others down", &[("pick_sheets", 1), ("honest", 1)]),
    Strategy::new("collude_10", "a tenth of the members work together: aggregation, votes, proposals", &[("collude", 1)])
        .bounded(Bound::Known(0.20, STRETCH)),
    Strategy::new("collude_20", "a fifth, one of four evaluators among them: scores as well", &[("colluding_evaluator", 1), ("collude", 1)])
        .bounded(Bound::Known(0.20, STRETCH)),
    Strategy::new("collude_30", "three tenths, one of four evaluators among them", &[("colluding_evaluator", 1), ("collude", 2)])
        .bounded(Bound::Known(0.20, STRETCH)),
    Strategy::new("collude_30_plain", "the same, with updates as long as their training made them", &[("colluding_evaluator", 1), ("collude_plain", 2)]),
    Strategy::new("self_dealing_sponsor", "the sponsor trains and scores by friends, and asks for its deposit at every height", &[("self_dealing_sponsor", 1), ("colluding_evaluator", 1), ("collude", 1)]),
    Strategy::new("withholding_sponsor", "a sponsor with four tenths of the stake: none of them signs a root; it halts the run and takes its deposit", &[("withholding_sponsor", 1), ("withheld_roots", 3)])
        .bounded(Bound::Beyond("a third of the stake can keep every root from being posted")),
    Strategy::new("challenging_sponsor", "a friend of the sponsor challenges every posted root; the sponsor halts the run and takes its deposit", &[("waiting_sponsor", 1), ("challenge", 1)]),
    Strategy::new("self_dealing_server", "a server that is its own consumer and agrees to shares of its own", &[("self_dealing_server", 1)])
        .selling().to_itself(),
    Strategy::new("greedy_server", "a server that names itself in shares nobody agreed to, and files answers twice", &[("greedy_server", 1)]).selling(),
    Strategy::new("withheld_vouchers", "a server that never claims", &[("hoarding_server", 1)]).selling(),
    Strategy::new("late_vouchers", "a server that files its answers three heights after it has claimed", &[("late_server", 1)]).selling(),
    Strategy::new("withheld_roots", "three tenths of the members sign and post no root", &[("withheld_roots", 3)]),
    Strategy::new("nuisance_challenge", "a member that challenges every posted root", &[("challenge", 1)]),
    Strategy::new("bribed_30", "three tenths of the members sign a closing root that takes the rest of the deposit", &[("bribed", 3)]),
    Strategy::new("bribed_70", "seven tenths of them", &[("bribed", 5), ("bribed_evaluator", 2)])
        .bounded(Bound::Beyond("more than two thirds of the stake decide where what is left of a deposit goes")),
    Strategy::new("lying_evaluator", "an evaluator that makes its scores up, disputed by an honest member", &[("lying_evaluator", 1)]).disputed(),
    Strategy::new("lying_jurors", "the same with three friends that find the opposite of what they see, four tenths of the members", &[("lying_evaluator", 1), ("lying_juror", 3)]).disputed(),
    Strategy::new("frivolous_challenger", "a member that disputes scores that are right, one after another", &[("frivolous_challenger", 1)]),
    Strategy::new("stake_jumps_in", "nine times its stake beside it, bonded for one height and taken out, again and again", &[("jump_in", 1)]).on(Stage::Bonded),
    Strategy::new("stake_jumps_in_for_fees", "the same while answers are sold, whose fees stake has a part of", &[("jump_in", 1)]).on(Stage::Bonded).selling()
        .bounded(Bound::Known(0.05, JUMP)),
    Strategy::new("split_unclipped", "an owner under eight names with an eighth of its stake each, and the same text, where updates are not clipped", &[("one_of_names", 8)]).on(Stage::Unclipped),
    Strategy::new("split_2", "under two names, where updates are clipped to their median length", &[("one_of_names", 2)]).on(Stage::Bonded),
    Strategy::new("split_16", "under sixteen names, most of the contributors", &[("one_of_names", 16)]).on(Stage::Bonded),
    Strategy::new("split_early", "under four names, with a sponsor that deposits before stake counts", &[("one_of_names", 4)]).on(Stage::Early)
        .bounded(Bound::Beyond("before a run's first anchor all names count the same: on the test chain members bond after they were admitted, and a sponsor that deposits at once pays for those rounds")),
    Strategy::new("split_stretched", "under eight names, most of the contributors, whose updates are four times as long", &[("stretching_name", 8)]).on(Stage::Bonded),
];
