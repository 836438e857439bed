use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The state of a socket that listens, in the kernel's table of TCP sockets.
const LISTEN: &str = "0A";

/// A TCP socket that takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The address on which it listens; unspecified means all.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl Listener {
    /// Says whether others than the container itself cannot reach it.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
            }
        }
    }
}

/// Reads the sockets that listen out of `/proc/PID/net/tcp` or `/proc/PID/net/tcp6`, or both one after the other.
///
/// Lines that are not of that table are skipped. Source: `Documentation/networking/proc_net_tcp.rst` of Linux; the
/// addresses are in the byte order of the machine, taken as little-endian as on every architecture we know.
#[must_use]
pub fn parse_proc_net_tcp(text: &str) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = text.lines().filter_map(parse_line).collect();
    listeners.sort();
    listeners.dedup();
    listeners
}

fn parse_line(line: &str) -> Option<Listener> {
    let mut columns = line.split_ascii_whitespace();
    let (_slot, local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    if state != LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Listener { address: parse_address(address)?, port: u16::from_str_radix(port, 16).ok()? })
}

fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::swap_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bits = words.into_iter().fold(0u128, |bits, word| bits << 32 | u128::from(word));
            Some(IpAddr::V6(Ipv6Addr::from(bits)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_both_tables_are_read() {
        let text =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21 1 0 100 0 0 10 0
   2: 0100007F:0050 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 00000000000000000000000001000000:0BB9 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: 0000000000000000FFFF00000100007F:0BBA 00000000000000000000000000000000:0000 0A 00000000:00000000";
        let listeners = parse_proc_net_tcp(text);
        let shown: Vec<String> = listeners
            .iter()
            .map(|l| format!("{} {} {}", l.address, l.port, if l.is_loopback_only() { "own" } else { "all" }))
            .collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0 80 all",
                "127.0.0.1 8080 own",
                ":: 3000 all",
                "::1 3001 own",
                "::ffff:127.0.0.1 3002 own",
            ]
        );
    }

    #[test]
    fn other_text_is_no_listener() {
        assert!(parse_proc_net_tcp("cat: /proc/1/net/tcp: No such file\n\n0: zz 0 0A").is_empty());
    }
}
