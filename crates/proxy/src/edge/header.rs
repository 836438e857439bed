//! The form of PROXY headers, without any input or output.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The length of the shortest header there is, `PROXY UNKNOWN` with the end of its line. Version 2 has one byte more before
/// the addresses.
pub(super) const PREFIX_BYTES: usize = 15;

/// The longest line of version 1, its end included.
pub(super) const MAX_V1_BYTES: usize = 107;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most that may stand in version 2 behind its first 16 bytes: addresses, and what else a proxy has to tell.
const MAX_V2_BYTES: u16 = 2048;

/// Which version a header is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Looks at the first bytes of a connection.
pub(super) fn version(prefix: &[u8]) -> Option<Version> {
    if prefix.starts_with(b"PROXY ") {
        return Some(Version::V1);
    }
    prefix.starts_with(SIGNATURE).then_some(Version::V2)
}

/// Returns how much stands behind the first 16 bytes of version 2.
pub(super) fn v2_length(head: &[u8]) -> Option<usize> {
    let length = u16::from_be_bytes([*head.get(14)?, *head.get(15)?]);
    (length <= MAX_V2_BYTES).then_some(usize::from(length))
}

/// Reads version 2, its first 16 bytes and the rest; nothing inside where the proxy speaks for itself, or tells an address of
/// another kind.
pub(super) fn read_v2(head: &[u8], rest: &[u8]) -> Option<Option<SocketAddr>> {
    let (command, family) = (*head.get(12)?, *head.get(13)?);
    match command {
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let (ip, port): (IpAddr, _) = match family {
        0x11 => {
            rest.get(..12)?;
            (<[u8; 4]>::try_from(rest.get(..4)?).ok()?.into(), rest.get(8..10)?)
        }
        0x21 => {
            rest.get(..36)?;
            (<[u8; 16]>::try_from(rest.get(..16)?).ok()?.into(), rest.get(32..34)?)
        }
        // Datagrams and sockets of a file system come by no port of ours, and unknown ones are to be left alone.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Some(None),
        _ => return None,
    };
    Some(Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(port.try_into().ok()?))))
}

/// Reads the line of version 1; nothing inside where the proxy does not know.
pub(super) fn read_v1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words.as_slice() else { return None };
    let port = |text: &str| {
        let is_number =
            text.bytes().all(|byte| byte.is_ascii_digit()) && !(text.len() > 1 && text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let ip: IpAddr = match *family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    port(destination_port)?;
    Some(Some(SocketAddr::new(ip, port(source_port)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v1(line: &str) -> Option<Option<String>> {
        assert_eq!(version(line.as_bytes()), Some(Version::V1), "{line}");
        read_v1(line.as_bytes()).map(|client| client.map(|client| client.to_string()))
    }

    #[test]
    fn lines_of_version_1_name_the_client() {
        let client = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(v1("PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n"), client("192.0.2.1:5000"));
        assert_eq!(v1("PROXY TCP6 2001:db8::1 ::1 0 443\r\n"), client("[2001:db8::1]:0"));
        assert_eq!(v1("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ::1 1 2\r\n"), Some(None));
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5000\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5000 80 1\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 5000 80\r\n",
            "PROXY TCP4 ::1 10.0.0.1 5000 80\r\n",
            "PROXY TCP6 192.0.2.1 ::1 5000 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +500 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 05 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 5000 80\r\n",
        ] {
            assert_eq!(v1(line), None, "{line}");
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Option<Option<String>> {
        let mut head = SIGNATURE.to_vec();
        head.extend_from_slice(&[command, family]);
        head.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
        assert_eq!((version(&head), v2_length(&head)), (Some(Version::V2), Some(rest.len())));
        read_v2(&head, rest).map(|client| client.map(|client| client.to_string()))
    }

    #[test]
    fn version_2_names_the_client_too() {
        let mut four = [192, 0, 2, 1, 10, 0, 0, 1, 0x13, 0x88, 0, 80].to_vec();
        assert_eq!(v2(0x21, 0x11, &four), Some(Some("192.0.2.1:5000".to_owned())));
        four.extend_from_slice(&[4, 0, 1, 0]);
        assert_eq!(
            v2(0x21, 0x11, &four),
            Some(Some("192.0.2.1:5000".to_owned())),
            "what else is told is left out"
        );
        assert_eq!(v2(0x20, 0x00, &[]), Some(None));
        assert_eq!(v2(0x21, 0x31, &[0; 216]), Some(None));
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[33]) = (0x20, 0x01, 1, 7);
        assert_eq!(v2(0x21, 0x21, &six), Some(Some("[2001::1]:7".to_owned())));
        assert_eq!(v2(0x21, 0x11, &[0; 11]), None);
        assert_eq!(v2(0x21, 0x21, &[0; 35]), None);
        assert_eq!(v2(0x11, 0x11, &four), None);
        assert_eq!(v2(0x22, 0x11, &four), None);
        assert_eq!(v2(0x21, 0x41, &four), None);
    }

    #[test]
    fn what_is_neither_is_told_at_once() {
        for bytes in ["GET / HTTP/1.1\r\n", "PROXY\tTCP4 a b c", "\u{16}\u{3}\u{1}aaaaaaaaaaaaaaaa", ""] {
            assert_eq!(version(bytes.as_bytes()), None, "{bytes}");
        }
        let mut head = SIGNATURE.to_vec();
        head.extend_from_slice(&[0x21, 0x11, 0xff, 0xff]);
        assert_eq!(v2_length(&head), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..20), rest in prop::collection::vec(any::<u8>(), 0..300)) {
            version(&head);
            v2_length(&head);
            read_v2(&head, &rest);
            read_v1(&rest);
        }
    }
}
