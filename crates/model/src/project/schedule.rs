use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostName, JobName, ReleaseId, RoleName};

use times::Times;

mod times;

/// A command that runs at certain times in a container of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledJob {
    /// Its name.
    pub name: JobName,
    /// When it runs, in UTC.
    pub schedule: Schedule,
    /// The words of the command.
    pub command: Vec<String>,
    /// The role whose image, environment, volumes and options it has, and on whose first host it runs.
    pub role: RoleName,
    /// The host on which it runs, the role's first in the whole deploy file; none where the role has none.
    pub host: Option<HostName>,
    /// What happens when it is due while its last run goes on.
    pub overlap: Overlap,
    /// After how long a run is killed, or none.
    pub timeout: Option<Duration>,
    /// How many of its runs are remembered.
    pub history: NonZeroU32,
}

/// What happens when a job is due while its last run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// The new run is left out.
    #[default]
    Skip,
    /// Both run.
    Allow,
    /// The new run begins when the last one has ended; at most one waits.
    Queue,
    /// The last run is stopped.
    Replace,
}

/// What a host does with the jobs of a role: those of at most one release run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleState {
    /// Nothing.
    #[default]
    Off,
    /// Those of a release run when they are due.
    Active {
        /// The release.
        release: ReleaseId,
    },
    /// Those of a release wait until the application is started again.
    Paused {
        /// The release.
        release: ReleaseId,
    },
}

impl ScheduleState {
    /// Returns the release whose jobs are meant, if there are any.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Off => None,
            Self::Active { release } | Self::Paused { release } => Some(release),
        }
    }

    /// Says whether jobs run when they are due.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a schedule: {reason}")]
pub struct InvalidSchedule {
    text: String,
    reason: String,
}

/// When a job runs, as `cron` reads it: minute, hour, day of the month, month, day of the week; or `@daily`.
///
/// Fields take `*`, numbers, ranges, lists, steps, and the English names of months and days. Source of the grammar:
/// the POSIX `crontab` page and Vixie cron's steps, names and `@` words. Where neither the day of the month nor the day of
/// the week begins with `*`, either is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule(String);

impl Schedule {
    /// Checks a text and makes the schedule of it.
    ///
    /// # Errors
    /// [`InvalidSchedule`] that names the wrong field.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidSchedule> {
        let text = text.into();
        match times(&text) {
            Ok(times) if times.is_empty() => {
                Err(InvalidSchedule { text, reason: "no such day ever comes".to_owned() })
            }
            Ok(_) => Ok(Self(text)),
            Err(reason) => Err(InvalidSchedule { text, reason }),
        }
    }

    /// Returns the schedule as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first minute after a moment at which the schedule is due, in UTC. None only where time itself ends.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        times(&self.0).ok()?.next_after(moment)
    }

    /// Returns the last minute after `from`, up to and with `to`, at which the schedule was due, if there is one.
    #[must_use]
    pub fn last_between(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let times = times(&self.0).ok()?;
        let mut last = None;
        let mut next = times.next_after(from);
        while let Some(due) = next.filter(|due| *due <= to) {
            last = Some(due);
            next = times.next_after(due);
        }
        last
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl TryFrom<String> for Schedule {
    type Error = InvalidSchedule;
    fn try_from(text: String) -> Result<Self, InvalidSchedule> {
        Self::parse(text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.0
    }
}

/// The words, each with the fields that it stands for.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: its name, its values, and names of the values from the first on.
struct FieldRule {
    name: &'static str,
    values: RangeInclusive<u32>,
    names: &'static [&'static str],
}

const MINUTE: FieldRule = FieldRule { name: "minute", values: 0..=59, names: &[] };
const HOUR: FieldRule = FieldRule { name: "hour", values: 0..=23, names: &[] };
const DAY: FieldRule = FieldRule { name: "day of the month", values: 1..=31, names: &[] };
const MONTH: FieldRule = FieldRule { name: "month", values: 1..=12, names: &MONTHS };
const WEEKDAY: FieldRule = FieldRule { name: "day of the week", values: 0..=7, names: &DAYS };

/// Reads the times of a schedule, or says why it is none.
fn times(text: &str) -> Result<Times, String> {
    let text = if text.starts_with('@') {
        let found = WORDS.iter().find(|(word, _)| *word == text);
        let words = || WORDS.map(|(word, _)| word).join(", ");
        found.map(|(_, fields)| *fields).ok_or_else(|| format!("the words are {}", words()))?
    } else {
        text
    };
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else {
        return Err("it takes five fields: minute, hour, day of the month, month, day of the week".to_owned());
    };
    let weekdays = WEEKDAY.read(weekday)?;
    Ok(Times {
        minutes: MINUTE.read(minute)?,
        hours: HOUR.read(hour)?,
        days: DAY.read(day)?,
        months: MONTH.read(month)?,
        // Sunday is 0 and 7.
        weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
        is_either: !day.starts_with('*') && !weekday.starts_with('*'),
    })
}

impl FieldRule {
    /// Returns the values of a field as bits.
    fn read(&self, part: &str) -> Result<u64, String> {
        part.split(',').try_fold(0, |bits, item| Some(bits | self.item(item)?)).ok_or_else(|| {
            format!(
                "`{part}` is not possible for the {}, which is {} to {}",
                self.name,
                self.values.start(),
                self.values.end()
            )
        })
    }

    /// `*`, `VALUE` or `FROM-TO`, each but the second with a step.
    fn item(&self, item: &str) -> Option<u64> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let step = match step {
            None => None,
            Some(step) => Some(number(step).filter(|step| *step > 0)?),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if range == "*" => (*self.values.start(), *self.values.end()),
            None if step.is_none() => (self.value(range)?, self.value(range)?),
            None => return None,
        };
        let values = (from..=to).step_by(usize::try_from(step.unwrap_or(1)).ok()?);
        (from <= to).then(|| values.fold(0, |bits, value| bits | (1 << value)))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named =
            named.and_then(|index| u32::try_from(index).ok()).map(|index| index + self.values.start());
        named.or_else(|| number(text)).filter(|value| self.values.contains(value))
    }
}

fn number(text: &str) -> Option<u32> {
    let is_digits = text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_those_of_cron() {
        for good in [
            "* * * * *",
            "*/5 0-6,22 1 jan-mar MON",
            "0 3 * * 7",
            "@daily",
            "30 4 1,15 * 5",
            "0 0-23/2 * * *",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "5/2 * * * *",
            "@often",
            "a * * * *",
            "* * * * * *",
            "0 0 30 feb *",
            "0 0 31 4,6,9,11 *",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_wrong_field_is_named() {
        let error = Schedule::parse("0 25 * * *").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`0 25 * * *` is not a schedule: `25` is not possible for the hour, which is 0 to 23"
        );
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_time_is_that_of_cron() {
        // 30 November 2026 is a Monday.
        for (schedule, after, next) in [
            ("* * * * *", "2026-11-30T08:14:00Z", "2026-11-30T08:15:00Z"),
            ("* * * * *", "2026-11-30T08:14:59.5Z", "2026-11-30T08:15:00Z"),
            ("*/20 * * * *", "2026-11-30T08:40:00Z", "2026-11-30T09:00:00Z"),
            ("@daily", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-11-30T08:14:00Z", "2026-12-06T00:00:00Z"),
            ("0 3 * * 7", "2026-11-30T08:14:00Z", "2026-12-06T03:00:00Z"),
            ("0 3 * * 5-7", "2026-12-04T03:00:00Z", "2026-12-05T03:00:00Z"),
            // Either day is enough, unless one of them begins with a star.
            ("30 4 1,15 * 5", "2026-11-30T08:14:00Z", "2026-12-01T04:30:00Z"),
            ("30 4 1,15 * 5", "2026-12-01T04:30:00Z", "2026-12-04T04:30:00Z"),
            ("0 0 */2 * 1", "2026-11-30T08:14:00Z", "2026-12-07T00:00:00Z"),
            ("0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("15 3 * * MON-FRI", "2026-12-04T03:15:00Z", "2026-12-07T03:15:00Z"),
        ] {
            let found = Schedule::parse(schedule).unwrap().next_after(at(after));
            assert_eq!(found, Some(at(next)), "{schedule} after {after}");
        }
    }

    #[test]
    fn the_last_time_of_a_span_is_found() {
        let schedule = Schedule::parse("*/10 * * * *").unwrap();
        let last = |from, to| schedule.last_between(at(from), at(to));
        assert_eq!(last("2026-11-30T08:00:00Z", "2026-11-30T08:09:59Z"), None);
        assert_eq!(last("2026-11-30T08:00:00Z", "2026-11-30T08:10:00Z"), Some(at("2026-11-30T08:10:00Z")));
        assert_eq!(last("2026-11-30T08:00:00Z", "2026-11-30T09:05:00Z"), Some(at("2026-11-30T09:00:00Z")));
        assert_eq!(last("2026-11-30T09:00:00Z", "2026-11-30T08:00:00Z"), None);
    }
}
