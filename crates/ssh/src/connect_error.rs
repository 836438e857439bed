use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName};

use crate::authenticate::AuthenticationError;
use crate::host_key::HostKeyError;
use crate::open::OpenError;
use crate::route::RouteError;

/// A hop as errors name it: a host, or a jump host with the host behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopName {
    /// The hop.
    pub name: HostName,
    /// The host that it leads to, unless it is that host itself.
    pub target: Option<HostName>,
}

impl std::fmt::Display for HopName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            None => write!(formatter, "`{}`", self.name),
            Some(target) => write!(formatter, "`{}` (on the way to `{target}`)", self.name),
        }
    }
}

/// No session to a host came about; each variant is a stage of one hop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The way to the host is not known.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The name does not resolve.
    #[error("cannot resolve `{address}`, the address of {hop}")]
    Lookup {
        /// The hop.
        hop: HopName,
        /// The name.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The name did not resolve in time.
    #[error("resolving `{address}`, the address of {hop}, took longer than {} s", after.as_secs_f32())]
    LookupTimedOut {
        /// The hop.
        hop: HopName,
        /// The name.
        address: String,
        /// The deadline.
        after: Duration,
    },
    /// The name has no address of the wanted family.
    #[error("`{address}`, the address of {hop}, has no usable IP address")]
    NoAddress {
        /// The hop.
        hop: HopName,
        /// The name.
        address: String,
    },
    /// No address takes connections.
    #[error("cannot connect to {hop} at {address}")]
    Tcp {
        /// The hop.
        hop: HopName,
        /// The address that was tried last.
        address: SocketAddr,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No address answered in time.
    #[error("{hop} at {} did not answer within {} s", addresses_of(addresses), after.as_secs_f32())]
    TimedOut {
        /// The hop.
        hop: HopName,
        /// The addresses.
        addresses: Vec<SocketAddr>,
        /// The deadline.
        after: Duration,
    },
    /// The proxy command cannot be started.
    #[error("cannot start the proxy command `{command}` of {hop}")]
    ProxyCommand {
        /// The hop.
        hop: HopName,
        /// The command.
        command: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A jump host does not reach the next hop.
    #[error("cannot reach {hop} through `{through}`")]
    Jump {
        /// The hop.
        hop: HopName,
        /// The jump host.
        through: HostName,
        /// Why.
        source: OpenError,
    },
    /// A known hosts file cannot be read.
    #[error("cannot read the known keys of {hop}")]
    KnownHosts {
        /// The hop.
        hop: HopName,
        /// Why.
        source: Arc<io::Error>,
    },
    /// What answers does not speak SSH with us.
    #[error("the SSH handshake with {hop} did not succeed{}", in_parentheses(complaints))]
    Handshake {
        /// The hop.
        hop: HopName,
        /// What a proxy command wrote to standard error.
        complaints: String,
        /// Why.
        source: Arc<russh::Error>,
    },
    /// Something took the connection and then said nothing, or not enough.
    #[error("{hop} took the connection but did not finish the SSH handshake within {} s", after.as_secs_f32())]
    HandshakeTimedOut {
        /// The hop.
        hop: HopName,
        /// The deadline.
        after: Duration,
    },
    /// The host's key was not accepted.
    #[error("the identity of {hop} is not certain")]
    HostKey {
        /// The hop.
        hop: HopName,
        /// Why.
        source: HostKeyError,
    },
    /// The host did not let us in.
    #[error("{hop} did not let us in")]
    Authentication {
        /// The hop.
        hop: HopName,
        /// What was tried.
        source: AuthenticationError,
    },
    /// The host, or an agent, did not answer in time.
    #[error("authentication with {hop} took longer than {} s", after.as_secs_f32())]
    AuthenticationTimedOut {
        /// The hop.
        hop: HopName,
        /// The deadline.
        after: Duration,
    },
    /// A route without hops: our bug.
    #[error("the way to the host is empty; please report this")]
    NoHops,
}

fn addresses_of(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn in_parentheses(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (the proxy command said: {text})") }
}

impl ConnectError {
    pub(crate) fn with_complaints(mut self, text: String) -> Self {
        if let Self::Handshake { complaints, .. } = &mut self {
            *complaints = text;
        }
        self
    }

    /// Says the same of another host whose way leads over the same jump host.
    pub(crate) fn on_the_way_to(mut self, other: &HostName) -> Self {
        if let Some(target) = self.hop_mut().and_then(|hop| hop.target.as_mut()) {
            other.clone_into(target);
        }
        self
    }

    fn hop_mut(&mut self) -> Option<&mut HopName> {
        match self {
            Self::Route(_) | Self::NoHops => None,
            Self::Lookup { hop, .. }
            | Self::LookupTimedOut { hop, .. }
            | Self::NoAddress { hop, .. }
            | Self::Tcp { hop, .. }
            | Self::TimedOut { hop, .. }
            | Self::ProxyCommand { hop, .. }
            | Self::Jump { hop, .. }
            | Self::KnownHosts { hop, .. }
            | Self::Handshake { hop, .. }
            | Self::HandshakeTimedOut { hop, .. }
            | Self::HostKey { hop, .. }
            | Self::Authentication { hop, .. }
            | Self::AuthenticationTimedOut { hop, .. } => Some(hop),
        }
    }

    /// Returns the hop at which it failed, unless the way was not known at all.
    #[must_use]
    pub fn hop(&self) -> Option<&HopName> {
        match self {
            Self::Route(_) | Self::NoHops => None,
            Self::Lookup { hop, .. }
            | Self::LookupTimedOut { hop, .. }
            | Self::NoAddress { hop, .. }
            | Self::Tcp { hop, .. }
            | Self::TimedOut { hop, .. }
            | Self::ProxyCommand { hop, .. }
            | Self::Jump { hop, .. }
            | Self::KnownHosts { hop, .. }
            | Self::Handshake { hop, .. }
            | Self::HandshakeTimedOut { hop, .. }
            | Self::HostKey { hop, .. }
            | Self::Authentication { hop, .. }
            | Self::AuthenticationTimedOut { hop, .. } => Some(hop),
        }
    }
}

impl Diagnose for ConnectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Route(error) => error.kind(),
            Self::NoHops => ErrorKind::Bug,
            Self::KnownHosts { .. } => ErrorKind::Configuration,
            _ => ErrorKind::Unreachable,
        }
    }

    fn help(&self) -> Vec<String> {
        let by_hand = |hop: &HopName| format!("try it by hand: `ssh {} true`", hop.name);
        match self {
            Self::Route(error) => error.help(),
            Self::HostKey { source, .. } => source.help(),
            Self::Authentication { source, hop } => {
                let mut help = source.help();
                help.push(by_hand(hop));
                help
            }
            Self::Lookup { address, .. }
            | Self::LookupTimedOut { address, .. }
            | Self::NoAddress { address, .. } => {
                vec![format!("check the name: `getent ahosts {address}`")]
            }
            Self::Tcp { source, address, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                vec![format!("nothing listens there: does sshd run on port {}?", address.port())]
            }
            Self::Tcp { .. } | Self::TimedOut { .. } => {
                vec!["is the host up, and does a firewall let us in on that port?".to_owned()]
            }
            Self::ProxyCommand { command, .. } => vec![format!("try the command by hand: `{command}`")],
            Self::Jump { through, source, .. } => {
                let mut help = source.help();
                help.push(format!("try it by hand on `{through}`"));
                help
            }
            Self::KnownHosts { .. } | Self::NoHops => Vec::new(),
            Self::Handshake { hop, .. } | Self::HandshakeTimedOut { hop, .. } => {
                vec!["is it sshd that listens there, and is the host overloaded?".to_owned(), by_hand(hop)]
            }
            Self::AuthenticationTimedOut { hop, .. } => vec![by_hand(hop)],
        }
    }
}
