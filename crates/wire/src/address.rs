use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a valid target, host pattern or path prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct InvalidAddress {
    value: String,
    kind: &'static str,
    rule: &'static str,
}

impl InvalidAddress {
    fn new(value: &str, kind: &'static str, rule: &'static str) -> Self {
        Self { value: value.to_owned(), kind, rule }
    }

    /// Returns the text that was refused.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

macro_rules! text_type {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidAddress;
            fn try_from(value: String) -> Result<Self, InvalidAddress> {
                Self::parse(&value)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidAddress;
            fn from_str(value: &str) -> Result<Self, InvalidAddress> {
                Self::parse(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.as_str().to_owned()
            }
        }
    };
}

/// Where a target listens: `host` or `host:port`, without a port 80.
///
/// The host is a DNS name, a container's name or id, or an IPv4 address, of at least two characters. It is resolved
/// each time the proxy connects, so a container that comes back with another address is found. The rule is that of
/// kamal-proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetAddress {
    text: String,
    host_len: usize,
    port: u16,
}

impl TargetAddress {
    /// Checks a text and makes an address of it.
    ///
    /// # Errors
    /// [`InvalidAddress`] where the text is not `host` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        const RULE: &str = "use `host` or `host:port` with a name or an IPv4 address";
        let invalid = || InvalidAddress::new(text, "target", RULE);
        let (host, port) = match text.rsplit_once(':') {
            None => (text, 80),
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, port.parse::<u16>().map_err(|_| invalid())?)
            }
            Some(_) => return Err(invalid()),
        };
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = host.bytes();
        let first = bytes.next().is_some_and(is_word);
        let rest = bytes.all(|byte| is_word(byte) || b"-.+".contains(&byte));
        if !first || !rest || host.len() < 2 || host.len() > 253 || port == 0 {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), host_len: host.len(), port })
    }

    /// Returns the address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the host alone.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(..self.host_len).unwrap_or(&self.text)
    }

    /// Returns the port, 80 where none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The host that a service answers to: an exact name, `*.suffix` for one label under it, or empty for any host.
///
/// Names are folded to lower case and lose one trailing dot, because clients write them in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// Checks a text and makes a pattern of it.
    ///
    /// # Errors
    /// [`InvalidAddress`] where the text is neither empty, a DNS name, an IP address nor `*.` and a DNS name.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let folded = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = folded.strip_prefix("*.").unwrap_or(&folded);
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let is_name = name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
        if text.is_empty() || is_name || (is_address && name == folded) {
            Ok(Self(folded))
        } else {
            Err(InvalidAddress::new(
                text,
                "host",
                "use a DNS name, `*.` and a DNS name, or nothing for any host",
            ))
        }
    }

    /// Returns the pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether any host matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }
}

/// A mount point of a service: `/` or `/a/b`, always with a leading slash and without a trailing one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Normalises a text: slashes are trimmed and one is put in front, so `api/`, `/api` and `api` are equal.
    ///
    /// # Errors
    /// [`InvalidAddress`] where the text holds `?`, `#`, `%` or a control character, which no decoded path can match.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        if text.chars().any(|c| c.is_control() || "?#%".contains(c)) || text.len() > 1024 {
            return Err(InvalidAddress::new(
                text,
                "path prefix",
                "use a path without `?`, `#`, `%` and control characters",
            ));
        }
        Ok(Self(format!("/{}", text.trim_matches('/'))))
    }

    /// Returns the prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether this is `/`, under which everything lies.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl Default for PathPrefix {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

text_type!(TargetAddress);
text_type!(HostPattern);
text_type!(PathPrefix);

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat case 29.
    #[test]
    fn targets_follow_the_rule_of_kamal_proxy() {
        for bad in [
            "",
            "_",
            "/",
            "http://a",
            "x",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "::1",
            "-host",
            "a b",
            "h\u{e4}",
        ] {
            assert!(TargetAddress::parse(bad).is_err(), "{bad}");
        }
        let target = TargetAddress::parse("3f2a91b04c5d:3000").unwrap();
        assert_eq!(
            (target.host(), target.port(), target.as_str()),
            ("3f2a91b04c5d", 3000, "3f2a91b04c5d:3000")
        );
        let target = TargetAddress::parse("web").unwrap();
        assert_eq!((target.host(), target.port(), target.to_string().as_str()), ("web", 80, "web"));
    }

    #[test]
    fn hosts_are_folded() {
        assert_eq!(HostPattern::parse("EXAMPLE.com.").unwrap().as_str(), "example.com");
        assert_eq!(HostPattern::parse("*.Example.com").unwrap().as_str(), "*.example.com");
        assert!(HostPattern::parse("").unwrap().is_any());
        for bad in ["*", "*.", "a b", "a/b", "a:80", ".", "a..b", "*.*.a", "a*.b"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_are_normalised() {
        for same in ["api", "/api", "api/", "//api//"] {
            assert_eq!(PathPrefix::parse(same).unwrap().as_str(), "/api");
        }
        assert!(PathPrefix::parse("").unwrap().is_root());
        assert!(PathPrefix::parse("/a?b").is_err());
    }
}
