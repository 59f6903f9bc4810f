//! Amounts of OPEN as people write them.

use tributary_protocol::id::MicroOpen;

use super::{RunFileError, bound};

/// Reads `12`, `0.5` or `1_000.25` OPEN exactly; more than six decimals are refused.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_open(text: &str) -> Result<MicroOpen, String> {
    let refuse = || {
        format!("is `{text}`, which is no amount of OPEN (like 3 or 0.25, at most six decimals)")
    };
    let clean = text.trim().replace('_', "");
    let (whole, fraction) = clean.split_once('.').unwrap_or((&clean, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return Err(refuse());
    }
    let whole: u128 = whole.parse().map_err(|_| refuse())?;
    let fraction: u128 = format!("{fraction:0<6}").parse().map_err(|_| refuse())?;
    (whole.checked_mul(1_000_000))
        .and_then(|w| w.checked_add(fraction))
        .map(MicroOpen)
        .ok_or_else(refuse)
}

/// An amount in a run file: a number, or text where a number would not be exact.
pub(super) fn open_of(key: &'static str, value: &toml::Value) -> Result<MicroOpen, RunFileError> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_open(&text).map_err(|why| bound(key, &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_amounts_are_exact() {
        assert_eq!(parse_open("1"), Ok(MicroOpen(1_000_000)));
        assert_eq!(parse_open("0.000001"), Ok(MicroOpen(1)));
        assert_eq!(parse_open("1_000.25"), Ok(MicroOpen(1_000_250_000)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".5", "-1", "1e3", "0.0000001", "1.2.3", "OPEN", "inf"] {
            assert!(parse_open(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_print_as_they_are_read() {
        for micro in [0, 1, 999_999, 1_000_000, 123_456_789] {
            let amount = MicroOpen(micro);
            assert_eq!(parse_open(&amount.to_string()), Ok(amount));
        }
    }
}
