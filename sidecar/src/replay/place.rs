//! A place in a recording, as a person names it: a sequence number, or a time. Times are printed here too.

use std::fmt;
use std::str::FromStr;

use toml::value::{Datetime, Offset};

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// A sequence number, or a wall clock time in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Digits: the sequence number of a record.
    Sequence(u64),
    /// `2026-11-21T09:30:00.5Z` (without an offset: UTC), `2026-11-21`, or `@SECONDS` since 1970.
    Time(u64),
}

impl Place {
    /// Of `count` records of a frame that begins at `first_sequence`, how many stand at this place or before it.
    #[must_use]
    pub fn records_until(self, first_sequence: u64, time_ns: u64, count: usize) -> usize {
        match self {
            Self::Sequence(last) => usize::try_from((last + 1).saturating_sub(first_sequence)).map_or(count, |inside| inside.min(count)),
            Self::Time(last_ns) => count * usize::from(time_ns <= last_ns),
        }
    }

    /// Whether a frame stands wholly behind this place.
    #[must_use]
    pub fn is_before(self, first_sequence: u64, time_ns: u64) -> bool {
        match self {
            Self::Sequence(last) => first_sequence > last,
            Self::Time(last_ns) => time_ns > last_ns,
        }
    }

    /// Whether a record stands at this place or behind it.
    #[must_use]
    pub fn is_reached(self, sequence: u64, time_ns: u64) -> bool {
        match self {
            Self::Sequence(first) => sequence >= first,
            Self::Time(first_ns) => time_ns >= first_ns,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(sequence) = text.parse::<u64>()
            && sequence < u64::MAX
        {
            return Ok(Self::Sequence(sequence));
        }
        let parsed = match text.strip_prefix('@') {
            Some(seconds) => seconds_ns(seconds),
            None => text.parse::<Datetime>().ok().and_then(|time| date_ns(&time)),
        };
        parsed.map(Self::Time).ok_or_else(|| {
            format!(
                "{text:?} is neither a sequence number nor a time; write 1234, 2026-11-21T09:30:00Z or @1795253400.5 (seconds since 1970)"
            )
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(sequence) => write!(f, "{sequence}"),
            Self::Time(ns) => f.write_str(&time_text(*ns)),
        }
    }
}

/// Decimal seconds as nanoseconds, exactly.
fn seconds_ns(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let ns: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(SECOND_NS)?.checked_add(ns)
}

fn date_ns(time: &Datetime) -> Option<u64> {
    let date = time.date.as_ref()?;
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let (clock_s, ns) = time.time.as_ref().map_or((0, 0), |clock| {
        let seconds = i64::from(clock.second.unwrap_or(0));
        (i64::from(clock.hour) * 3600 + i64::from(clock.minute) * 60 + seconds, clock.nanosecond.unwrap_or(0))
    });
    let offset_s = match time.offset {
        Some(Offset::Custom { minutes }) => i64::from(minutes) * 60,
        _ => 0,
    };
    u64::try_from(days * 86_400 + clock_s - offset_s).ok()?.checked_mul(SECOND_NS)?.checked_add(u64::from(ns))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years are counted from March, so that leap days come last.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// A time as `2026-11-21T09:30:00.000000000Z`.
#[must_use]
pub fn time_text(time_ns: u64) -> String {
    let (seconds, ns) = (time_ns / SECOND_NS, time_ns % SECOND_NS);
    let (year, month, day) = civil_from_days((seconds / 86_400) as i64);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ns:09}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were_printed() {
        for days in [0, 1, 58, 59, 60, 364, 365, 366, 10_956, 11_016, 11_017, 20_778, 47_540, 47_541, 73_048] {
            for ns in [0, 1, 86_399_999_999_999] {
                let time_ns = days * 86_400 * SECOND_NS + ns;
                assert_eq!(time_text(time_ns).parse(), Ok(Place::Time(time_ns)));
            }
        }
        assert_eq!(time_text(951_782_400 * SECOND_NS), "2000-02-29T00:00:00.000000000Z");
    }

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!("17".parse(), Ok(Place::Sequence(17)));
        assert_eq!("2026-11-21".parse(), Ok(Place::Time(1_795_219_200 * SECOND_NS)));
        assert_eq!("2026-11-21 10:30:00+01:30".parse(), Ok(Place::Time((1_795_219_200 + 9 * 3600) * SECOND_NS)));
        assert_eq!("@1.25".parse(), Ok(Place::Time(1_250_000_000)));
        for wrong in ["", "x", "-3", "@", "@1.0000000001", "12:30:00", "1969-01-01", "18446744073709551615"] {
            assert!(wrong.parse::<Place>().unwrap_err().contains("neither a sequence number nor a time"), "{wrong}");
        }
    }

    #[test]
    fn frames_are_cut_at_a_sequence_number_and_not_at_a_time() {
        let last = Place::Sequence(12);
        assert_eq!([last.records_until(10, 0, 2), last.records_until(10, 0, 5), last.records_until(13, 0, 5)], [2, 3, 0]);
        let last = Place::Time(7);
        assert_eq!([last.records_until(10, 7, 5), last.records_until(10, 8, 5)], [5, 0]);
    }
}
