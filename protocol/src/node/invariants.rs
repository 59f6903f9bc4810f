//! What holds of a run between any two inputs, said once and asserted after each of them where assertions are on.
//!
//! The simulator and all tests run with them. A liar can make a peer do useless work; it cannot bring about what is
//! excluded here.

use super::run::Run;

impl Run {
    /// Asserts everything below.
    pub(super) fn assert_invariants(&self) {
        self.assert_chain();
        self.assert_adapters();
        self.assert_open_height();
        self.assert_receipts();
        self.own
            .assert_invariants(self.next(), self.manifest.is_some());
    }

    /// The head is what the chain leads to.
    fn assert_chain(&self) {
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
        let last = self.chain.last().map(|certificate| &certificate.value);
        assert_eq!(
            self.head.as_ref().map(|head| (head.hash, head.adapter)),
            last.map(|value| (value.state, value.adapter)),
            "the head is the last value's"
        );
        let known = self.manifest.is_some();
        assert!(known || self.head.is_none(), "no head without a manifest");
        assert!(
            !(known && self.declined.is_some()),
            "a run that was declined is not followed"
        );
        let next = self.next();
        assert!(
            (self.awaited.iter()).all(|awaited| awaited.round() == next),
            "what waits for its entries is next"
        );
    }

    /// No adapter is newer than what is certified.
    fn assert_adapters(&self) {
        let next = self.next();
        let behind = |round| round < next;
        assert!(
            self.adapter
                .as_ref()
                .is_none_or(|(round, _)| behind(*round)),
            "an adapter of a certified round"
        );
        assert!(
            self.scorable
                .as_ref()
                .is_none_or(|scorable| behind(scorable.round)),
            "a step that was certified"
        );
        assert!(
            self.scoring.is_none_or(behind),
            "only certified rounds are scored"
        );
        let shape = self
            .manifest
            .as_ref()
            .map(|manifest| &manifest.model.adapter);
        assert!(
            (self.adapter.iter()).all(|(_, adapter)| Some(&**adapter.shape()) == shape),
            "the adapter is of the run's shape"
        );
    }

    /// Everything of the open height is of the height that is open.
    fn assert_open_height(&self) {
        let next = self.next();
        assert!(
            self.height
                .as_ref()
                .is_none_or(|deciding| deciding.round == next),
            "a seat decides the open height"
        );
        assert!(
            self.height.is_none() || !self.is_finished(),
            "nothing is decided after the closing height"
        );
        let judging = self.height.iter().flat_map(|deciding| &deciding.judging);
        assert!(
            judging.into_iter().all(|value| value.round == next),
            "only values of the open height are judged"
        );
        let draft = (self.height.iter()).find_map(|deciding| deciding.draft.as_ref());
        assert!(
            draft.is_none_or(|(attempt, selection)| selection.attempt == *attempt),
            "a draft is of its attempt"
        );
        assert!(
            self.closed.is_none() || self.is_training_round(next),
            "receipts close in rounds that train"
        );
        assert!(
            !self.hurried || self.grace.is_some(),
            "only a grace window hurries"
        );
        assert!(
            self.replay.keys().all(|round| *round >= next),
            "no record of a decided height is left to replay"
        );
    }

    /// What may be included is of the open round, and was not found spoiled.
    fn assert_receipts(&self) {
        let next = self.next();
        assert!(
            self.fitting
                .iter()
                .all(|(_, _, receipt)| receipt.round == next),
            "receipts of the open round"
        );
        assert!(
            self.fitting.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "one receipt of an author, by author"
        );
        assert!(
            (self.fitting.iter()).all(|(peer, at, _)| at.author == *peer),
            "a receipt is its author's"
        );
        assert!(
            (self.fitting.iter())
                .all(|(_, _, receipt)| !self.spoiled.contains(&receipt.update.hash)),
            "nothing spoiled may be included"
        );
        assert!(
            self.spoiled
                .iter()
                .all(|hash| self.readable.get(hash) != Some(&true)),
            "what is spoiled cannot be read"
        );
    }
}
