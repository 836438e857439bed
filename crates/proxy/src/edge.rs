//! Who connects, before anything is read: the addresses that a proxy in front of this one tells (the PROXY protocol), and how
//! many connections one address may have.

mod header;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold_model::Network;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::dropped::DropCounts;
use crate::rules::contains;
use header::{MAX_V1_BYTES, PREFIX_BYTES, Version, read_v1, read_v2, v2_length, version};

/// How connections are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeConfig {
    /// The proxies in front of this one. Their `X-Forwarded-For` is believed by services that have rules, and they may have
    /// any number of connections.
    pub trusted: Vec<Network>,
    /// Whether connections of trusted proxies to the port for HTTP begin with a PROXY header, version 1 or 2.
    pub proxy_protocol_http: bool,
    /// Whether those to the port for HTTPS do.
    pub proxy_protocol_https: bool,
    /// How many connections one client may have at once: an IPv4 address, or a network `/64` of IPv6; 0 for any number.
    pub max_connections: u32,
}

/// How many connections one client may have where nothing else is said. Generous: behind one address may be a whole company.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 4096;

/// The counters of one row. A client has one in each of two rows, found by its hash; the smaller of them is taken for its
/// number of connections. It is too great only where both are shared with others, and the memory is fixed.
const COUNTERS: usize = 8192;

/// The rules and counts at the edge, shared by all threads.
#[derive(Debug)]
pub(crate) struct Edge {
    config: EdgeConfig,
    /// Secret, so that nobody can choose addresses that fall together.
    hasher: RandomState,
    rows: [Box<[AtomicU32]>; 2],
    /// What was not served.
    pub(crate) drops: DropCounts,
}

/// A connection that is counted; it counts itself out.
#[derive(Debug)]
pub(crate) struct Counted {
    edge: Arc<Edge>,
    places: [u16; 2],
}

impl Drop for Counted {
    fn drop(&mut self) {
        for counter in self.edge.counters(self.places) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Edge {
    /// Makes an edge.
    pub(crate) fn new(config: EdgeConfig) -> Self {
        let count = if config.max_connections == 0 { 0 } else { COUNTERS };
        let row = || std::iter::repeat_with(|| AtomicU32::new(0)).take(count).collect();
        Self { config, hasher: RandomState::new(), rows: [row(), row()], drops: DropCounts::default() }
    }

    /// Returns the proxies that every service trusts.
    pub(crate) fn trusted(&self) -> &[Network] {
        &self.config.trusted
    }

    /// Says whether a connection from an address begins with a PROXY header.
    pub(crate) fn expects_header(&self, peer: IpAddr, is_encrypted: bool) -> bool {
        let wanted =
            if is_encrypted { self.config.proxy_protocol_https } else { self.config.proxy_protocol_http };
        wanted && contains(&self.config.trusted, peer)
    }

    fn counters(&self, places: [u16; 2]) -> impl Iterator<Item = &AtomicU32> {
        self.rows.iter().zip(places).filter_map(|(row, place)| row.get(usize::from(place)))
    }

    /// Counts a connection in. None where connections of this address are not counted; an error where it has as many as it may.
    pub(crate) fn count(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Counted>, TooMany> {
        let is_exempt = peer.to_canonical().is_loopback() || contains(&self.config.trusted, peer);
        if self.config.max_connections == 0 || is_exempt {
            return Ok(None);
        }
        let hash = self.hasher.hash_one(crate::rules::key(peer));
        let place = |shift: u32| u16::try_from((hash >> shift) % COUNTERS as u64).unwrap_or_default();
        let places = [place(0), place(32)];
        let fewest = self.counters(places).map(|counter| counter.fetch_add(1, Ordering::Relaxed)).min();
        // From here on it is counted out whatever happens.
        let counted = Counted { edge: Arc::clone(self), places };
        match fewest {
            Some(fewest) if fewest >= self.config.max_connections => Err(TooMany),
            _ => Ok(Some(counted)),
        }
    }
}

/// An address has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Reads the PROXY header at the front of a connection: the client's address, or the peer's own where the proxy speaks for
/// itself. None where there is no sound header. Nothing behind the header is read.
/// <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
pub(crate) async fn read_header(socket: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    let mut line = vec![0; PREFIX_BYTES];
    socket.read_exact(&mut line).await.ok()?;
    if version(&line)? == Version::V2 {
        line.push(socket.read_u8().await.ok()?);
        let mut rest = vec![0; v2_length(&line)?];
        socket.read_exact(&mut rest).await.ok()?;
        return read_v2(&line, &rest).map(|client| client.unwrap_or(peer));
    }
    while !line.ends_with(b"\r\n") {
        // What stands behind the line belongs to somebody else: only as much is taken as is known to be of it.
        let mut seen = [0; MAX_V1_BYTES];
        let room = MAX_V1_BYTES.checked_sub(line.len()).filter(|room| *room > 0)?;
        let length = socket.peek(seen.get_mut(..room)?).await.ok().filter(|length| *length > 0)?;
        let seen = seen.get(..length)?;
        let take = seen.iter().position(|byte| *byte == b'\n').map_or(length, |end| end + 1);
        let from = line.len();
        line.resize(from + take, 0);
        socket.read_exact(line.get_mut(from..)?).await.ok()?;
        if line.contains(&b'\n') && !line.ends_with(b"\r\n") {
            return None;
        }
    }
    read_v1(&line).map(|client| client.unwrap_or(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(max_connections: u32, trusted: &[&str]) -> Arc<Edge> {
        let trusted = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        Arc::new(Edge::new(EdgeConfig { trusted, max_connections, ..EdgeConfig::default() }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let edge = edge(2, &["10.0.0.0/8"]);
        let first = edge.count(ip("192.0.2.1")).unwrap();
        let second = edge.count(ip("192.0.2.1")).unwrap();
        assert!(first.is_some() && second.is_some());
        assert_eq!(edge.count(ip("192.0.2.1")).unwrap_err(), TooMany);
        assert!(edge.count(ip("192.0.2.2")).unwrap().is_some());
        drop(first);
        assert!(edge.count(ip("192.0.2.1")).is_ok(), "who was refused is not counted");
        for exempt in ["127.0.0.1", "::1", "10.1.2.3", "::ffff:127.0.0.1"] {
            assert!((0..5).all(|_| edge.count(ip(exempt)).unwrap().is_none()), "{exempt}");
        }
        let six = edge.count(ip("2001:db8::1")).unwrap();
        let other = edge.count(ip("2001:db8::2")).unwrap();
        assert_eq!(edge.count(ip("2001:db8::3")).unwrap_err(), TooMany, "a /64 is one client");
        drop((six, other, second));
        assert!(edge.rows.iter().flatten().all(|counter| counter.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let edge = edge(0, &[]);
        assert!(edge.rows.iter().all(|row| row.is_empty()));
        assert!((0..10).all(|_| edge.count(ip("192.0.2.1")).unwrap().is_none()));
    }

    #[test]
    fn headers_are_expected_of_trusted_proxies_only() {
        let config = EdgeConfig {
            trusted: vec![Network::parse("10.0.0.0/8").unwrap()],
            proxy_protocol_https: true,
            ..EdgeConfig::default()
        };
        let edge = Edge::new(config);
        assert!(edge.expects_header(ip("10.0.0.1"), true));
        assert!(!edge.expects_header(ip("10.0.0.1"), false) && !edge.expects_header(ip("11.0.0.1"), true));
    }
}
