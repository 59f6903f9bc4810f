//! Dishonest participants (*liars*): a real node whose inputs and effects are altered.
//!
//! A liar runs the same [`Node`](tributary_protocol::node::Node) as everybody and signs with its own key, so its messages are as plausible as a real
//! attacker can make them. A [`Behaviour`] sees what goes into that node and what comes out, and may change, drop or
//! add on either side; it is called before the disk, so a liar is free to say what it never kept. The world draws the
//! liars; the oracle says whether anybody honest suffers from them. A scenario chooses an [`Attack`] by name; each
//! built-in one has a file of its own.

mod bribed;
mod broken_update;
mod challenge;
mod collude;
mod context;
mod contradict;
mod copy_sheet;
mod copy_update;
mod disputes;
mod double_proposal;
mod double_vote;
mod false_root;
mod flood_filings;
mod flood_invalid;
mod flood_valid;
mod forge_history;
mod fork_log;
mod garbage;
mod greedy_server;
mod greedy_tokens;
mod grind;
mod hoarding_server;
mod honest;
mod instead;
mod jump_in;
mod late_deposit;
mod late_server;
mod lazy_evaluator;
mod lie_sketch;
mod lying_client;
mod lying_receipt;
mod money;
mod names;
mod omit;
mod pick_sheets;
mod poison;
mod replay;
mod second_receipt;
mod self_dealing_server;
mod silent_seat;
mod silent_server;
mod sponsor;
mod strangers;
mod sybils;
pub mod update;
mod vanish;
mod withheld_roots;
mod withhold;

pub use context::LiarContext;
pub(crate) use disputes::open_dispute;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tributary_protocol::event::{Effect, Input, Timer};
use tributary_protocol::id::{BlobHash, PeerId, RunId};
use tributary_protocol::sign::SecretKey;

use crate::named::Named;
use poison::{Poison, PoisonUpdate};

/// The participants that can do more with an attack than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunRole {
    /// Nobody: contributors are drawn.
    Contributor,
    /// The creator of the run, while it is honest.
    Creator,
    /// An evaluator, while fewer than a third of them lie.
    Evaluator,
    /// An evaluator, however many do: of attacks that leave scores alone.
    Signer,
    /// One of the names of one owner: they take the last places, train and score, and hold one text.
    Name,
}

/// Makes the key of a liar: by the run, the key that it had, and the names of all others.
pub type MakeKey = fn(&RunId, &[u8; 32], &[PeerId]) -> [u8; 32];

/// Makes the behaviour of one liar, with draws of its own.
type MakeBehaviour = dyn Fn(&mut ChaCha8Rng) -> Box<dyn Behaviour> + Send + Sync;

/// One way to be dishonest, which a scenario chooses by name.
pub struct Attack {
    make: Box<MakeBehaviour>,
    place: RunRole,
    key: Option<MakeKey>,
}

impl Attack {
    /// An attack of contributors. `make` is called for each liar, with draws of its own.
    pub fn new(
        make: impl Fn(&mut ChaCha8Rng) -> Box<dyn Behaviour> + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Box::new(make),
            place: RunRole::Contributor,
            key: None,
        }
    }

    /// From another place.
    pub fn at(mut self, place: RunRole) -> Self {
        self.place = place;
        self
    }

    /// With a key that was chosen for it.
    pub fn with_key(mut self, key: MakeKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The participants that play it.
    pub fn place(&self) -> RunRole {
        self.place
    }

    /// How its key is chosen, if it is.
    pub fn key(&self) -> Option<MakeKey> {
        self.key
    }
}

/// The names of the built-in attacks, which break the protocol whatever they contribute; families of scenarios draw from
/// these.
pub const BUILT_IN: [&str; 23] = [
    "fork_log",
    "double_vote",
    "double_proposal",
    "silent_seat",
    "vanish",
    "withhold",
    "lying_receipt",
    "broken_update",
    "copy_update",
    "flood_valid",
    "flood_invalid",
    "replay",
    "sybils",
    "garbage",
    "omit",
    "second_receipt",
    "strangers",
    "contradict",
    "pick_sheets",
    "copy_sheet",
    "grind",
    "forge_history",
    "lie_sketch",
];

/// The built-in attacks.
#[rustfmt::skip]
pub(crate) fn built_in() -> Named<Attack> {
    let mut attacks = Named::new("attack");
    let mut add = |name: &str, about: &str, attack| attacks.add(name, about, Arc::new(attack));
    add("fork_log", "Two blocks at one place of its log", Attack::new(|rng| Box::new(fork_log::ForkLog::new(rng))));
    add("double_vote", "Two votes in one attempt", Attack::new(|rng| Box::new(double_vote::DoubleVote::new(rng))));
    add("double_proposal", "Two proposals in one attempt", Attack::new(|rng| Box::new(double_proposal::DoubleProposal::new(rng))));
    add("silent_seat", "Takes its seat in the committee and says nothing there", Attack::new(|_| Box::new(silent_seat::SilentSeat)));
    add("vanish", "Falls silent for good after some round", Attack::new(|rng| Box::new(vanish::Vanish::new(rng))));
    add("withhold", "Announces updates and serves them to nobody, or to a few", Attack::new(|rng| Box::new(withhold::Withhold::new(rng))));
    add("lying_receipt", "Receipts of wrong sizes, hashes, weights, rounds and shards", Attack::new(|_| Box::new(lying_receipt::LyingReceipt)));
    add("broken_update", "Updates of the right size that do not decode or are not finite", Attack::new(|_| Box::new(broken_update::BrokenUpdate)));
    add("copy_update", "Waits for an update of somebody else and publishes it as its own", Attack::new(|_| Box::new(copy_update::CopyUpdate::default())));
    add("flood_valid", "As many well-signed blocks, votes and requests as it can", Attack::new(|_| Box::new(flood_valid::FloodValid::default())));
    add("flood_invalid", "As many blocks, votes and certificates that fail one check each", Attack::new(|_| Box::new(flood_invalid::FloodInvalid)));
    add("replay", "What it heard before, again and much later", Attack::new(|_| Box::new(replay::Replay::default())));
    add("sybils", "Joins under many names", Attack::new(|rng| Box::new(sybils::Sybils::new(rng))));
    add("garbage", "Random bytes and damaged messages", Attack::new(|_| Box::new(garbage::Garbage::default())));
    add("omit", "Proposals that leave others' contributions out", Attack::new(|_| Box::new(omit::Omit::default())));
    add("second_receipt", "A second receipt, for an update of somebody else that it has seen", Attack::new(|_| Box::new(second_receipt::SecondReceipt::default())));
    add("strangers", "Speaks under ever new names that nobody admits", Attack::new(|rng| Box::new(strangers::Strangers::new(rng))));
    add("contradict", "As the creator a second genesis; as a member second certificates, with the keys of its friends", Attack::new(|_| Box::new(contradict::Contradict::default())).at(RunRole::Creator));
    add("pick_sheets", "Score sheets that favour its friends: as an evaluator it writes them, as a proposer it leaves others out", Attack::new(|_| Box::new(pick_sheets::PickSheets::default())).at(RunRole::Evaluator));
    add("copy_sheet", "An evaluator that scores nothing and signs the first sheet that it hears", Attack::new(|_| Box::new(copy_sheet::CopySheet::default())).at(RunRole::Evaluator));
    add("grind", "The key and the values, of many, that draw best for itself", Attack::new(|_| Box::new(grind::Grind::default())).with_key(grind::key));
    add("forge_history", "Forged certificates, blocks and heads for those that are behind", Attack::new(|_| Box::new(forge_history::ForgeHistory::default())));
    add("lie_sketch", "The sketch of a text that it does not have", Attack::new(|rng| Box::new(lie_sketch::LieSketch::new(rng))));
    add("late_deposit", "A sponsor that deposits after it has seen what rounds brought", Attack::new(|_| Box::new(late_deposit::LateDeposit)).at(RunRole::Creator));
    add("false_root", "Signs another root than its books lead to", Attack::new(|_| Box::new(false_root::FalseRoot)));
    add("silent_server", "A server that claims its fees and files no answers", Attack::new(|_| Box::new(silent_server::SilentServer)));
    add("greedy_server", "A server that names itself in the shares of all its answers, and files them twice", Attack::new(|_| Box::new(greedy_server::GreedyServer)));
    add("lying_client", "Its chain client says that its friends and it have all stake", Attack::new(|_| Box::new(lying_client::LyingClient)));
    add("flood_filings", "Files as much as it can, so that others wait", Attack::new(|_| Box::new(flood_filings::FloodFilings)));
    add("honest", "Follows the protocol; what strategies earn is compared with this", Attack::new(|_| Box::new(honest::Honest)));
    add("honest_server", "A server that follows the protocol", Attack::new(|_| Box::new(honest::Honest)));
    add("lazy_evaluator", "An evaluator that copies a sheet and signs the roots that others signed", Attack::new(|_| Box::new(lazy_evaluator::LazyEvaluator::default())).at(RunRole::Evaluator));
    add("greedy_tokens", "Twice the tokens that it trained on", Attack::new(|_| Box::new(greedy_tokens::GreedyTokens)));
    add("collude", "Works together with its friends as evaluator, proposer, voter and contributor", Attack::new(|_| Box::new(collude::Collude::default())));
    add("collude_plain", "The same, with updates as its training gave them", Attack::new(|_| Box::new(collude::Collude::plain())));
    add("colluding_evaluator", "Works together with its friends, from the place of an evaluator while fewer than a third of them lie", Attack::new(|_| Box::new(collude::Collude::default())).at(RunRole::Evaluator));
    add("self_dealing_sponsor", "A sponsor that works together with its friends and takes back what it can", Attack::new(|_| Box::new(sponsor::Sponsor::colluding())).at(RunRole::Creator));
    add("withholding_sponsor", "A sponsor that signs and posts no root and takes back what it can", Attack::new(|_| Box::new(sponsor::Sponsor::withholding())).at(RunRole::Creator));
    add("waiting_sponsor", "A sponsor that takes back what it can", Attack::new(|_| Box::new(sponsor::Sponsor::waiting())).at(RunRole::Creator));
    add("self_dealing_server", "A server that buys its own answers and says that its own data shaped them", Attack::new(|_| Box::new(self_dealing_server::SelfDealingServer)));
    add("hoarding_server", "A server that files no answers and claims no fees", Attack::new(|_| Box::new(hoarding_server::HoardingServer)));
    add("late_server", "A server that claims fees and files the answers later", Attack::new(|_| Box::new(late_server::LateServer::default())));
    add("bribed", "Signs a closing root that promises one of them the rest of the deposit", Attack::new(|_| Box::new(bribed::Bribed::default())));
    add("bribed_evaluator", "The same, from the place of an evaluator", Attack::new(|_| Box::new(bribed::Bribed::default())).at(RunRole::Signer));
    add("withheld_roots", "Signs no root and posts none", Attack::new(|_| Box::new(withheld_roots::WithheldRoots)));
    add("challenge", "Challenges every root that is posted", Attack::new(|_| Box::new(challenge::Challenge::default())));
    add("one_of_names", "One of the names over which an owner has split its stake and its text", Attack::new(|_| Box::new(names::Name::plain())).at(RunRole::Name));
    add("stretching_name", "The same, with updates four times as long", Attack::new(|_| Box::new(names::Name::stretched())).at(RunRole::Name));
    add("jump_in", "Nine times its stake beside it, bonded for one height and taken out, again and again", Attack::new(|_| Box::new(jump_in::JumpIn::default())).at(RunRole::Name));
    add("lying_evaluator", "An evaluator whose sheets say that friends helped and others harmed", Attack::new(|_| Box::new(disputes::LyingEvaluator)).at(RunRole::Evaluator));
    add("lying_juror", "Finds the opposite of what it sees, of every score that it judges", Attack::new(|_| Box::new(disputes::LyingJuror)));
    add("frivolous_challenger", "Disputes scores that are right, one after another", Attack::new(|_| Box::new(disputes::FrivolousChallenger::default())));
    add("sign_flip", "The opposite of what its training gave", poisons(Poison::SignFlip));
    add("scale", "A hundred times what its training gave", poisons(Poison::Scale));
    add("free_rider", "Zeros, without work", poisons(Poison::FreeRider));
    add("stale", "What its first training gave, in every round", poisons(Poison::Stale));
    attacks
}

/// An attack on the model instead of the protocol. Families of scenarios do not draw these: no promise says that a
/// model withstands them.
fn poisons(poison: Poison) -> Attack {
    Attack::new(move |_| Box::new(PoisonUpdate::new(poison)))
}

/// How one kind of liar bends what its node hears and says. Every method starts out honest.
pub trait Behaviour {
    /// Something is about to reach the node; `None` keeps it away.
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        Some(input)
    }

    /// The node wants something done; what is done is what is put on the stage.
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        cx.act(effect);
    }

    /// The node's tick: time to do something unprovoked.
    fn tick(&mut self, _cx: &mut LiarContext<'_>) {}

    /// Whether `to` gets a blob that lies on this machine's disk.
    fn serves(&self, _hash: &BlobHash, _to: &PeerId) -> bool {
        true
    }

    /// Other names under which it acts.
    fn aliases(&self, _me: &SecretKey) -> Vec<PeerId> {
        Vec::new()
    }
}

/// One dishonest participant.
pub struct Liar {
    /// The name of what it does.
    pub attack: String,
    key: SecretKey,
    rng: ChaCha8Rng,
    behaviour: Box<dyn Behaviour>,
}

impl Liar {
    /// A liar with the key of its machine.
    pub fn new(name: &str, attack: &Attack, key: SecretKey, mut rng: ChaCha8Rng) -> Self {
        let behaviour = (attack.make)(&mut rng);
        Self {
            attack: name.to_owned(),
            key,
            rng,
            behaviour,
        }
    }

    /// Every name it goes by.
    pub fn names(&self) -> Vec<PeerId> {
        let mut names = self.behaviour.aliases(&self.key);
        names.push(self.key.peer_id());
        names
    }

    /// Whether it gives a blob out.
    pub fn serves(&self, hash: &BlobHash, to: &PeerId) -> bool {
        self.behaviour.serves(hash, to)
    }

    /// Bends what is about to reach its node.
    pub fn input(
        &mut self,
        view: &context::LiarView<'_>,
        input: Input,
    ) -> (Option<Input>, context::Acts) {
        let mut acts = context::Acts::default();
        let mut cx = LiarContext::new(&self.key, &mut self.rng, view, &mut acts);
        let is_tick = matches!(input, Input::Timer(Timer::Tick(_)));
        let input = self.behaviour.input(&mut cx, input);
        if is_tick {
            self.behaviour.tick(&mut cx);
        }
        (input, acts)
    }

    /// Bends what its node wants done.
    pub fn effects(&mut self, view: &context::LiarView<'_>, effects: Vec<Effect>) -> context::Acts {
        let mut acts = context::Acts::default();
        for effect in effects {
            let mut cx = LiarContext::new(&self.key, &mut self.rng, view, &mut acts);
            self.behaviour.effect(&mut cx, effect);
        }
        acts
    }
}

pub use context::{Acts, LiarView};
