use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidTraffic;

/// How many requests may come in a span of time, and how many of them at once: `20/1s:40` is one each 50 ms and 40 at once.
/// Without the last part as many may come at once as in the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    requests: u32,
    span: Duration,
    burst: u32,
}

/// The shortest time between two requests that can be told apart: a hundred thousand in a second.
const MIN_INTERVAL: Duration = Duration::from_micros(10);

impl Rate {
    /// Reads `REQUESTS/SPAN` or `REQUESTS/SPAN:BURST`; a span is a number and `ms`, `s`, `m` or `h`, or the unit alone.
    ///
    /// # Errors
    /// [`InvalidTraffic`] where it is something else, or out of bounds.
    pub fn parse(text: &str) -> Result<Self, InvalidTraffic> {
        const HELP: &str = "write `REQUESTS/SPAN` or `REQUESTS/SPAN:BURST`, as in `20/1s` or `300/1m:50`";
        let invalid = |help| InvalidTraffic::new(text, "a rate", help);
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|number| is_number && *number > 0).ok_or_else(|| invalid(HELP))
        };
        let (requests, rest) = text.split_once('/').ok_or_else(|| invalid(HELP))?;
        let (span, burst) = match rest.split_once(':') {
            Some((span, burst)) => (span, Some(burst)),
            None => (rest, None),
        };
        let requests = number(requests)?;
        let unit_at =
            span.find(|character: char| !character.is_ascii_digit()).ok_or_else(|| invalid(HELP))?;
        let (count, unit) = span.split_at_checked(unit_at).ok_or_else(|| invalid(HELP))?;
        let count = if count.is_empty() { 1 } else { number(count)? };
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(invalid(HELP)),
        };
        let span = unit.checked_mul(count).filter(|span| *span <= Duration::from_secs(24 * 3600));
        let span = span.ok_or_else(|| invalid("the span may be up to 24h"))?;
        let rate = Self { requests, span, burst: burst.map_or(Ok(requests), number)? };
        if rate.interval() < MIN_INTERVAL || rate.burst > 1_000_000 {
            return Err(invalid("a rate may be up to 100000 a second, and 1000000 at once"));
        }
        Ok(rate)
    }

    /// Returns the time between two requests that come evenly.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.span / self.requests
    }

    /// Returns how many may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.span.as_millis();
        let span = match (milliseconds % 3_600_000, milliseconds % 60_000, milliseconds % 1000) {
            (0, _, _) => format!("{}h", milliseconds / 3_600_000),
            (_, 0, _) => format!("{}m", milliseconds / 60_000),
            (_, _, 0) => format!("{}s", milliseconds / 1000),
            _ => format!("{milliseconds}ms"),
        };
        let burst = if self.burst == self.requests { String::new() } else { format!(":{}", self.burst) };
        formatter.pad(&format!("{}/{span}{burst}", self.requests))
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidTraffic;

    fn try_from(text: String) -> Result<Self, InvalidTraffic> {
        Self::parse(&text)
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_requests_in_a_span() {
        let rate = Rate::parse("20/1s:40").unwrap();
        assert_eq!((rate.interval(), rate.burst()), (Duration::from_millis(50), 40));
        let rate = Rate::parse("300/m").unwrap();
        assert_eq!((rate.interval(), rate.burst()), (Duration::from_millis(200), 300));
        for text in ["20/1s:40", "300/1m", "1/24h", "5/250ms:1"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "20", "0/1s", "20/0s", "20/1d", "20/1", "1/25h", "200000/1s", "20/1s:0", "+2/1s", "2/1s:1:1"]
        {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
