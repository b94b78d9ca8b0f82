//! When snapshots are due: five fields of cron in UTC, or a word for usual ones; pure.
//!
//! As in every cron, a day is one that the third and the fifth field name; where both name some and not all, either will do.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use std::{ops::RangeInclusive, str::FromStr};

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A 29th of February is at most eight years away.
const DAYS: usize = 8 * 366 + 1;

/// Minutes at which something is done; sets of numbers as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    which: Which,
}

/// Which of the fields that name days count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// A day must be in both: one of them names all.
    Both,
    /// A day may be in either.
    Either,
}

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSchedule {
    /// Another number of fields than five, or a word that means nothing.
    #[error(
        "spec.backup.schedule {0:?} isn't five fields of cron: write such as `30 2 * * *`, or @hourly, @daily, @weekly or @monthly"
    )]
    Shape(String),
    /// A field that can't be read.
    #[error(
        "spec.backup.schedule: {text:?} isn't a {field} of cron ({least} to {most}, `*`, lists, ranges and steps)"
    )]
    Field {
        /// What was written.
        text: String,
        /// Which field.
        field: &'static str,
        /// Smallest number in it.
        least: u8,
        /// Largest.
        most: u8,
    },
    /// Such as the 30th of February.
    #[error("spec.backup.schedule {0:?} names a day that never comes")]
    Never(String),
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let spelled = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            other => other,
        };
        let fields: Vec<&str> = spelled.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(InvalidSchedule::Shape(text.to_owned()));
        };
        let mut weekdays = numbers(weekday, "day of the week", 0..=7, &WEEKDAYS)?;
        // Sunday has two numbers.
        weekdays |= weekdays >> 7;
        let schedule = Self {
            minutes: numbers(minute, "minute", 0..=59, &[])?,
            hours: numbers(hour, "hour", 0..=23, &[])?,
            days: numbers(day, "day of the month", 1..=31, &[])?,
            months: numbers(month, "month", 1..=12, &MONTHS)?,
            weekdays,
            which: match day.starts_with('*') || weekday.starts_with('*') {
                true => Which::Both,
                false => Which::Either,
            },
        };
        match schedule.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(InvalidSchedule::Never(text.to_owned())),
        }
    }
}

impl Schedule {
    /// The last time that is due, `now` among them.
    pub(crate) fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let mut day = now.to_zoned(TimeZone::UTC).date();
        for _ in 0..DAYS {
            let due = self.times(day).rev().find(|time| *time <= now);
            if due.is_some() {
                return due;
            }
            day = day.checked_sub(1.day()).ok()?;
        }
        None
    }

    /// The first time after `now`.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let mut day = now.to_zoned(TimeZone::UTC).date();
        for _ in 0..DAYS {
            let due = self.times(day).find(|time| *time > now);
            if due.is_some() {
                return due;
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    /// All times of a day, the earliest first.
    fn times(&self, day: Date) -> impl DoubleEndedIterator<Item = Timestamp> + use<> {
        let schedule = *self;
        let minutes = match schedule.is_on(day) {
            true => 0..24 * 60,
            false => 0..0,
        };
        minutes.filter_map(move |minute: i32| {
            let (hour, minute) = (minute / 60, minute % 60);
            if schedule.hours & (1 << hour) == 0 || schedule.minutes & (1 << minute) == 0 {
                return None;
            }
            let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
            let time = day.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?;
            Some(time.timestamp())
        })
    }

    fn is_on(&self, date: Date) -> bool {
        let day = self.days & (1 << date.day()) != 0;
        let weekday = self.weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        let either = match self.which {
            Which::Both => day && weekday,
            Which::Either => day || weekday,
        };
        either && self.months & (1 << date.month()) != 0
    }
}

/// The numbers that a field names; the first of `names` stands for its first number.
fn numbers(
    text: &str,
    field: &'static str,
    range: RangeInclusive<u8>,
    names: &[&str],
) -> Result<u64, InvalidSchedule> {
    let (least, most) = (*range.start(), *range.end());
    let wrong = || InvalidSchedule::Field {
        text: text.to_owned(),
        field,
        least,
        most,
    };
    let number = |text: &str| -> Option<u8> {
        let named = names
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name));
        let number = match named {
            Some(at) => least + u8::try_from(at).ok()?,
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        range.contains(&number).then_some(number)
    };
    let mut found = 0;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(step.parse::<u8>().map_err(|_| wrong())?)),
            None => (part, None),
        };
        let (first, last) = match (span.split_once('-'), step) {
            _ if span == "*" => (least, most),
            (Some((first, last)), _) => (
                number(first).ok_or_else(wrong)?,
                number(last).ok_or_else(wrong)?,
            ),
            (None, Some(_)) => (number(span).ok_or_else(wrong)?, most),
            (None, None) => {
                let one = number(span).ok_or_else(wrong)?;
                (one, one)
            }
        };
        if first > last || step == Some(0) {
            return Err(wrong());
        }
        for number in (first..=last).step_by(usize::from(step.unwrap_or(1))) {
            found |= 1u64 << number;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The last time and the next one, seen from a Wednesday.
    fn around(schedule: &str) -> [String; 2] {
        let now = time("2026-03-04T10:30:30Z");
        let schedule: Schedule = schedule.parse().unwrap();
        [schedule.last(now), schedule.next(now)].map(|time| time.unwrap().to_string())
    }

    #[test]
    fn times_are_found_before_and_after() {
        for (schedule, before, after) in [
            ("@hourly", "2026-03-04T10:00:00Z", "2026-03-04T11:00:00Z"),
            ("@daily", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"),
            ("@weekly", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
            ("@monthly", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
            (
                "*/15 * * * *",
                "2026-03-04T10:30:00Z",
                "2026-03-04T10:45:00Z",
            ),
            (
                "30 10 * * *",
                "2026-03-04T10:30:00Z",
                "2026-03-05T10:30:00Z",
            ),
            (
                "31 10 * * *",
                "2026-03-03T10:31:00Z",
                "2026-03-04T10:31:00Z",
            ),
            (
                "0 6,18 * * mon-fri",
                "2026-03-04T06:00:00Z",
                "2026-03-04T18:00:00Z",
            ),
            ("0 0 * * 7", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
            (
                "0 0 29 FEB *",
                "2024-02-29T00:00:00Z",
                "2028-02-29T00:00:00Z",
            ),
            (
                "5/20 9-10 * * *",
                "2026-03-04T10:25:00Z",
                "2026-03-04T10:45:00Z",
            ),
        ] {
            assert_eq!(around(schedule), [before, after], "{schedule}");
        }
    }

    #[test]
    fn where_both_fields_name_days_either_will_do() {
        // The 15th, and every Friday.
        let found = around("0 0 15 * fri");
        assert_eq!(found, ["2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z"]);
        // A step over all days names some, and yet counts as all of them in every cron.
        let found = around("0 0 */2 * fri");
        assert_eq!(found, ["2026-02-27T00:00:00Z", "2026-03-13T00:00:00Z"]);
    }

    #[test]
    fn what_is_due_now_is_due() {
        let daily: Schedule = "@daily".parse().unwrap();
        let now = time("2026-03-04T00:00:00Z");
        assert_eq!(daily.last(now), Some(now));
        assert_eq!(daily.next(now), Some(time("2026-03-05T00:00:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_to_write() {
        for wrong in [
            "",
            "@yearly ago",
            "@often",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "1, * * * *",
            "+1 * * * *",
            "-1 * * * *",
            "1-2-3 * * * *",
            "*/999 * * * *",
            "0 0 30 2 *",
        ] {
            let said = wrong.parse::<Schedule>().unwrap_err().to_string();
            assert!(said.starts_with("spec.backup.schedule"), "{wrong}: {said}");
        }
    }
}
