//! What of a host is tried from outside, what should become of it, and what it means when something else does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use freehold_fleet::{DatabaseAnswer, GuardState, PublishedBy, ReachReport, ReachTarget, Reachability};
use freehold_model::{AddressScope, FirewallPorts, PortProtocol};
use freehold_plan::{GuardRules, GuardVerdict};

/// Ports that are tried in any case: what most often is open by mistake.
const WELL_KNOWN: [u16; 11] = [22, 2375, 2376, 3306, 5432, 5433, 6379, 8080, 9200, 11211, 27017];

/// A port at which nothing listens. Where it is open, something in between accepts whatever is asked for.
pub(crate) const CANARY: u16 = 64999;

/// How many ports of a host are tried, of each protocol.
const MOST: usize = 50;

/// How many ports of a range that is let in are tried.
const MOST_OF_RANGE: u16 = 8;

/// A host and all that is known of what it should let in.
pub(crate) struct Subject<'a> {
    pub(crate) state: &'a GuardState,
    pub(crate) rules: &'a GuardRules,
    pub(crate) published: &'a [PublishedBy],
}

/// From where something is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vantage {
    /// For people: a host's name, or `this computer`.
    pub(crate) name: String,
    /// The address by which the host knows it, where its own is translated on the way.
    pub(crate) seen_as: Option<IpAddr>,
    /// Whether it may be in a network from which the host's private addresses cannot be reached.
    pub(crate) is_outside: bool,
}

/// What one try means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It is as the deploy file says.
    Expected,
    /// The file says nothing of it.
    Free,
    /// It is open and should not be.
    Exposed,
    /// It is closed and should not be.
    Blocked,
    /// It cannot be told.
    NotChecked,
}

impl Meaning {
    pub(crate) fn is_bad(self) -> bool {
        matches!(self, Self::Exposed | Self::Blocked)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Expected => "as expected",
            Self::Free => "not guarded",
            Self::Exposed => "should be closed",
            Self::Blocked => "should be open",
            Self::NotChecked => "not checked",
        }
    }
}

/// One try with what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) target: ReachTarget,
    pub(crate) seen: Reachability,
    pub(crate) expected: &'static str,
    pub(crate) behind: Option<String>,
    pub(crate) meaning: Meaning,
    /// Why it cannot be told what it means, where it cannot.
    pub(crate) why: Option<&'static str>,
    /// The database that answers there, where one was looked for and found.
    pub(crate) database: Option<DatabaseAnswer>,
}

impl Check {
    /// Says whether it shows that the world is as the file says, or that it is not.
    pub(crate) fn is_proof(&self) -> bool {
        matches!(self.meaning, Meaning::Expected | Meaning::Exposed | Meaning::Blocked)
    }
}

/// A kind of tries from one place of which none told anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gap {
    /// From where.
    pub(crate) from: String,
    /// What: `TCP over IPv6`.
    pub(crate) kind: String,
    /// Why, in words.
    pub(crate) why: String,
}

/// Returns the kinds of tries that told nothing, by the place.
pub(crate) fn gaps(checks: &[(String, Check)]) -> Vec<Gap> {
    let mut kinds: BTreeMap<(&String, &'static str), Vec<&Check>> = BTreeMap::new();
    for (from, check) in checks {
        let kind = match (check.target.protocol, check.target.address.is_ipv4()) {
            (PortProtocol::Tcp, true) => "TCP over IPv4",
            (PortProtocol::Tcp, false) => "TCP over IPv6",
            (PortProtocol::Udp, true) => "UDP over IPv4",
            (PortProtocol::Udp, false) => "UDP over IPv6",
        };
        kinds.entry((from, kind)).or_default().push(check);
    }
    let is_gap = |checks: &[&Check]| checks.iter().all(|check| check.meaning == Meaning::NotChecked);
    kinds
        .into_iter()
        .filter(|(_, checks)| is_gap(checks))
        .map(|((from, kind), checks)| {
            let why: BTreeSet<&str> = checks.iter().filter_map(|check| check.why).collect();
            let why = why.into_iter().collect::<Vec<_>>().join("; ");
            Gap { from: from.clone(), kind: kind.to_owned(), why }
        })
        .collect()
}

impl Subject<'_> {
    /// Returns the addresses by which others may reach the host.
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.state.network.own_addresses().map(|entry| entry.address).collect()
    }

    /// Returns everything to try, and how many ports were left out because there are too many.
    pub(crate) fn targets(&self) -> (Vec<ReachTarget>, usize) {
        let (mut targets, mut left_out) = (Vec::new(), 0);
        for (protocol, mut ports) in [
            (PortProtocol::Tcp, self.ports(PortProtocol::Tcp)),
            (PortProtocol::Udp, self.ports(PortProtocol::Udp)),
        ] {
            left_out += ports.len().saturating_sub(MOST);
            ports.truncate(MOST);
            if protocol == PortProtocol::Tcp {
                ports.push(CANARY);
            }
            for address in self.addresses() {
                targets.extend(ports.iter().map(|port| ReachTarget { protocol, address, port: *port }));
            }
        }
        (targets, left_out)
    }

    /// Returns what to try after a change that concerns some ports: those at every address.
    pub(crate) fn targets_of(&self, ports: &[FirewallPorts]) -> Vec<ReachTarget> {
        let mut targets = BTreeSet::new();
        for address in self.addresses() {
            for ports in ports {
                let (first, last) = ports.range();
                let protocol = ports.protocol();
                let some = first..=last.min(first.saturating_add(MOST_OF_RANGE - 1));
                targets.extend(some.map(|port| ReachTarget { protocol, address, port }));
            }
            targets.insert(ReachTarget { protocol: PortProtocol::Tcp, address, port: CANARY });
        }
        targets.into_iter().collect()
    }

    /// Returns the ports to try, the most telling first.
    fn ports(&self, protocol: PortProtocol) -> Vec<u16> {
        let is_remote = |address: Option<IpAddr>| address.is_none_or(|address| !address.is_loopback());
        let mut ports: Vec<u16> = Vec::new();
        let published = self.published.iter().filter(|published| published.protocol == protocol);
        ports.extend(published.map(|published| published.port.port));
        if protocol == PortProtocol::Tcp {
            ports.extend(WELL_KNOWN);
        }
        let sockets = self.state.sockets.iter().filter(|socket| socket.protocol == protocol);
        ports.extend(sockets.filter(|socket| is_remote(socket.address)).map(|socket| socket.port));
        for rule in self.rules.rules.iter().filter(|rule| rule.ports.protocol() == protocol) {
            let (first, last) = rule.ports.range();
            ports.extend(first..=last.min(first.saturating_add(MOST_OF_RANGE - 1)));
        }
        let mut seen = BTreeSet::new();
        ports.retain(|port| *port != CANARY && seen.insert(*port));
        ports
    }

    /// Says what takes a connection to a port of an address, if anything does.
    fn behind(&self, target: ReachTarget) -> Option<String> {
        let is_here = |published: &&PublishedBy| {
            let port = &published.port;
            published.protocol == target.protocol
                && port.port == target.port
                && (port.address.is_unspecified() || port.address == target.address)
        };
        if let Some(PublishedBy { port, container, .. }) = self.published.iter().find(is_here) {
            return Some(format!("container {container} ({})", port.container_port));
        }
        let socket = self.state.sockets.iter().find(|socket| {
            socket.protocol == target.protocol && socket.port == target.port && socket.takes(target.address)
        })?;
        Some(socket.program.as_ref().map_or_else(|| "a process".to_owned(), |name| format!("process {name}")))
    }

    /// Says what all tries from one place mean. Where no datagram came back that another place got an answer for, it was
    /// filtered on the way.
    pub(crate) fn judge(
        &self,
        vantage: &Vantage,
        report: &ReachReport,
        answering: &BTreeSet<ReachTarget>,
    ) -> Vec<Check> {
        let doubts: BTreeMap<IpAddr, Option<&'static str>> =
            self.addresses().into_iter().map(|address| (address, doubt(address, vantage, report))).collect();
        let tried = report.seen.iter().filter(|(target, _)| target.port != CANARY);
        tried
            .map(|(target, seen)| {
                let doubt = doubts.get(&target.address).copied().flatten();
                let source = vantage.source(target.address, report);
                let seen = match (seen, doubt) {
                    (Reachability::NoRoute | Reachability::NoTool, _) => *seen,
                    (_, Some(_)) => Reachability::NotChecked,
                    (Reachability::Silent, None) if answering.contains(target) => Reachability::Filtered,
                    (seen, None) => *seen,
                };
                self.check(*target, (seen, doubt), source)
            })
            .collect()
    }

    fn check(
        &self,
        target: ReachTarget,
        (seen, doubt): (Reachability, Option<&'static str>),
        source: Option<IpAddr>,
    ) -> Check {
        let behind = self.behind(target);
        let interface = self.state.network.interface_of(target.address);
        let verdict = interface
            .zip(source)
            .map(|(interface, source)| self.rules.verdict(interface, (target.protocol, target.port), source));
        let expected = match verdict {
            Some(GuardVerdict::Allowed) => "open",
            Some(GuardVerdict::Closed) => "closed",
            Some(GuardVerdict::Unguarded) => "anything",
            None => "unknown",
        };
        let is_closed = matches!(
            seen,
            Reachability::Refused
                | Reachability::Filtered
                | Reachability::NotOpen
                | Reachability::Unreachable
        );
        let meaning = match (verdict, seen) {
            (None, _) | (_, Reachability::NotChecked | Reachability::NoRoute | Reachability::NoTool) => {
                Meaning::NotChecked
            }
            (Some(GuardVerdict::Unguarded), _) => Meaning::Free,
            (Some(GuardVerdict::Closed), Reachability::Open) => Meaning::Exposed,
            (Some(GuardVerdict::Closed), _) if is_closed => Meaning::Expected,
            (Some(GuardVerdict::Allowed), Reachability::Open) => Meaning::Expected,
            (Some(GuardVerdict::Allowed), _) if is_closed && behind.is_some() => Meaning::Blocked,
            (Some(GuardVerdict::Allowed), _) if is_closed => Meaning::Expected,
            (Some(_), _) => Meaning::NotChecked,
        };
        let why = (meaning == Meaning::NotChecked).then(|| match seen {
            Reachability::NoRoute => "no route to it",
            Reachability::NoTool => "there is no program that tries it",
            Reachability::Silent => "no answer",
            _ => doubt.unwrap_or("from which address it comes is not known"),
        });
        Check { target, seen, expected, behind, meaning, why, database: None }
    }
}

impl Vantage {
    /// Returns the address from which a host of the project sees this place come, for an address of that host's. What is known of
    /// one family says nothing of the other.
    fn source(&self, address: IpAddr, report: &ReachReport) -> Option<IpAddr> {
        let seen_as = self.seen_as.filter(|seen_as| seen_as.is_ipv4() == address.is_ipv4());
        seen_as.or_else(|| report.sources.get(&address).copied())
    }
}

/// Says why the silence of an address means nothing, if so: it is not the host that answers there, but nobody at all, or
/// something in between that accepts whatever is asked for.
fn doubt(address: IpAddr, vantage: &Vantage, report: &ReachReport) -> Option<&'static str> {
    let of_address = || report.seen.iter().filter(|(target, _)| target.address == address);
    let accepts_all = of_address().any(|(target, seen)| target.port == CANARY && *seen == Reachability::Open);
    let has_sign = of_address().any(|(_, seen)| matches!(seen, Reachability::Open | Reachability::Refused));
    let is_far = AddressScope::of(address) == AddressScope::Private
        && (vantage.is_outside || report.away.contains(&address));
    let is_lost = of_address().all(|(_, seen)| {
        matches!(seen, Reachability::Unreachable | Reachability::NoRoute | Reachability::NoTool)
    });
    match () {
        () if accepts_all => Some("something on the way accepts every connection"),
        () if has_sign => None,
        () if is_lost => Some("the address is not reached from there"),
        () if is_far => Some("a private address of which nothing answers: it may be another's"),
        () => None,
    }
}

/// Says in one word what was seen.
pub(crate) fn word(seen: Reachability) -> &'static str {
    match seen {
        Reachability::Open => "open",
        Reachability::Refused => "refused",
        Reachability::Filtered => "filtered",
        Reachability::NotOpen => "closed",
        Reachability::Silent => "no answer",
        Reachability::NoRoute => "no route",
        Reachability::Unreachable => "unreachable",
        Reachability::NoTool => "no program",
        Reachability::NotChecked => "not checked",
    }
}

#[cfg(test)]
mod tests {
    use freehold_docker::PublishedPort;
    use freehold_fleet::HostSocket;
    use freehold_model::{InterfaceName, Network};
    use freehold_plan::{GuardRule, InterfaceAddress};

    use super::*;

    fn interface(name: &str) -> InterfaceName {
        InterfaceName::parse(name).unwrap()
    }

    fn state() -> GuardState {
        let address = |name: &str, address: &str| InterfaceAddress {
            interface: interface(name),
            address: address.parse().unwrap(),
        };
        let mut state = GuardState::default();
        state.network.addresses = vec![
            address("eth0", "203.0.113.5"),
            address("eth1", "10.0.0.5"),
            address("docker0", "172.17.0.1"),
        ];
        state.network.default_routes = BTreeSet::from([interface("eth0")]);
        let socket = |port, address: Option<&str>| HostSocket {
            protocol: PortProtocol::Tcp,
            port,
            address: address.map(|address| address.parse().unwrap()),
            program: Some("sshd".to_owned()),
        };
        state.sockets = vec![socket(22, None), socket(9999, Some("127.0.0.1")), socket(9090, None)];
        state
    }

    fn rules() -> GuardRules {
        let rule = |port: &str, from: Option<&str>| GuardRule {
            ports: FirewallPorts::parse(port).unwrap(),
            from: from.map(|text| vec![Network::parse(text).unwrap()]),
            reason: "test".to_owned(),
        };
        GuardRules {
            closed: BTreeSet::from([interface("eth0")]),
            rules: vec![rule("22", None), rule("5432", Some("10.0.0.1"))],
            metadata: false,
        }
    }

    fn published() -> Vec<PublishedBy> {
        let address = "0.0.0.0".parse().unwrap();
        let by = |protocol, port| PublishedBy {
            protocol,
            port: PublishedPort { address, port, container_port: port },
            container: "app-db".to_owned(),
        };
        vec![by(PortProtocol::Tcp, 5432), by(PortProtocol::Udp, 5353)]
    }

    /// Tries all targets with one outcome for each port, and returns the meanings by address and port.
    fn meanings(
        source: &str,
        seen: &[(u16, Reachability)],
        is_outside: bool,
    ) -> BTreeMap<(String, u16), Meaning> {
        let (state, rules, published) = (state(), rules(), published());
        let subject = Subject { state: &state, rules: &rules, published: &published };
        let (targets, left_out) = subject.targets();
        assert_eq!(left_out, 0);
        let mut report = ReachReport::default();
        for target in targets {
            report.sources.insert(target.address, source.parse().unwrap());
            let known = seen.iter().find(|(port, _)| *port == target.port).map(|(_, seen)| *seen);
            report.seen.insert(target, known.unwrap_or(Reachability::Filtered));
        }
        let vantage = Vantage { name: "here".to_owned(), seen_as: None, is_outside };
        let checks = subject.judge(&vantage, &report, &BTreeSet::new());
        let tcp = checks.into_iter().filter(|check| check.target.protocol == PortProtocol::Tcp);
        tcp.map(|c| ((c.target.address.to_string(), c.target.port), c.meaning)).collect()
    }

    #[test]
    fn what_differs_from_the_file_is_found() {
        use Reachability::{Filtered, Open, Refused};
        let at = |map: &BTreeMap<(String, u16), Meaning>, address: &str, port: u16| {
            map[&(address.to_owned(), port)]
        };
        let good = meanings("10.0.0.1", &[(22, Open), (5432, Open), (9090, Open)], false);
        assert_eq!(at(&good, "10.0.0.5", 5432), Meaning::Expected);
        assert_eq!(at(&good, "10.0.0.5", 9090), Meaning::Free);
        assert_eq!(at(&good, "203.0.113.5", 9090), Meaning::Exposed);
        assert!(
            !good.keys().any(|(address, port)| address == "172.17.0.1" || *port == 9999 || *port == CANARY)
        );
        let bad = meanings("10.0.0.9", &[(22, Open), (5432, Open)], false);
        assert_eq!(at(&bad, "10.0.0.5", 5432), Meaning::Exposed);
        let blocked = meanings("10.0.0.1", &[(22, Refused), (5432, Filtered)], false);
        assert_eq!(at(&blocked, "10.0.0.5", 5432), Meaning::Blocked);
        assert_eq!(at(&blocked, "10.0.0.5", 22), Meaning::Blocked);
        assert_eq!(at(&blocked, "10.0.0.5", 6379), Meaning::Free);
    }

    #[test]
    fn silence_of_somebody_else_proves_nothing() {
        let at = |map: &BTreeMap<(String, u16), Meaning>, address: &str| map[&(address.to_owned(), 5432)];
        let far = meanings("198.51.100.1", &[], true);
        assert_eq!(at(&far, "10.0.0.5"), Meaning::NotChecked);
        assert_eq!(at(&far, "203.0.113.5"), Meaning::Expected);
        let gateway =
            meanings("198.51.100.1", &[(5432, Reachability::Open), (CANARY, Reachability::Open)], true);
        assert_eq!(at(&gateway, "203.0.113.5"), Meaning::NotChecked);
    }

    /// Judges what one place saw of the published datagram port and of SSH at the public address.
    fn judged(seen: &[(PortProtocol, u16, Reachability)], answering: bool) -> Vec<(String, Check)> {
        let (state, rules, published) = (state(), rules(), published());
        let subject = Subject { state: &state, rules: &rules, published: &published };
        let address: IpAddr = "203.0.113.5".parse().unwrap();
        let mut report = ReachReport::default();
        report.sources.insert(address, "198.51.100.1".parse().unwrap());
        let of = |protocol, port| ReachTarget { protocol, address, port };
        report.seen = seen.iter().map(|(protocol, port, seen)| (of(*protocol, *port), *seen)).collect();
        let answering = answering.then(|| of(PortProtocol::Udp, 5353)).into_iter().collect();
        let vantage = Vantage { name: "here".to_owned(), seen_as: None, is_outside: true };
        let checks = subject.judge(&vantage, &report, &answering);
        checks.into_iter().map(|check| ("here".to_owned(), check)).collect()
    }

    #[test]
    fn a_silent_datagram_port_is_filtered_where_another_place_got_an_answer() {
        use PortProtocol::{Tcp, Udp};
        let silent = [(Tcp, 22, Reachability::Open), (Udp, 5353, Reachability::Silent)];
        let alone = judged(&silent, false);
        assert_eq!(alone[1].1.meaning, Meaning::NotChecked);
        assert_eq!(gaps(&alone)[0].why, "no answer");
        let compared = judged(&silent, true);
        assert_eq!((compared[1].1.seen, compared[1].1.meaning), (Reachability::Filtered, Meaning::Expected));
        assert_eq!(gaps(&compared), []);
        assert!(compared[1].1.behind.as_deref().is_some_and(|behind| behind.contains("app-db (5353)")));
        let open = judged(&[(Udp, 5353, Reachability::Open)], true);
        assert_eq!(open[0].1.meaning, Meaning::Exposed);
    }

    #[test]
    fn what_could_not_be_tried_is_no_proof_and_is_told() {
        use PortProtocol::{Tcp, Udp};
        use Reachability::{NoRoute, NoTool, Unreachable};
        for (seen, why) in [
            (NoRoute, "no route to it"),
            (NoTool, "there is no program that tries it"),
            (Unreachable, "the address is not reached from there"),
        ] {
            let checks = judged(&[(Tcp, 22, seen), (Tcp, 5432, seen), (Udp, 5353, seen)], false);
            assert!(checks.iter().all(|(_, check)| !check.is_proof()), "{seen:?}");
            let told: Vec<_> = gaps(&checks).into_iter().map(|gap| (gap.kind, gap.why)).collect();
            let told: Vec<_> = told.iter().map(|(kind, why)| (kind.as_str(), why.as_str())).collect();
            assert_eq!(told, [("TCP over IPv4", why), ("UDP over IPv4", why)]);
        }
        // A firewall that says no, of a host that answers elsewhere.
        let rejected = judged(&[(Tcp, 22, Reachability::Open), (Tcp, 5432, Unreachable)], false);
        assert_eq!(rejected[1].1.meaning, Meaning::Expected);
        assert!(rejected[1].1.is_proof());
    }
}
