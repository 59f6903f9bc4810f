//! Files what this peer owes to the books of its runs: where it is paid, its signatures under roots, and on the test chain
//! its transactions.
//!
//! What is to be filed follows from the certified books alone ([`RunBooks::duties`]); this asks after each certificate. A
//! crash between any two steps costs nothing: the next look starts from what certificates say then.

pub(crate) mod cashier;
pub(crate) mod chain;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tributary_attribution::run_books::{Filer, RunBooks, Settled, bind_of};
use tributary_attribution::settlement::{Address, EvmKey, Keccak};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Command;
use tributary_protocol::filing::{Bind, Finding};
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::manifest::{Manifest, SettlementChain};
use tributary_protocol::node::Node;
use tributary_protocol::round::EntryRef;

use crate::driver::Request;
use crate::identity::Identity;
use crate::indexer::Indexer;
use crate::progress::RunProgress;
use crate::settings::ChainAccess;
use chain::ChainReader;

/// The key of the account that a peer is paid at. Who has the seed has it.
pub(crate) fn account(identity: &Identity) -> EvmKey {
    EvmKey::of_peer(&identity.signing_key())
}

/// The account that a peer is paid at.
pub(crate) fn account_of(identity: &Identity) -> Address {
    account(identity).address()
}

/// Looks at the books of runs and files what is due. Cheap to clone; it does not keep the driver alive.
#[derive(Clone)]
pub(crate) struct Keeper {
    peer: PeerId,
    key: Arc<EvmKey>,
    /// The key on a real chain, which may be another.
    real: Arc<EvmKey>,
    /// Of runs on a real chain: the posted root that somebody challenged, by its digest, as this peer reads it.
    challenged: Arc<Mutex<BTreeMap<RunId, Keccak>>>,
    /// What this peer found as a juror.
    findings: Arc<Mutex<BTreeMap<RunId, BTreeMap<EntryRef, Finding>>>>,
    requests: mpsc::WeakSender<Request<Node>>,
    indexer: Indexer,
}

impl Keeper {
    /// The account that this peer is paid at.
    pub(crate) fn account(&self) -> Address {
        self.key.address()
    }

    /// The key of the account that this peer is paid at in a run.
    fn key_in(&self, manifest: &Manifest) -> &EvmKey {
        match is_on_real_chain(manifest) {
            true => &self.real,
            false => &self.key,
        }
    }

    /// What a join of a run on a real chain says of the account whose stake admits this peer; none of another run.
    pub(crate) fn bind(&self, manifest: &Manifest) -> Option<Bind> {
        let settlement = manifest.payment.settlement.as_ref();
        let settlement = settlement.filter(|_| is_on_real_chain(manifest))?;
        Some(bind_of(
            manifest.run_id(),
            settlement,
            self.peer,
            &self.real,
        ))
    }

    /// This peer.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Files what a peer owes to the books of its runs, and reads their chains, while the daemon runs.
    pub(crate) fn start(
        (identity, chain): (&Identity, ChainAccess),
        requests: &mpsc::Sender<Request<Node>>,
        indexer: &Indexer,
        progress: &watch::Receiver<Arc<Vec<RunProgress>>>,
    ) -> Self {
        let key = account(identity);
        let real = chain.wallet.map(|wallet| wallet.key().clone());
        let keeper = Self {
            peer: identity.peer_id(),
            real: Arc::new(real.unwrap_or_else(|| key.clone())),
            key: Arc::new(key),
            challenged: Arc::default(),
            findings: Arc::default(),
            requests: requests.downgrade(),
            indexer: indexer.clone(),
        };
        tokio::spawn(keeper.clone().run(progress.clone()));
        let reader = ChainReader::new(keeper.clone(), chain.settings);
        tokio::spawn(reader.run(progress.clone()));
        keeper
    }

    /// Looks after each certificate, until the driver ends.
    async fn run(self, mut progress: watch::Receiver<Arc<Vec<RunProgress>>>) {
        let mut seen: BTreeMap<RunId, Round> = BTreeMap::new();
        loop {
            let runs = progress.borrow_and_update().clone();
            for run in runs.iter() {
                let Some(certified) = run.certified.filter(|_| settles(run)) else {
                    continue;
                };
                if seen.get(&run.run) != Some(&certified) && self.look(run.run).await {
                    seen.insert(run.run, certified);
                }
            }
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Files what is due in a run. Whether the books were as far as the certificates, so that there is no need to look
    /// again before the next.
    pub(crate) async fn look(&self, run: RunId) -> bool {
        let Some((own, next)) = self.own_filings(run).await else {
            return false;
        };
        let snapshot = self.indexer.current().await;
        let Some(indexed) = snapshot.run(&run) else {
            return false;
        };
        let Ok(books) = indexed.run_books() else {
            return false;
        };
        if books.expected() != next {
            return false;
        }
        let facts = books.settled().and_then(Settled::chain_facts);
        if let (Some(facts), Some(requests)) = (facts, self.requests.upgrade()) {
            // A driver that has stopped asks for nothing more.
            let _ = requests.send(Request::Chain(run, facts.clone())).await;
        }
        let filings = self.due(indexed.manifest(), books, &own);
        if filings.is_empty() {
            return true;
        }
        // What is refused now is asked for again after the next certificate, and not at every message.
        if let Err(why) = self.file(run, filings).await {
            tracing::warn!("could not file in run {}: {why}", run.short());
        }
        true
    }

    fn due(&self, manifest: &Manifest, books: &RunBooks, own: &[(EntryRef, Entry)]) -> Vec<Entry> {
        let pending: Vec<&Entry> = (own.iter())
            .filter(|(at, _)| !books.has_filed(at))
            .map(|(_, entry)| entry)
            .collect();
        let (peer, key) = (self.peer, self.key_in(manifest));
        let run = manifest.run_id();
        let challenged = self.challenged.lock().get(&run).copied();
        let findings = self.findings.lock().get(&run).cloned();
        let filer = Filer {
            peer,
            key,
            challenged,
            findings: findings.as_ref(),
        };
        books.duties(manifest, filer, &pending)
    }

    /// Takes note of the posted root that a run's chain says is challenged, or that none is, and files this peer's answer.
    async fn note_challenge(&self, run: RunId, challenged: Option<Keccak>) {
        match challenged {
            Some(root) => {
                self.challenged.lock().insert(run, root);
                self.look(run).await;
            }
            None => {
                self.challenged.lock().remove(&run);
            }
        }
    }

    /// Whether this peer, as a juror, has found something in a dispute.
    pub(crate) fn has_found(&self, run: &RunId, dispute: &EntryRef) -> bool {
        let findings = self.findings.lock();
        findings
            .get(run)
            .is_some_and(|found| found.contains_key(dispute))
    }

    /// Files what this peer found as a juror.
    pub(crate) async fn find(&self, run: RunId, dispute: EntryRef, finding: Finding) {
        {
            let mut findings = self.findings.lock();
            findings.entry(run).or_default().insert(dispute, finding);
        }
        self.look(run).await;
    }

    /// What this peer has filed in a run, and the height that is open.
    async fn own_filings(&self, run: RunId) -> Option<(Vec<(EntryRef, Entry)>, Round)> {
        let (answer, wait) = oneshot::channel();
        let me = self.peer;
        let look = move |node: &Node| {
            let found = node.run(&run).map(|view| {
                let own = view.log().entries(me);
                let filings = own.filter(|(_, entry)| entry.is_filing());
                let filings = filings.map(|(at, entry)| (at, entry.clone()));
                (filings.collect(), Round(view.chain().len() as u32))
            });
            let _ = answer.send(found);
        };
        let request = Request::Inspect(Box::new(look));
        self.requests.upgrade()?.send(request).await.ok()?;
        wait.await.ok()?
    }

    /// What `ask` answers about a run's books, as far as they are now.
    pub(crate) fn with_books<T>(
        &self,
        run: &RunId,
        ask: impl FnOnce(&RunBooks) -> Option<T>,
    ) -> Option<T> {
        let snapshot = self.indexer.latest();
        ask(snapshot.run(run)?.run_books().ok()?)
    }

    /// Files in a run; Ok once it is durable.
    ///
    /// # Errors
    /// Why the node takes it not, or that the daemon has stopped.
    pub(crate) async fn file(&self, run: RunId, filings: Vec<Entry>) -> Result<(), String> {
        let stopped = || "the daemon has stopped".to_owned();
        let (answer, wait) = oneshot::channel();
        let command = Request::Command(Command::File { run, filings }, answer);
        let requests = self.requests.upgrade().ok_or_else(stopped)?;
        requests.send(command).await.map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }
}

fn settles(run: &RunProgress) -> bool {
    let manifest = run.manifest.as_ref();
    manifest.is_some_and(|manifest| manifest.payment.settlement.is_some())
}

/// Whether the money of a run lies on a real chain.
pub(crate) fn is_on_real_chain(manifest: &Manifest) -> bool {
    let settlement = manifest.payment.settlement;
    settlement.is_some_and(|terms| matches!(terms.chain, SettlementChain::Evm { .. }))
}
