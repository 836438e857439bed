use std::collections::BTreeSet;
use std::net::IpAddr;

use freehold_model::{AddressScope, InterfaceName, Network};

/// The beginnings of the names of interfaces that lead to containers of the host itself.
pub(super) const CONTAINER_INTERFACES: [&str; 5] = ["docker", "br-", "veth", "podman", "cni"];

/// Says whether an interface leads to containers of the host itself.
#[must_use]
pub fn is_of_containers(interface: &str) -> bool {
    CONTAINER_INTERFACES.iter().any(|start| interface.starts_with(start))
}

/// What is known of a host's networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNetwork {
    /// The interfaces of default routes, of both families.
    pub default_routes: BTreeSet<InterfaceName>,
    /// Every address but those of the loopback interface.
    pub addresses: Vec<InterfaceAddress>,
    /// The ends of our SSH connection as the host sees them; none on this machine.
    pub ssh: Option<SshEndpoints>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The interface.
    pub interface: InterfaceName,
    /// The address.
    pub address: IpAddr,
}

/// The ends of an SSH connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshEndpoints {
    /// From where it comes.
    pub client: IpAddr,
    /// The address of the host.
    pub server: IpAddr,
    /// The port of the host.
    pub port: u16,
}

impl HostNetwork {
    /// Returns the addresses by which others know the host: not those of its containers' networks, and none that holds on
    /// one link only.
    pub fn own_addresses(&self) -> impl Iterator<Item = &InterfaceAddress> {
        self.addresses.iter().filter(|entry| {
            !is_of_containers(entry.interface.as_str())
                && AddressScope::of(entry.address) != AddressScope::Link
        })
    }

    /// Returns them as ranges of one address.
    pub(super) fn sources(&self) -> impl Iterator<Item = Network> {
        self.own_addresses().map(|entry| Network::single(entry.address))
    }

    /// Returns the interface that has an address.
    #[must_use]
    pub fn interface_of(&self, address: IpAddr) -> Option<&InterfaceName> {
        self.addresses.iter().find(|entry| entry.address == address).map(|entry| &entry.interface)
    }
}
