use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidTraffic;

/// A protocol to which a connection may be upgraded (RFC 9110, section 7.8), as `websocket`. Upper and lower case are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpgradeToken(String);

impl UpgradeToken {
    /// Checks a name, with a version behind a slash where it has one.
    ///
    /// # Errors
    /// [`InvalidTraffic`] where it is none, or one that would hide requests from the proxy.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidTraffic> {
        let text = text.into().to_ascii_lowercase();
        let is_token = |part: &str| {
            let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !part.is_empty() && part.bytes().all(is_sound)
        };
        let (name, version) =
            text.split_once('/').map_or((&*text, None), |(name, version)| (name, Some(version)));
        if text.len() > 100 || !is_token(name) || !version.is_none_or(is_token) {
            return Err(InvalidTraffic::new(
                text,
                "a protocol to upgrade to",
                "write its name as it stands in the header `Upgrade`, as in `websocket`",
            ));
        }
        if matches!(name, "h2c" | "h2" | "http" | "tls") {
            return Err(InvalidTraffic::new(
                text,
                "a protocol that can be passed on",
                "requests would go past the proxy's rules in it; HTTP/2 with targets is `target_protocol: h2c`",
            ));
        }
        Ok(Self(text))
    }

    /// Returns the name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpgradeToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl TryFrom<String> for UpgradeToken {
    type Error = InvalidTraffic;

    fn try_from(text: String) -> Result<Self, InvalidTraffic> {
        Self::parse(text)
    }
}

impl From<UpgradeToken> for String {
    fn from(token: UpgradeToken) -> Self {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_named_and_hides_no_requests() {
        assert_eq!(UpgradeToken::parse("WebSocket").unwrap().as_str(), "websocket");
        assert_eq!(UpgradeToken::parse("IRC/6.9").unwrap().as_str(), "irc/6.9");
        for text in ["", "a b", "a/", "/1", "a,b", "h2c", "H2C", "HTTP/2.0", "TLS/1.0", "a\r\nb"] {
            assert!(UpgradeToken::parse(text).is_err(), "{text}");
        }
    }
}
