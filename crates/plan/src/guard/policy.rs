use std::collections::BTreeSet;
use std::net::IpAddr;

use freehold_model::{FirewallPorts, InterfaceName, Network, PortProtocol};
use serde::{Deserialize, Serialize};

/// What one project wants to be let in to a host. It is stored on the host, so that several projects share the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardPolicy {
    /// The form of the stored policy.
    pub version: u32,
    /// The interfaces on which only what is allowed comes in.
    pub closed: BTreeSet<InterfaceName>,
    /// What is let in.
    pub rules: Vec<GuardRule>,
    /// Whether containers may ask the provider's metadata service.
    pub metadata: bool,
}

/// One thing that is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRule {
    /// The ports.
    pub ports: FirewallPorts,
    /// From where, or none for everywhere. Where it is said, the port is guarded on every interface.
    pub from: Option<Vec<Network>>,
    /// Why, for people: `SSH`, `accessory db`.
    pub reason: String,
}

/// What becomes of a connection to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardVerdict {
    /// It is let in.
    Allowed,
    /// It is not.
    Closed,
    /// The guard has nothing to say of it.
    Unguarded,
}

impl GuardPolicy {
    /// The form that this version writes.
    pub const VERSION: u32 = 1;
}

/// The policies of all projects of a host together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardRules {
    /// The interfaces on which only what is allowed comes in.
    pub closed: BTreeSet<InterfaceName>,
    /// What is let in.
    pub rules: Vec<GuardRule>,
    /// Whether containers may ask the provider's metadata service.
    pub metadata: bool,
}

impl GuardRules {
    /// Puts policies together: what one of them lets in is let in.
    #[must_use]
    pub fn of<'a>(policies: impl IntoIterator<Item = &'a GuardPolicy>) -> Self {
        let mut all = Self::default();
        for policy in policies {
            all.closed.extend(policy.closed.iter().cloned());
            all.rules.extend(policy.rules.iter().cloned());
            all.metadata |= policy.metadata;
        }
        all.rules.sort();
        all.rules.dedup();
        all
    }

    /// Says what becomes of a connection.
    #[must_use]
    pub fn verdict(
        &self,
        interface: &InterfaceName,
        port: (PortProtocol, u16),
        source: IpAddr,
    ) -> GuardVerdict {
        let mut is_guarded = self.closed.contains(interface);
        for rule in self.rules.iter().filter(|rule| rule.ports.contains(port.0, port.1)) {
            match &rule.from {
                None => return GuardVerdict::Allowed,
                Some(from) if from.iter().any(|network| network.contains(source)) => {
                    return GuardVerdict::Allowed;
                }
                Some(_) => is_guarded = true,
            }
        }
        if is_guarded { GuardVerdict::Closed } else { GuardVerdict::Unguarded }
    }

    /// Returns every range of ports that some rule restricts.
    #[must_use]
    pub fn guarded(&self) -> BTreeSet<FirewallPorts> {
        self.rules.iter().filter(|rule| rule.from.is_some()).map(|rule| rule.ports).collect()
    }
}
