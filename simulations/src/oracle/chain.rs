//! The oracle's own copy of the certified chain: every certificate seen anywhere, re-checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::committee::Committee;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobRef, PeerId, Round, RunId, StateHash};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::{self, Head};

use super::Broken;
use crate::network::NETWORK;

/// The certified rounds, each checked once.
pub(super) struct Chain {
    run: RunId,
    manifest: Manifest,
    /// Value and state of each round from 0 on.
    links: Vec<(RoundValue, Head)>,
    /// Certificates of rounds whose predecessor has not been seen.
    ahead: BTreeMap<Round, Vec<Certificate>>,
    /// Hashes of certificates that were checked.
    known: BTreeSet<Digest>,
    /// Every name of every liar.
    liars: BTreeSet<PeerId>,
    /// The first height in which liars hold enough votes to stop it.
    overrun: Option<Round>,
    /// Whether liars held a quorum of some committee after the genesis.
    captured: bool,
}

impl Chain {
    pub(super) fn new(manifest: Manifest, liars: BTreeSet<PeerId>) -> Self {
        Self {
            run: manifest.run_id(),
            manifest,
            links: Vec::new(),
            ahead: BTreeMap::new(),
            known: BTreeSet::new(),
            liars,
            overrun: None,
            captured: false,
        }
    }

    /// The first height in which liars hold a third of the votes or more: it may never be decided, and
    /// nothing that needs it may happen.
    pub(super) fn overrun(&self) -> Option<Round> {
        self.overrun
    }

    /// Votes of liars.
    fn dishonest(&self, committee: &Committee) -> u64 {
        committee.votes_of(self.liars.iter().copied())
    }

    /// Looks at the committee of the height that is open now.
    fn watch_committee(&mut self) {
        let head = self.links.last().map(|(_, head)| head);
        let committee = state::committee(&self.manifest, &self.run, head);
        self.captured |= self.dishonest(&committee) >= committee.quorum();
        if self.dishonest(&committee) > committee.total() - committee.quorum() {
            self.overrun = self.overrun.or(Some(state::next_round(head)));
        }
    }

    /// Whether honest members alone can decide the open height: they are a quorum of its committee, and enough of them
    /// train. Where liars once were a quorum themselves, nothing is owed any more: what they certified may rest on what
    /// nobody else holds.
    pub(super) fn is_decidable(&self) -> bool {
        let head = self.links.last().map(|(_, head)| head);
        let committee = state::committee(&self.manifest, &self.run, head);
        let votes = committee.total() - self.dishonest(&committee);
        let round = state::next_round(head);
        let trains = round > Round(0) && round < self.manifest.closing_round();
        let contributors = head.into_iter().flat_map(|head| head.roster.contributors());
        let honest = contributors.filter(|member| !self.liars.contains(&member.peer));
        let enough = !trains || honest.count() >= self.manifest.plan.min_contributions as usize;
        votes >= committee.quorum() && enough && !self.captured
    }

    /// The value of a decided height, and who decided it.
    pub(super) fn decided(&self, round: Round) -> Option<(&RoundValue, Committee)> {
        let (value, _) = self.links.get(round.0 as usize)?;
        let before = round.previous().map(|r| &self.links[r.0 as usize].1);
        let committee = state::committee(&self.manifest, &self.run, before);
        Some((value, committee))
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The adapter that every run starts from.
    pub(super) fn first_adapter(&self) -> Vec<f32> {
        let shape = Arc::new(self.manifest.model.adapter.clone());
        Adapter::init(shape, &self.run.0).into_values()
    }

    /// A certificate that some peer holds for good.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if !self.known.insert(hash::blob(bytes)) {
            return Ok(());
        }
        let certificate = Certificate::decode(bytes)
            .map_err(|why| ("certificates are valid", format!("does not decode: {why}")))?;
        self.admit(certificate)?;
        while let Some(next) = self.ahead.remove(&Round(self.links.len() as u32)) {
            next.into_iter().try_for_each(|c| self.admit(c))?;
        }
        Ok(())
    }

    fn admit(&mut self, certificate: Certificate) -> Result<(), Broken> {
        let round = certificate.value.round;
        if round.0 as usize > self.links.len() {
            self.ahead.entry(round).or_default().push(certificate);
            return Ok(());
        }
        let before = round.previous().map(|r| &self.links[r.0 as usize].1);
        let committee = state::committee(&self.manifest, &self.run, before);
        (certificate.verify(&committee, NETWORK))
            .map_err(|why| ("certificates are valid", format!("round {round}: {why}")))?;
        // Two quorums share a member that liars do not own, unless they own all they share.
        let shared = 2 * committee.quorum() - committee.total();
        if self.dishonest(&committee) < shared {
            self.compare_value(&certificate.value)?;
        }
        match self.links.get(round.0 as usize) {
            Some(_) => Ok(()),
            None => {
                let value = certificate.value;
                let head = state::follow(&self.manifest, self.run, before, &value)
                    .map_err(|why| ("certificates are valid", format!("round {round}: {why}")))?;
                self.links.push((value, head));
                self.watch_committee();
                Ok(())
            }
        }
    }

    /// The round that is open: one above the highest whose certificate has been seen.
    pub(super) fn open(&self) -> Round {
        Round(self.links.len() as u32)
    }

    /// Whether the certificate of a round has been seen.
    pub(super) fn knows(&self, round: Round) -> bool {
        (round.0 as usize) < self.links.len()
    }

    /// A peer holds `value` for certified.
    pub(super) fn compare_value(&self, value: &RoundValue) -> Result<(), Broken> {
        match self.links.get(value.round.0 as usize) {
            Some((known, _)) if known != value => Err((
                "no two values are certified for one round",
                format!("round {}: {known:?} and {value:?}", value.round),
            )),
            _ => Ok(()),
        }
    }

    /// A peer holds `state` for the certified state of `round`.
    pub(super) fn compare(&self, round: Round, state: &StateHash) -> Result<(), Broken> {
        match self.links.get(round.0 as usize) {
            Some((_, head)) if head.hash == *state => Ok(()),
            Some((_, head)) => Err((
                "equal inputs give equal states",
                format!(
                    "round {round}: {state:?} where {:?} is certified",
                    head.hash
                ),
            )),
            None => Err(("certificates are valid", format!("round {round} has none"))),
        }
    }

    /// A peer holds this for the adapter of `round`.
    pub(super) fn compare_adapter(&self, round: Round, adapter: &Adapter) -> Result<(), Broken> {
        let found = BlobRef::of(&adapter.to_bytes());
        match self.links.get(round.0 as usize) {
            Some((value, _)) if value.adapter == found => Ok(()),
            Some((value, _)) => Err((
                "equal inputs give equal states",
                format!(
                    "round {round}: adapter {found:?} where {:?} is certified",
                    value.adapter
                ),
            )),
            None => Err(("certificates are valid", format!("round {round} has none"))),
        }
    }
}
