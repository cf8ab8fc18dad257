//! Times as log formats want them, in UTC. Pure.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::spec::TimePart;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes a time. One before 1970 is written as 1970.
pub fn write(parts: &[TimePart], time: SystemTime, out: &mut String) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    let (year, month, day) = date(seconds / 86_400);
    let of_day = seconds % 86_400;
    for part in parts {
        // Writing into a string cannot fail.
        let _ = match part {
            TimePart::Text(text) => out.write_str(text),
            TimePart::Year => write!(out, "{year:04}"),
            TimePart::Month => write!(out, "{month:02}"),
            TimePart::MonthName => out.write_str(MONTHS[month as usize - 1]),
            TimePart::Day => write!(out, "{day:02}"),
            TimePart::Hour => write!(out, "{:02}", of_day / 3600),
            TimePart::Minute => write!(out, "{:02}", of_day / 60 % 60),
            TimePart::Second => write!(out, "{:02}", of_day % 60),
            TimePart::Epoch => write!(out, "{seconds}"),
            TimePart::Fraction(digits) => {
                let digits = usize::from((*digits).min(9));
                write!(out, "{:0digits$}", nanos / 10u32.pow(9 - digits as u32))
            }
        };
    }
}

/// Year, month and day of a day since 1970: eras of 400 years that begin in March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", (1970, 1, 1)),
            ("2000-02-29T12:00:00Z", (2000, 2, 29)),
            ("2023-12-31T23:59:59Z", (2023, 12, 31)),
            ("2100-03-01T00:00:00Z", (2100, 3, 1)),
        ] {
            let mut out = String::new();
            let (year, month, day) = expected;
            let seconds = days_before(year, month, day) * 86_400;
            write(&[TimePart::Year, TimePart::Month, TimePart::Day], at(seconds), &mut out);
            assert_eq!(out, format!("{year:04}{month:02}{day:02}"), "{text}");
        }
    }

    /// Counted one by one.
    fn days_before(year: u64, month: u64, day: u64) -> u64 {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let long = |year, month| match month {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
        years + (1..month).map(|month| long(year, month)).sum::<u64>() + day - 1
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn fractions_have_the_digits_asked_for() {
        let time = at(1_700_000_000) + Duration::from_nanos(123_456_789);
        let mut out = String::new();
        let parts = [TimePart::Epoch, TimePart::Text(".".into()), TimePart::Fraction(3)];
        write(&parts, time, &mut out);
        assert_eq!(out, "1700000000.123");
    }
}
