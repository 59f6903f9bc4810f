//! A moment as people read it.

use tributary_protocol::time::Timestamp;

const SECONDS_A_DAY: u64 = 86_400;
/// The last second of the year 9999; later ones are shown as that.
const LAST: u64 = 253_402_300_799;

/// `2026-11-29 23:28 UTC`.
pub(crate) fn shown(time: Timestamp) -> String {
    let seconds = (time.0 / 1000).min(LAST);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{} {hour:02}:{minute:02} UTC", day(seconds))
}

/// `2026-11-29`, from seconds since 1970.
pub(crate) fn day(seconds: u64) -> String {
    let (year, month, day) = date(seconds.min(LAST) / SECONDS_A_DAY);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01 (Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_shown_as_they_are() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_735_689_600, "2025-01-01 00:00 UTC"),
            (u64::MAX / 1000, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(shown(Timestamp(seconds * 1000)), text);
        }
    }
}
