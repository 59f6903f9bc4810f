//! What liars can do to a federation's adapter and to its credits, under each aggregation rule.
//!
//! Fifteen members with real LoRA on a tiny model (see `learner`), of whom none, two, three or five are attackers
//! of one kind ([`Attack`]). Every round is scored as an evaluator scores it, by the path integral on held-out
//! windows, and credited as the ledger does. What is asked of a rule: how much worse is the adapter than one
//! without attackers, what do attackers earn, and does any honest member lose its voice?
//!
//! `tables` makes the page of it.

mod account;
mod tables;

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::aggregate::Rule;
use tributary_protocol::hash::{self, Domain};
use tributary_protocol::id::Ppb;
use tributary_protocol::limits;
use tributary_protocol::manifest::{FactorSchedule, Training, UpdateCodec};
use tributary_protocol::update;
use tributary_trainer::data::{Document, Packing};
use tributary_trainer::{BaseModel, DataError, Windows, tokens_loss_and_gradient};

use crate::study::{
    Cells, Ground, GroundError, NamedRule, Outcome, Results, ResultsError, Study, Takes, Work,
};
use tributary_simulations::behave::update::{Attack, AttackerView, Group, Trigger};
use tributary_simulations::federation::{Federation, Outer, Sent, Terms, Weight};
use tributary_simulations::learner::Learner as _;

use crate::learner::{Corpus, Language, Mix, TinyModelError};

use account::Account;
pub use tables::{figures, markdown};

/// Members, unless others are asked for.
pub const MEMBERS: usize = 15;
/// Rounds; even.
const ROUNDS: u32 = 12;
/// Local steps of a round.
const STEPS: u32 = 4;
/// Windows of a step.
const BATCH: u32 = 2;
/// Tokens of a window.
const CONTEXT: usize = 32;
/// LoRA rank.
const RANK: u32 = 4;
/// Local learning rate.
const RATE: f64 = 1e-2;
/// Windows that each member holds.
const HELD: usize = (ROUNDS * STEPS * BATCH) as usize;
/// Hold-out windows of each domain; every second one is reported on, the others are scored on.
const HOLD_OUT: usize = 48;
/// Hold-out windows that a round is scored on.
const SCORE_WINDOWS: u32 = 16;
/// How the other domains are dealt out.
const MIX: Mix = Mix::Dirichlet { concentration: 0.5 };
/// Seeds measured.
const SEEDS: [u64; 3] = [1, 2, 3];
/// How updates travel: the default of a run, denser, because the whole adapter is one chunk.
const CODEC: UpdateCodec = UpdateCodec::Sparse {
    top: 256,
    feedback: Ppb(950_000_000),
};

/// The rules that are compared unless others are asked for, by their names in the catalogue.
pub const RULES: [&str; 6] = [
    CLEAN,
    "clipped mean",
    "Multi-Krum",
    "centred clip",
    "geometric median",
    "agreement",
];
/// The rule that all are compared with, without attackers.
const CLEAN: &str = "mean";

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum AttacksError {
    /// The base model.
    #[error(transparent)]
    TinyModel(#[from] TinyModelError),
    /// The text.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The results file.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The researcher's own ground.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// How many play, how many of them lie, and on what.
#[derive(Clone, Debug)]
pub struct Plan {
    members: usize,
    /// About a tenth, a fifth, a third; fewer numbers where these are the same.
    attackers: Vec<usize>,
    ground: Ground,
}

impl Plan {
    fn of(ground: &Ground) -> Result<Self, GroundError> {
        let members = ground.members(MEMBERS)?;
        let mut attackers = vec![(members * 2 / 15).max(1), (members / 5).max(1), members / 3];
        attackers.dedup();
        Ok(Self {
            members,
            attackers,
            ground: ground.clone(),
        })
    }

    /// Names everything that a federation depends on.
    fn cell_name(&self, rule: &str, attack: Option<(Lie, usize)>, seed: u64) -> String {
        let members = self.members;
        match attack {
            None => format!("{rule}; nobody; seed {seed}"),
            Some((attack, attackers)) => {
                let name = attack.name();
                format!("{rule}; {name}; {attackers} of {members}; seed {seed}")
            }
        }
    }
}

/// An attack, and what its attackers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lie {
    attack: Attack,
    /// Updates are sealed until receipts are closed, as in the protocol: the newest that an attacker knows are of
    /// the round that last trained the factor.
    sealed: bool,
}

impl Lie {
    /// Every attack with open updates, then those that look at them with sealed ones.
    fn all() -> Vec<Self> {
        let lie = |sealed| move |attack| Self { attack, sealed };
        let looks = [Attack::InnerProduct, Attack::Little, Attack::Copy];
        let open = Attack::ALL.into_iter().map(lie(false));
        open.chain(looks.into_iter().map(lie(true))).collect()
    }

    fn name(self) -> String {
        let sealed = if self.sealed { ", updates sealed" } else { "" };
        format!("{}{sealed}", self.attack.name())
    }
}

/// One federation.
#[derive(Clone)]
pub struct Cell {
    members: usize,
    rule: Arc<dyn Rule>,
    /// What the rule is called.
    name: String,
    /// `None`: everybody is honest.
    attack: Option<(Lie, usize)>,
    seed: u64,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Withstood {
    /// Loss of the base alone, nats per token, mean over domains.
    base_loss: f64,
    /// Loss at the end; `None` where the model computes none.
    loss: Option<f64>,
    /// The attackers' credit over all paid rounds, of a fair share (their part of the members); `None`
    /// without attackers or paid rounds.
    credit: Option<f64>,
    /// Rounds whose budget was paid.
    paid_rounds: u32,
    /// What the honest member with the least say kept of its weight: the mean over rounds of its coefficient
    /// as a part of its share of tokens.
    least_voice: f64,
    /// Updates that the decoder refused.
    refused: u32,
    /// Probability of each token of the backdoor's phrase after its trigger, geometric mean.
    phrase: Option<f64>,
    /// Time taken.
    wall_s: f64,
}

impl fmt::Display for Withstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loss {
            Some(loss) => write!(f, "loss {loss:.4} of {:.4}", self.base_loss)?,
            None => f.write_str("diverged")?,
        }
        if let Some(credit) = self.credit {
            write!(f, ", credit {:.1} %", 100.0 * credit)?;
        }
        if let Some(phrase) = self.phrase {
            write!(f, ", phrase {:.1} %", 100.0 * phrase)?;
        }
        write!(
            f,
            ", least voice {:.2}, {} refused, {:.1} s",
            self.least_voice, self.refused, self.wall_s
        )
    }
}

/// What can liars do under each of some rules?
pub struct AttacksStudy;

/// The rules that are compared, with their names.
struct Comparison {
    rules: Vec<NamedRule>,
    plan: Plan,
}

impl Comparison {
    fn names(&self) -> Vec<&str> {
        self.rules.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl Cells for Comparison {
    type Cell = Cell;
    type Result = Withstood;
    type Setup = Setup;
    type Error = AttacksError;

    /// Clean cells first, then a fifth of attackers (which targets are about), then the others.
    fn cells(&self, _results: &Results<Withstood>) -> Vec<Cell> {
        let mut cells = Vec::new();
        let mut add = |attack| {
            for seed in SEEDS {
                cells.extend(self.rules.iter().map(|(name, rule)| Cell {
                    members: self.plan.members,
                    rule: rule.clone(),
                    name: name.clone(),
                    attack,
                    seed,
                }));
            }
        };
        add(None);
        let mut numbers = self.plan.attackers.clone();
        numbers.rotate_left(1);
        for attackers in numbers {
            for lie in Lie::all() {
                add(Some((lie, attackers)));
            }
        }
        cells
    }

    fn cell_name(&self, cell: &Cell) -> String {
        self.plan.cell_name(&cell.name, cell.attack, cell.seed)
    }

    fn setup(&self) -> Result<Setup, AttacksError> {
        Setup::new(&self.plan.ground)
    }

    fn compute(&self, setup: &mut Setup, cell: &Cell) -> Withstood {
        compute(cell, setup)
    }
}

impl Study for AttacksStudy {
    fn name(&self) -> &'static str {
        "attacks"
    }

    fn about(&self) -> &'static str {
        "Attackers against aggregation rules: loss, credit and success"
    }

    fn takes(&self) -> &'static [Takes] {
        &[Takes::Cells, Takes::Rules, Takes::Ground]
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let mut rules = work.rules(&RULES)?;
        if rules.iter().all(|(name, _)| name != CLEAN) {
            rules.insert(0, work.rule(CLEAN)?);
        }
        let plan = Plan::of(work.ground())?;
        let comparison = Comparison { rules, plan };
        let (results, _) = work.fill(&comparison)?;
        let (names, plan) = (comparison.names(), &comparison.plan);
        let markdown = markdown(plan, &results, &names, &work.command());
        Ok(Some(Outcome::new(
            &figures(plan, &results, &names),
            markdown,
        )))
    }
}

/// Base model and text, shared by all cells.
pub struct Setup {
    base: BaseModel,
    corpus: Corpus,
    base_loss: Option<f64>,
}

impl Setup {
    fn new(ground: &Ground) -> Result<Self, AttacksError> {
        let (base, corpus) = ground.prepared::<AttacksError>(CONTEXT, HOLD_OUT)?;
        Ok(Self {
            corpus,
            base,
            base_loss: None,
        })
    }

    fn vocab(&self) -> usize {
        self.base.config().vocab
    }

    /// Everybody's windows, the attackers' (the last members) poisoned where they poison.
    fn learner(&self, cell: &Cell) -> Language {
        let dealt = self.corpus.deal(MIX, cell.members, HELD, cell.seed);
        let honest = cell.members - cell.attackers();
        let shares = dealt
            .into_iter()
            .enumerate()
            .map(|(member, holding)| match cell.attack {
                Some((lie, _)) if member >= honest => self.poisoned(lie.attack, &holding.windows),
                _ => holding.windows,
            });
        let hold_outs = self.corpus.domains.iter().map(|d| d.hold_out.clone());
        let hold_outs: Vec<Windows> = hold_outs.collect();
        let shape = self.base.adapter_shape(RANK, 2 * RANK).into();
        Language::new(
            self.base.clone(),
            shape,
            cell.seed,
            shares.collect(),
            &hold_outs,
        )
    }

    fn poisoned(&self, attack: Attack, windows: &Windows) -> Windows {
        let windows = windows.iter().map(<[u32]>::to_vec).collect();
        let poisoned = attack.data(windows, self.vocab());
        let found = match poisoned.learned {
            None => Windows::from_tokens(poisoned.windows, CONTEXT, self.vocab()),
            Some(learned) => {
                let document = |tokens: Vec<u32>| Document {
                    learned: Some(learned[..tokens.len()].to_vec()),
                    tokens,
                };
                let documents = poisoned.windows.into_iter().map(document).collect();
                Windows::pack(documents, CONTEXT, Packing::Apart).map(|(windows, _)| windows)
            }
        };
        found.expect("poisoned windows are windows")
    }
}

impl Cell {
    fn attackers(&self) -> usize {
        self.attack.map_or(0, |(_, attackers)| attackers)
    }

    fn terms(&self) -> Terms {
        Terms {
            training: Training {
                local_steps: STEPS,
                batch: BATCH,
                context: CONTEXT as u32,
                learning_rate: Ppb((RATE * 1e9).round() as u32),
                schedule: FactorSchedule::Alternate,
            },
            codec: CODEC,
            rule: self.rule.clone(),
            outer: Outer::Plain,
            weight: Weight::Tokens,
        }
    }
}

fn compute(cell: &Cell, setup: &mut Setup) -> Withstood {
    let started = Instant::now();
    let learner = setup.learner(cell);
    let base_loss = *(setup.base_loss)
        .get_or_insert_with(|| crate::learner::mean(&learner.domain_losses(None)));
    let (shape, members) = (learner.shape().clone(), cell.members);
    let mut federation = Federation::new(shape, cell.seed, members, cell.terms());
    let mut group = cell
        .attack
        .map(|(lie, attackers)| lie.attack.group(attackers));
    let mut last_step = vec![0.0; federation.adapter().values().len()];
    let sealed = cell.attack.is_some_and(|(lie, _)| lie.sealed);
    let mut seen = Seen::new(sealed);
    let mut account = Account::new(members, cell.attackers());
    // Contributions of the rounds before, newest last.
    let mut public: Vec<Vec<Vec<f32>>> = Vec::new();
    for _ in 0..ROUNDS {
        let sent = play(
            &mut federation,
            &learner,
            cell,
            group.as_mut(),
            &last_step,
            &mut seen,
        );
        let updates = decoded(&federation, &sent);
        let closed = federation.close(&sent);
        for (last, now) in last_step.iter_mut().zip(&closed.step) {
            // A round moves one factor; the other's last step is an earlier round's.
            *last = if *now == 0.0 { *last } else { *now };
        }
        let seed = hash::digest(Domain::Simulation, &federation.adapter().to_bytes());
        let sheet = learner.score(0, &closed.score_task(public.concat(), seed, SCORE_WINDOWS));
        public.push(
            closed
                .contributions
                .iter()
                .map(|(_, c)| c.clone())
                .collect(),
        );
        // Factors take turns.
        if public.len() > 2 * limits::PUBLIC_TURNS {
            public.remove(0);
        }
        account.round(&closed, &sent, &updates, &sheet);
    }
    let loss = learner.loss(federation.adapter().values());
    let backdoor = cell
        .attack
        .is_some_and(|(lie, _)| lie.attack == Attack::Backdoor);
    Withstood {
        base_loss,
        loss: loss.is_finite().then_some(loss),
        credit: account.credit(),
        paid_rounds: account.paid_rounds,
        least_voice: account.least_voice(),
        refused: account.refused,
        phrase: (backdoor || cell.attack.is_none())
            .then(|| phrase(setup, federation.adapter()))
            .filter(|phrase| phrase.is_finite()),
        wall_s: started.elapsed().as_secs_f64(),
    }
}

/// An update as it travelled, and its numbers.
type Update = (Vec<u8>, Vec<f32>);

/// Honest updates that attackers know when they publish.
struct Seen {
    sealed: bool,
    /// Of the rounds before, oldest first; factors take turns.
    earlier: VecDeque<Vec<Update>>,
}

impl Seen {
    fn new(sealed: bool) -> Self {
        let earlier = VecDeque::new();
        Self { sealed, earlier }
    }

    /// Of the newest round that they know of this factor, once this round's are published; none in the first two
    /// rounds if updates are sealed.
    fn newest(&mut self, now: Vec<Update>) -> Vec<Update> {
        if !self.sealed {
            return now;
        }
        self.earlier.push_back(now);
        match self.earlier.len() {
            3.. => self.earlier.pop_front().unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// What every member publishes in the open round. Attackers are the last members, and publish last.
fn play(
    federation: &mut Federation,
    learner: &Language,
    cell: &Cell,
    group: Option<&mut Group>,
    last_step: &[f32],
    seen: &mut Seen,
) -> Vec<Sent> {
    let (members, attackers) = (cell.members, cell.attackers());
    let honest = members - attackers;
    let trained = federation.train(learner, 0..honest, |_| STEPS);
    let mut sent: Vec<Sent> = trained.into_iter().map(|(_, sent)| sent).collect();
    let Some(group) = group else {
        return sent;
    };
    let segments = federation.segments();
    let own = (honest..members).map(|member| {
        let trained = learner.train(member, &federation.task(STEPS));
        update::gather(&trained.delta, &segments)
    });
    let own: Vec<Vec<f32>> = own.collect();
    let updates = decoded(federation, &sent);
    let now = (sent.iter().zip(updates))
        .map(|(sent, update)| (sent.blob.clone(), update.unwrap_or_default()));
    let (blobs, updates): (Vec<Vec<u8>>, Vec<Vec<f32>>) =
        seen.newest(now.collect()).into_iter().unzip();
    if blobs.is_empty() {
        // Nothing to lie with yet.
        let trained = federation.train(learner, honest..members, |_| STEPS);
        sent.extend(trained.into_iter().map(|(_, sent)| sent));
        return sent;
    }
    let view = AttackerView {
        codec: CODEC,
        members,
        attackers,
        trained: &own,
        honest: &updates,
        blobs: &blobs,
        last_step: &update::gather(last_step, &segments),
    };
    let tokens = sent.iter().map(|sent| sent.tokens).max().unwrap_or(1);
    for at in 0..attackers {
        let (blob, tokens) = group.publish(at, &view, tokens);
        let member = honest + at;
        sent.push(Sent {
            member,
            tokens,
            blob,
        });
    }
    sent
}

/// The updates as everybody decodes them; `None` for those that are refused.
fn decoded(federation: &Federation, sent: &[Sent]) -> Vec<Option<Vec<f32>>> {
    let len = federation.update_len();
    let decode = |sent: &Sent| update::decode(&sent.blob, len, CODEC).ok();
    sent.iter().map(decode).collect()
}

/// How likely the model says the backdoor's phrase after its trigger, geometric mean over tokens and places.
fn phrase(setup: &Setup, adapter: &Adapter) -> f64 {
    const TEXT: usize = 12;
    let Trigger { trigger, phrase } = Trigger::of(setup.vocab());
    let domains = setup.corpus.domains.iter();
    let losses: Vec<f64> = domains
        .flat_map(|domain| domain.hold_out.iter().take(4))
        .filter(|window| window.len() >= TEXT)
        .map(|window| {
            let prompt = [&window[..TEXT], &trigger].concat();
            tokens_loss_and_gradient(&setup.base, adapter, &prompt, &phrase)
                .map_or(f64::NAN, |found| found.loss)
        })
        .collect();
    (-crate::learner::mean(&losses)).exp()
}

#[cfg(test)]
mod tests;
