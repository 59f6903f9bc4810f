//! Which keys a run file may have, and what a misspelt one probably meant.

use super::RunFileError;

/// Keys outside of tables, then each table's. A test holds this list against the types.
pub(super) const KEYS: [(&str, &[&str]); 8] = [
    (
        "",
        &[
            "name",
            "base",
            "datanet",
            "rounds",
            "share_base",
            "evaluators",
            "evaluator_seats",
            "score_windows",
            "committee",
            "min_members",
            "min_contributions",
            "participants",
            "budget_per_round_open",
            "price_per_nat_open",
            "aggregation",
            "weights",
            "least_stake_open",
            "full_weight_tokens",
            "tolerate",
            "adapter",
            "training",
            "codec",
            "deadlines",
            "round_split",
            "revenue",
            "base_account",
            "chain",
            "settlement",
        ],
    ),
    ("round_split", &["contributors", "evaluators", "members"]),
    ("adapter", &["rank", "alpha"]),
    (
        "training",
        &[
            "local_steps",
            "batch",
            "context",
            "learning_rate",
            "schedule",
        ],
    ),
    ("codec", &["kind", "top", "feedback"]),
    (
        "deadlines",
        &["round_ms", "grace_ms", "propose_ms", "vote_ms"],
    ),
    (
        "revenue",
        &[
            "contributors",
            "base_author",
            "server",
            "committee",
            "stakers",
        ],
    ),
    (
        "settlement",
        &[
            "id",
            "contract",
            "token",
            "rate_per_s_open",
            "challenge_bond_open",
            "min_stake_open",
            "window_s",
            "cooldown_s",
            "halt_s",
            "arbiter",
        ],
    ),
];

/// Refuses the first unknown key.
pub(super) fn check(table: &toml::Table, path: &str) -> Result<(), RunFileError> {
    check_table("", table, path)?;
    for (key, value) in table {
        if let toml::Value::Table(inner) = value {
            check_table(key, inner, path)?;
        }
    }
    Ok(())
}

fn check_table(name: &str, table: &toml::Table, path: &str) -> Result<(), RunFileError> {
    let Some((_, allowed)) = KEYS.iter().find(|(n, _)| *n == name) else {
        return Ok(()); // Not a table at all: the types will say so.
    };
    match table.keys().find(|key| !allowed.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(RunFileError::UnknownKey {
            path: path.to_owned(),
            key: full(name, key),
            hint: hint(name, key, allowed),
        }),
    }
}

fn full(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

/// The nearest key of the same table, else a table where the key does exist, else the whole list.
fn hint(table: &str, key: &str, allowed: &[&str]) -> String {
    if let Some(near) = nearest(key, allowed.iter().copied()) {
        return format!("Did you mean `{}`?", full(table, near));
    }
    if let Some((other, _)) = KEYS.iter().find(|(_, keys)| keys.contains(&key)) {
        return if other.is_empty() {
            format!("`{key}` belongs at the top of the file, before any [table]")
        } else {
            format!("`{key}` belongs in [{other}]")
        };
    }
    format!("Known keys here: {}", allowed.join(", "))
}

/// The candidate that `word` most resembles, when the resemblance is close enough to say so.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    (candidates.into_iter())
        .map(|c| (strsim::jaro_winkler(word, c), c))
        .filter(|(likeness, _)| *likeness > 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}
