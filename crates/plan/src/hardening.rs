mod daemon;
mod facts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use facts::{PackageManager, ParseFactsError, ServerFacts, SshdFacts};

/// One thing that makes a host harder to break into, or keeps it from filling up or dying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HardeningItem {
    /// Security updates of the system are installed by themselves.
    Upgrades,
    /// The SSH server takes keys only, no passwords.
    Ssh,
    /// Settings of the kernel.
    Sysctl,
    /// Logs of containers have a limit, and containers live on while the engine restarts.
    Docker,
    /// There is swap space.
    Swap,
    /// The clock is set by the network.
    Time,
}

impl HardeningItem {
    /// Every item, in the order in which they are done.
    pub const ALL: [Self; 6] =
        [Self::Upgrades, Self::Sysctl, Self::Docker, Self::Swap, Self::Time, Self::Ssh];

    /// Returns the word for it on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upgrades => "upgrades",
            Self::Ssh => "ssh",
            Self::Sysctl => "sysctl",
            Self::Docker => "docker",
            Self::Swap => "swap",
            Self::Time => "time",
        }
    }

    /// Returns the item of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.as_str() == word)
    }
}

/// What is done for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum HardeningAction {
    /// Installs and switches on the system's automatic security updates.
    InstallUpgrades {
        /// What installs them.
        packages: PackageManager,
    },
    /// Writes a file of ours for sshd, reads it in, and takes it away again if a new connection does not succeed.
    SshKeysOnly,
    /// Writes a file of ours for the kernel's settings and applies it.
    Sysctl {
        /// What is set.
        settings: BTreeMap<String, String>,
    },
    /// Writes the engine's configuration, if it still is what it was, and has the engine read it in.
    DockerConfiguration {
        /// The file as it was seen; empty for none.
        before: String,
        /// The file as it is to be.
        after: String,
    },
    /// Makes a swap file and switches it on, now and at every start.
    Swap {
        /// Its size in MiB.
        size_mib: u64,
    },
    /// Installs and starts what sets the clock.
    TimeSync {
        /// What installs it.
        packages: PackageManager,
    },
}

/// One change of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HardeningChange {
    /// What it belongs to.
    pub item: HardeningItem,
    /// How it is now, for people.
    pub before: String,
    /// How it will be, for people.
    pub after: String,
    /// What is done.
    pub action: HardeningAction,
}

/// What hardening a host comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HardeningPlan {
    /// What is changed, in this order.
    pub changes: Vec<HardeningChange>,
    /// What is well already.
    pub done: BTreeSet<HardeningItem>,
    /// What is left alone, and why.
    pub left: BTreeMap<HardeningItem, String>,
}

/// What the kernel is told: the name, the value, and values that are at least as good.
///
/// They are those that the Debian and Red Hat hardening guides have in common and that containers do not mind.
const SYSCTL: [(&str, &str, &[&str]); 10] = [
    ("fs.protected_hardlinks", "1", &[]),
    ("fs.protected_symlinks", "1", &[]),
    ("fs.suid_dumpable", "0", &[]),
    ("kernel.dmesg_restrict", "1", &[]),
    ("kernel.kptr_restrict", "1", &["2"]),
    ("net.ipv4.conf.all.accept_redirects", "0", &[]),
    ("net.ipv4.conf.all.accept_source_route", "0", &[]),
    ("net.ipv4.conf.all.send_redirects", "0", &[]),
    ("net.ipv4.tcp_syncookies", "1", &["2"]),
    ("net.ipv6.conf.all.accept_redirects", "0", &[]),
];

/// Names the kernel's settings that a host is asked for.
pub fn hardening_sysctl_names() -> impl Iterator<Item = &'static str> {
    SYSCTL.iter().map(|(name, ..)| *name)
}

/// A host with at least this much memory gets no swap file.
const SWAP_BELOW_MIB: u64 = 16 * 1024;

/// The largest swap file that we make.
const SWAP_LIMIT_MIB: u64 = 2 * 1024;

/// Plans the hardening of one host: what is not yet as it should be, without the items that are not wanted.
#[must_use]
pub fn harden(facts: &ServerFacts, without: &BTreeSet<HardeningItem>) -> HardeningPlan {
    let mut plan = HardeningPlan::default();
    for item in HardeningItem::ALL {
        if without.contains(&item) {
            plan.left.insert(item, "not wanted".to_owned());
            continue;
        }
        match decide(item, facts) {
            Decision::Change { before, after, action } => {
                plan.changes.push(HardeningChange { item, before, after, action });
            }
            Decision::Done => {
                plan.done.insert(item);
            }
            Decision::Leave(reason) => {
                plan.left.insert(item, reason);
            }
        }
    }
    plan
}

enum Decision {
    Change { before: String, after: String, action: HardeningAction },
    Done,
    Leave(String),
}

fn change(before: impl Into<String>, after: impl Into<String>, action: HardeningAction) -> Decision {
    Decision::Change { before: before.into(), after: after.into(), action }
}

fn decide(item: HardeningItem, facts: &ServerFacts) -> Decision {
    match item {
        HardeningItem::Upgrades => upgrades(facts),
        HardeningItem::Ssh => ssh(facts),
        HardeningItem::Sysctl => sysctl(facts),
        HardeningItem::Docker => docker(facts),
        HardeningItem::Swap => swap(facts),
        HardeningItem::Time => time(facts),
    }
}

fn upgrades(facts: &ServerFacts) -> Decision {
    let Some(packages) = facts.packages else {
        return Decision::Leave("neither apt nor dnf is there".to_owned());
    };
    if facts.upgrades_on {
        return Decision::Done;
    }
    let package = match packages {
        PackageManager::Apt => "package unattended-upgrades, every day",
        PackageManager::Dnf => "package dnf-automatic, every day",
    };
    change("off", package, HardeningAction::InstallUpgrades { packages })
}

fn ssh(facts: &ServerFacts) -> Decision {
    let Some(sshd) = &facts.sshd else {
        return Decision::Leave("no sshd of its own".to_owned());
    };
    let open: Vec<&str> = [
        (sshd.password, "passwords"),
        (sshd.keyboard_interactive, "keyboard-interactive"),
        (sshd.root_by_password, "root by password"),
    ]
    .into_iter()
    .filter_map(|(is_open, what)| is_open.then_some(what))
    .collect();
    if open.is_empty() {
        return Decision::Done;
    }
    if !facts.let_in_by_key {
        return Decision::Leave("we were let in without a key ourselves".to_owned());
    }
    change(open.join(", "), "keys and certificates only", HardeningAction::SshKeysOnly)
}

fn sysctl(facts: &ServerFacts) -> Decision {
    let mut settings = BTreeMap::new();
    let mut before = Vec::new();
    for (name, value, as_good) in SYSCTL {
        // A kernel without the setting, such as one without IPv6, has nothing to set.
        let Some(current) = facts.sysctl.get(name) else { continue };
        // The rest of a container's kernel is that of its machine.
        if facts.in_container && !name.starts_with("net.") {
            continue;
        }
        if current != value && !as_good.contains(&current.as_str()) {
            settings.insert(name.to_owned(), value.to_owned());
            before.push(format!("{name} = {current}"));
        }
    }
    if settings.is_empty() {
        return Decision::Done;
    }
    let after = settings.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
    change(before.join(", "), after.join(", "), HardeningAction::Sysctl { settings })
}

fn docker(facts: &ServerFacts) -> Decision {
    let Some(file) = &facts.docker_file else {
        return Decision::Leave("Docker's own daemon is not there".to_owned());
    };
    match daemon::merged(file, facts) {
        Ok(None) => Decision::Done,
        Ok(Some(merged)) => change(
            merged.before,
            merged.after,
            HardeningAction::DockerConfiguration { before: file.clone(), after: merged.text },
        ),
        Err(reason) => Decision::Leave(reason),
    }
}

fn swap(facts: &ServerFacts) -> Decision {
    if facts.swap_mib > 0 {
        return Decision::Done;
    }
    if facts.in_container {
        return Decision::Leave("a container has no swap of its own".to_owned());
    }
    if facts.memory_mib >= SWAP_BELOW_MIB {
        return Decision::Leave(format!("{} MiB of memory", facts.memory_mib));
    }
    let size_mib = facts.memory_mib.clamp(512, SWAP_LIMIT_MIB);
    if facts.free_disk_mib < size_mib * 4 {
        return Decision::Leave(format!("only {} MiB of disk are free", facts.free_disk_mib));
    }
    change(
        format!("none, {} MiB of memory", facts.memory_mib),
        format!("/swapfile of {size_mib} MiB"),
        HardeningAction::Swap { size_mib },
    )
}

fn time(facts: &ServerFacts) -> Decision {
    if facts.in_container {
        return Decision::Leave("a container has the clock of its machine".to_owned());
    }
    if facts.time_synchronised {
        return Decision::Done;
    }
    let Some(packages) = facts.packages else {
        return Decision::Leave("neither apt nor dnf is there".to_owned());
    };
    let package = match packages {
        PackageManager::Apt => "package systemd-timesyncd",
        PackageManager::Dnf => "package chrony",
    };
    change("nothing sets the clock", package, HardeningAction::TimeSync { packages })
}
