use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{
    AddressScope, Diagnose, ErrorKind, Firewall, FirewallInterfaces, FirewallPorts, FirewallSource, HostName,
    InterfaceName, Network, PortProtocol, Project, PublishedPorts, UnguardedPublish,
};

use super::network::HostNetwork;
use super::policy::{GuardPolicy, GuardRule};

/// Why there can be no guard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The networks of a host are not known.
    #[error("the networks of host `{host}` are not known")]
    UnknownNetwork {
        /// The host.
        host: HostName,
    },
    /// The file names an interface that the host has not.
    #[error("host `{host}` has no network interface `{interface}`")]
    NoInterface {
        /// The host.
        host: HostName,
        /// The interface.
        interface: InterfaceName,
        /// What it has.
        known: Vec<InterfaceName>,
    },
    /// A host has public addresses and no default route.
    #[error(
        "host `{host}` has the public address {address} but no default route, so that its public interface is unknown"
    )]
    NoDefaultRoute {
        /// The host.
        host: HostName,
        /// The address.
        address: std::net::IpAddr,
        /// Its interface.
        interface: InterfaceName,
    },
}

impl Diagnose for GuardError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownNetwork { .. } => ErrorKind::Bug,
            Self::NoInterface { .. } | Self::NoDefaultRoute { .. } => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::UnknownNetwork { .. } => Vec::new(),
            Self::NoInterface { known, .. } => {
                let known: Vec<&str> = known.iter().map(InterfaceName::as_str).collect();
                vec![format!("it has: {}", known.join(", "))]
            }
            Self::NoDefaultRoute { host, interface, .. } => {
                vec![format!(
                    "say it in the deploy file: `firewall: {{interfaces: {{{host}: [{interface}]}}}}`"
                )]
            }
        }
    }
}

/// Returns what containers of a project publish on a host and the guard has no rule for, each with the reason: closed on closed
/// interfaces, and open on others.
#[must_use]
pub fn unguarded(project: &Project, host: &HostName) -> Vec<String> {
    let gap = |(name, text): (String, &String)| {
        UnguardedPublish::of(text).map(|gap| format!("{name} publishes `{text}`, {gap}"))
    };
    published_texts(project, host).into_iter().filter_map(gap).collect()
}

/// Returns what containers of a project publish on a host, and which.
fn published_texts<'a>(project: &'a Project, host: &HostName) -> Vec<(String, &'a String)> {
    let mut found = Vec::new();
    for accessory in project.accessories.values().filter(|accessory| accessory.hosts.contains(host)) {
        let texts = accessory.publish.iter().chain(&accessory.options.publish);
        found.extend(texts.map(|text| (format!("accessory {}", accessory.name), text)));
    }
    let runs_here = |role: &&freehold_model::Role| role.hosts.iter().any(|entry| entry.name == *host);
    for role in project.roles.values().filter(runs_here) {
        found.extend(role.options.publish.iter().map(|text| (format!("role {}", role.name), text)));
    }
    found
}

/// Decides what each host of a project lets in.
///
/// Open are: SSH, on the port of our connection; the proxy's ports where it runs; the ports of accessories and roles, from
/// the project's hosts; and what the deploy file allows. A rule of the file takes the place of what follows from the proxy, an
/// accessory or a role for the same ports.
///
/// # Errors
/// [`GuardError`] when the networks of a host do not tell which of its interfaces is public.
pub fn guard(
    project: &Project,
    networks: &BTreeMap<HostName, HostNetwork>,
) -> Result<BTreeMap<HostName, GuardPolicy>, GuardError> {
    let none = Firewall::default();
    let context = Context { project, firewall: project.firewall.as_ref().unwrap_or(&none), networks };
    let hosts = project.all_hosts();
    hosts.into_iter().map(|host| context.policy(&host).map(|policy| (host, policy))).collect()
}

struct Context<'a> {
    project: &'a Project,
    firewall: &'a Firewall,
    networks: &'a BTreeMap<HostName, HostNetwork>,
}

impl Context<'_> {
    fn network(&self, host: &HostName) -> Result<&HostNetwork, GuardError> {
        self.networks.get(host).ok_or_else(|| GuardError::UnknownNetwork { host: host.clone() })
    }

    fn policy(&self, host: &HostName) -> Result<GuardPolicy, GuardError> {
        let mut rules = self.explicit(host)?;
        let is_said =
            |rule: &GuardRule, rules: &[GuardRule]| rules.iter().any(|said| said.ports.covers(&rule.ports));
        let derived = self.published(host)?.into_iter().chain(self.proxy(host));
        let derived: Vec<GuardRule> = derived.filter(|rule| !is_said(rule, &rules)).collect();
        rules.extend(derived);
        rules.push(self.ssh(host)?);
        if let Some(port) = self.firewall.tailnet {
            let ports = FirewallPorts::one(PortProtocol::Udp, port);
            rules.push(GuardRule { ports, from: None, reason: "tailnet".to_owned() });
        }
        rules.sort();
        rules.dedup();
        Ok(GuardPolicy {
            version: GuardPolicy::VERSION,
            closed: self.interfaces(host)?,
            rules,
            metadata: self.firewall.metadata,
        })
    }

    /// Returns the interfaces on which only what is allowed comes in: those of the default routes, and every other that has
    /// a public address, which the internet reaches without one.
    fn interfaces(&self, host: &HostName) -> Result<BTreeSet<InterfaceName>, GuardError> {
        let network = self.network(host)?;
        let said = match &self.firewall.interfaces {
            FirewallInterfaces::DefaultRoutes => None,
            FirewallInterfaces::Same(names) => Some(names),
            FirewallInterfaces::Each(each) => each.get(host),
        };
        if let Some(names) = said {
            let known: Vec<InterfaceName> = network
                .own_addresses()
                .map(|entry| entry.interface.clone())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let missing =
                names.iter().find(|name| !known.contains(name) && !network.default_routes.contains(*name));
            return match missing {
                Some(name) => {
                    Err(GuardError::NoInterface { host: host.clone(), interface: name.clone(), known })
                }
                None => Ok(names.clone()),
            };
        }
        if network.default_routes.is_empty()
            && let Some(entry) =
                network.own_addresses().find(|entry| AddressScope::of(entry.address) == AddressScope::Public)
        {
            return Err(GuardError::NoDefaultRoute {
                host: host.clone(),
                address: entry.address,
                interface: entry.interface.clone(),
            });
        }
        let public =
            network.own_addresses().filter(|entry| AddressScope::of(entry.address) == AddressScope::Public);
        let public = public.map(|entry| entry.interface.clone());
        Ok(network.default_routes.iter().cloned().chain(public).collect())
    }

    /// What the file allows.
    fn explicit(&self, host: &HostName) -> Result<Vec<GuardRule>, GuardError> {
        let mut rules = Vec::new();
        for rule in &self.firewall.allow {
            if !rule.hosts.is_empty() && !rule.hosts.contains(host) {
                continue;
            }
            let from = if rule.from.is_empty() { None } else { Some(self.sources(&rule.from)?) };
            rules.push(GuardRule { ports: rule.ports, from, reason: "allow".to_owned() });
        }
        Ok(rules)
    }

    /// What containers publish on a host: for the hosts of the project.
    fn published(&self, host: &HostName) -> Result<Vec<GuardRule>, GuardError> {
        let hosts: Vec<FirewallSource> =
            self.project.all_hosts().into_iter().map(FirewallSource::Host).collect();
        let from = self.sources(&hosts)?;
        let rule = |(reason, text): (String, &String)| {
            let published = PublishedPorts::parse(text).filter(|published| !published.is_loopback())?;
            Some(GuardRule { ports: published.ports, from: Some(from.clone()), reason })
        };
        Ok(published_texts(self.project, host).into_iter().filter_map(rule).collect())
    }

    /// The proxy's ports, where something is behind it.
    fn proxy(&self, host: &HostName) -> Vec<GuardRule> {
        let of_roles = self.project.roles.values().filter(|role| role.proxy.is_some());
        let mut hosts = of_roles.flat_map(|role| &role.hosts).map(|entry| &entry.name);
        let mut of_accessories =
            self.project.accessories.values().filter(|accessory| accessory.proxy.is_some());
        if !hosts.any(|name| name == host) && !of_accessories.any(|accessory| accessory.hosts.contains(host))
        {
            return Vec::new();
        }
        let run = self.project.proxy_run(host);
        let own = [run.http_port, run.https_port].map(|port| FirewallPorts::one(PortProtocol::Tcp, port));
        let more = run.options.publish.iter().filter_map(|text| PublishedPorts::parse(text));
        let more = more.filter(|published| !published.is_loopback()).map(|published| published.ports);
        own.into_iter()
            .filter(|_| run.publish)
            .chain(more)
            .map(|ports| GuardRule { ports, from: None, reason: "proxy".to_owned() })
            .collect()
    }

    /// SSH on the port of our own connection, from everywhere or from where the file says and jump hosts are.
    fn ssh(&self, host: &HostName) -> Result<GuardRule, GuardError> {
        let port = self.network(host)?.ssh.map(|ssh| ssh.port).or(self.project.ssh.port).unwrap_or(22);
        let ports = FirewallPorts::one(PortProtocol::Tcp, port);
        let mut from = None;
        if !self.firewall.ssh.is_empty() {
            let mut sources = self.sources(&self.firewall.ssh)?;
            for jump in &self.project.ssh.proxy {
                sources.extend(self.addresses(&jump.host));
            }
            sources.sort();
            sources.dedup();
            from = Some(sources);
        }
        Ok(GuardRule { ports, from, reason: "SSH".to_owned() })
    }

    fn sources(&self, sources: &[FirewallSource]) -> Result<Vec<Network>, GuardError> {
        let mut found = Vec::new();
        for source in sources {
            match source {
                FirewallSource::Network(network) => found.push(*network),
                FirewallSource::Host(host) => {
                    self.network(host)?;
                    found.extend(self.addresses(host));
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Returns every address of a host that is known: those that it has, and the one in the file, which may be translated to
    /// one of them.
    fn addresses(&self, host: &HostName) -> Vec<Network> {
        let own = self.networks.get(host).into_iter().flat_map(HostNetwork::sources);
        let written = host.as_str().parse().ok().map(Network::single);
        own.chain(written).collect()
    }
}
