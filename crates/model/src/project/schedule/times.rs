use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How many days are looked at for one that fits. Where day and weekday must both fit, a date falls on its weekday again after
/// at most 12 years, and 29 February after at most 40: 2072, a Monday, and 2112 with 2100, which is no leap year, between.
const DAYS_AHEAD: u32 = 41 * 366;

/// The minutes at which something is due, each field as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) minutes: u64,
    pub(super) hours: u64,
    /// Of the month, from 1.
    pub(super) days: u64,
    pub(super) months: u64,
    /// From Sunday, 0.
    pub(super) weekdays: u64,
    /// Whether the day of the month or of the week is enough; otherwise both must fit.
    pub(super) is_either: bool,
}

impl Times {
    /// Says whether no day ever fits, as with 30 February.
    pub(super) fn is_empty(&self) -> bool {
        let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let first_day = self.days.trailing_zeros();
        let comes = (1..).zip(longest).any(|(month, days)| has(self.months, month) && first_day <= days);
        !comes && !self.is_either
    }

    /// Returns the first minute after a moment.
    pub(super) fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let second = moment.as_second();
        let minute =
            Timestamp::from_second(second.checked_sub(second.rem_euclid(60))?.checked_add(60)?).ok()?;
        let start = TimeZone::UTC.to_datetime(minute);
        let mut date = start.date();
        let (mut hour, mut minute) = (start.hour(), start.minute());
        for _ in 0..DAYS_AHEAD {
            if self.has_day(date)
                && let Some((hour, minute)) = self.time_from(hour, minute)
            {
                return TimeZone::UTC.to_timestamp(date.at(hour, minute, 0, 0)).ok();
            }
            date = date.checked_add(1.day()).ok()?;
            (hour, minute) = (0, 0);
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let weekday = match date.weekday() {
            Weekday::Sunday => 0,
            Weekday::Monday => 1,
            Weekday::Tuesday => 2,
            Weekday::Wednesday => 3,
            Weekday::Thursday => 4,
            Weekday::Friday => 5,
            Weekday::Saturday => 6,
        };
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        has(self.months, date.month()) && if self.is_either { day || weekday } else { day && weekday }
    }

    /// Returns the first time of a day that is not before an hour and minute.
    fn time_from(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        let in_hour = (minute..60).find(|minute| has(self.minutes, *minute));
        if let Some(minute) = in_hour.filter(|_| has(self.hours, hour)) {
            return Some((hour, minute));
        }
        let later = (hour + 1..24).find(|hour| has(self.hours, *hour))?;
        Some((later, (0..60).find(|minute| has(self.minutes, *minute))?))
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Schedule;
    use super::*;

    /// Reads one field the slow way: is a value in its list of stars, ranges and steps?
    fn fits(field: &str, value: u32) -> bool {
        field.split(',').any(|item| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
                None if range == "*" => (u32::MIN, u32::MAX),
                None => (range.parse().unwrap(), range.parse().unwrap()),
            };
            let step: u32 = step.parse().unwrap();
            let first = if range == "*" { 0 } else { from };
            (from..=to).contains(&value) && (value - first).is_multiple_of(step)
        })
    }

    fn is_due(fields: &[String], minute: Timestamp) -> bool {
        let time = TimeZone::UTC.to_datetime(minute);
        let number = |value: i8| u32::try_from(value).unwrap();
        let weekday = number(time.weekday().to_sunday_zero_offset());
        // A step over the days or months counts from 1.
        let from_one = |field: &str, value: u32| match field.strip_prefix("*/") {
            Some(step) => (value - 1).is_multiple_of(step.parse().unwrap()),
            None => fits(field, value),
        };
        let day = from_one(&fields[2], number(time.day()));
        let weekday = fits(&fields[4], weekday) || (weekday == 0 && fits(&fields[4], 7));
        let is_either = !fields[2].starts_with('*') && !fields[4].starts_with('*');
        fits(&fields[0], number(time.minute()))
            && fits(&fields[1], number(time.hour()))
            && from_one(&fields[3], number(time.month()))
            && if is_either { day || weekday } else { day && weekday }
    }

    fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
        let value = first..=last;
        let range = (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (1..=20_u32).prop_map(|step| format!("*/{step}")),
            3 => proptest::collection::vec(value, 1..4).prop_map(|values| {
                values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
            }),
            2 => (range, 1..=7_u32).prop_map(|(range, step)| format!("{range}/{step}")),
        ]
    }

    /// A day of the month that must be a certain weekday, too, may be long in coming.
    #[test]
    fn a_date_on_its_weekday_is_found_however_far_it_is() {
        let next = |text: &str, start: &str| {
            let schedule = Schedule::parse(text.to_owned()).unwrap();
            let mut moment: Timestamp = start.parse().unwrap();
            std::iter::from_fn(move || {
                moment = schedule.next_after(moment)?;
                Some(moment)
            })
            .map(|moment| moment.to_string())
        };
        // 1788739140, the last minute of a Sunday, found by a property once.
        let after = next("* * 6 9 */7", "2026-09-06T23:59:00Z").next();
        assert_eq!(after.as_deref(), Some("2037-09-06T00:00:00Z"));
        let leap: Vec<String> = next("0 0 29 2 */7", "2032-02-29T00:00:00Z").take(3).collect();
        assert_eq!(leap, ["2060-02-29T00:00:00Z", "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_next_time_is_what_a_scan_of_all_minutes_finds(
            minute in field(0, 59), hour in field(0, 23), day in field(1, 28), month in field(1, 12),
            weekday in field(0, 7), start in 1_700_000_000_i64..2_000_000_000,
        ) {
            let fields = [minute, hour, day, month, weekday];
            let schedule = Schedule::parse(fields.join(" ")).unwrap();
            let next = schedule.next_after(Timestamp::from_second(start).unwrap()).unwrap();
            // At most 90 days are scanned: what is found later is only looked at itself.
            let first = start - start.rem_euclid(60) + 60;
            let minutes = (0..90 * 24 * 60).map(|index| Timestamp::from_second(first + index * 60).unwrap());
            match minutes.into_iter().find(|minute| is_due(&fields, *minute)) {
                Some(found) => prop_assert_eq!(next, found, "{:?}", fields),
                None => prop_assert!(is_due(&fields, next) && next.as_second() > first, "{:?}", fields),
            }
        }
    }
}
