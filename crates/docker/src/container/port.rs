use std::net::IpAddr;

use super::body::SpecError;

/// One published or exposed port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortMapping {
    /// The address on the host, or none for all.
    pub(crate) address: Option<IpAddr>,
    /// The port on the host, or none for any free one; a range means any free one of it.
    pub(crate) host: Option<(u16, u16)>,
    pub(crate) container: u16,
    pub(crate) protocol: &'static str,
}

impl PortMapping {
    /// `80/tcp`, as the Engine API writes it.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.container, self.protocol)
    }

    pub(crate) fn host_port(&self) -> String {
        match self.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        }
    }
}

/// Parses `[[address:]host[-host]:]container[-container][/protocol]`, Docker's `--publish`.
///
/// Source: `ParsePortSpec` of github.com/docker/go-connections/nat.
pub(crate) fn parse_publish(text: &str) -> Result<Vec<PortMapping>, SpecError> {
    let bad = |rule| SpecError::Publish { value: text.to_owned(), rule };
    let (ports, protocol) =
        split_protocol(text).ok_or_else(|| bad("the protocol is `tcp`, `udp` or `sctp`"))?;
    let (rest, container) = match ports.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, ports),
    };
    let (address, host) = match rest {
        None => ("", ""),
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, host)) => (address, host),
            None => ("", rest),
        },
    };
    let address = match address.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| bad("the address is an IP address"))?),
    };
    let range_rule = "a port is a number from 1 to 65535, a range has its lower end first";
    let (first, last) = parse_range(container).ok_or_else(|| bad(range_rule))?;
    let host = match host {
        "" => None,
        text => Some(parse_range(text).ok_or_else(|| bad(range_rule))?),
    };
    let many = last - first;
    if let Some((low, high)) = host
        && high - low != many
        && many != 0
    {
        return Err(bad("both ranges of ports have the same length"));
    }
    Ok((0..=many)
        .map(|offset| PortMapping {
            address,
            // One container port with a range of host ports takes any free one of them.
            host: host.map(|(low, high)| if many == 0 { (low, high) } else { (low + offset, low + offset) }),
            container: first + offset,
            protocol,
        })
        .collect())
}

/// Parses `port[-port][/protocol]`, Docker's `--expose`, into `80/tcp` keys.
pub(crate) fn parse_expose(text: &str) -> Result<Vec<String>, SpecError> {
    let bad = || SpecError::Expose { value: text.to_owned() };
    let (ports, protocol) = split_protocol(text).ok_or_else(bad)?;
    let (first, last) = parse_range(ports).ok_or_else(bad)?;
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn split_protocol(text: &str) -> Option<(&str, &'static str)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return None,
    };
    Some((ports, protocol))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && first > 0).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        parse_publish(text)
            .unwrap()
            .iter()
            .map(|port| {
                let address = port.address.map(|address| address.to_string()).unwrap_or_default();
                format!("{address}|{}|{}", port.host_port(), port.key())
            })
            .collect()
    }

    #[test]
    fn publish_values_are_read_as_docker_does() {
        assert_eq!(shown("80"), ["||80/tcp"]);
        assert_eq!(shown("8080:80"), ["|8080|80/tcp"]);
        assert_eq!(shown("127.0.0.1:8080:80/udp"), ["127.0.0.1|8080|80/udp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1||80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["::1|8080|80/tcp"]);
        assert_eq!(shown("8000-8001:9000-9001"), ["|8000|9000/tcp", "|8001|9001/tcp"]);
        assert_eq!(shown("8000-8005:80"), ["|8000-8005|80/tcp"]);
        assert_eq!(shown("3000-3001"), ["||3000/tcp", "||3001/tcp"]);
    }

    #[test]
    fn wrong_publish_values_are_refused() {
        for text in ["", "0", "a", "80/icmp", "1.2.3:80:80", "8000-8002:80-81", "81-80", "70000"] {
            assert!(parse_publish(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exposed_ports_may_be_ranges() {
        assert_eq!(parse_expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(parse_expose("80:80").is_err());
    }
}
