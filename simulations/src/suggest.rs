//! Turns serde's complaint about an unknown key into advice.

/// How scenarios once said things, and how they say them now: what serde complains about, and the advice.
const RENAMED: [(&str, &str); 10] = [
    (
        "`clipped_mean`",
        "`clipped_mean` is called `clipped-mean`, as in run files",
    ),
    (
        "`multi_krum`",
        "write `aggregation = \"multi-krum\"` and beside it `tolerate = 0.2`",
    ),
    (
        "`centred_clip`",
        "write `aggregation = \"centred-clip\"` and beside it `tolerate = 0.2`",
    ),
    (
        "`geometric_median`",
        "write `aggregation = \"geometric-median\"` and beside it `tolerate = 0.2`",
    ),
    (
        "`freeze_a`",
        "`freeze_a` is called `freeze-a`, as in run files",
    ),
    ("`dense_f32`", "write `codec = { kind = \"dense-f32\" }`"),
    ("`dense_int8`", "write `codec = { kind = \"dense-int8\" }`"),
    ("\"dense_f32\"", "write `codec = { kind = \"dense-f32\" }`"),
    (
        "\"dense_int8\"",
        "write `codec = { kind = \"dense-int8\" }`",
    ),
    (
        "unknown field `sparse`",
        "write `codec = { kind = \"sparse\", top = 8, feedback = 0.95 }`",
    ),
];

/// What TOML says of a name that has a table behind it where names stand alone.
const TABLE_BEHIND_NAME: &str = "expected empty table";

/// The advice on an old name that serde complains about.
fn renamed(message: &str) -> Option<&'static str> {
    // What was expected instead is no complaint about it.
    let complaint = message.split(", expected").next().unwrap_or(message);
    let found = RENAMED.iter().find(|(old, _)| complaint.contains(old));
    found.map(|(_, advice)| *advice)
}

/// `message` as serde words it; when it is about an unknown key or variant, the nearest known one is
/// suggested.
pub(crate) fn explain(message: &str) -> String {
    if let Some(advice) = renamed(message) {
        return advice.to_owned();
    }
    if message.trim_end() == TABLE_BEHIND_NAME {
        return "a name stands alone, its number beside it: write `aggregation = \"agreement\"` and \
                `tolerate = 0.2`, or `weights = \"own\"` and `full_weight_tokens = 1_000`"
            .to_owned();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some(unknown) = quoted.next().filter(|_| is_unknown) else {
        return message.trim_end().to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    nearest("key", unknown, &known)
}

/// Advice about an unknown word: the nearest of the known ones, if one is near.
pub(crate) fn nearest(what: &str, unknown: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|name| distance(unknown, name));
    let list = known.join(", ");
    match nearest {
        Some(name) if distance(unknown, name) <= 1 + unknown.len() / 3 => {
            format!("unknown {what} `{unknown}`; did you mean `{name}`? (known here: {list})")
        }
        _ => format!("unknown {what} `{unknown}`; known here: {list}"),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("loss", "loss"), 0);
    }

    #[test]
    fn a_far_key_gets_the_list_and_no_guess() {
        let text = explain("unknown field `zebra`, expected `loss` or `latency_ms`");
        assert_eq!(text, "unknown key `zebra`; known here: loss, latency_ms");
    }
}
