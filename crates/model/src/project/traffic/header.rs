use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidTraffic;

/// The name of a header that a deploy file may change: none that frames or routes a message, or that the proxy itself
/// writes. Upper and lower case are the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderField(String);

/// What a change would break: the framing of messages, or what targets are told of the client.
const PROTECTED: [&str; 23] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-kamal-target",
    "x-request-id",
    "x-request-start",
    "x-writer-affinity",
    "x-accel-buffering",
];

impl HeaderField {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidTraffic`] where it is no header's name, or the proxy's own.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidTraffic> {
        let text = text.into();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > 100 || !text.bytes().all(is_token) {
            return Err(InvalidTraffic::new(
                text,
                "the name of a header",
                "a header's name has letters, digits and dashes only",
            ));
        }
        let dashed = text.to_ascii_lowercase().replace('_', "-");
        if PROTECTED.contains(&dashed.as_str()) {
            return Err(InvalidTraffic::new(
                text,
                "a header that can be changed",
                "it frames or routes messages, or the proxy writes it itself",
            ));
        }
        Ok(Self(text))
    }

    /// Returns the name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

/// Checks a value: one line of visible characters and blanks.
pub(super) fn check_value(value: &str) -> Result<(), InvalidTraffic> {
    let is_line = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if value.len() <= 4096 && is_line && value.trim() == value {
        return Ok(());
    }
    Err(InvalidTraffic::new(
        value,
        "the value of a header",
        "a value is one line of visible ASCII characters, without blanks at its ends",
    ))
}

impl PartialEq for HeaderField {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HeaderField {}

impl PartialOrd for HeaderField {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeaderField {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl TryFrom<String> for HeaderField {
    type Error = InvalidTraffic;

    fn try_from(text: String) -> Result<Self, InvalidTraffic> {
        Self::parse(text)
    }
}

impl From<HeaderField> for String {
    fn from(name: HeaderField) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_or_routes_cannot_be_changed() {
        assert!(HeaderField::parse("X-Frame-Options").is_ok());
        for name in ["", "a b", "a:b", "Host", "CONTENT_LENGTH", "Transfer-Encoding", "x-forwarded-for"] {
            assert!(HeaderField::parse(name).is_err(), "{name}");
        }
        assert_eq!(HeaderField::parse("x-a").unwrap(), HeaderField::parse("X-A").unwrap());
    }

    #[test]
    fn a_value_is_one_line() {
        for value in ["", "max-age=1; x", "a b"] {
            assert!(check_value(value).is_ok(), "{value}");
        }
        for value in ["a\r\nSet-Cookie: b", " a", "a\t", "ä"] {
            assert!(check_value(value).is_err(), "{value}");
        }
    }
}
