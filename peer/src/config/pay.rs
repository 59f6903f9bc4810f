//! What a run file says of money: what rounds and answers pay, to whom, and where it lies.

use serde::Deserialize;
use tributary_attribution::run_books::test_terms;
use tributary_attribution::settlement::Address;
use tributary_protocol::filing::EvmAddress;
use tributary_protocol::id::{MicroOpen, Ppb};
use tributary_protocol::manifest::{Manifest, RevenueSplit, RoundSplit};

use super::money::open_of;
use super::names::ChainName;
use super::{BUDGETS_PER_NAT, RunFile, RunFileError, bound, ppb};

/// `[round_split]`, fractions of one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoundSplitTable {
    /// Contributors, by credit.
    pub contributors: f64,
    /// Evaluators whose sheets count.
    pub evaluators: f64,
    /// Members that signed the round's root.
    pub members: f64,
}

impl Default for RoundSplitTable {
    fn default() -> Self {
        Self {
            contributors: 0.90,
            evaluators: 0.05,
            members: 0.05,
        }
    }
}

/// `[revenue]`, fractions of one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevenueTable {
    /// Contributors, by their share in the answer.
    pub contributors: f64,
    /// Author of the base model.
    pub base_author: f64,
    /// Server of the answer.
    pub server: f64,
    /// Committee members.
    pub committee: f64,
    /// Stakers.
    pub stakers: f64,
}

impl Default for RevenueTable {
    fn default() -> Self {
        Self {
            contributors: 0.70,
            base_author: 0.05,
            server: 0.15,
            committee: 0.05,
            stakers: 0.05,
        }
    }
}

impl RunFile {
    /// Where the money of a run lies that `sponsor` pays for, written into its manifest.
    ///
    /// # Errors
    /// [`RunFileError::Bound`] names the key of `[settlement]` that is out of bounds.
    pub fn settle(&self, manifest: &mut Manifest, sponsor: Address) -> Result<(), RunFileError> {
        manifest.payment.settlement = match (self.chain, &self.settlement) {
            (ChainName::Test, _) => Some(test_terms(sponsor, manifest)),
            (ChainName::Evm, Some(table)) => Some(self.on_chain(table, sponsor)?),
            (ChainName::None | ChainName::Evm, _) => None,
        };
        Ok(())
    }

    pub(super) fn base_account(&self) -> Result<Option<EvmAddress>, RunFileError> {
        let text = self.base_account.as_str();
        let account = (!text.is_empty()).then(|| text.parse::<Address>());
        let account = account.transpose();
        let account =
            account.map_err(|why| bound("base_account", &format!("is no account: {why}")))?;
        Ok(account.map(|account| EvmAddress(account.0)))
    }

    pub(super) fn budget(&self) -> Result<MicroOpen, RunFileError> {
        open_of("budget_per_round_open", &self.budget_per_round_open)
    }

    pub(super) fn price(&self) -> Result<MicroOpen, RunFileError> {
        let price = open_of("price_per_nat_open", &self.price_per_nat_open)?;
        Ok(match price {
            MicroOpen(0) => MicroOpen(self.budget()?.0.saturating_mul(BUDGETS_PER_NAT)),
            price => price,
        })
    }

    pub(super) fn round_split(&self) -> Result<RoundSplit, RunFileError> {
        let r = &self.round_split;
        let parts = [r.contributors, r.evaluators, r.members];
        let [contributors, evaluators, members] = whole("round_split", parts)?;
        Ok(RoundSplit {
            contributors,
            evaluators,
            members,
        })
    }

    pub(super) fn revenue(&self) -> Result<RevenueSplit, RunFileError> {
        let r = &self.revenue;
        let parts = [
            r.contributors,
            r.base_author,
            r.server,
            r.committee,
            r.stakers,
        ];
        let [contributors, base_author, server, committee, stakers] = whole("revenue", parts)?;
        Ok(RevenueSplit {
            contributors,
            base_author,
            server,
            committee,
            stakers,
        })
    }
}

/// Parts of a table that have to make one.
fn whole<const N: usize>(key: &'static str, parts: [f64; N]) -> Result<[Ppb; N], RunFileError> {
    if parts.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return Err(bound(key, "needs every part between 0 and 1"));
    }
    let parts = parts.map(ppb);
    let sum: u64 = parts.iter().map(|p| u64::from(p.0)).sum();
    match sum == u64::from(Ppb::ONE.0) {
        true => Ok(parts),
        false => Err(bound(
            key,
            &format!("must add up to 1 and adds up to {:.9}", sum as f64 * 1e-9),
        )),
    }
}
