//! Which run the first digits of an id name.

use tributary_protocol::id::RunId;

use super::HostError;

pub(super) fn pick(text: &str, mut known: Vec<RunId>) -> Result<RunId, HostError> {
    known.sort_unstable();
    known.dedup();
    known.retain(|run| run.to_string().starts_with(text));
    pick_only(text, known)
}

pub(super) fn pick_only(text: &str, matches: Vec<RunId>) -> Result<RunId, HostError> {
    match matches.as_slice() {
        [run] => Ok(*run),
        [] => Err(HostError::Unknown(format!(
            "nothing here has an id that starts with {text:?}; `tributary run list` shows what is \
             known, and a run that no neighbour follows needs its id in full (64 digits)"
        ))),
        many => Err(HostError::Refused(format!(
            "{} ids start with {text:?}; give more digits",
            many.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::hash::{Domain, digest};

    #[test]
    fn first_digits_name_a_run_when_they_name_only_one() {
        let runs: Vec<RunId> = (0..64u8)
            .map(|i| RunId(digest(Domain::Manifest, &[i])))
            .collect();
        let full = runs[3].to_string();
        assert_eq!(pick(&full[..12], runs.clone()), Ok(runs[3]));
        let twice = [runs.clone(), runs.clone()].concat();
        assert_eq!(pick(&full, twice), Ok(runs[3]), "known from two places");
        assert!(matches!(pick("", runs.clone()), Err(HostError::Refused(_))));
        assert!(matches!(pick("zz", runs), Err(HostError::Unknown(_))));
    }
}
