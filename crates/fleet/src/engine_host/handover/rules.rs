use std::net::IpAddr;

use freehold_docker::PublishedPort;

/// What the rules of a handover are made from.
pub(super) struct Rules<'a> {
    /// The interface of the containers' network.
    pub(super) bridge: Option<&'a str>,
    /// The stand-in's address in that network.
    pub(super) address: IpAddr,
    /// The ports that lead to the earlier proxy.
    pub(super) published: &'a [PublishedPort],
    /// The ports that lead to the stand-in.
    pub(super) stand_in: &'a [PublishedPort],
    /// The ports of the host on which something listens: where the engine has no forwarder of its own, nothing listens on
    /// the stand-in's.
    pub(super) listening: &'a [u16],
}

/// Undoes the rules.
pub(super) const RELEASE: &str = r"
for tables in iptables ip6tables; do
  for chain in PREROUTING OUTPUT; do
    while $tables -w 5 -t nat -D $chain -j FREEHOLD-HANDOVER 2>/dev/null; do :; done
  done
  $tables -w 5 -t nat -F FREEHOLD-HANDOVER 2>/dev/null
  $tables -w 5 -t nat -X FREEHOLD-HANDOVER 2>/dev/null
done
exit 0
";

impl Rules<'_> {
    /// Writes the script. All rules stand in a chain of their own, which is asked before the engine's and takes effect
    /// with one command.
    pub(super) fn script(&self) -> String {
        let mut script = String::from(
            "set -e\nip4() { iptables -w 5 -t nat \"$@\"; }\nip6() { ip6tables -w 5 -t nat \"$@\"; }\n\
             ip4 -N FREEHOLD-HANDOVER 2>/dev/null || ip4 -F FREEHOLD-HANDOVER\n",
        );
        let mut six = String::new();
        for port in self.published {
            let local = self.stand_in.iter().find(|own| own.container_port == port.container_port);
            let local = local.filter(|own| self.listening.contains(&own.port)).map(|own| own.port);
            let line = format!("-A FREEHOLD-HANDOVER -p tcp --dport {}", port.port);
            let of_host = "-m addrtype --dst-type LOCAL";
            let redirect = local.map(|local| format!("-j REDIRECT --to-ports {local}"));
            match port.address {
                IpAddr::V6(address) => {
                    let to = if address.is_unspecified() { String::new() } else { format!(" -d {address}") };
                    if let Some(redirect) = &redirect {
                        six.push_str(&format!("ip6 {line}{to} {of_host} {redirect}\n"));
                    }
                }
                IpAddr::V4(address) => {
                    let to = if address.is_unspecified() { String::new() } else { format!(" -d {address}") };
                    if let Some(redirect) = &redirect {
                        // A container beside the stand-in would get its answers past the packet filter, and what comes
                        // from the loopback interface cannot be sent to another one.
                        if let Some(bridge) = self.bridge {
                            script.push_str(&format!("ip4 {line}{to} -i {bridge} {of_host} {redirect}\n"));
                        }
                        if address.is_unspecified() || address.is_loopback() {
                            script.push_str(&format!("ip4 {line} -d 127.0.0.0/8 {redirect}\n"));
                        }
                    }
                    let target = format!("-j DNAT --to-destination {}:{}", self.address, port.container_port);
                    script.push_str(&format!("ip4 {line}{to} {of_host} {target}\n"));
                }
            }
        }
        script.push_str(
            "for chain in PREROUTING OUTPUT; do\n  ip4 -C $chain -j FREEHOLD-HANDOVER 2>/dev/null || \
             ip4 -I $chain 1 -j FREEHOLD-HANDOVER\ndone\n",
        );
        if !six.is_empty() {
            // A host without a table for IPv6 has no clients that use it.
            script.push_str(
                "if ip6 -N FREEHOLD-HANDOVER 2>/dev/null || ip6 -F FREEHOLD-HANDOVER 2>/dev/null; then\n",
            );
            script.push_str(&six);
            script.push_str(
                "for chain in PREROUTING OUTPUT; do\n  ip6 -C $chain -j FREEHOLD-HANDOVER 2>/dev/null || \
                 ip6 -I $chain 1 -j FREEHOLD-HANDOVER\ndone\nfi\n",
            );
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(address: &str, port: u16, container_port: u16) -> PublishedPort {
        PublishedPort { address: address.parse().unwrap(), port, container_port }
    }

    #[test]
    fn rules_send_every_kind_of_client_to_the_stand_in() {
        let rules = Rules {
            bridge: Some("br-0123456789ab"),
            address: "172.18.0.7".parse().unwrap(),
            published: &[
                published("0.0.0.0", 80, 80),
                published("::", 80, 80),
                published("10.0.0.1", 8443, 443),
            ],
            stand_in: &[
                published("0.0.0.0", 49_153, 80),
                published("::", 49_153, 80),
                published("0.0.0.0", 49_154, 443),
            ],
            listening: &[22, 49_153, 49_154],
        };
        insta::assert_snapshot!(rules.script());
    }

    #[test]
    fn without_a_forwarder_the_packet_filter_does_it_all() {
        let rules = Rules {
            bridge: None,
            address: "172.18.0.7".parse().unwrap(),
            published: &[published("0.0.0.0", 80, 80)],
            stand_in: &[published("0.0.0.0", 49_153, 80)],
            listening: &[],
        };
        let script = rules.script();
        assert!(
            !script.contains("REDIRECT") && script.contains("DNAT --to-destination 172.18.0.7:80"),
            "{script}"
        );
    }
}
