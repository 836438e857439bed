use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which visitors try a release beside the one that serves, and how it is decided that it is as good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// How many of a hundred visitors do, told apart by the value of their cookie.
    pub percent: u8,
    /// Whether visitors without the cookie are given one, so that they count, too, and stay on their side.
    pub anonymous: bool,
    /// The cookie; the proxy's own, `kamal-rollout`, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The values of the cookie that do in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<String>,
    /// The header of requests that go there in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<CanaryHeader>,
    /// How both releases are compared; they are not where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<CanaryVerdict>,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            percent: 10,
            anonymous: true,
            cookie: None,
            list: Vec::new(),
            header: None,
            verdict: Some(CanaryVerdict::default()),
        }
    }
}

impl Canary {
    /// Says whether there are visitors on both sides to compare, or nothing is to be compared.
    #[must_use]
    pub fn can_be_compared(&self) -> bool {
        self.verdict.is_none() || (1..=99).contains(&self.percent)
    }

    /// Says whether any visitor at all can come.
    #[must_use]
    pub fn takes_anybody(&self) -> bool {
        self.percent > 0 || !self.list.is_empty() || self.header.is_some()
    }
}

/// A header that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryHeader {
    /// Its name.
    pub name: String,
    /// Its value; any where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl CanaryHeader {
    /// Reads `NAME`, or `NAME: VALUE`; none where the name is that of no header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
            None => (text.trim(), None),
        };
        let is_value = value.as_ref().is_none_or(|value| {
            !value.is_empty()
                && value.chars().all(|character| character == ' ' || character.is_ascii_graphic())
        });
        (is_token(name) && is_value).then(|| Self { name: name.to_owned(), value })
    }
}

/// Says whether a text can be the name of a header or a cookie.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// How a release that is tried is compared with the one that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryVerdict {
    /// For how long.
    pub window: Duration,
    /// How many requests each side must have had by then.
    pub min_requests: u64,
    /// By how many thousandths of all requests errors may be more.
    pub errors_permille: u32,
    /// By how many hundredths the time within which 95 of 100 requests are answered may be longer.
    pub latency_percent: u32,
    /// Whether whoever waits for the verdict promotes a release that is as good.
    pub promote: bool,
}

impl Default for CanaryVerdict {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            min_requests: 50,
            errors_permille: 5,
            latency_percent: 50,
            promote: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_with_or_without_a_value() {
        let header = |name: &str, value: Option<&str>| {
            Some(CanaryHeader { name: name.to_owned(), value: value.map(str::to_owned) })
        };
        assert_eq!(CanaryHeader::parse("X-Canary: yes"), header("X-Canary", Some("yes")));
        assert_eq!(CanaryHeader::parse("X-Canary"), header("X-Canary", None));
        for text in ["", "two words: x", ": x", "X-Canary:", "X-Canary: a\nb"] {
            assert_eq!(CanaryHeader::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_comparison_needs_visitors_on_both_sides() {
        for (percent, can) in [(0, false), (1, true), (99, true), (100, false)] {
            assert_eq!(Canary { percent, ..Canary::default() }.can_be_compared(), can, "{percent}");
            assert!(Canary { percent, verdict: None, ..Canary::default() }.can_be_compared());
        }
        assert!(!Canary { percent: 0, ..Canary::default() }.takes_anybody());
        assert!(Canary { percent: 0, list: vec!["x".to_owned()], ..Canary::default() }.takes_anybody());
    }
}
