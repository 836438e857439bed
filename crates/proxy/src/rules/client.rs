//! Who asks, where proxies stand in front of this one.

use std::net::IpAddr;

use freehold_model::Network;

use crate::http1::header::Kind;
use crate::http1::tokens;
use crate::view::RequestView;

/// Says whether an address is in one of several networks.
pub(crate) fn contains(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// The proxies whose word is taken.
pub(super) struct Trusted<'t> {
    /// By the service.
    pub(super) own: &'t [Network],
    /// By every service.
    pub(super) all: &'t [Network],
}

impl Trusted<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.all.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        contains(self.own, address) || contains(self.all, address)
    }
}

/// Returns the address of the client. A peer that is not trusted is the client itself, whatever it says.
///
/// Otherwise `X-Forwarded-For` is read from its end, where the nearest proxy has written: the first address that is not one of
/// a trusted proxy is the client. Each entry was written by the one behind it, so that nothing is believed that a client
/// may have made up. An entry that is no address ends the search at the last one that was believed.
pub(super) fn find(
    view: &RequestView<'_, '_>,
    peer: IpAddr,
    header: Option<&str>,
    trusted: &Trusted<'_>,
) -> IpAddr {
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer;
    }
    if let Some(client) = header.and_then(|name| view.named(name)).and_then(address) {
        return client;
    }
    let lines: Vec<&[u8]> = view.values(Kind::ForwardedFor).collect();
    let mut client = peer;
    for entry in lines.iter().rev().flat_map(|line| tokens(line).collect::<Vec<_>>().into_iter().rev()) {
        match address(entry) {
            None => break,
            Some(address) => client = address,
        }
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// Reads an address, with or without a port, an IPv6 one also in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse() {
            Ok(address) => address,
            Err(_) => text.parse::<std::net::SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::parse;
    use crate::http1::slots;

    fn client(peer: &str, lines: &str) -> String {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut slots = slots();
        let request = parse(head.as_bytes(), &mut slots).unwrap().unwrap();
        let own = [Network::parse("10.0.0.0/8").unwrap(), Network::parse("2001:db8::/32").unwrap()];
        let trusted = Trusted { own: &own, all: &[] };
        find(&request.view, peer.parse().unwrap(), Some("X-Client"), &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_the_client_whatever_it_says() {
        assert_eq!(client("192.0.2.1", "X-Forwarded-For: 1.1.1.1\r\nX-Client: 2.2.2.2\r\n"), "192.0.2.1");
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_client() {
        for (lines, wanted) in [
            ("", "10.0.0.1"),
            ("X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.9.9.9\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1,10.9.9.9\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 10.1.1.1, 10.2.2.2\r\n", "10.1.1.1"),
            ("X-Forwarded-For: 1.1.1.1, garbage, 10.9.9.9\r\n", "10.9.9.9"),
            ("X-Forwarded-For: unknown\r\n", "10.0.0.1"),
            ("X-Forwarded-For: [2001:db9::1]:443\r\n", "2001:db9::1"),
            ("X-Forwarded-For: 1.1.1.1:5000\r\n", "1.1.1.1"),
            ("X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 1.1.1.1\r\nX-Client: 2.2.2.2\r\n", "2.2.2.2"),
        ] {
            assert_eq!(client("10.0.0.1", lines), wanted, "{lines}");
        }
    }
}
