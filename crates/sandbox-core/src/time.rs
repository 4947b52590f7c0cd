//! A point in time as text. The only calendar of this crate.

const DAY_MS: i64 = 86_400_000;

/// `now_ms`, milliseconds since the Unix epoch, as ISO 8601 in UTC: `2026-11-21T07:02:03.004Z`.
pub(crate) fn iso8601(now_ms: i64) -> String {
    let (year, month, day) = civil(now_ms.div_euclid(DAY_MS));
    let ms = now_ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Days since the epoch as year, month, day: the proleptic Gregorian calendar, counted from 1 March of year 0 so that the leap day
/// is the last of its year.
#[allow(clippy::arithmetic_side_effects)] // A day count from i64 milliseconds is below 1.1e11 in size; nothing here leaves i64.
fn civil(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_234_294_369, "2026-11-21T04:11:34.369Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(ms), text);
        }
    }
}
