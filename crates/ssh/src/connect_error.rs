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

/// No session to a host came about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The way to the host is not known.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A hop on the way failed.
    #[error(transparent)]
    Hop(#[from] HopError),
    /// A route without hops: our bug.
    #[error("the way to the host is empty; please report this")]
    NoHops,
}

/// A hop at which the way to a host ended.
#[derive(Debug, Clone)]
pub struct HopError {
    /// The hop.
    pub hop: HopName,
    /// What failed.
    pub failure: HopFailure,
}

/// What fails at a hop; each variant is a stage.
#[derive(Debug, Clone)]
pub enum HopFailure {
    /// The name does not resolve.
    Lookup {
        /// The name.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The name did not resolve in time.
    LookupTimedOut {
        /// The name.
        address: String,
        /// The deadline.
        after: Duration,
    },
    /// The name has no address of the wanted family.
    NoAddress {
        /// The name.
        address: String,
    },
    /// No address takes connections.
    Tcp {
        /// The address that was tried last.
        address: SocketAddr,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No address answered in time.
    TimedOut {
        /// The addresses.
        addresses: Vec<SocketAddr>,
        /// The deadline.
        after: Duration,
    },
    /// The proxy command cannot be started.
    ProxyCommand {
        /// The command.
        command: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A jump host does not reach the hop.
    Jump {
        /// The jump host.
        through: HostName,
        /// Why.
        source: OpenError,
    },
    /// A known hosts file cannot be read.
    KnownHosts(Arc<io::Error>),
    /// What answers does not speak SSH with us.
    Handshake {
        /// What a proxy command wrote to standard error.
        complaints: String,
        /// Why.
        source: Arc<russh::Error>,
    },
    /// Something took the connection and then said nothing, or not enough.
    HandshakeTimedOut {
        /// The deadline.
        after: Duration,
    },
    /// The host's key was not accepted.
    HostKey(HostKeyError),
    /// The host did not let us in.
    Authentication(AuthenticationError),
    /// The host, or an agent, did not answer in time.
    AuthenticationTimedOut {
        /// The deadline.
        after: Duration,
    },
}

impl std::fmt::Display for HopError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hop = &self.hop;
        match &self.failure {
            HopFailure::Lookup { address, .. } => {
                write!(formatter, "cannot resolve `{address}`, the address of {hop}")
            }
            HopFailure::LookupTimedOut { address, after } => {
                let seconds = after.as_secs_f32();
                write!(formatter, "resolving `{address}`, the address of {hop}, took longer than {seconds} s")
            }
            HopFailure::NoAddress { address } => {
                write!(formatter, "`{address}`, the address of {hop}, has no usable IP address")
            }
            HopFailure::Tcp { address, .. } => write!(formatter, "cannot connect to {hop} at {address}"),
            HopFailure::TimedOut { addresses, after } => {
                let (addresses, seconds) = (addresses_of(addresses), after.as_secs_f32());
                write!(formatter, "{hop} at {addresses} did not answer within {seconds} s")
            }
            HopFailure::ProxyCommand { command, .. } => {
                write!(formatter, "cannot start the proxy command `{command}` of {hop}")
            }
            HopFailure::Jump { through, .. } => write!(formatter, "cannot reach {hop} through `{through}`"),
            HopFailure::KnownHosts(_) => write!(formatter, "cannot read the known keys of {hop}"),
            HopFailure::Handshake { complaints, .. } => {
                let complaints = in_parentheses(complaints);
                write!(formatter, "the SSH handshake with {hop} did not succeed{complaints}")
            }
            HopFailure::HandshakeTimedOut { after } => {
                let seconds = after.as_secs_f32();
                write!(
                    formatter,
                    "{hop} took the connection but did not finish the SSH handshake within {seconds} s"
                )
            }
            HopFailure::HostKey(_) => write!(formatter, "the identity of {hop} is not certain"),
            HopFailure::Authentication(_) => write!(formatter, "{hop} did not let us in"),
            HopFailure::AuthenticationTimedOut { after } => {
                write!(formatter, "authentication with {hop} took longer than {} s", after.as_secs_f32())
            }
        }
    }
}

impl std::error::Error for HopError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            HopFailure::Lookup { source, .. }
            | HopFailure::Tcp { source, .. }
            | HopFailure::ProxyCommand { source, .. }
            | HopFailure::KnownHosts(source) => Some(source),
            HopFailure::Jump { source, .. } => Some(source),
            HopFailure::Handshake { source, .. } => Some(source),
            HopFailure::HostKey(source) => Some(source),
            HopFailure::Authentication(source) => Some(source),
            HopFailure::LookupTimedOut { .. }
            | HopFailure::NoAddress { .. }
            | HopFailure::TimedOut { .. }
            | HopFailure::HandshakeTimedOut { .. }
            | HopFailure::AuthenticationTimedOut { .. } => None,
        }
    }
}

fn addresses_of(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn in_parentheses(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (the proxy command said: {text})") }
}

impl ConnectError {
    /// Says whether a host did not let us in.
    #[must_use]
    pub fn is_refused_login(&self) -> bool {
        let Self::Hop(HopError { failure, .. }) = self else { return false };
        matches!(failure, HopFailure::Authentication(_) | HopFailure::AuthenticationTimedOut { .. })
    }

    /// Says the same of another host whose way leads over the same jump host.
    pub(crate) fn on_the_way_to(mut self, other: &HostName) -> Self {
        if let Self::Hop(HopError { hop: HopName { target: Some(target), .. }, .. }) = &mut self {
            other.clone_into(target);
        }
        self
    }

    /// Returns what failed at a hop, unless the way was not known at all.
    #[must_use]
    pub fn failure(&self) -> Option<&HopFailure> {
        match self {
            Self::Hop(error) => Some(&error.failure),
            Self::Route(_) | Self::NoHops => None,
        }
    }
}

impl Diagnose for ConnectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Route(error) => error.kind(),
            Self::Hop(error) => error.kind(),
            Self::NoHops => ErrorKind::Bug,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Route(error) => error.help(),
            Self::Hop(error) => error.help(),
            Self::NoHops => Vec::new(),
        }
    }
}

impl Diagnose for HopError {
    fn kind(&self) -> ErrorKind {
        match self.failure {
            HopFailure::KnownHosts(_) => ErrorKind::Configuration,
            _ => ErrorKind::Unreachable,
        }
    }

    fn help(&self) -> Vec<String> {
        let by_hand = || format!("try it by hand: `ssh {} true`", self.hop.name);
        match &self.failure {
            HopFailure::HostKey(source) => source.help(),
            HopFailure::Authentication(source) => {
                let mut help = source.help();
                help.push(by_hand());
                help
            }
            HopFailure::Lookup { address, .. }
            | HopFailure::LookupTimedOut { address, .. }
            | HopFailure::NoAddress { address } => {
                vec![format!("check the name: `getent ahosts {address}`")]
            }
            HopFailure::Tcp { source, address } if source.kind() == io::ErrorKind::ConnectionRefused => {
                vec![format!("nothing listens there: does sshd run on port {}?", address.port())]
            }
            HopFailure::Tcp { .. } | HopFailure::TimedOut { .. } => {
                vec!["is the host up, and does a firewall let us in on that port?".to_owned()]
            }
            HopFailure::ProxyCommand { command, .. } => vec![format!("try the command by hand: `{command}`")],
            HopFailure::Jump { through, source } => {
                let mut help = source.help();
                help.push(format!("try it by hand on `{through}`"));
                help
            }
            HopFailure::KnownHosts(_) => Vec::new(),
            HopFailure::Handshake { .. } | HopFailure::HandshakeTimedOut { .. } => {
                vec!["is it sshd that listens there, and is the host overloaded?".to_owned(), by_hand()]
            }
            HopFailure::AuthenticationTimedOut { .. } => vec![by_hand()],
        }
    }
}
