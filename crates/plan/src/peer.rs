//! How containers find accessories and roles on other hosts by name.
//!
//! On one host the engine's own name service does it: containers of the network `kamal` know each other by name. What is on
//! another host gets a line in the container's hosts file and a variable, both with the address that the deploy file has
//! for that host. Nothing is resolved here and nothing is asked of a host, so that a release always means the same.

use std::net::IpAddr;

use freehold_model::{
    ContainerOptions, EnvName, Environment, HostName, Project, PublishedPorts, UnguardedPublish,
};

/// Makes the accessories and roles on other hosts known to a container on this host, in so far as they publish a port that other
/// hosts reach: what the container's own configuration says goes first, and an accessory before a role of its name.
pub fn introduce(
    project: &Project,
    host: &HostName,
    network: &str,
    (options, environment): (&mut ContainerOptions, &mut Environment),
) {
    // Such a container shares another one's hosts file, and the engine refuses to change it.
    if network.starts_with("container:") {
        return;
    }
    for peer in peers(project).into_iter().filter(|peer| peer.is_reachable && !peer.hosts.contains(&host)) {
        let addresses: Vec<IpAddr> =
            peer.hosts.iter().filter_map(|other| peer.address_at(project, other)).collect();
        let Some(first) = addresses.first() else { continue };
        let name = peer.name.as_str();
        let is_named = |entry: &String| {
            entry.strip_prefix(name).is_some_and(|rest| rest.starts_with(':') || rest.starts_with('='))
        };
        if !options.add_host.iter().any(is_named) {
            options.add_host.push(format!("{name}:{first}"));
        }
        if let Ok(variable) = EnvName::parse(variable(peer.short)) {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            environment.clear.entry(variable).or_insert_with(|| all.join(","));
        }
    }
}

/// Something that containers on other hosts may want to talk to.
struct Peer<'a> {
    /// The name in hosts files.
    name: String,
    /// The name in the deploy file.
    short: &'a str,
    hosts: Vec<&'a HostName>,
    is_reachable: bool,
    /// The one address at which it is published; none where it is at all of its host's, or at several.
    bound: Option<IpAddr>,
}

impl Peer<'_> {
    /// Returns where it is found on one of its hosts: at the address that the file has for that host, or at which it is published.
    fn address_at(&self, project: &Project, host: &HostName) -> Option<IpAddr> {
        let said = project.addresses.get(host).copied();
        // Several hosts cannot have one address.
        let bound = self.bound.filter(|_| self.hosts.len() == 1);
        said.or(bound).or_else(|| project.address_of(host))
    }
}

fn peers(project: &Project) -> Vec<Peer<'_>> {
    let accessories = project.accessories.values().map(|accessory| {
        let published: Vec<&String> = accessory.publish.iter().chain(&accessory.options.publish).collect();
        Peer {
            name: accessory.container.to_string(),
            short: accessory.name.as_str(),
            hosts: accessory.hosts.iter().collect(),
            is_reachable: accessory.network == "host" || published.iter().any(|text| is_open(text)),
            bound: bound(&published),
        }
    });
    let roles = project.roles.values().map(|role| Peer {
        name: format!("{}-{}", project.service, role.name),
        short: role.name.as_str(),
        hosts: role.hosts.iter().map(|entry| &entry.name).collect(),
        is_reachable: role.options.publish.iter().any(|text| is_open(text)),
        bound: bound(&role.options.publish.iter().collect::<Vec<_>>()),
    });
    accessories.chain(roles).collect()
}

/// Says whether other hosts reach what is published.
fn is_open(publish: &str) -> bool {
    let is_named = PublishedPorts::parse(publish).is_some_and(|published| !published.is_loopback());
    is_named || UnguardedPublish::of(publish).is_some()
}

/// Returns the one address at which all that others reach is published.
fn bound(published: &[&String]) -> Option<IpAddr> {
    let mut addresses = published.iter().filter(|text| is_open(text)).map(|text| {
        let ports = PublishedPorts::parse(text)?;
        ports.address.filter(|address| !address.is_unspecified())
    });
    let first = addresses.next()??;
    addresses.all(|address| address == Some(first)).then_some(first)
}

/// Returns the variable with the addresses of an accessory or a role: `FREEHOLD_DB_HOSTS`.
fn variable(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    format!("FREEHOLD_{}_HOSTS", upper.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}
