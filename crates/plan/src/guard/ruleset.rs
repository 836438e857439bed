use std::fmt::Write as _;

use freehold_model::{FirewallPorts, Network};

use super::network::CONTAINER_INTERFACES;
use super::policy::{GuardRule, GuardRules};

/// Addresses that a provider routes to nobody: what asks for one of them on a closed interface was sent by a neighbour
/// who means the host's private network or its containers.
const PRIVATE_V4: &str = "10.0.0.0/8, 127.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16";
const PRIVATE_V6: &str = "fc00::/7";

/// Where providers answer with what they know of a host, often with secrets in it.
const METADATA: [(&str, &str); 2] = [("ip", "169.254.169.254"), ("ip6", "fd00:ec2::254")];

/// What IPv6 does not work without, and what finds out about paths and hosts.
const ICMP: &str = "\
    icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
    icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem, \
nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, mld-listener-report, \
mld-listener-done, mld2-listener-report } accept
    udp sport 67 udp dport 68 accept
    ip6 saddr fe80::/10 udp dport 546 accept
";

/// Writes the table of a host as a file for `nft -f`, which replaces the loaded one in one transaction.
///
/// In nftables a packet passes every chain of a hook, and the first drop is final: the table needs nothing of Docker's, ufw's
/// or firewalld's rules and cannot be undone by them. Rules look at the original destination of a connection
/// (`ct original proto-dst`), which Docker's rewriting does not change.
#[must_use]
pub fn ruleset(rules: &GuardRules) -> String {
    let mut text = String::from(
        "# Made by `freehold firewall apply`, which overwrites it.\n\
         table inet freehold\n\
         delete table inet freehold\n\
         table inet freehold {\n",
    );
    for counter in ["closed", "guarded", "direct", "metadata", "stray"] {
        text.push_str(&format!("  counter {counter} {{ }}\n"));
    }
    text.push_str(&allowed(rules));
    text.push_str(&guarded(rules));
    text.push_str(&prerouting(rules));
    text.push_str(&forward(rules));
    text.push_str(&input(rules));
    text.push_str("}\n");
    text
}

/// One line of a chain.
fn line(text: &mut String, rule: &str) {
    text.push_str("    ");
    text.push_str(rule);
    text.push('\n');
}

fn chain(name: &str, body: &str) -> String {
    format!("  chain {name} {{\n{body}  }}\n")
}

fn base_chain(name: &str, priority: &str, body: &str) -> String {
    let head = format!("    type filter hook {name} priority {priority}; policy accept;\n");
    chain(name, &format!("{head}{body}"))
}

/// Accepts what is let in.
fn allowed(rules: &GuardRules) -> String {
    let mut body = String::new();
    for GuardRule { ports, from, reason } in &rules.rules {
        line(&mut body, &format!("# {}", comment(reason)));
        let port = port(ports);
        let Some(from) = from else {
            line(&mut body, &format!("{port} accept"));
            continue;
        };
        for (family, networks) in families(from) {
            line(&mut body, &format!("{family} saddr {{ {networks} }} {port} accept"));
        }
    }
    chain("allowed", &body)
}

/// Accepts what is let in and drops the rest of the ports that somebody restricted.
fn guarded(rules: &GuardRules) -> String {
    let mut body = String::new();
    line(&mut body, "jump allowed");
    for ports in rules.guarded() {
        line(&mut body, &format!("{} counter name guarded drop", port(&ports)));
    }
    chain("guarded", &body)
}

/// Drops what asks for addresses behind a closed interface, before their destination is rewritten.
fn prerouting(rules: &GuardRules) -> String {
    let mut body = String::new();
    for interface in &rules.closed {
        line(
            &mut body,
            &format!(
                "iifname \"{interface}\" ip daddr {{ {PRIVATE_V4} }} fib daddr . iif type != {{ local, broadcast, \
                 multicast }} counter name stray drop"
            ),
        );
        line(
            &mut body,
            &format!(
                "iifname \"{interface}\" ip6 daddr {PRIVATE_V6} fib daddr . iif type != {{ local, anycast, multicast }} \
                 counter name stray drop"
            ),
        );
    }
    base_chain("prerouting", "raw", &body)
}

/// What goes on to containers, or through the host.
fn forward(rules: &GuardRules) -> String {
    let mut body = String::new();
    line(&mut body, "ct state established,related accept");
    if !rules.metadata {
        for start in CONTAINER_INTERFACES {
            for (family, address) in METADATA {
                line(
                    &mut body,
                    &format!("iifname \"{start}*\" {family} daddr {address} counter name metadata drop"),
                );
            }
        }
    }
    for interface in &rules.closed {
        line(&mut body, &format!("iifname \"{interface}\" ct status dnat jump allowed"));
        line(&mut body, &format!("iifname \"{interface}\" counter name closed drop"));
    }
    for start in CONTAINER_INTERFACES {
        line(&mut body, &format!("iifname \"{start}*\" accept"));
    }
    line(&mut body, "ct status dnat jump guarded");
    line(&mut body, "ct status dnat accept");
    for start in CONTAINER_INTERFACES {
        line(&mut body, &format!("oifname \"{start}*\" counter name direct drop"));
    }
    base_chain("forward", "filter - 10", &body)
}

/// What is for the host itself: its own processes, containers in its network, and Docker's own forwarder.
fn input(rules: &GuardRules) -> String {
    let mut body = String::new();
    line(&mut body, "ct state established,related accept");
    line(&mut body, "iifname \"lo\" accept");
    body.push_str(ICMP);
    for interface in &rules.closed {
        line(&mut body, &format!("iifname \"{interface}\" jump allowed"));
        line(
            &mut body,
            &format!(
                "iifname \"{interface}\" meta l4proto {{ tcp, udp, udplite, sctp, dccp }} counter name closed drop"
            ),
        );
    }
    for start in CONTAINER_INTERFACES {
        line(&mut body, &format!("iifname \"{start}*\" accept"));
    }
    line(&mut body, "jump guarded");
    base_chain("input", "filter - 10", &body)
}

/// Matches the port that was asked for. Sets of such ports are not used: nft 1.0.6 does not know their type.
fn port(ports: &FirewallPorts) -> String {
    let (first, last) = ports.range();
    let mut text = format!("meta l4proto {} ct original proto-dst {first}", ports.protocol());
    if first != last {
        // Writing to a string does not fail.
        write!(text, "-{last}").ok();
    }
    text
}

/// Sorts ranges by family and leaves out those that others cover, which nft refuses in a set.
fn families(networks: &[Network]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (family, is_ipv4) in [("ip", true), ("ip6", false)] {
        let of_family: Vec<&Network> =
            networks.iter().filter(|network| network.is_ipv4() == is_ipv4).collect();
        let is_covered =
            |network: &Network| of_family.iter().any(|other| *other != network && other.covers(network));
        let mut kept: Vec<Network> =
            of_family.iter().map(|network| **network).filter(|n| !is_covered(n)).collect();
        kept.sort();
        kept.dedup();
        if !kept.is_empty() {
            let texts: Vec<String> = kept.iter().map(ToString::to_string).collect();
            found.push((family, texts.join(", ")));
        }
    }
    found
}

/// Nothing in a comment may end it.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
