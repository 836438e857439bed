//! The host guard: which ports of which hosts are open to whom, and the nftables table that says so.
//!
//! Docker opens published ports past ufw and firewalld, which look at packets only after their address was rewritten
//! (`docs/decisions/0026-the-host-guard.md`). The guard looks at the port that was asked for.

mod derive;
mod network;
mod policy;
mod ruleset;
#[cfg(test)]
mod tests;

pub use derive::{GuardError, guard, unguarded};
pub use network::{HostNetwork, InterfaceAddress, SshEndpoints, is_of_containers};
pub use policy::{GuardPolicy, GuardRule, GuardRules, GuardVerdict};
pub use ruleset::ruleset;
