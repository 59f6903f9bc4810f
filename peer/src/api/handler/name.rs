//! Which run the first digits of an id name.

use tributary_protocol::id::RunId;

use crate::problem::{Code, Problem};

pub(crate) fn pick(text: &str, mut known: Vec<RunId>) -> Result<RunId, Problem> {
    known.sort_unstable();
    known.dedup();
    known.retain(|run| run.to_string().starts_with(text));
    pick_only(text, known)
}

pub(in crate::api) fn pick_only(text: &str, matches: Vec<RunId>) -> Result<RunId, Problem> {
    match matches.as_slice() {
        [run] => Ok(*run),
        [] => Err(Problem::new(
            Code::UnknownId,
            format!("nothing here has an id that starts with {text:?}"),
        )
        .hint(
            "`tributary run list` shows what is known; a run that no neighbour follows needs its id in full \
             (64 digits)",
        )),
        many => Err(Problem::new(
            Code::AmbiguousId,
            format!("{} ids start with {text:?}", many.len()),
        )
        .hint("give more digits")),
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
        let code = |text| pick(text, runs.clone()).unwrap_err().code;
        assert_eq!(code(""), Code::AmbiguousId);
        assert_eq!(code("zz"), Code::UnknownId);
    }
}
