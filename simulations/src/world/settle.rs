//! What machines file for the run's books, where a scenario settles on the test chain: each looks after every certificate,
//! as a daemon does.

mod worth;

pub use worth::Worth;

use std::collections::BTreeMap;

use tributary_attribution::Account;
use tributary_attribution::credit::Outcome;
use tributary_attribution::run_books::{Capacity, Dispute, Filer, RunBooks, Settled, SignedRoot};
use tributary_attribution::settlement::{EvmKey, calls};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input};
use tributary_protocol::id::{PeerId, Round, ValueId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::RunView;
use tributary_protocol::round::EntryRef;
use tributary_protocol::sign::SecretKey;

use super::World;
use super::disputes::{self, Look};
use super::serving::Serving;
use crate::clock::{Micros, ms};
use crate::machine::Machine;

/// Books that are kept to go on from: machines are a few heights apart.
const KEPT: usize = 16;
/// How long a world goes on after the run's end for what is still to be posted and claimed.
const PATIENCE: Micros = ms(300_000);

/// The key of the account that a machine is paid at.
pub(crate) fn account(seed: [u8; 32]) -> EvmKey {
    EvmKey::of_peer(&SecretKey::from_seed(seed))
}

/// Where a run's money lay when a world ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Deposited, micro-OPEN.
    pub deposited: u128,
    /// Promised by the last root.
    pub promised: u128,
    /// Taken by accounts.
    pub claimed: u128,
    /// Back with the sponsor.
    pub reclaimed: u128,
    /// Rounds that no deposit covered.
    pub unfunded: Vec<Round>,
    /// Whether everything adds up, here and on the chain.
    pub conserved: bool,
    /// Members that signed another root than the books lead to.
    pub dissent: Vec<PeerId>,
    /// Heights behind the closing.
    pub epochs: u32,
    /// Fees that answers brought.
    pub fees: u128,
    /// What of them the server has for serving.
    pub served: u128,
    /// What of them is burned.
    pub burned: u128,
    /// What contributors have of them, by peer.
    pub answers: BTreeMap<PeerId, u128>,
    /// What each participant is worth, by its index: all its payments and costs are in it.
    pub worths: Vec<Worth>,
    /// What the consumer of the answers is worth, which is no member; where there are answers.
    pub consumer: Option<Worth>,
    /// Posted roots of the newest heights that were replaced, or void after a challenge.
    pub dropped: usize,
    /// Disputes, in the order in which they were opened.
    pub disputes: Vec<Dispute>,
    /// What evaluators that lost were not paid for rounds, by evaluator.
    pub forfeited: BTreeMap<PeerId, u128>,
    /// Whether books that honest machines kept from the genesis on, each from its own log, say the same; of an audited world.
    pub agreed: Option<bool>,
    /// Participants that do not follow the protocol, by index.
    pub liars: Vec<usize>,
}

/// Books by the value that they end with: honest machines with one history share one.
#[derive(Default)]
pub(super) struct Ledgers {
    books: BTreeMap<(Round, ValueId), RunBooks>,
    /// The books that each machine looked at last.
    seen: BTreeMap<usize, (Round, ValueId)>,
    /// Of each machine the boot and the height at which it looked last.
    looked: BTreeMap<usize, (u32, usize)>,
    /// Machines that have filed something that no certificate named when they looked last.
    waiting: BTreeMap<usize, usize>,
    /// When everybody had finished the run.
    finished: Option<Micros>,
    /// Who serves, once somebody was looked for.
    serving: Option<Serving>,
    /// Whether each honest machine's books are kept once more at the end, and compared.
    is_audited: bool,
}

impl Ledgers {
    /// The books of a machine's chain; none while a filing that it names is not there.
    fn follow(&mut self, manifest: &Manifest, view: &RunView<'_>) -> Option<&RunBooks> {
        let chain = view.chain();
        let name = |at: usize| (chain[at].round(), chain[at].value.id());
        let known = (0..chain.len())
            .rev()
            .find(|at| self.books.contains_key(&name(*at)));
        let books = match known {
            Some(at) => self.books[&name(at)].clone(),
            None => RunBooks::new(manifest),
        };
        let books = fold(books, manifest, view)?;
        let key = tip(view);
        self.books.insert(key, books);
        while self.books.len() > KEPT {
            self.books.pop_first();
        }
        self.books.get(&key)
    }

    /// The books that a machine looked at last, while they are kept.
    pub(super) fn of(&self, at: usize) -> Option<&RunBooks> {
        self.books.get(self.seen.get(&at)?)
    }
}

/// Books that go on to the end of a machine's chain; none while a filing that it names is not there.
fn fold(mut books: RunBooks, manifest: &Manifest, view: &RunView<'_>) -> Option<RunBooks> {
    for certificate in &view.chain()[books.expected().0 as usize..] {
        let value = &certificate.value;
        let entry = |at: &EntryRef| Some((*at, view.log().entry(at)?.clone()));
        let filings: BTreeMap<EntryRef, Entry> = value.filings.iter().filter_map(entry).collect();
        if filings.len() < value.filings.len() {
            return None;
        }
        books.push(manifest, value, &filings).ok()?;
    }
    Some(books)
}

/// Whether the chain has dropped a root that was posted.
fn is_dropped(settled: &Settled, root: &SignedRoot) -> bool {
    let contract = calls::Settlement(settled.deployment().contract);
    let asked = settled
        .chain()
        .map(|chain| chain.read(&contract.dropped(root.digest)));
    asked.is_some_and(|dropped| dropped == Ok(true))
}

/// The name of the books of a machine's whole chain.
fn tip(view: &RunView<'_>) -> (Round, ValueId) {
    let last = view.chain().last();
    last.map_or((Round(0), ValueId::default()), |certificate| {
        (certificate.round(), certificate.value.id())
    })
}

impl World {
    /// Has a machine file what it owes to the books, once a boot and height.
    pub(super) fn keep_books(&mut self, at: usize) {
        if self.manifest.payment.settlement.is_none() {
            return;
        }
        let machine = &self.machines[at];
        let Some(view) = machine.node.as_ref().and_then(|node| node.run(&self.run)) else {
            return;
        };
        let place = (machine.boot, view.chain().len());
        let is_creator = machine.id == self.manifest.creator;
        let is_early = view.manifest().is_none() || place.1 == 0 && !is_creator;
        if is_early || self.ledgers.looked.get(&at) == Some(&place) {
            return;
        }
        let serving = self.ledgers.serving.filter(|serving| serving.server == at);
        let is_challenger = self.scenario.run.disputes && Some(at) == self.challenger();
        self.ledgers.seen.insert(at, tip(&view));
        let Some(books) = self.ledgers.follow(&self.manifest, &view) else {
            return;
        };
        let (peer, key) = (machine.id, &account(machine.seed));
        let own = view.log().entries(peer);
        let pending: Vec<&Entry> = own
            .filter(|(at, entry)| entry.is_filing() && !books.has_filed(at))
            .map(|(_, entry)| entry)
            .collect();
        let look = Look {
            manifest: &self.manifest,
            books,
            log: view.log(),
            me: peer,
            pending: &pending,
        };
        let found = self.computed.findings(&look);
        let filer = Filer {
            findings: Some(&found),
            ..Filer::new(peer, key)
        };
        let mut filings = books.duties(&self.manifest, filer, &pending);
        if is_creator && books.expected().0 < self.scenario.run.deposit_height {
            filings.retain(|filing| !matches!(filing, Entry::Transaction(_)));
        }
        if is_challenger {
            filings.extend(self.computed.opening(&look));
        }
        if machine.liar.is_none() {
            filings.extend(self.computed.appeals(&look));
        }
        let is_closed = books.expected() > self.manifest.closing_round();
        let serving = serving.filter(|_| is_closed).map(|mut serving| {
            filings.extend(serving.filings(books, key));
            serving
        });
        let facts = books
            .settled()
            .and_then(|settled| settled.chain_facts())
            .cloned();
        let waiting = pending.len() + filings.len();
        self.ledgers.serving = serving.or(self.ledgers.serving);
        self.ledgers.looked.insert(at, place);
        self.ledgers.waiting.insert(at, waiting);
        let run = self.run;
        if let Some(facts) = facts {
            self.feed(at, Input::Chain { run, facts });
        }
        if !filings.is_empty() {
            self.feed(at, Input::Command(Command::File { run, filings }));
        }
    }

    /// The honest member that disputes made-up scores.
    fn challenger(&self) -> Option<usize> {
        let mut machines = self.machines.iter();
        machines.position(|machine| machine.liar.is_none())
    }

    /// Whether nobody honest waits for a filing any more, or has waited long enough.
    pub(super) fn has_settled(&mut self) -> bool {
        if self.manifest.payment.settlement.is_none() {
            return true;
        }
        let since = *self.ledgers.finished.get_or_insert(self.now);
        let is_served = self.has_served();
        let is_idle = is_served
            && (self.machines.iter().enumerate())
                .filter(|(_, machine)| machine.liar.is_none())
                .all(|(at, _)| {
                    self.ledgers
                        .waiting
                        .get(&at)
                        .is_none_or(|waiting| *waiting == 0)
                });
        // A moment more, for what was said last to reach everybody.
        let over = if is_idle { ms(10_000) } else { PATIENCE };
        self.now >= since + over
    }

    /// Casts who serves: a liar that lies as a server, or the last machine.
    pub(super) fn cast_server(&mut self) {
        let batches = self.scenario.run.answers;
        let is_liar = |machine: &Machine| {
            let liar = machine.liar.as_ref();
            liar.is_some_and(|liar| liar.attack.ends_with("_server"))
        };
        let last = self.machines.len().saturating_sub(1);
        let server = self.machines.iter().position(is_liar).unwrap_or(last);
        self.ledgers.serving = (batches > 0).then(|| Serving::new(server, batches));
    }

    /// Whether all answers are served and claimed, as far as the server sees; or there are none.
    fn has_served(&mut self) -> bool {
        let Some(serving) = self.ledgers.serving else {
            return true;
        };
        let machine = &self.machines[serving.server];
        let key = account(machine.seed);
        let view = machine.node.as_ref().and_then(|node| node.run(&self.run));
        let books = view.and_then(|view| self.ledgers.follow(&self.manifest, &view));
        books.is_some_and(|books| serving.is_over(books, &key))
    }

    /// Has books compared at the end that each honest machine keeps for itself.
    pub fn audited(mut self) -> Self {
        self.ledgers.is_audited = true;
        self
    }

    /// Whether books of honest machines with one chain say the same, each kept from the genesis on.
    fn agree(&self) -> bool {
        let honest = self
            .machines
            .iter()
            .filter(|machine| machine.liar.is_none());
        let views = honest.filter_map(|machine| machine.node.as_ref()?.run(&self.run));
        let books = views.map(|view| fold(RunBooks::new(&self.manifest), &self.manifest, &view));
        let books: Option<Vec<RunBooks>> = books.collect();
        let says = |books: &RunBooks| {
            let balances: Vec<_> = books.books().balances().collect();
            let lines = books.lines().to_vec();
            let disputes: Vec<_> = books
                .disputes()
                .map(|(at, one)| (*at, one.clone()))
                .collect();
            (balances, lines, disputes)
        };
        let is_sound = |books: &[RunBooks]| {
            books.iter().all(RunBooks::is_conserved)
                && books
                    .windows(2)
                    .all(|pair| says(&pair[0]) == says(&pair[1]))
        };
        books.is_some_and(|books| is_sound(&books))
    }

    /// Where the money lies, by the first honest machine.
    pub(super) fn settlement(&mut self) -> Option<Settlement> {
        self.manifest.payment.settlement?;
        let honest = self
            .machines
            .iter()
            .filter(|machine| machine.liar.is_none());
        let mut views = honest.filter_map(|m| m.node.as_ref()?.run(&self.run));
        let view = views.next()?;
        let epochs =
            (view.chain().len() as u32).saturating_sub(self.manifest.closing_round().0 + 1);
        let server = self.ledgers.serving.map(|serving| serving.server);
        let server = server.map(|at| account(self.machines[at].seed).address());
        let agreed = self.ledgers.is_audited && self.agree();
        let books = self.ledgers.follow(&self.manifest, &view)?;
        let settled = books.settled()?;
        let run = settled.chain()?.run(settled.key());
        let rounds = books.books().rounds(self.run);
        let burned = books.books().balance(self.run, Account::Burned);
        let drawn = worth::Drawn::follow(&view);
        let worth = |machine: &Machine| drawn.worth(settled, account(machine.seed).address());
        let earned = |of: Capacity| {
            let lines = books.lines().iter();
            lines.filter(move |line| line.capacity == of)
        };
        let mut answers = BTreeMap::new();
        for line in earned(Capacity::Answers) {
            *answers.entry(line.peer).or_default() += line.amount.0;
        }
        let unfunded = rounds.filter(|(_, credits)| credits.outcome == Outcome::Unfunded);
        let last = settled
            .roots()
            .last_key_value()
            .map(|(_, root)| root.root.total);
        Some(Settlement {
            deposited: run.deposited.to_micro_floor().0,
            promised: last.unwrap_or_default().to_micro_floor().0,
            claimed: run.paid.to_micro_floor().0,
            reclaimed: run.reclaimed.to_micro_floor().0,
            unfunded: unfunded.map(|(round, _)| round.round).collect(),
            conserved: books.is_conserved(),
            dissent: settled.dissent().map(|(_, peer)| peer).collect(),
            epochs,
            fees: run.fees.to_micro_floor().0,
            served: earned(Capacity::Server).map(|line| line.amount.0).sum(),
            burned: burned.0.unsigned_abs(),
            answers,
            worths: self.machines.iter().map(worth).collect::<Option<_>>()?,
            consumer: server.and_then(|server| drawn.consumer(books, server)),
            dropped: settled
                .roots()
                .values()
                .filter(|root| is_dropped(settled, root))
                .count(),
            disputes: books.disputes().map(|(_, one)| one.clone()).collect(),
            forfeited: disputes::forfeited(books),
            agreed: self.ledgers.is_audited.then_some(agreed),
            liars: (0..self.machines.len())
                .filter(|at| self.machines[*at].liar.is_some())
                .collect(),
        })
    }
}
