//! Durations as Go writes them, which kamal-proxy's command line and messages use: `500ms`, `30s`, `1m30s`.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("time: invalid duration \"{0}\"")]
    Invalid(String),
    #[error("time: missing unit in duration \"{0}\"")]
    MissingUnit(String),
    #[error("time: unknown unit \"{unit}\" in duration \"{text}\"")]
    UnknownUnit { unit: String, text: String },
}

/// Reads a duration; negative ones are invalid here.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(end).ok_or_else(invalid)?;
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(invalid)?;
        let seconds = match unit {
            "" => return Err(DurationError::MissingUnit(text.to_owned())),
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(total)
}

/// Reads the duration of a flag that kamal-proxy does not have, and says how it is written where it is none.
pub(crate) fn parse_own(text: &str) -> Result<Duration, String> {
    parse(text).map_err(|error| {
        let days = text.strip_suffix('d').and_then(|number| number.parse::<u32>().ok());
        let example =
            days.map_or_else(|| "30s`, `5m` or `1h".to_owned(), |days| format!("{}h", u64::from(days) * 24));
        format!("{error}; the units are `ms`, `s`, `m` and `h`: write `{example}`")
    })
}

/// Writes a duration in milliseconds' precision.
pub(crate) fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        return if milliseconds == 0 { "0s".to_owned() } else { format!("{milliseconds}ms") };
    }
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&format!("{}", seconds % 60));
    if rest > 0 {
        text.push_str(format!(".{rest:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_in_go() {
        for (text, milliseconds, written) in [
            ("30s", 30_000, "30s"),
            ("500ms", 500, "500ms"),
            ("1m30s", 90_000, "1m30s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("1.5s", 1500, "1.5s"),
            ("0", 0, "0s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!((duration.as_millis(), format(duration).as_str()), (milliseconds, written));
        }
        assert_eq!(parse("30").unwrap_err().to_string(), "time: missing unit in duration \"30\"");
        assert_eq!(parse("3x").unwrap_err().to_string(), "time: unknown unit \"x\" in duration \"3x\"");
        for bad in ["", "s", "-1s", ".s", "1..2s", "a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_own("365d").unwrap_err().ends_with("write `8760h`"));
        assert!(parse_own("1y").unwrap_err().ends_with("write `30s`, `5m` or `1h`"));
    }
}
