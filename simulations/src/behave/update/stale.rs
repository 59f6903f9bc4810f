//! Works once: the first update of each factor is published again forever.

/// Updates of the two factors differ in length; a run that trains both at once has one length.
pub(super) fn blob(now: Vec<u8>, first: &mut Vec<Vec<u8>>) -> Vec<u8> {
    if let Some(old) = first.iter().find(|old| old.len() == now.len()) {
        return old.clone();
    }
    first.push(now.clone());
    now
}
