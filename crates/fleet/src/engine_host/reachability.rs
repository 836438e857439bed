use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freehold_model::PortProtocol;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine_host::{EngineHost, guard_scripts};
use crate::host::HostError;

/// How many connections are tried at a time.
const AT_ONCE: usize = 20;

/// A port of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReachTarget {
    /// The protocol.
    pub protocol: PortProtocol,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reachability {
    /// It was accepted, or a datagram answered.
    Open,
    /// The host refused it.
    Refused,
    /// Nothing came back, twice.
    Filtered,
    /// It was not accepted; how, the program that was at hand does not tell.
    NotOpen,
    /// No answer to a datagram, which says nothing.
    Silent,
    /// There is no route.
    NoRoute,
    /// Something on the way, or a firewall, says that it cannot be reached.
    Unreachable,
    /// The host from which it was to be tried has no program for it.
    NoTool,
    /// It was not tried.
    NotChecked,
}

/// What was seen from one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReachReport {
    /// The address from which connections to an address come, where it is known.
    pub sources: BTreeMap<IpAddr, IpAddr>,
    /// Addresses behind the gateway of a default route, where it is known.
    pub away: BTreeSet<IpAddr>,
    /// What became of each connection.
    pub seen: BTreeMap<ReachTarget, Reachability>,
}

/// Tries connections from this computer, at most 20 at a time, each at most twice.
///
/// # Cancel safety
/// Safe: nothing but the connections is left behind, and they are closed.
pub async fn reach_from_here(targets: &[ReachTarget], wait: Duration) -> ReachReport {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tries = JoinSet::new();
    for target in targets.iter().copied() {
        let room = Arc::clone(&room);
        tries.spawn(async move {
            // It is never closed.
            let _place = room.acquire_owned().await.ok();
            (target, reach(target, wait).await)
        });
    }
    let mut report =
        ReachReport { seen: tries.join_all().await.into_iter().collect(), ..ReachReport::default() };
    for address in targets.iter().map(|target| target.address) {
        if let Some(source) = source_of(address).await {
            report.sources.insert(address, source);
        }
    }
    report
}

/// Returns the address that this computer takes for what it sends to another.
async fn source_of(address: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any_port(address)).await.ok()?;
    socket.connect(SocketAddr::new(address, 9)).await.ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

fn any_port(address: IpAddr) -> SocketAddr {
    let every = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    SocketAddr::new(every, 0)
}

async fn reach(target: ReachTarget, wait: Duration) -> Reachability {
    let once = async || match target.protocol {
        PortProtocol::Tcp => connect(target, wait).await,
        PortProtocol::Udp => ask(target, wait).await,
    };
    match once().await {
        Reachability::Filtered | Reachability::Silent => once().await,
        other => other,
    }
}

async fn connect(target: ReachTarget, wait: Duration) -> Reachability {
    let address = SocketAddr::new(target.address, target.port);
    match tokio::time::timeout(wait, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Reachability::Open,
        Ok(Err(error)) => of_error(&error),
        Err(_) => Reachability::Filtered,
    }
}

async fn ask(target: ReachTarget, wait: Duration) -> Reachability {
    let exchange = async {
        let socket = UdpSocket::bind(any_port(target.address)).await?;
        socket.connect(SocketAddr::new(target.address, target.port)).await?;
        socket.send(b"\n").await?;
        socket.recv(&mut [0; 64]).await
    };
    match tokio::time::timeout(wait, exchange).await {
        Ok(Ok(_)) => Reachability::Open,
        Ok(Err(error)) => of_error(&error),
        Err(_) => Reachability::Silent,
    }
}

fn of_error(error: &io::Error) -> Reachability {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Reachability::Refused,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkDown => {
            Reachability::NoRoute
        }
        io::ErrorKind::HostUnreachable => Reachability::Unreachable,
        io::ErrorKind::TimedOut => Reachability::Filtered,
        // A firewall of this computer itself: nothing was sent.
        io::ErrorKind::PermissionDenied => Reachability::NotChecked,
        _ => Reachability::NotOpen,
    }
}

impl EngineHost {
    /// Tries connections from this host, at most 20 at a time, each at most twice.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    ///
    /// # Cancel safety
    /// The last tries may go on for the time that they wait.
    pub async fn reach(&self, targets: &[ReachTarget], wait: Duration) -> Result<ReachReport, HostError> {
        let lines: Vec<String> = targets
            .iter()
            .map(|target| format!("{} {} {}", target.protocol, target.address, target.port))
            .collect();
        let rounds = u32::try_from(targets.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
        let limit = (wait + Duration::from_secs(1)).saturating_mul(2).saturating_mul(rounds)
            + Duration::from_secs(30);
        let script = guard_scripts::probe(&lines, wait);
        let output = self.long_script("try connections", &script, limit).await?;
        if output.code != 0 {
            return Err(self.refused("try connections", &output));
        }
        let mut report = parse(&output.stdout);
        for target in targets {
            let unseen = || match report.sources.contains_key(&target.address) {
                true => Reachability::NotChecked,
                false => Reachability::NoRoute,
            };
            let seen =
                report.seen.get(target).copied().filter(|_| report.sources.contains_key(&target.address));
            report.seen.insert(*target, seen.unwrap_or_else(unseen));
        }
        Ok(report)
    }
}

fn parse(text: &str) -> ReachReport {
    let mut report = ReachReport::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["src", address, source] => {
                if let (Ok(address), Ok(source)) = (address.parse(), source.parse()) {
                    report.sources.insert(address, source);
                }
            }
            ["away", address] => report.away.extend(address.parse::<IpAddr>().ok()),
            ["seen", protocol, address, port, word] => {
                let protocol = if *protocol == "udp" { PortProtocol::Udp } else { PortProtocol::Tcp };
                let (Ok(address), Ok(port)) = (address.parse(), port.parse()) else { continue };
                let seen = match (*word, protocol) {
                    ("open", _) => Reachability::Open,
                    ("refused", _) => Reachability::Refused,
                    ("silent", PortProtocol::Tcp) => Reachability::Filtered,
                    ("silent", PortProtocol::Udp) => Reachability::Silent,
                    ("closed", _) => Reachability::NotOpen,
                    ("unreachable", _) => Reachability::Unreachable,
                    ("no-tool", _) => Reachability::NoTool,
                    _ => Reachability::NotChecked,
                };
                report.seen.insert(ReachTarget { protocol, address, port }, seen);
            }
            _ => {}
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_port_is_told_from_a_refused_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = {
            let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            other.local_addr().unwrap().port()
        };
        let of = |port| ReachTarget { protocol: PortProtocol::Tcp, address: [127, 0, 0, 1].into(), port };
        let report = reach_from_here(&[of(open), of(closed)], Duration::from_secs(5)).await;
        assert_eq!(report.seen.get(&of(open)), Some(&Reachability::Open));
        assert_eq!(report.seen.get(&of(closed)), Some(&Reachability::Refused));
        assert_eq!(report.sources.len(), 1);
    }

    #[test]
    fn what_a_host_prints_is_read() {
        let report = parse(
            "src 10.0.0.2 10.0.0.1\nseen tcp 10.0.0.2 22 open\nseen tcp 10.0.0.2 80 silent\n\
             seen tcp 10.0.0.2 81 unreachable\nseen udp 10.0.0.2 53 silent\nseen udp 10.0.0.2 54 no-tool\nnoise\n",
        );
        let seen: Vec<Reachability> = report.seen.values().copied().collect();
        let expected = [
            Reachability::Open,
            Reachability::Filtered,
            Reachability::Unreachable,
            Reachability::Silent,
            Reachability::NoTool,
        ];
        assert_eq!(seen, expected);
        assert_eq!(report.sources.len(), 1);
    }
}
