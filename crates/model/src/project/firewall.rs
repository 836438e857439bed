use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Network;
use crate::{AccessoryName, HostName, InterfaceName, RoleName};

/// Who may reach which port of which host, as the deploy file says beside what follows from the rest of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// What is let in, in the order of the file.
    pub allow: Vec<FirewallRule>,
    /// Who may open SSH connections; empty is everyone.
    pub ssh: Vec<FirewallSource>,
    /// The interfaces on which everything else is closed.
    pub interfaces: FirewallInterfaces,
    /// The UDP port of a tailnet, if one is used.
    pub tailnet: Option<u16>,
    /// Whether containers may ask the provider's metadata service.
    pub metadata: bool,
    /// Accessories that may publish ports on every address of their host.
    pub published_accessories: BTreeSet<AccessoryName>,
    /// Roles that may publish ports on every address of their hosts.
    pub published_roles: BTreeSet<RoleName>,
}

/// One thing that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// The ports.
    pub ports: FirewallPorts,
    /// From where; empty is from everywhere.
    pub from: Vec<FirewallSource>,
    /// The hosts, in the order of the file; empty is every host of the project.
    pub hosts: Vec<HostName>,
}

/// From where something may come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirewallSource {
    /// A range of addresses.
    Network(Network),
    /// A host of the project, whatever addresses it has.
    Host(HostName),
}

/// The interfaces on which only what is allowed comes in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FirewallInterfaces {
    /// Those of each host's default routes.
    #[default]
    DefaultRoutes,
    /// These, on every host.
    Same(BTreeSet<InterfaceName>),
    /// These, on the hosts that are named; elsewhere those of the default routes.
    Each(BTreeMap<HostName, BTreeSet<InterfaceName>>),
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports that stand side by side, of one protocol: `443`, `6000-6100/udp`. TCP is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FirewallPorts {
    protocol: PortProtocol,
    first: u16,
    last: u16,
}

/// A text that does not name ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port or a range of ports")]
pub struct InvalidPorts(String);

impl FirewallPorts {
    /// Names one port.
    #[must_use]
    pub const fn one(protocol: PortProtocol, port: u16) -> Self {
        Self { protocol, first: port, last: port }
    }

    /// Reads `443`, `53/udp` or `6000-6100/tcp`.
    ///
    /// # Errors
    /// [`InvalidPorts`] for anything else, for port 0 and for a range that ends before it begins.
    pub fn parse(text: &str) -> Result<Self, InvalidPorts> {
        let invalid = || InvalidPorts(text.to_owned());
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), PortProtocol::Tcp),
            Some((ports, "udp")) => (ports, PortProtocol::Udp),
            Some(_) => return Err(invalid()),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| is_number && *port > 0).ok_or_else(invalid)
        };
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { protocol, first, last }) } else { Err(invalid()) }
    }

    /// Returns the protocol.
    #[must_use]
    pub const fn protocol(&self) -> PortProtocol {
        self.protocol
    }

    /// Returns the first and the last port.
    #[must_use]
    pub const fn range(&self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Says whether a port is one of them.
    #[must_use]
    pub fn contains(&self, protocol: PortProtocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }

    /// Says whether all of the others are among them.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for FirewallPorts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.first.to_string();
        if self.first != self.last {
            text = format!("{text}-{}", self.last);
        }
        if self.protocol == PortProtocol::Udp {
            text.push_str("/udp");
        }
        formatter.pad(&text)
    }
}

impl TryFrom<String> for FirewallPorts {
    type Error = InvalidPorts;

    fn try_from(text: String) -> Result<Self, InvalidPorts> {
        Self::parse(&text)
    }
}

impl From<FirewallPorts> for String {
    fn from(ports: FirewallPorts) -> Self {
        ports.to_string()
    }
}

/// What a `--publish` of `docker run` opens on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPorts {
    /// The address; none is every address.
    pub address: Option<IpAddr>,
    /// The host's ports.
    pub ports: FirewallPorts,
}

/// Why the guard has no rule for a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnguardedPublish {
    /// The engine chooses the host's port.
    ChosenPort,
    /// The protocol is neither TCP nor UDP.
    Protocol,
}

impl UnguardedPublish {
    /// Looks at what a `--publish` of `docker run` opens; none where the guard has a rule for it, and where other hosts cannot
    /// reach it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let (rest, _container) = ports.rsplit_once(':').unwrap_or(("", ports));
        let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return None;
        }
        match (protocol, host) {
            ("tcp" | "udp", "") => Some(Self::ChosenPort),
            ("tcp" | "udp", _) => None,
            _ => Some(Self::Protocol),
        }
    }
}

impl fmt::Display for UnguardedPublish {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::ChosenPort => "a port of the host that the engine chooses",
            Self::Protocol => "a protocol that is neither TCP nor UDP",
        })
    }
}

impl PublishedPorts {
    /// Reads `[[ADDRESS:][HOST_PORTS]:]CONTAINER_PORTS[/PROTOCOL]`; none where the engine chooses the host's port, and for
    /// a protocol other than TCP and UDP.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let (rest, _container) = text.rsplit_once(':')?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address.trim_start_matches('[').trim_end_matches(']')), host),
            None => (None, rest),
        };
        let address = match address {
            None | Some("") => None,
            Some(address) => Some(address.parse::<IpAddr>().ok()?),
        };
        let ports = FirewallPorts::parse(&format!("{host}/{protocol}")).ok()?;
        Some(Self { address: address.filter(|address| !address.is_unspecified()), ports })
    }

    /// Says whether other hosts cannot reach it at all.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }
}

/// Images of databases and caches that answer everyone who reaches them, by the last part of their name.
const DATABASES: [&str; 26] = [
    "cassandra",
    "clickhouse-server",
    "cockroach",
    "couchdb",
    "dragonfly",
    "elasticsearch",
    "etcd",
    "influxdb",
    "keydb",
    "mariadb",
    "meilisearch",
    "memcached",
    "mongo",
    "mssql",
    "mysql",
    "neo4j",
    "opensearch",
    "percona",
    "pgvector",
    "postgis",
    "postgres",
    "postgresql",
    "rabbitmq",
    "redis",
    "timescaledb",
    "valkey",
];

/// Says whether an image is that of a well-known database or cache.
#[must_use]
pub fn is_database_image(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    DATABASES.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guard_has_no_rule_for_is_known() {
        use UnguardedPublish::{ChosenPort, Protocol};
        for (text, gap) in [
            ("5432", Some(ChosenPort)),
            ("53/udp", Some(ChosenPort)),
            ("10.0.0.5::5432", Some(ChosenPort)),
            ("[fd00::5]::5432", Some(ChosenPort)),
            ("127.0.0.1::5432", None),
            ("[::1]::5432", None),
            ("5432:5432", None),
            ("10.0.0.5:5432:5432/udp", None),
            ("9899:9899/sctp", Some(Protocol)),
            ("9899/sctp", Some(Protocol)),
            ("127.0.0.1:9899:9899/sctp", None),
        ] {
            assert_eq!(UnguardedPublish::of(text), gap, "{text}");
            assert!(
                gap.is_some()
                    || PublishedPorts::parse(text).is_some()
                    || text.contains("::")
                    || text.contains("sctp")
            );
        }
    }

    #[test]
    fn ports_are_read_and_written() {
        for (text, written) in
            [("443", "443"), ("53/udp", "53/udp"), ("6000-6100/tcp", "6000-6100"), ("7-7", "7")]
        {
            assert_eq!(FirewallPorts::parse(text).unwrap().to_string(), written);
        }
        for bad in ["", "0", "x", "1-", "-1", "2-1", "65536", "+1", "1/sctp", "1 ", "1-2-3"] {
            assert!(FirewallPorts::parse(bad).is_err(), "{bad}");
        }
        let range = FirewallPorts::parse("10-20").unwrap();
        assert!(range.covers(&FirewallPorts::parse("10-12").unwrap()));
        assert!(!range.covers(&FirewallPorts::parse("12/udp").unwrap()));
        assert!(range.contains(PortProtocol::Tcp, 20) && !range.contains(PortProtocol::Tcp, 21));
    }

    #[test]
    fn published_ports_are_those_of_the_host() {
        let of = |text: &str| {
            let found = PublishedPorts::parse(text)?;
            let address = found.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
            Some(format!("{address} {}", found.ports))
        };
        for (text, expected) in [
            ("5432:5432", Some("* 5432")),
            ("0.0.0.0:5432:5432", Some("* 5432")),
            ("[::]:5432:5432", Some("* 5432")),
            ("10.0.0.2:5433:5432", Some("10.0.0.2 5433")),
            ("[::1]:80:8080/udp", Some("::1 80/udp")),
            ("8000-8002:80-82", Some("* 8000-8002")),
            ("127.0.0.1::80", None),
            ("80", None),
            ("9:9/sctp", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn databases_are_known_by_their_image() {
        for image in
            ["postgres:17", "docker.io/library/redis", "ghcr.io/x/mysql-server:8", "valkey@sha256:00"]
        {
            assert!(is_database_image(image), "{image}");
        }
        for image in ["postgrest/postgrest:1", "metabase", "my/redisinsight", "app:postgres"] {
            assert!(!is_database_image(image), "{image}");
        }
    }
}
