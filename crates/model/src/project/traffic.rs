use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use header::HeaderField;
pub use network::Network;
pub use rate::Rate;
pub use upgrade::UpgradeToken;

mod header;
mod network;
mod rate;
mod upgrade;

/// A text that says nothing that the proxy could do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {wanted}", value = crate::printable(value), wanted = wanted)]
pub struct InvalidTraffic {
    value: String,
    wanted: &'static str,
    help: &'static str,
}

impl InvalidTraffic {
    pub(super) fn new(value: impl Into<String>, wanted: &'static str, help: &'static str) -> Self {
        Self { value: value.into(), wanted, help }
    }

    /// Returns what would be right.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.help
    }
}

impl crate::Diagnose for InvalidTraffic {
    fn kind(&self) -> crate::ErrorKind {
        crate::ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        vec![self.help.to_owned()]
    }
}

/// How the requests to a service are shared out, limited and changed. What is not given is not done, and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Which of several targets gets a request.
    #[serde(skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// When a target is left out because of what became of its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_health: Option<PassiveHealth>,
    /// How often each client may ask; a client is an IPv4 address, or a `/64` of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_rate: Option<Rate>,
    /// How often all clients together may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_rate: Option<Rate>,
    /// The only clients that are served, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Network>,
    /// The clients that are not served, also where they are among those that are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<Network>,
    /// The proxies in front of this one whose word for the client's address is taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Network>,
    /// Requests that are sent elsewhere; the first that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<Redirect>,
    /// What is changed in the heads of requests.
    #[serde(skip_serializing_if = "is_default")]
    pub request_headers: HeaderChanges,
    /// What is changed in the heads of answers, the proxy's own included.
    #[serde(skip_serializing_if = "is_default")]
    pub response_headers: HeaderChanges,
    /// Whether browsers are told to come by HTTPS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Whether answers get the usual headers for security that the application has not set.
    #[serde(skip_serializing_if = "is_default")]
    pub security_headers: bool,
    /// The protocols to which connections may be upgraded; `websocket` alone where nothing is given. Who asks for another one is
    /// served as if nothing had been asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<Vec<UpgradeToken>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The most networks, redirects or headers in one list.
const MAX_LISTED: usize = 1000;

impl Traffic {
    /// Returns it unless nothing at all is asked for.
    #[must_use]
    pub fn if_any(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Checks what the single values cannot tell.
    ///
    /// # Errors
    /// [`InvalidTraffic`] with the first value that is out of bounds.
    pub fn check(&self) -> Result<(), InvalidTraffic> {
        let upgrades = self.upgrades.as_ref().map_or(0, Vec::len);
        let counts =
            [self.allow.len(), self.block.len(), self.trusted_proxies.len(), self.redirects.len(), upgrades];
        if let Some(count) = counts.into_iter().find(|count| *count > MAX_LISTED) {
            return Err(InvalidTraffic::new(
                format!("{count} entries"),
                "a list that the proxy takes",
                "a list of networks, redirects or protocols may have up to 1000 entries",
            ));
        }
        if let Some(passive) = &self.passive_health {
            passive.check()?;
        }
        for redirect in &self.redirects {
            redirect.check()?;
        }
        self.request_headers.check()?;
        self.response_headers.check()
    }
}

/// Which of several healthy targets gets a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The next one in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastConnections,
}

impl Balance {
    /// Reads the name of a way.
    ///
    /// # Errors
    /// [`InvalidTraffic`] with the names that there are.
    pub fn parse(text: &str) -> Result<Self, InvalidTraffic> {
        match text {
            "round_robin" | "round-robin" => Ok(Self::RoundRobin),
            "least_connections" | "least-connections" => Ok(Self::LeastConnections),
            _ => Err(InvalidTraffic::new(
                text,
                "a way to choose a target",
                "write `round_robin` or `least_connections`",
            )),
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
        })
    }
}

/// When a target is left out for a while because its requests failed. The last one of a service never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// How many requests must have failed one after the other: no connection, no answer in time, no acceptable answer.
    pub failures: u32,
    /// For how long it is left out the first time, in milliseconds; each further time twice as long.
    pub pause_ms: u64,
    /// The longest time, in milliseconds.
    pub max_pause_ms: u64,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { failures: 5, pause_ms: 10_000, max_pause_ms: 300_000 }
    }
}

impl PassiveHealth {
    fn check(&self) -> Result<(), InvalidTraffic> {
        const HELP: &str = "a target is left out after 1 to 1000 failures, for 1 ms to 24 h";
        let day = 24 * 60 * 60 * 1000;
        if !(1..=1000).contains(&self.failures) {
            return Err(InvalidTraffic::new(self.failures.to_string(), "a number of failures", HELP));
        }
        if let Some(span) =
            [self.pause_ms, self.max_pause_ms].into_iter().find(|span| !(1..=day).contains(span))
        {
            return Err(InvalidTraffic::new(
                format!("{span} ms"),
                "a span for which a target is left out",
                HELP,
            ));
        }
        if self.pause_ms > self.max_pause_ms {
            return Err(InvalidTraffic::new(
                format!("{} ms", self.pause_ms),
                "a pause that is possible",
                "the first pause must not be longer than the longest one",
            ));
        }
        Ok(())
    }
}

/// What is changed in the heads of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Lines that every head gets, in place of those that it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<HeaderField, String>,
    /// Lines that no head keeps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderField>,
}

impl HeaderChanges {
    /// Says whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Checks values, and that nothing is both set and removed.
    ///
    /// # Errors
    /// [`InvalidTraffic`] with what is wrong.
    pub fn check(&self) -> Result<(), InvalidTraffic> {
        if self.set.len() + self.remove.len() > 100 {
            let count = format!("{} headers", self.set.len() + self.remove.len());
            return Err(InvalidTraffic::new(
                count,
                "a list that the proxy takes",
                "up to 100 can be changed",
            ));
        }
        for (name, value) in &self.set {
            header::check_value(value)?;
            if self.remove.contains(name) {
                return Err(InvalidTraffic::new(
                    name.as_str(),
                    "a header that can be both set and removed",
                    "setting it replaces what was there; leave it out of `remove`",
                ));
            }
        }
        Ok(())
    }
}

/// Requests that are sent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The path that is asked for.
    pub from: String,
    /// Where they are sent: a path, or a URL with `http` or `https`.
    pub to: String,
    /// Whether for good (301, or 308 where it is no `GET`), or for now (302, 307).
    #[serde(default, skip_serializing_if = "is_default")]
    pub permanent: bool,
    /// Whether every path below `from` is sent, with its rest and query behind `to`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_path: bool,
}

impl Redirect {
    /// Reads `FROM TO`, the parts of a flag.
    ///
    /// # Errors
    /// [`InvalidTraffic`] where one of them is missing or makes no sense.
    pub fn parse(text: &str) -> Result<Self, InvalidTraffic> {
        let mut words = text.split_ascii_whitespace();
        let (Some(from), Some(to)) = (words.next(), words.next()) else {
            return Err(InvalidTraffic::new(
                text,
                "a redirect",
                "write `FROM TO`, and behind it `permanent` and `keep-path` as needed",
            ));
        };
        let mut redirect =
            Self { from: from.to_owned(), to: to.to_owned(), permanent: false, keep_path: false };
        for word in words {
            match word {
                "permanent" => redirect.permanent = true,
                "keep-path" => redirect.keep_path = true,
                _ => {
                    let help = "behind `FROM TO` may stand `permanent` and `keep-path`";
                    return Err(InvalidTraffic::new(word, "a word of a redirect", help));
                }
            }
        }
        redirect.check().map(|()| redirect)
    }

    /// Checks both ends.
    ///
    /// # Errors
    /// [`InvalidTraffic`] with the one that makes no sense.
    pub fn check(&self) -> Result<(), InvalidTraffic> {
        let is_line = |text: &str| text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.from.starts_with('/') || !is_line(&self.from) || self.from.contains(['?', '#']) {
            return Err(InvalidTraffic::new(
                &self.from,
                "a path to redirect from",
                "write a path with its leading slash, without query",
            ));
        }
        let host = ["https://", "http://"].iter().find_map(|scheme| self.to.strip_prefix(scheme));
        let is_url = host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']));
        let is_path = self.to.starts_with('/') && !self.to.starts_with("//");
        if !(is_url || is_path) || !is_line(&self.to) || (self.keep_path && self.to.contains(['?', '#'])) {
            return Err(InvalidTraffic::new(
                &self.to,
                "an address to redirect to",
                "write a path with its leading slash, or a URL; with `keep_path` without query",
            ));
        }
        if is_path && (self.from == self.to || (self.keep_path && self.to.starts_with(&self.from))) {
            return Err(InvalidTraffic::new(
                format!("{} {}", self.from, self.to),
                "a redirect that ends",
                "the new address is redirected again; choose one outside of the old path",
            ));
        }
        Ok(())
    }
}

/// What browsers are told to do without asking again: come by HTTPS only (`Strict-Transport-Security`, RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// For how long, in seconds.
    pub max_age: u64,
    /// Whether for all hosts below it, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subdomains: bool,
    /// Whether the host may be put into the lists that browsers come with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preload: bool,
}

impl Default for Hsts {
    /// A year.
    fn default() -> Self {
        Self { max_age: 31_536_000, subdomains: false, preload: false }
    }
}

impl Hsts {
    /// Makes it with a span.
    #[must_use]
    pub fn for_span(span: Duration) -> Self {
        Self { max_age: span.as_secs(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_words_that_must_make_sense() {
        let parsed = Redirect::parse("/old https://new.example.com permanent keep-path").unwrap();
        assert!(parsed.permanent && parsed.keep_path);
        assert_eq!(parsed.to, "https://new.example.com");
        for text in [
            "/old",
            "old /new",
            "/old new",
            "/old //evil.example.com",
            "/old https://",
            "/old ftp://a/b",
            "/old /old",
            "/old /old/er keep-path",
            "/old /new?x=1 keep-path",
            "/old /new forever",
            "/o?x /new",
        ] {
            assert!(Redirect::parse(text).is_err(), "{text}");
        }
        assert!(Redirect::parse("/old /old/er").is_ok());
    }

    #[test]
    fn what_is_not_asked_for_is_not_written() {
        assert_eq!(serde_json::to_string(&Traffic::default()).unwrap(), "{}");
        assert_eq!(Traffic::default().if_any(), None);
        let text = r#"{"balance":"least_connections","client_rate":"20/1s:40","block":["10.0.0.0/8"]}"#;
        let traffic: Traffic = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&traffic).unwrap(), text);
        assert!(serde_json::from_str::<Traffic>(r#"{"limits":1}"#).is_err());
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let check = |text: &str| serde_json::from_str::<Traffic>(text).unwrap().check();
        assert!(check(r#"{"passive_health":{}}"#).is_ok());
        let error = check(r#"{"passive_health":{"failures":0}}"#).unwrap_err();
        assert_eq!(error.to_string(), "`0` is not a number of failures");
        assert!(check(r#"{"passive_health":{"pause_ms":5,"max_pause_ms":4}}"#).is_err());
        assert!(check(r#"{"response_headers":{"set":{"X-A":"1"},"remove":["x-a"]}}"#).is_err());
        assert!(check(r#"{"response_headers":{"set":{"X-A":"a\nb"}}}"#).is_err());
        assert!(check(r#"{"redirects":[{"from":"/a","to":"b"}]}"#).is_err());
    }
}
