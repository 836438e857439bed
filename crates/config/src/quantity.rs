use std::time::Duration;

/// A text that is not a size, a number of processors or a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl InvalidQuantity {
    fn size(text: &str) -> Self {
        Self { text: text.to_owned(), what: "a size", example: "512m, 2g or 1048576" }
    }

    fn cpus(text: &str) -> Self {
        Self { text: text.to_owned(), what: "a number of processors", example: "0.5 or 2" }
    }

    fn duration(text: &str) -> Self {
        Self { text: text.to_owned(), what: "a span of time", example: "30s, 500ms or 1m30s" }
    }

    /// Returns examples of what is right.
    #[must_use]
    pub fn example(&self) -> &'static str {
        self.example
    }
}

/// Parses a size as Docker does: a number with an optional `b`, `k`, `m`, `g`, `t` or `p` (also `kb`, `KiB`), where
/// each is 1024 times the one before. Returns bytes.
///
/// Source: <https://github.com/docker/go-units>, `RAMInBytes`.
///
/// # Errors
/// [`InvalidQuantity`] if it is no size or has more bytes than an `i64` holds.
pub fn parse_size(text: &str) -> Result<i64, InvalidQuantity> {
    let invalid = || InvalidQuantity::size(text);
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(invalid()),
    };
    scaled(number, 1_i128 << shift).ok_or_else(invalid)
}

/// Writes a size so that [`parse_size`] gives the same bytes.
#[must_use]
pub fn format_size(bytes: i64) -> String {
    let units = [(50, "p"), (40, "t"), (30, "g"), (20, "m"), (10, "k")];
    units
        .iter()
        .find(|(shift, _)| bytes != 0 && bytes % (1_i64 << shift) == 0)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes / (1_i64 << shift)))
}

/// Parses a number of processors (`1.5`). Returns billionths of a processor.
///
/// # Errors
/// [`InvalidQuantity`] if it is no decimal number, or finer than a billionth.
pub fn parse_cpus(text: &str) -> Result<i64, InvalidQuantity> {
    let invalid = || InvalidQuantity::cpus(text);
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.len() > 9 {
        return Err(invalid());
    }
    scaled(text, 1_000_000_000).ok_or_else(invalid)
}

/// Multiplies a decimal number exactly, rounded down.
fn scaled(number: &str, factor: i128) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number =
        |text: &str, digits: usize| text.len() <= digits && text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole, 19) || !is_number(fraction, 15) {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    i64::try_from(digits.checked_mul(factor)? / divisor).ok()
}

const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses a span of time as Docker does: `30s`, `1m30s`, `500ms`, `1.5h`.
///
/// Source: <https://pkg.go.dev/time#ParseDuration>; negative spans are refused.
///
/// # Errors
/// [`InvalidQuantity`] if it is no span of time.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    let invalid = || InvalidQuantity::duration(text);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(split);
        let length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(length);
        let unit = if unit == "µs" || unit == "μs" { "us" } else { unit };
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let part = scaled(number, i128::from(*factor)).and_then(|part| u64::try_from(part).ok());
        nanoseconds = part.and_then(|part| nanoseconds.checked_add(part)).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(Duration::from_nanos(nanoseconds)) }
}

/// Writes a span of time so that [`parse_duration`] gives the same.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for unit in ["h", "m", "s", "ms", "us", "ns"] {
        let factor =
            UNITS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, factor)| u128::from(*factor));
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_those_of_docker() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("2g", 2 << 30),
            ("1.5g", 3 << 29),
            ("1 gb", 1 << 30),
            ("1GiB", 1 << 30),
            (".5k", 512),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "g", "-1", "1x", "1.2.3", "1 g b", "9999999999p", "2 g ", "1e3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1d", "1s2", "1..5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_exact() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        assert!(parse_cpus("0.0000000001").is_err());
        assert!(parse_cpus("two").is_err());
    }

    proptest! {
        #[test]
        fn sizes_come_back(bytes in 0..i64::MAX) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_come_back(nanoseconds in 0..(i64::MAX as u64)) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_a_quantity_or_refused(text in "\\PC*") {
            let _: (Result<_, _>, Result<_, _>, Result<_, _>) =
                (parse_size(&text), parse_duration(&text), parse_cpus(&text));
        }
    }
}
