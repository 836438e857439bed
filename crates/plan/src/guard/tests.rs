use std::collections::BTreeMap;

use freehold_model::{
    Accessory, AccessoryName, ContainerName, ContainerOptions, Environment, Firewall, FirewallInterfaces,
    FirewallPorts, FirewallRule, FirewallSource, HostName, InterfaceName, JumpHost, Logging, Network,
    PortProtocol, Project, ProxyServiceName, ProxySettings, RemoteImage, Repository, Role, RoleHost,
    RoleName, ServiceName,
};
use proptest::prelude::*;

use super::*;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn interface(name: &str) -> InterfaceName {
    InterfaceName::parse(name).unwrap()
}

fn network(addresses: &[(&str, &str)], routes: &[&str]) -> HostNetwork {
    HostNetwork {
        default_routes: routes.iter().map(|name| interface(name)).collect(),
        addresses: addresses
            .iter()
            .map(|(name, address)| InterfaceAddress {
                interface: interface(name),
                address: address.parse().unwrap(),
            })
            .collect(),
        ssh: Some(SshEndpoints {
            client: "198.51.100.9".parse().unwrap(),
            server: addresses[0].1.parse().unwrap(),
            port: 22,
        }),
    }
}

/// A web host with a public and a private address, a database host with a private one only.
fn project() -> (Project, BTreeMap<HostName, HostNetwork>) {
    let mut project = Project::new(ServiceName::parse("app").unwrap(), Repository::parse("app").unwrap());
    let mut role = Role::new(RoleName::web(), ProxyServiceName::parse("app-web").unwrap());
    role.hosts = vec![RoleHost { name: host("web-1"), environment: Environment::default() }];
    role.proxy = Some(ProxySettings::default());
    role.options.publish = vec!["127.0.0.1:9:9".to_owned(), "2525:25".to_owned()];
    project.roles.insert(RoleName::web(), role);
    let accessory = Accessory {
        name: AccessoryName::parse("db").unwrap(),
        container: ContainerName::parse("app-db").unwrap(),
        image: RemoteImage::parse("postgres:17").unwrap(),
        hosts: vec![host("db-1")],
        publish: Some("5432:5432".to_owned()),
        command: None,
        environment: Environment::default(),
        files: Vec::new(),
        directories: Vec::new(),
        volumes: Vec::new(),
        labels: BTreeMap::new(),
        options: ContainerOptions::default(),
        logging: Logging::default(),
        network: "kamal".to_owned(),
        proxy: None,
    };
    project.accessories.insert(accessory.name.clone(), accessory);
    let web = network(
        &[
            ("eth0", "203.0.113.5"),
            ("eth0", "2001:db8::5"),
            ("eth0", "fe80::1"),
            ("eth1", "10.0.0.1"),
            ("docker0", "172.17.0.1"),
        ],
        &["eth0"],
    );
    let networks = [(host("web-1"), web), (host("db-1"), network(&[("eth0", "10.0.0.5")], &[]))];
    (project, networks.into_iter().collect())
}

fn rules(project: &Project, networks: &BTreeMap<HostName, HostNetwork>, name: &str) -> GuardRules {
    GuardRules::of([&guard(project, networks).unwrap()[&host(name)]])
}

fn verdict(rules: &GuardRules, on: &str, port: u16, source: &str) -> GuardVerdict {
    rules.verdict(&interface(on), (PortProtocol::Tcp, port), source.parse().unwrap())
}

#[test]
fn rules_follow_from_the_project() {
    let (project, networks) = project();
    let web = rules(&project, &networks, "web-1");
    for port in [22, 80, 443] {
        assert_eq!(verdict(&web, "eth0", port, "198.51.100.1"), GuardVerdict::Allowed, "{port}");
    }
    assert_eq!(verdict(&web, "eth0", 8080, "198.51.100.1"), GuardVerdict::Closed);
    assert_eq!(verdict(&web, "eth1", 8080, "10.0.0.9"), GuardVerdict::Unguarded);
    assert_eq!(
        verdict(&web, "eth1", 2525, "10.0.0.9"),
        GuardVerdict::Closed,
        "a role's port is for the project"
    );
    let database = rules(&project, &networks, "db-1");
    assert_eq!(verdict(&database, "eth0", 5432, "10.0.0.1"), GuardVerdict::Allowed);
    assert_eq!(verdict(&database, "eth0", 5432, "2001:db8::5"), GuardVerdict::Allowed);
    for stranger in ["10.0.0.9", "172.17.0.1", "fe80::1"] {
        assert_eq!(verdict(&database, "eth0", 5432, stranger), GuardVerdict::Closed, "{stranger}");
    }
    assert!(database.closed.is_empty(), "without a default route nothing is public");
    assert_eq!(verdict(&database, "eth0", 80, "10.0.0.9"), GuardVerdict::Unguarded);
}

#[test]
fn a_rule_of_the_file_takes_the_place_of_what_follows() {
    let (mut project, networks) = project();
    let ports = FirewallPorts::one(PortProtocol::Tcp, 5432);
    let from = vec![FirewallSource::Network(Network::parse("10.0.0.9").unwrap())];
    let firewall = Firewall {
        allow: vec![FirewallRule { ports, from, hosts: vec![host("db-1")] }],
        ssh: vec![FirewallSource::Host(host("web-1"))],
        tailnet: Some(41641),
        ..Firewall::default()
    };
    project.firewall = Some(firewall);
    project.ssh.proxy = vec![JumpHost { user: "root".to_owned(), host: host("192.0.2.7"), port: None }];
    let database = rules(&project, &networks, "db-1");
    assert_eq!(verdict(&database, "eth0", 5432, "10.0.0.9"), GuardVerdict::Allowed);
    assert_eq!(verdict(&database, "eth0", 5432, "10.0.0.1"), GuardVerdict::Closed);
    for (source, expected) in [
        ("10.0.0.1", GuardVerdict::Allowed),
        ("192.0.2.7", GuardVerdict::Allowed),
        ("10.0.0.9", GuardVerdict::Closed),
    ] {
        assert_eq!(verdict(&database, "eth0", 22, source), expected, "SSH from {source}");
    }
    let udp = (PortProtocol::Udp, 41641);
    assert_eq!(
        database.verdict(&interface("eth0"), udp, "192.0.2.1".parse().unwrap()),
        GuardVerdict::Allowed
    );
}

#[test]
fn interfaces_have_to_be_known() {
    let (mut project, mut networks) = project();
    networks.insert(host("db-1"), network(&[("eth0", "203.0.113.9")], &[]));
    let error = guard(&project, &networks).unwrap_err();
    assert!(matches!(error, GuardError::NoDefaultRoute { .. }), "{error}");
    let said = |name: &str| Firewall {
        interfaces: FirewallInterfaces::Each(BTreeMap::from([(host("db-1"), [interface(name)].into())])),
        ..Firewall::default()
    };
    project.firewall = Some(said("eth0"));
    assert_eq!(rules(&project, &networks, "db-1").closed, [interface("eth0")].into());
    project.firewall = Some(said("eth9"));
    let error = guard(&project, &networks).unwrap_err();
    assert!(matches!(error, GuardError::NoInterface { .. }), "{error}");
    networks.remove(&host("web-1"));
    assert!(matches!(guard(&project, &networks).unwrap_err(), GuardError::UnknownNetwork { .. }));
}

#[test]
fn the_table_of_a_host() {
    let (project, networks) = project();
    insta::assert_snapshot!(ruleset(&rules(&project, &networks, "web-1")));
}

#[test]
fn a_stored_policy_is_read_again() {
    let (project, networks) = project();
    for policy in guard(&project, &networks).unwrap().into_values() {
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<GuardPolicy>(&text).unwrap(), policy);
    }
}

fn any_network() -> impl Strategy<Value = Network> {
    let v4 = (any::<u32>(), 0_u8..=32).prop_map(|(bits, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        format!("{}/{length}", std::net::Ipv4Addr::from(bits & mask))
    });
    let v6 = (any::<u128>(), 0_u8..=128).prop_map(|(bits, length)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        format!("{}/{length}", std::net::Ipv6Addr::from(bits & mask))
    });
    prop_oneof![v4, v6].prop_map(|text| Network::parse(&text).unwrap())
}

fn any_rule() -> impl Strategy<Value = GuardRule> {
    let ports = (1_u16.., 0_u16..200, any::<bool>()).prop_map(|(first, more, is_udp)| {
        let protocol = if is_udp { "/udp" } else { "" };
        FirewallPorts::parse(&format!("{first}-{}{protocol}", first.saturating_add(more))).unwrap()
    });
    let from = proptest::option::of(proptest::collection::vec(any_network(), 0..6));
    (ports, from, ".{0,20}").prop_map(|(ports, from, reason)| GuardRule { ports, from, reason })
}

proptest! {
    /// Whatever the rules are: braces close, no set has ranges that overlap, and a reason cannot become a rule.
    #[test]
    fn tables_are_well_formed(rules in proptest::collection::vec(any_rule(), 0..12), metadata: bool) {
        let closed = [interface("eth0")].into();
        let text = ruleset(&GuardRules { closed, rules, metadata });
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|l| format!("{l}\n")).collect();
        prop_assert_eq!(code.matches('{').count(), code.matches('}').count());
        prop_assert!(text.lines().filter(|line| !line.trim_start().starts_with('#')).all(|line| line.is_ascii()));
        for line in code.lines().filter(|line| line.contains(" saddr { ")) {
            let set = line.split_once("{ ").and_then(|(_, rest)| rest.split_once(" }")).unwrap().0;
            let networks: Vec<Network> = set.split(", ").map(|text| Network::parse(text).unwrap()).collect();
            for (index, network) in networks.iter().enumerate() {
                prop_assert!(networks.iter().enumerate().all(|(other, n)| other == index || !n.covers(network)), "{}", set);
            }
        }
    }

    /// What one project lets in, another cannot close.
    #[test]
    fn policies_of_several_projects_add_up(one in any_rule(), other in any_rule(), source: u32, port: u16) {
        let policy = |rule: &GuardRule| GuardPolicy {
            version: GuardPolicy::VERSION,
            closed: [interface("eth0")].into(),
            rules: vec![rule.clone()],
            metadata: false,
        };
        let (one, other) = (policy(&one), policy(&other));
        let source = std::net::Ipv4Addr::from(source).into();
        let at = |rules: GuardRules| rules.verdict(&interface("eth0"), (PortProtocol::Tcp, port), source);
        let is_let_in = [&one, &other].into_iter().any(|policy| at(GuardRules::of([policy])) == GuardVerdict::Allowed);
        prop_assert_eq!(at(GuardRules::of([&one, &other])) == GuardVerdict::Allowed, is_let_in);
    }
}

#[test]
fn a_second_public_card_is_closed_without_a_route_of_its_own() {
    let (project, mut networks) = project();
    let web = networks.get_mut(&host("web-1")).unwrap();
    for (name, address) in [("eth2", "203.0.113.77"), ("eth3", "2001:db8:1::5"), ("wg0", "100.64.0.7")] {
        web.addresses
            .push(InterfaceAddress { interface: interface(name), address: address.parse().unwrap() });
    }
    let rules = rules(&project, &networks, "web-1");
    for (name, verdict_of_8080) in [
        ("eth0", GuardVerdict::Closed),
        ("eth2", GuardVerdict::Closed),
        ("eth3", GuardVerdict::Closed),
        ("eth1", GuardVerdict::Unguarded),
        ("wg0", GuardVerdict::Unguarded),
        ("docker0", GuardVerdict::Unguarded),
    ] {
        assert_eq!(verdict(&rules, name, 8080, "198.51.100.1"), verdict_of_8080, "{name}");
    }
    assert_eq!(verdict(&rules, "eth2", 443, "198.51.100.1"), GuardVerdict::Allowed);
}

#[test]
fn what_has_no_rule_is_told() {
    let (mut project, _) = project();
    let role = project.roles.get_mut(&RoleName::web()).unwrap();
    role.options.publish = ["8080", "127.0.0.1::9", "9899:9899/sctp", "80:80"].map(str::to_owned).to_vec();
    let expected = [
        "role web publishes `8080`, a port of the host that the engine chooses",
        "role web publishes `9899:9899/sctp`, a protocol that is neither TCP nor UDP",
    ];
    assert_eq!(unguarded(&project, &host("web-1")), expected);
    assert_eq!(unguarded(&project, &host("db-1")), [""; 0]);
}
