//! What the other cases take for granted of their networks.

use crate::ground::{Ground, Kind, bridges};
use crate::suite::Outcome;

/// A house or a device that is added leaves the addresses as they are by which the others send their packets on.
pub(super) fn stay() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let exchange = bridges(&ground.exchange())?;
    let house = ground.house("left", Kind::CarrierGrade)?;
    let within = bridges(&house)?;
    ground.device("amy", &house)?;
    ground.device("ben", &house)?;
    ground.house("right", Kind::PortRestricted)?;
    let mut outcome = Outcome::default();
    for (before, after) in [
        (exchange, bridges(&ground.exchange())?),
        (within, bridges(&house)?),
    ] {
        let is_one = before.len() == 1;
        outcome.promise(is_one, format!("one bridge, not {before:?}"));
        let stays = before == after;
        outcome.promise(stays, format!("{before:?} as before, not {after:?}"));
    }
    Ok(outcome)
}
