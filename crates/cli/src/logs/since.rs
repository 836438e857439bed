use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    Time(Timestamp),
    Ago(SignedDuration),
}

/// Bare numbers from here on are seconds since 1970, as Docker reads all of them; nobody asks for so long ago.
const FIRST_TIMESTAMP: i64 = 1_000_000_000;

/// Reads what `docker logs --since` reads: a time, a date, seconds since 1970, or a span such as `1h30m`; and days.
/// A time without a zone is UTC, which is what the lines of the log have before them.
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since::Time(time));
    }
    let civil = text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(DateTime::from));
    if let Some(time) = civil.and_then(|civil| civil.to_zoned(TimeZone::UTC).ok()) {
        return Ok(Since::Time(time.timestamp()));
    }
    let bare = text.parse::<i64>().ok().filter(|seconds| *seconds >= FIRST_TIMESTAMP);
    if let Some(time) = bare.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        return Ok(Since::Time(time));
    }
    let wrong = || "write a time such as 2026-01-31T12:00:00Z or a span such as 10m".to_owned();
    span(text).map(Since::Ago).ok_or_else(wrong)
}

/// Reads numbers, each with its unit; a bare one is seconds.
fn span(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, next) = behind.split_at(letters);
        let unit = match unit {
            "ms" => SignedDuration::from_millis(1),
            "s" => SignedDuration::from_secs(1),
            "" if number == text => SignedDuration::from_secs(1),
            "m" => SignedDuration::from_mins(1),
            "h" => SignedDuration::from_hours(1),
            "d" => SignedDuration::from_hours(24),
            _ => return None,
        };
        let span = unit.checked_mul(number.parse::<i32>().ok()?)?;
        (total, rest) = (total.checked_add(span)?, next);
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_are_those_of_docker_and_days() {
        let time = |text: &str| Since::Time(text.parse().expect("a time"));
        let ago = |seconds| Since::Ago(SignedDuration::from_secs(seconds));
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", time("2026-01-31T12:00:00Z")),
            ("2026-01-31T12:00:00+01:00", time("2026-01-31T11:00:00Z")),
            ("2026-01-31T12:00:00", time("2026-01-31T12:00:00Z")),
            ("2026-01-31", time("2026-01-31T00:00:00Z")),
            ("1769860800", time("2026-01-31T12:00:00Z")),
            ("10m", ago(600)),
            ("1h30m", ago(5400)),
            ("1d", ago(86_400)),
            ("90", ago(90)),
            ("1500ms", Since::Ago(SignedDuration::from_millis(1500))),
        ] {
            assert_eq!(since(text), Ok(expected), "{text}");
        }
        for bad in ["", "yesterday", "m", "10x", "10 m", "-5m", "1h30"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
