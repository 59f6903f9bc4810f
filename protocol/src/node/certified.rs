//! What certificates alone prove of a run: its rounds from the genesis on, without gaps, and the state they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::committee::Committee;
use crate::hash::Digest;
use crate::id::{BlobRef, MicroOpen, NetworkId, PeerId, Round, RunId};
use crate::limits;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::{EntryRef, RoundValue};
use crate::state::{self, Head};

/// The certified past of a run.
pub(super) struct Certified {
    pub(super) id: RunId,
    pub(super) manifest: Arc<Manifest>,
    /// Verified certificates from round 0 on, without gaps.
    chain: Vec<Certificate>,
    /// The committee that decided each of them.
    committees: Vec<Committee>,
    /// What the chain proves; `None` before the genesis.
    head: Option<Head>,
    /// Filings that the chain has put in order.
    filed: BTreeSet<EntryRef>,
    /// What anchors say of payment channels.
    claimed: BTreeMap<Digest, MicroOpen>,
    /// Members whose contradiction of a certificate is kept, by round.
    exposed: BTreeSet<(Round, PeerId)>,
}

impl Certified {
    pub(super) fn new(id: RunId, manifest: Arc<Manifest>) -> Self {
        assert_eq!(manifest.run_id(), id, "a run is named by its manifest");
        Self {
            id,
            manifest,
            chain: Vec::new(),
            committees: Vec::new(),
            head: None,
            filed: BTreeSet::new(),
            claimed: BTreeMap::new(),
            exposed: BTreeSet::new(),
        }
    }

    pub(super) fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The round certified last.
    pub(super) fn round(&self) -> Option<Round> {
        self.head.as_ref().map(|head| head.round)
    }

    /// The height that is open.
    pub(super) fn next(&self) -> Round {
        state::next_round(self.head.as_ref())
    }

    /// Whether the closing height is certified: what comes now are epochs.
    pub(super) fn is_finished(&self) -> bool {
        self.round() >= Some(self.manifest.closing_round())
    }

    /// What the last anchor to name a channel says was claimed of it.
    pub(super) fn claimed(&self, channel: &Digest) -> MicroOpen {
        self.claimed.get(channel).copied().unwrap_or_default()
    }

    /// Whether a certificate has put a filing in order.
    pub(super) fn has_filed(&self, filing: &EntryRef) -> bool {
        self.filed.contains(filing)
    }

    /// The value certified last.
    pub(super) fn last_value(&self) -> Option<&RoundValue> {
        self.chain.last().map(|certificate| &certificate.value)
    }

    pub(super) fn is_training_round(&self, round: Round) -> bool {
        round.0 >= 1 && round < self.manifest.closing_round()
    }

    pub(super) fn is_member(&self, peer: &PeerId) -> bool {
        (self.head.as_ref()).is_some_and(|head| head.roster.get(peer).is_some())
    }

    pub(super) fn is_participant(&self, peer: &PeerId) -> bool {
        (self.head.as_ref()).is_some_and(|head| head.is_participant(peer))
    }

    /// Whether a peer judges the round certified last.
    pub(super) fn is_evaluator(&self, peer: &PeerId) -> bool {
        (self.head.as_ref()).is_some_and(|head| head.panel.contains(peer))
    }

    /// Whether a peer judges some rounds, and so needs what they are judged by: it is named, or may be drawn.
    pub(super) fn may_judge(&self, peer: &PeerId) -> bool {
        let joined = || {
            let member = self.head.as_ref().and_then(|head| head.roster.get(peer));
            member.is_some_and(|member| member.role.evaluates())
        };
        match self.manifest.is_bonded() {
            true => joined(),
            false => self.manifest.may_evaluate(peer),
        }
    }

    /// Whether contributors are drawn for a round, so that not every member follows every step.
    pub(super) fn is_sampled(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.is_sampled)
    }

    /// Draws the committee of the open height. Of a thousand members that is a thousand hashes.
    pub(super) fn draw_committee(&self) -> Committee {
        state::committee(&self.manifest, &self.id, self.head.as_ref())
    }

    /// The head that a value leads to.
    pub(super) fn follow(&self, value: &RoundValue) -> Result<Head, Rejection> {
        state::follow(&self.manifest, self.id, self.head.as_ref(), value)
    }

    /// Appends a verified certificate and the head it leads to; keeps its committee, which whoever contradicts it
    /// must have been a member of.
    pub(super) fn extend(&mut self, head: Head, certificate: Certificate, committee: Committee) {
        assert_eq!(head.round, self.next(), "rounds are certified one by one");
        assert_eq!(
            head.hash, certificate.value.state,
            "the head is its value's"
        );
        self.filed.extend(&certificate.value.filings);
        let anchored = certificate
            .value
            .anchor
            .iter()
            .flat_map(|anchor| &anchor.channels);
        (self.claimed).extend(anchored.map(|one| (one.channel, one.claimed)));
        self.head = Some(head);
        self.chain.push(certificate);
        self.committees.push(committee);
    }

    /// Notes members that are known to have signed two values of one round.
    pub(super) fn note_exposed(&mut self, round: Round, peers: impl IntoIterator<Item = PeerId>) {
        let peers = peers.into_iter().map(|peer| (round, peer));
        self.exposed.extend(peers);
    }

    /// Compares a certificate with that of its round here. Returns the members that it is the first to expose: more
    /// than a third of the committee lied. One contradiction proves all that a second one would.
    ///
    /// # Errors
    /// [`Rejection`] when it contradicts and is not signed by the round's committee.
    pub(super) fn expose(
        &mut self,
        certificate: &Certificate,
        network: NetworkId,
    ) -> Result<Vec<PeerId>, Rejection> {
        let round = certificate.value.round;
        let at = round.0 as usize;
        // The committee that signed both is the same one, drawn from the state before.
        let (Some(known), Some(committee)) = (self.chain.get(at), self.committees.get(at)) else {
            return Ok(Vec::new());
        };
        if known.value.id() == certificate.value.id() {
            return Ok(Vec::new());
        }
        certificate.verify(committee, network)?;
        let liars: Vec<PeerId> = (certificate.precommits.iter())
            .map(|(peer, _)| *peer)
            .filter(|peer| known.precommits.iter().any(|(other, _)| other == peer))
            .filter(|peer| !self.exposed.contains(&(round, *peer)))
            .collect();
        self.note_exposed(round, liars.iter().copied());
        Ok(liars)
    }

    /// Updates that a certified round includes, with who should have them.
    pub(super) fn updates_of(&self, round: Round) -> Vec<(BlobRef, Vec<PeerId>)> {
        let certificate = self.chain.get(round.0 as usize);
        (certificate.into_iter()).flat_map(Self::updates).collect()
    }

    /// Updates that a certificate includes, with who should have them: the author, then who signed it.
    pub(super) fn updates(
        certificate: &Certificate,
    ) -> impl Iterator<Item = (BlobRef, Vec<PeerId>)> + '_ {
        (certificate.value.included.iter()).map(|i| {
            let signers = certificate.precommits.iter().map(|(peer, _)| *peer);
            let providers = std::iter::once(i.receipt.author).chain(signers);
            (i.update, providers.collect())
        })
    }

    /// Asserts that the head is what the chain leads to.
    pub(super) fn assert_invariants(&self) {
        assert_eq!(
            self.chain.len(),
            self.committees.len(),
            "a committee for each height"
        );
        assert_eq!(
            self.next().0 as usize,
            self.chain.len(),
            "a certificate for each height behind"
        );
        let last = self.last_value();
        assert_eq!(
            (self.head.as_ref()).map(|head| (head.hash, head.adapter, head.beacon)),
            last.map(|value| (value.state, value.adapter, value.beacon)),
            "the head is the last value's"
        );
        let links = self.chain.windows(2);
        let last_link = links.last();
        assert!(
            last_link.is_none_or(|pair| pair[0].value.state == pair[1].value.previous),
            "each value follows the one before"
        );
        let Some(head) = &self.head else { return };
        assert!(
            self.filed.len() <= self.chain.len() * limits::MAX_FILINGS,
            "no more filings than heights have room for"
        );
        assert!(
            head.participants.len() <= self.manifest.plan.participants as usize,
            "no more contributors than the manifest draws"
        );
        assert!(
            (head.participants.iter()).all(|peer| self.is_member(peer)),
            "contributors are drawn of the members"
        );
        assert!(
            self.exposed.iter().all(|(round, _)| *round <= self.next()),
            "nobody contradicts what is to come"
        );
    }
}
