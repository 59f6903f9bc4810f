//! Whether a member may judge a run by a hold-out of its own text.
//!
//! An evaluator that also contributes and names no hold-out is given a tenth of its own shard. Whatever is like that
//! shard scores well on it, its own contributions first, and everybody else's text hardly counts. Where anyone may
//! join (`weights = "own"` or `"stake"`) that is refused. Where members know each other and weigh by what they train on (`weights =
//! "trained"`) it is theirs to agree to, and said.

use tributary_protocol::entry::Role;
use tributary_protocol::manifest::{Manifest, Weights};

/// What to do about it.
const MEND: &str =
    "name a text that nobody trains on with `--holdout FILE`, or do one of the two only";

/// Checks what `role` with or without a hold-out of its own would score on; `Some` is a warning.
///
/// # Errors
/// Says what is unfair about it and what to do, where the run is open to anyone.
pub(crate) fn check(
    manifest: &Manifest,
    role: Role,
    has_holdout: bool,
) -> Result<Option<String>, String> {
    if has_holdout || !(role.contributes() && role.evaluates()) {
        return Ok(None);
    }
    let what = "this peer would train on nine tenths of its shard and score everybody on the rest, so that \
                text like its own scores best";
    match manifest.updates.weights {
        Weights::Own { .. } | Weights::Stake { .. } => {
            Err(format!("{what}; in a run that anyone may join, {MEND}"))
        }
        Weights::Trained => Ok(Some(format!("{what}; better {MEND}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BaseFacts, RunFile};
    use tributary_protocol::adapter::Module;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::PeerId;

    fn manifest(weights: &str) -> Manifest {
        let text = format!(
            "name = \"n\"\nbase = \"brook\"\ndatanet = \"d\"\nrounds = 1\nweights = \"{weights}\"\n"
        );
        let base = BaseFacts {
            name: "brook".to_owned(),
            hash: Digest::default(),
            files: None,
            modules: vec![Module {
                name: "m".to_owned(),
                inputs: 8,
                outputs: 8,
            }],
        };
        let file = RunFile::parse(&text, "run.toml").unwrap();
        file.manifest(PeerId(Digest::default()), 1, &base).unwrap()
    }

    #[test]
    fn a_contributor_that_would_score_on_its_own_text_is_refused_where_anyone_may_join() {
        let refused = check(&manifest("own"), Role::Both, false).unwrap_err();
        assert!(refused.contains("--holdout FILE"), "{refused}");
        assert_eq!(check(&manifest("own"), Role::Both, true), Ok(None));
    }

    #[test]
    fn among_members_that_weigh_by_what_they_train_on_it_is_warned_of() {
        let warned = check(&manifest("trained"), Role::Both, false).unwrap();
        assert!(warned.unwrap().contains("--holdout FILE"));
        assert_eq!(check(&manifest("trained"), Role::Both, true), Ok(None));
    }

    #[test]
    fn whoever_only_trains_or_only_scores_needs_no_other_text() {
        for role in [Role::Contributor, Role::Evaluator] {
            assert_eq!(check(&manifest("own"), role, false), Ok(None));
        }
    }
}
