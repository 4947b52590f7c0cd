//! Instants on the wire: ISO 8601 in UTC. Inside they are milliseconds since 1970 (`i64`).

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `2026-01-31T12:00:00.000Z`, the form of JavaScript's `toISOString`.
pub fn iso8601(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(DAY), ms.rem_euclid(DAY));
    let (year, month, day) = date_of(days);
    let (hour, minute) = (rest / HOUR, rest / MINUTE % 60);
    let (second, milli) = (rest / SECOND % 60, rest % SECOND);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`.
pub fn parse_iso8601(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (time, zone) = time.split_at_checked(at)?;
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = digits(hours)?.checked_mul(60)?.checked_add(digits(minutes)?)?.checked_mul(MINUTE)?;
            (time, if zone.starts_with('-') { offset.checked_neg()? } else { offset })
        }
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(digits);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !valid || year > 9999 || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let milli = digits(format!("{fraction:0<3}").get(..3)?)?;
    days_of(year, month, day)
        .checked_mul(DAY)?
        .checked_add(hour.checked_mul(HOUR)?)?
        .checked_add(minute.checked_mul(MINUTE)?)?
        .checked_add(second.checked_mul(SECOND)?)?
        .checked_add(milli)?
        .checked_sub(offset)
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 4 || !text.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Days since 1970 to a date of the Gregorian calendar, by eras of 400 years that begin on 1 March.
#[allow(clippy::arithmetic_side_effects, reason = "days come from an i64 of milliseconds: no term can overflow")]
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`date_of`].
#[allow(clippy::arithmetic_side_effects, reason = "the caller bounds year, month and day")]
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// For `#[serde(with)]`: an instant inside, ISO 8601 on the wire.
pub mod iso {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    /// Writes the text of an instant.
    pub fn serialize<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::iso8601(*ms))
    }

    /// Reads the text of an instant.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_iso8601(&text).ok_or_else(|| D::Error::custom("expected an instant in ISO 8601"))
    }
}

/// As [`iso`], where there may be none: null on the wire.
pub mod iso_option {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;
    use serde::de::Error;

    /// Writes the text of an instant, or null.
    pub fn serialize<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        ms.map(super::iso8601).serialize(serializer)
    }

    /// Reads the text of an instant, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        super::parse_iso8601(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom("expected an instant in ISO 8601, or null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(iso8601(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(1_795_234_294_369), "2026-11-21T04:11:34.369Z");
        assert_eq!(iso8601(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(parse_iso8601("2026-11-21T05:11:34.369+01:00"), Some(1_795_234_294_369));
        assert_eq!(parse_iso8601("2026-11-21T04:11:34Z"), Some(1_795_234_294_000));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for bad in [
            "",
            "2024",
            "2024-01-15",
            "2024-13-01T00:00:00Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01T00:00:00",
            "x-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_iso8601(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_of_four_digit_years_round_trips(ms in 0_i64..253_402_300_799_999) {
            prop_assert_eq!(parse_iso8601(&iso8601(ms)), Some(ms));
        }
    }
}
