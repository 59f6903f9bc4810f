//! One run of an index: its chain, its books and what readers see of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_attribution::fold::{Books, FactId, FoldError};
use tributary_attribution::run_books::RunBooks;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::id::{BlockId, PeerId, Round, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::{EntryRef, Joined};

use crate::account::{self, receipt_id};
use crate::view::{
    AdapterView, CreditView, MemberView, RoundView, RunStatementView, SettlementView,
};

/// What a run's blocks say that its certificates name.
#[derive(Default)]
pub(super) struct Heard {
    /// Losses of score sheets, before and after their round.
    pub(super) sheets: BTreeMap<EntryRef, (f64, f64)>,
    /// Filings.
    pub(super) filings: BTreeMap<EntryRef, Entry>,
    /// When blocks with receipts were made, as their authors say: milliseconds since 1970.
    pub(super) times: BTreeMap<BlockId, u64>,
}

/// A run as far as it is certified. A clone shares certificates, rounds and posted facts.
#[derive(Clone)]
pub struct IndexedRun {
    run: RunId,
    manifest: Arc<Manifest>,
    chain: Vec<Arc<Certificate>>,
    /// Behind the chain while a filing that a certificate names has not come.
    books: Arc<RunBooks>,
    /// Why certified rounds are not in the books.
    trouble: Option<FoldError>,
    names: BTreeMap<PeerId, String>,
    members: BTreeMap<PeerId, Joined>,
    earned: BTreeMap<PeerId, CreditView>,
    rounds: Vec<Arc<RoundView>>,
    /// When each height was, as the authors of its receipts say, milliseconds since 1970.
    times: Vec<u64>,
    /// Certified sheets whose block has not come, with the round that they judge.
    awaited: BTreeMap<EntryRef, Round>,
}

impl IndexedRun {
    pub(super) fn new(
        run: RunId,
        manifest: Arc<Manifest>,
        names: BTreeMap<PeerId, String>,
    ) -> Self {
        Self {
            run,
            books: Arc::new(RunBooks::new(&manifest)),
            manifest,
            chain: Vec::new(),
            trouble: None,
            names,
            members: BTreeMap::new(),
            earned: BTreeMap::new(),
            rounds: Vec::new(),
            times: Vec::new(),
            awaited: BTreeMap::new(),
        }
    }

    /// The round that is folded next.
    pub(super) fn next(&self) -> Round {
        Round(self.chain.len() as u32)
    }

    /// Whether a certificate is the next, and builds on the last.
    pub(super) fn goes_on(&self, certificate: &Certificate) -> bool {
        let last = self.chain.last().map(|last| last.value.state);
        certificate.round() == self.next()
            && last.is_none_or(|state| certificate.value.previous == state)
    }

    /// Notes that later certificates are here and the next is not.
    pub(super) fn lacks_a_certificate(&mut self) {
        self.trouble = Some(FoldError::Gap(self.next()));
    }

    /// One certificate on.
    pub(super) fn fold(&mut self, certificate: Arc<Certificate>, heard: &Heard) {
        let value = &certificate.value;
        assert_eq!(value.round, self.next(), "folded out of order");
        account::admit(&mut self.members, value);
        for joined in value.joins.iter().filter(|j| j.role.contributes()) {
            self.earned.entry(joined.entry.author).or_default();
        }
        if (1..=self.manifest.plan.rounds).contains(&value.round.0) {
            let view = account::round_view(value, (None, None));
            self.rounds.push(Arc::new(view));
        }
        let judged = value.round.previous();
        if let Some(judged) = judged {
            let missing = (value.sheets.iter()).filter(|at| !heard.sheets.contains_key(at));
            self.awaited.extend(missing.map(|at| (*at, judged)));
        }
        let times = value
            .included
            .iter()
            .map(|i| heard.times.get(&i.receipt.block).copied());
        let before = self.times.last().copied().unwrap_or_default();
        self.times
            .push(account::median_time(times.flatten()).unwrap_or(before));
        self.chain.push(certificate);
        if let Some(judged) = judged {
            self.judge(judged, heard);
        }
        self.keep_books(heard);
    }

    /// Keeps the books as far as everything is here that certificates name. Whether they have come further.
    pub(super) fn keep_books(&mut self, heard: &Heard) -> bool {
        let before = self.books.expected();
        while self.trouble.is_none()
            && let Some(certificate) = self.chain.get(self.books.expected().0 as usize)
            && (certificate.value.filings.iter()).all(|at| heard.filings.contains_key(at))
        {
            let certificate = certificate.clone();
            if let Err(why) = self.post(&certificate, heard) {
                self.trouble = Some(why);
            }
        }
        self.books.expected() > before
    }

    fn post(&mut self, certificate: &Certificate, heard: &Heard) -> Result<(), FoldError> {
        let books = Arc::make_mut(&mut self.books);
        for id in books.push(&self.manifest, &certificate.value, &heard.filings)? {
            if let FactId::Round(run, judged) = id
                && let Some((_, credits)) = books.books().round(run, judged)
            {
                account::earn(&mut self.earned, credits);
            }
        }
        Ok(())
    }

    /// A round's losses, from the sheets that the next certificate counts.
    fn judge(&mut self, round: Round, heard: &Heard) {
        let next = self.chain.get(round.next().0 as usize);
        let place = round.0.checked_sub(1).map(|at| at as usize);
        if let (Some(next), Some(view)) = (next, place.and_then(|at| self.rounds.get_mut(at))) {
            let counted = next.value.sheets.iter();
            let losses = account::medians(counted.filter_map(|at| heard.sheets.get(at).copied()));
            let view = Arc::make_mut(view);
            (view.loss_before, view.loss_after) = losses;
        }
    }

    /// A sheet came. Whether it had been waited for.
    pub(super) fn hear(&mut self, at: &EntryRef, heard: &Heard) -> bool {
        let Some(judged) = self.awaited.remove(at) else {
            return false;
        };
        self.judge(judged, heard);
        true
    }

    pub(super) fn name(&mut self, peer: PeerId, name: &str) {
        self.names.insert(peer, name.to_owned());
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.run
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Certificates from the genesis on, one a round.
    pub fn chain(&self) -> &[Arc<Certificate>] {
        &self.chain
    }

    /// Names that members gave themselves when they joined.
    pub fn names(&self) -> &BTreeMap<PeerId, String> {
        &self.names
    }

    /// Everyone that was ever admitted, with the latest role.
    pub fn members(&self) -> Vec<MemberView> {
        account::member_views(&self.members, &self.names)
    }

    /// Training rounds that are certified.
    pub fn rounds(&self) -> Vec<RoundView> {
        self.rounds.iter().map(|view| (**view).clone()).collect()
    }

    /// The run's accounts.
    ///
    /// # Errors
    /// When a certificate is missing, or the certified scores cannot be credited; the certificates then
    /// contradict themselves.
    pub fn books(&self) -> Result<&Books, FoldError> {
        match &self.trouble {
            Some(why) => Err(why.clone()),
            None => Ok(self.books.books()),
        }
    }

    /// The run's money: who is paid where, roots, and the test chain.
    ///
    /// # Errors
    /// As [`IndexedRun::books`].
    pub fn run_books(&self) -> Result<&RunBooks, FoldError> {
        self.books().map(|_| &*self.books)
    }

    /// What lies where, of a run with terms of settlement.
    pub fn settlement(&self) -> Option<SettlementView> {
        account::settlement_view(&self.books)
    }

    /// What contributors earned, by id.
    ///
    /// # Errors
    /// As [`IndexedRun::books`].
    pub fn credits(&self) -> Result<Vec<CreditView>, FoldError> {
        let (books, earned) = (self.books()?, self.earned.clone());
        Ok(account::credit_views(earned, books, self.run, &self.names))
    }

    /// `peer`'s part of the account, in periods of `by` rounds (a quarter of the run unless given).
    ///
    /// # Errors
    /// As [`IndexedRun::books`].
    pub fn statement(&self, peer: PeerId, by: Option<u32>) -> Result<RunStatementView, FoldError> {
        let receipt = |round: Round| {
            let included = &self.chain.get(round.0 as usize)?.value.included;
            let own = included.iter().find(|i| i.receipt.author == peer)?;
            Some(receipt_id(&own.receipt))
        };
        let books = self.books()?;
        Ok(account::statement(
            &self.manifest,
            books,
            (peer, by),
            &account::Dated {
                receipt: &receipt,
                time_ms: &|round| self.times.get(round.0 as usize).copied(),
            },
        ))
    }

    /// The adapter after the last certified round; `here` says whether its bytes are at hand.
    pub fn adapter(&self, here: bool) -> Option<AdapterView> {
        let last = self.chain.last()?;
        Some(account::adapter_view(&self.manifest, &last.value, here))
    }
}
