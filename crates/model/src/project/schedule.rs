use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JobName, RoleName};

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
/// the POSIX `crontab` page and Vixie cron's steps, names and `@` words.
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
        match check(&text) {
            Ok(()) => Ok(Self(text)),
            Err(reason) => Err(InvalidSchedule { text, reason }),
        }
    }

    /// Returns the schedule as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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

const WORDS: [&str; 7] = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields: name, values, and names of the values from the first on.
const FIELDS: [(&str, RangeInclusive<u32>, &[&str]); 5] = [
    ("minute", 0..=59, &[]),
    ("hour", 0..=23, &[]),
    ("day of the month", 1..=31, &[]),
    ("month", 1..=12, &MONTHS),
    ("day of the week", 0..=7, &DAYS),
];

fn check(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        return match WORDS.contains(&text) {
            true => Ok(()),
            false => Err(format!("the words are {}", WORDS.join(", "))),
        };
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err("it takes five fields: minute, hour, day of the month, month, day of the week".to_owned());
    }
    for (part, (name, values, names)) in parts.iter().zip(&FIELDS) {
        if !part.split(',').all(|item| is_item(item, values, names)) {
            return Err(format!(
                "`{part}` is not possible for the {name}, which is {} to {}",
                values.start(),
                values.end()
            ));
        }
    }
    Ok(())
}

/// `*`, `VALUE` or `FROM-TO`, each with a step.
fn is_item(item: &str, values: &RangeInclusive<u32>, names: &[&str]) -> bool {
    let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
    let is_digits =
        |text: &str| !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    let value = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|index| u32::try_from(index).ok()).map(|index| index + values.start());
        let number = || text.parse().ok().filter(|_| is_digits(text));
        named.or_else(number).filter(|value| values.contains(value))
    };
    let step_ok = step.is_none_or(|step| is_digits(step) && step.parse::<u32>().is_ok_and(|step| step > 0));
    let range_ok = match range.split_once('-') {
        Some((from, to)) => matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to),
        None => range == "*" || (value(range).is_some() && step.is_none()),
    };
    step_ok && range_ok
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
}
