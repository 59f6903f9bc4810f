//! `tributary settle sentence`: what the loser of a dispute pays, brought to the contract.

use data_encoding::HEXLOWER;
use tributary_attribution::settlement::{Address, BaseUnits, Keccak, Signature, Slash};
use tributary_ledger::view::disputes::{DisputeView, SentenceView};
use tributary_ledger::view::short;

use super::steps::{Step, waits};
use super::{Context, Found, of_action, open};
use crate::api::Reader;
use crate::problem::{Code, Problem};
use crate::terminal::Failure;

/// The one dispute whose id begins so.
fn named<'a>(disputes: &'a [DisputeView], digits: &str) -> Result<&'a DisputeView, Failure> {
    let mut named = disputes.iter().filter(|one| one.id.starts_with(digits));
    match (named.next(), named.next()) {
        (Some(dispute), None) => Ok(dispute),
        _ => Err(Failure::from(
            Problem::new(
                Code::UnknownId,
                format!("not exactly one dispute begins with {digits:?}"),
            )
            .hint("`tributary dispute list RUN` shows their ids"),
        )),
    }
}

/// What is signed, and the signatures.
fn read(found: &Found, view: &SentenceView) -> Option<(Slash, Vec<Signature>)> {
    let slash = Slash {
        run: found.terms.key(),
        account: view.account.parse::<Address>().ok()?,
        amount: BaseUnits(view.units.parse().ok()?),
        evidence: view.evidence.parse::<Keccak>().ok()?,
    };
    let signatures = view.signatures.iter().map(|one| {
        let bytes = HEXLOWER.decode(one.signature.as_bytes()).ok()?;
        Signature::from_bytes(&bytes).ok()
    });
    Some((slash, signatures.collect::<Option<_>>()?))
}

pub(super) async fn run(context: &Context, found: &Found, digits: &str) -> Result<(), Failure> {
    let disputes = found.local.disputes(&found.run()).await?;
    let dispute = named(&disputes.disputes, digits)?;
    let Some(view) = &dispute.sentence else {
        let text = format!("dispute {} has ended with no sentence", short(&dispute.id));
        return Err(Failure::from(Problem::new(Code::Refused, text).hint(
            "`tributary dispute list RUN` shows how far it is; where nobody lost, or no bond is asked for, there is none",
        )));
    };
    let (slash, signatures) = read(found, view).ok_or_else(|| {
        Failure::environment("the dispute's sentence is not understood")
            .hint("daemon and command differ in version: restart the daemon")
    })?;
    let actions = found.actions().await?;
    waits(actions.account());
    let done = actions.slash(&found.terms, &slash, &signatures).await;
    let done = done.map_err(|why| of_action(&why))?;
    let says = format!(
        "account {} loses {} OPEN of stake, one window after this was brought to the contract",
        slash.account,
        open(slash.amount)
    );
    Step::new((found, actions.account()), "sentence", done, says).answer(context)
}
