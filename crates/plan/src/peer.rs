//! How containers find accessories on other hosts by name.
//!
//! On one host the engine's own name service does it: containers of the network `kamal` know each other by name. What is on
//! another host gets a line in the container's hosts file and a variable, both with the address that the deploy file has
//! for that host. Nothing is resolved here and nothing is asked of a host, so that a release always means the same.

use std::net::IpAddr;

use freehold_model::{Accessory, ContainerOptions, EnvName, Environment, HostName, Project};

/// Makes the accessories on other hosts known to a container on this host: what its own configuration says goes first.
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
    for accessory in project.accessories.values().filter(|accessory| is_elsewhere(accessory, host)) {
        let addresses: Vec<IpAddr> =
            accessory.hosts.iter().filter_map(|other| project.address_of(other)).collect();
        let Some(first) = addresses.first() else { continue };
        let name = accessory.container.as_str();
        let is_named = |entry: &String| {
            entry.strip_prefix(name).is_some_and(|rest| rest.starts_with(':') || rest.starts_with('='))
        };
        if !options.add_host.iter().any(is_named) {
            options.add_host.push(format!("{name}:{first}"));
        }
        if let Ok(variable) = EnvName::parse(variable(accessory.name.as_str())) {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            environment.clear.entry(variable).or_insert_with(|| all.join(","));
        }
    }
}

/// Says whether an accessory runs on other hosts only and can be reached from there.
fn is_elsewhere(accessory: &Accessory, host: &HostName) -> bool {
    let published = accessory.publish.iter().chain(&accessory.options.publish);
    let is_open = |publish: &String| {
        let inner = ["127.", "[::1]", "::1", "localhost:"];
        !inner.iter().any(|prefix| publish.starts_with(prefix))
    };
    let is_reachable = accessory.network == "host" || published.into_iter().any(is_open);
    is_reachable && !accessory.hosts.contains(host)
}

/// Returns the variable with the addresses of an accessory: `FREEHOLD_DB_HOSTS`.
fn variable(accessory: &str) -> String {
    let upper = accessory.to_ascii_uppercase();
    format!("FREEHOLD_{}_HOSTS", upper.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}
