use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use freehold_model::{InterfaceName, PortProtocol};
use freehold_plan::{GuardPolicy, HostNetwork, InterfaceAddress, SshEndpoints};

/// What is known of a host's guard and of what it guards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardState {
    /// The host's networks.
    pub network: HostNetwork,
    /// What the host has for a guard.
    pub means: GuardMeans,
    /// The table that was stored when it was last confirmed.
    pub ruleset: Option<String>,
    /// Whether a table is loaded, and whether it is the stored one.
    pub loaded: LoadedGuard,
    /// Whether it is loaded at every boot.
    pub is_enabled: bool,
    /// The digest of the stored table and policies, by which a change is sure to be made from what was seen.
    pub digest: String,
    /// Whether a change waits for its confirmation.
    pub is_pending: bool,
    /// The policies of all projects of the host, by the stem of their names.
    pub policies: BTreeMap<String, GuardPolicy>,
    /// Files of policies that could not be understood.
    pub unreadable: Vec<String>,
    /// Packets that were dropped, by the reason.
    pub dropped: BTreeMap<String, u64>,
    /// Other firewalls that are at work: `ufw`, `firewalld`.
    pub firewalls: Vec<String>,
    /// The sockets that take connections or datagrams.
    pub sockets: Vec<HostSocket>,
}

/// What a host has for a guard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardMeans {
    /// Whether we are root there, or may become it.
    pub is_root: bool,
    /// Whether there is `nft`.
    pub has_nft: bool,
    /// Whether there is systemd.
    pub has_systemd: bool,
    /// Whether nftables could be installed.
    pub can_install: bool,
    /// The system, as it names itself.
    pub system: String,
}

/// Whether the guard's table is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadedGuard {
    /// It is not.
    #[default]
    Absent,
    /// It is the one that was stored.
    AsStored,
    /// It is another.
    Changed,
    /// It is loaded; whether it was changed cannot be told, because another `nft` lists it now.
    Unknown,
    /// Only root can see whether it is.
    NotSeen,
}

/// A socket that takes connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostSocket {
    /// The protocol.
    pub protocol: PortProtocol,
    /// The port.
    pub port: u16,
    /// The address; none is every address.
    pub address: Option<IpAddr>,
    /// The program, where it could be seen.
    pub program: Option<String>,
}

impl HostSocket {
    /// Says whether it takes what comes to an address.
    #[must_use]
    pub fn takes(&self, address: IpAddr) -> bool {
        self.address.is_none_or(|own| own.to_canonical() == address)
    }
}

/// Reads what the script printed. Lines that are not understood are passed over: programs differ in what they add.
pub(super) fn parse(text: &str) -> GuardState {
    let mut state = GuardState::default();
    let (mut stored, mut loaded) = (String::new(), String::new());
    for part in text.split('\u{1e}').skip(1) {
        let (name, body) = part.split_once('\n').unwrap_or((part, ""));
        let is_there = !body.trim().is_empty();
        match name {
            "user" => state.means.is_root = body.trim() == "0",
            "nft" => state.means.has_nft = is_there,
            "systemd" => state.means.has_systemd = is_there,
            "packager" => state.means.can_install = is_there,
            "system" => body.trim().clone_into(&mut state.means.system),
            "routes" => state.network.default_routes = body.lines().flat_map(route_interfaces).collect(),
            "addresses" => state.network.addresses = body.lines().filter_map(interface_address).collect(),
            "connection" => state.network.ssh = connection(body),
            "ruleset" if is_there => state.ruleset = Some(body.to_owned()),
            "stored" => body.trim().clone_into(&mut stored),
            "loaded" => body.trim().clone_into(&mut loaded),
            "counters" => state.dropped = counters(body),
            "enabled" => state.is_enabled = is_there,
            "digest" => body.trim().clone_into(&mut state.digest),
            "pending" => state.is_pending = is_there,
            "firewalls" => state.firewalls = body.lines().map(str::to_owned).collect(),
            "sockets" => {
                let sockets: BTreeSet<HostSocket> = body.lines().filter_map(socket).collect();
                state.sockets = sockets.into_iter().collect();
            }
            other => {
                let stem = other.strip_prefix("policy ").and_then(|name| name.strip_suffix(".json"));
                let Some(stem) = stem else { continue };
                let file = format!("/etc/freehold/guard.d/{stem}.json");
                match serde_json::from_str::<GuardPolicy>(body) {
                    Ok(policy) if policy.version == GuardPolicy::VERSION => {
                        state.policies.insert(stem.to_owned(), policy);
                    }
                    Ok(policy) => state.unreadable.push(format!("{file}: version {}", policy.version)),
                    Err(error) => state.unreadable.push(format!("{file}: {error}")),
                }
            }
        }
    }
    state.loaded = match state.means.is_root {
        true => compare(&stored, &loaded),
        false => LoadedGuard::NotSeen,
    };
    state
}

/// Each text is the version of `nft` in a line, and what it lists.
fn compare(stored: &str, loaded: &str) -> LoadedGuard {
    let version = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match (loaded.is_empty(), loaded == stored) {
        (true, _) => LoadedGuard::Absent,
        (false, true) => LoadedGuard::AsStored,
        (false, false) if !stored.is_empty() && version(stored) != version(loaded) => LoadedGuard::Unknown,
        (false, false) => LoadedGuard::Changed,
    }
}

/// `default via 192.0.2.1 dev eth0 proto static`; one with several ways names each. What leads nowhere begins with another
/// word, `unreachable`, and names `lo`.
fn route_interfaces(line: &str) -> Vec<InterfaceName> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.first() != Some(&"default") {
        return Vec::new();
    }
    let named = words.windows(2).filter_map(|pair| match pair {
        ["dev", name] if *name != "lo" => InterfaceName::parse(*name).ok(),
        _ => None,
    });
    named.collect()
}

/// `2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0`.
fn interface_address(line: &str) -> Option<InterfaceAddress> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (interface, family, address) = (words.next()?, words.next()?, words.next()?);
    let interface = interface.split('@').next().filter(|name| *name != "lo")?;
    if !family.starts_with("inet") {
        return None;
    }
    let address = address.split('/').next()?.parse().ok()?;
    Some(InterfaceAddress { interface: InterfaceName::parse(interface).ok()?, address })
}

/// `CLIENT PORT SERVER PORT`.
fn connection(text: &str) -> Option<SshEndpoints> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [client, _, server, port] = words.as_slice() else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        let bare = text.split('%').next().unwrap_or(text);
        bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    };
    Some(SshEndpoints { client: address(client)?, server: address(server)?, port: port.parse().ok()? })
}

fn counters(text: &str) -> BTreeMap<String, u64> {
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let entries = parsed.get("nftables").and_then(|list| list.as_array()).cloned().unwrap_or_default();
    let counter = |entry: &serde_json::Value| {
        let counter = entry.get("counter")?;
        Some((counter.get("name")?.as_str()?.to_owned(), counter.get("packets")?.as_u64()?))
    };
    entries.iter().filter_map(counter).collect()
}

/// `tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))`.
fn socket(line: &str) -> Option<HostSocket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let protocol = match *words.first()? {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        _ => return None,
    };
    let (address, port) = words.get(4)?.rsplit_once(':')?;
    let bare = address.split('%').next().unwrap_or(address).trim_start_matches('[').trim_end_matches(']');
    let address = match bare {
        "*" => None,
        bare => Some(bare.parse::<IpAddr>().ok()?).filter(|address| !address.is_unspecified()),
    };
    let program = words.iter().find_map(|word| word.strip_prefix("users:((\"")?.split('"').next());
    Some(HostSocket { protocol, port: port.parse().ok()?, address, program: program.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "\u{1e}user\n0\n\u{1e}nft\n/usr/sbin/nft\n\u{1e}systemd\nyes\n\u{1e}packager\napt-get\n\
        \u{1e}system\nDebian GNU/Linux 12 (bookworm)\n\
        \u{1e}routes\ndefault via 172.30.1.1 dev eth0 \ndefault via fe80::1 dev eth0 proto ra metric 100\n\
        \u{1e}addresses\n1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
        2: docker0    inet 172.18.0.1/16 brd 172.18.255.255 scope global docker0\n\
        7: eth0    inet 172.30.1.11/24 brd 172.30.1.255 scope global eth0\n\
        7: eth0    inet6 2001:db8::11/64 scope global\n7: eth0    inet6 fe80::42/64 scope link\n\
        \u{1e}connection\n172.30.1.1 40000 172.30.1.11 22\n\
        \u{1e}ruleset\ntable inet freehold\n\u{1e}stored\nnftables v1\ntable\n\u{1e}loaded\nnftables v1\ntable\n\
        \u{1e}counters\n{\"nftables\": [{\"metainfo\": {}}, {\"counter\": {\"name\": \"closed\", \"packets\": 7}}]}\n\
        \u{1e}enabled\nyes\n\u{1e}digest\nabc\n\u{1e}pending\n\u{1e}firewalls\nufw\n\
        \u{1e}sockets\ntcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n\
        tcp LISTEN 0 128 [::]:22 [::]:* users:((\"sshd\",pid=1,fd=4))\n\
        udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*\ntcp LISTEN 0 9 *:80 *:*\n\
        \u{1e}policy app.json\n{\"version\":1,\"closed\":[\"eth0\"],\"rules\":[],\"metadata\":false}\n\
        \u{1e}policy other.json\n{}\n";

    #[test]
    fn every_way_out_is_public_and_none_that_leads_nowhere() {
        let names = |line: &str| route_interfaces(line).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("default via 192.0.2.1 dev eth0 proto static"), ["eth0"]);
        let several = "default proto static metric 1 \\\tnexthop via 192.0.2.1 dev eth0 weight 1 \\\tnexthop via 192.0.2.2 dev eth1";
        assert_eq!(names(several), ["eth0", "eth1"]);
        assert_eq!(names("unreachable default dev lo metric 1024 pref medium"), [""; 0]);
    }

    #[test]
    fn what_a_host_prints_is_read() {
        let state = parse(SEEN);
        assert_eq!(state.network.default_routes.len(), 1);
        let own: Vec<String> = state.network.own_addresses().map(|entry| entry.address.to_string()).collect();
        assert_eq!(own, ["172.30.1.11", "2001:db8::11"]);
        assert_eq!(
            state.network.ssh.map(|ssh| (ssh.client.to_string(), ssh.port)),
            Some(("172.30.1.1".into(), 22))
        );
        assert!(
            state.means.is_root && state.means.has_nft && state.means.has_systemd && state.means.can_install
        );
        assert_eq!(state.loaded, LoadedGuard::AsStored);
        assert_eq!(state.dropped.get("closed"), Some(&7));
        assert!(state.is_enabled && !state.is_pending);
        assert_eq!(state.digest, "abc");
        let as_user = parse(&SEEN.replace("user\n0\n", "user\n1000\n"));
        assert_eq!(as_user.loaded, LoadedGuard::NotSeen, "nothing that only root sees is told");
        assert_eq!(state.firewalls, ["ufw"]);
        assert_eq!(state.policies.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(state.unreadable.len(), 1);
        let sockets: Vec<String> = state
            .sockets
            .iter()
            .map(|s| {
                format!("{} {} {:?} {:?}", s.protocol, s.port, s.address.map(|a| a.to_string()), s.program)
            })
            .collect();
        assert_eq!(
            sockets,
            ["tcp 22 None Some(\"sshd\")", "tcp 80 None None", "udp 53 Some(\"127.0.0.53\") None"]
        );
    }

    #[test]
    fn a_loaded_table_is_compared_with_the_stored_one() {
        assert_eq!(compare("v1\nx", ""), LoadedGuard::Absent);
        assert_eq!(compare("v1\nx", "v1\ny"), LoadedGuard::Changed);
        assert_eq!(compare("v1\nx", "v2\nx"), LoadedGuard::Unknown);
        assert_eq!(compare("", "v1\nx"), LoadedGuard::Changed);
    }
}
