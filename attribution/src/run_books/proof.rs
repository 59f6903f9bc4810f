//! One line of a run's books with everything that proves it ([`Bundle`]).

use tributary_protocol::id::{PeerId, Round};

use super::{Capacity, RunBooks, Settled, SignedRoot, StatementLine};
use crate::settlement::{BaseUnits, Bundle, Lines, Signature, Stake, Subject};

/// Why a line cannot be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnprovenError {
    /// The run names no chain.
    #[error(
        "the run names no chain, so its members sign no roots; only its certificates say what was earned"
    )]
    NoChain,
    /// The chain is not here.
    #[error("stakes of the run's chain are not known here; ask a peer that reads it")]
    NoStakes,
    /// Nothing was earned.
    #[error("nothing was earned for this: `tributary ledger explain` says why")]
    NoLine,
    /// Nobody knows where to pay it.
    #[error(
        "the peer has not said where it is paid, so no root promises this; it does so when its daemon runs in the run"
    )]
    Unbound,
    /// Its peer said too late where to pay it.
    #[error(
        "the peer said only after the closing height where it is paid, and what it had earned of the deposit by then went back to \
         the sponsor; fees that it earns are paid"
    )]
    Late,
    /// Its sheet can still be disputed.
    #[error(
        "what an evaluator earns is paid when its sheet can no longer be disputed, a few heights on; no root promises this yet"
    )]
    Held,
    /// No kept root that has the line was signed by enough stake.
    #[error(
        "no root with this line is signed by more than two thirds of the stake yet; wait for the next heights"
    )]
    NotSigned,
}

impl RunBooks {
    /// Proves what a peer earned in a round.
    ///
    /// # Errors
    /// [`UnprovenError`].
    pub fn prove(
        &self,
        peer: &PeerId,
        round: Round,
        capacity: Capacity,
    ) -> Result<(StatementLine, Bundle), UnprovenError> {
        let settled = self.settled().ok_or(UnprovenError::NoChain)?;
        let is_it = |line: &StatementLine| {
            (line.peer, line.round, line.capacity) == (*peer, round, capacity)
        };
        let at = match self.lines().iter().position(is_it) {
            Some(at) => at,
            None if self.payees.is_held(peer, round, capacity) => return Err(UnprovenError::Held),
            None if self.account(peer).is_none() => return Err(UnprovenError::Unbound),
            None if self.payees.is_late(peer, round, capacity) => return Err(UnprovenError::Late),
            None => return Err(UnprovenError::NoLine),
        };
        let stakes = self.stakes(settled)?;
        let of = |root: &SignedRoot| signed(root, &stakes);
        let roots = settled
            .roots()
            .values()
            .rev()
            .filter(|root| root.lines > at);
        let (root, signatures) = roots
            .filter_map(|root| Some((root, of(root)?)))
            .next()
            .ok_or(UnprovenError::NotSigned)?;
        let lines = &self.lines()[..root.lines];
        let encoded: Vec<Vec<u8>> = lines.iter().map(StatementLine::encode).collect();
        let tree = Lines::build(encoded.iter().map(Vec::as_slice));
        let proof = tree.prove(at).ok_or(UnprovenError::NoLine)?;
        let bundle = Bundle {
            deployment: *settled.deployment(),
            terms: *settled.terms(),
            root: root.root,
            stakes,
            signatures,
            subject: Subject::Line {
                bytes: encoded[at].clone(),
                proof,
            },
        };
        Ok((lines[at], bundle))
    }

    /// The stakes that count now, by account.
    fn stakes(&self, settled: &Settled) -> Result<Vec<Stake>, UnprovenError> {
        let chain = settled.chain().ok_or(UnprovenError::NoStakes)?;
        let key = settled.key();
        let accounts = self.payees.accounts();
        let stakes = accounts.map(|account| Stake {
            account,
            amount: chain.stake(key, account).counting,
        });
        let stakes: Vec<Stake> = stakes.filter(|stake| stake.amount > BaseUnits(0)).collect();
        let sum: u128 = stakes.iter().map(|stake| stake.amount.0).sum();
        // Somebody bonded that is paid nowhere: its stake counts on the chain and could not be listed.
        match sum == chain.run(key).stake.0 {
            true => Ok(stakes),
            false => Err(UnprovenError::NoStakes),
        }
    }
}

/// The signatures under a root by those who have stake, if that is more than two thirds of it.
fn signed(root: &SignedRoot, stakes: &[Stake]) -> Option<Vec<Signature>> {
    let all: u128 = stakes.iter().map(|stake| stake.amount.0).sum();
    let signed = stakes
        .iter()
        .filter(|stake| root.signatures.contains_key(&stake.account));
    let sum: u128 = signed.clone().map(|stake| stake.amount.0).sum();
    let signatures = signed.map(|stake| root.signatures[&stake.account]);
    (3 * sum > 2 * all).then(|| signatures.collect())
}
