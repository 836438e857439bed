//! The host guard as commands see it: what the deploy file wants, what the hosts have, and how the one becomes the other.

pub(crate) mod probe;
pub(crate) mod short;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use freehold_fleet::{EngineHost, GuardChange, GuardFailure, GuardState, Host, HostError, LoadedGuard};
use freehold_model::{Diagnose, ErrorKind, FirewallPorts, HostName, PortProtocol, Project};
use freehold_plan::{
    GuardPolicy, GuardRule, GuardRules, GuardVerdict, HostNetwork, guard, ruleset, unguarded,
};

use tokio::task::JoinSet;

use crate::audit;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::hosts::Hosts;
use crate::preflight::Building;
use crate::ui::{Line, Tone};

/// After how long a change undoes itself unless a new connection confirms it.
pub(crate) const UNDO_AFTER: Duration = Duration::from_secs(60);

/// The guards of all hosts of a project, wanted and there.
#[derive(Debug)]
pub(crate) struct Survey {
    stem: String,
    states: BTreeMap<HostName, GuardState>,
    wanted: BTreeMap<HostName, GuardPolicy>,
    unguarded: BTreeMap<HostName, Vec<String>>,
}

/// How the guard of a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does what the deploy file says.
    InStep,
    /// There is none of this project.
    Absent,
    /// The deploy file says something else than what was applied.
    Behind,
    /// It was applied; whether it is loaded only root can see, which we are not.
    Unseen,
    /// It is not as it was applied: somebody changed or removed the loaded table, or the unit that loads it at boot.
    Drifted,
}

impl Standing {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::InStep => "in step",
            Self::Absent => "absent",
            Self::Behind => "to change",
            Self::Unseen => "not seen",
            Self::Drifted => "drifted",
        }
    }
}

/// Whether the guard has to be loaded at every boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boot {
    /// It has to be.
    Always,
    /// It has to be where it is new; where this project's guard is without, a person took care of it.
    AsBefore,
    /// A person takes care of it.
    ByHand,
}

/// Why a guard cannot be applied.
#[derive(Debug, thiserror::Error)]
enum GuardError {
    #[error("host `{host}` has no nftables, and it cannot be installed from here")]
    NoNft { host: HostName, system: String },
    #[error("host `{host}` has no systemd, so that the guard would be gone after a reboot")]
    NoInit { host: HostName },
    #[error("the guard of host `{host}` needs root")]
    NoRoot { host: HostName },
    #[error("cannot understand what is stored of another project's guard on host `{host}`: {file}")]
    Unreadable { host: HostName, file: String },
}

impl Diagnose for GuardError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRoot { .. } => ErrorKind::NotPermitted,
            Self::NoNft { .. } | Self::NoInit { .. } | Self::Unreadable { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoNft { system, .. } => vec![
                format!("its system is {system}; nftables is installed on those with `apt-get` or `dnf`"),
                "otherwise install the package `nftables` by hand".to_owned(),
            ],
            Self::NoInit { .. } => vec![
                "`freehold firewall apply --until-reboot` loads it now".to_owned(),
                "then let your init system run `nft -f /etc/freehold/guard.nft` before Docker starts"
                    .to_owned(),
            ],
            Self::NoRoot { .. } => {
                vec!["log in as root, or let the user run `sudo` without a password".to_owned()]
            }
            Self::Unreadable { .. } => {
                vec!["it was written by another version of freehold: use the newer one".to_owned()]
            }
        }
    }
}

impl Survey {
    /// Looks at every host of a project and decides what each should let in.
    ///
    /// # Errors
    /// A host that does not answer, or networks that do not tell enough.
    pub(crate) async fn take(project: &Project, hosts: &Hosts) -> Result<Self, CommandError> {
        let names = project.all_hosts();
        let mut looks = JoinSet::new();
        for name in &names {
            let Some(host) = hosts.get(name) else { continue };
            let host = Arc::clone(host);
            looks.spawn(async move { (host.name().clone(), host.guard_state().await) });
        }
        let looked: BTreeMap<HostName, Result<GuardState, HostError>> =
            looks.join_all().await.into_iter().collect();
        let states: BTreeMap<HostName, GuardState> =
            looked.into_iter().map(|(name, state)| Ok((name, state?))).collect::<Result<_, HostError>>()?;
        let networks: BTreeMap<HostName, HostNetwork> =
            states.iter().map(|(name, state)| (name.clone(), state.network.clone())).collect();
        let unguarded = names.into_iter().map(|name| {
            let texts = unguarded(project, &name);
            (name, texts)
        });
        let unguarded = unguarded.collect();
        Ok(Self { stem: project.stem(), states, wanted: guard(project, &networks)?, unguarded })
    }

    /// Returns what is known of a host.
    pub(crate) fn state(&self, host: &HostName) -> Option<&GuardState> {
        self.states.get(host)
    }

    /// Returns what a host should let in: for this project as the deploy file says, for others as they left it.
    pub(crate) fn wanted(&self, host: &HostName) -> GuardRules {
        let others = self.others(host);
        GuardRules::of(self.wanted.get(host).into_iter().chain(others))
    }

    /// Returns what a host lets in by what is stored there.
    pub(crate) fn stored(&self, host: &HostName) -> GuardRules {
        GuardRules::of(self.states.get(host).into_iter().flat_map(|state| state.policies.values()))
    }

    /// Returns the ports of a host that rules are about, wanted ones and those that are stored there.
    pub(crate) fn concerned(&self, host: &HostName) -> Vec<FirewallPorts> {
        let rules = [self.wanted(host), self.stored(host)].into_iter().flat_map(|rules| rules.rules);
        rules.map(|rule| rule.ports).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn others(&self, host: &HostName) -> Vec<&GuardPolicy> {
        let policies = self.states.get(host).into_iter().flat_map(|state| &state.policies);
        policies.filter(|(stem, _)| **stem != self.stem).map(|(_, policy)| policy).collect()
    }

    /// Says whether the host has a guard of this project.
    pub(crate) fn has_own(&self, host: &HostName) -> bool {
        self.states.get(host).is_some_and(|state| state.policies.contains_key(&self.stem))
    }

    /// Says how the guard of a host stands.
    pub(crate) fn standing(&self, host: &HostName) -> Standing {
        let Some(state) = self.states.get(host).filter(|_| self.has_own(host)) else {
            return Standing::Absent;
        };
        let text = ruleset(&self.wanted(host));
        if state.policies.get(&self.stem) != self.wanted.get(host)
            || state.ruleset.as_deref() != Some(text.as_str())
        {
            return Standing::Behind;
        }
        if state.loaded == LoadedGuard::NotSeen {
            return Standing::Unseen;
        }
        let is_loaded = matches!(state.loaded, LoadedGuard::AsStored | LoadedGuard::Unknown);
        let survives = state.is_enabled || !state.means.has_systemd;
        if is_loaded && survives { Standing::InStep } else { Standing::Drifted }
    }

    /// Returns what the host publishes for this project and the guard has no rule for.
    pub(crate) fn unguarded(&self, host: &HostName) -> &[String] {
        self.unguarded.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// Says whether a host would let in no new connection from where we come.
    pub(crate) fn locks_out(&self, host: &HostName) -> bool {
        let Some(network) = self.states.get(host).map(|state| &state.network) else { return false };
        let Some(ssh) = network.ssh else { return false };
        let Some(interface) = network.interface_of(ssh.server) else { return false };
        let port = (PortProtocol::Tcp, ssh.port);
        self.wanted(host).verdict(interface, port, ssh.client) == GuardVerdict::Closed
    }

    /// Makes every host that is named do what the deploy file says, all at once. Those that do are left alone.
    ///
    /// # Errors
    /// The first host that does not, in the order of the file; the others are done.
    pub(crate) async fn apply(
        &self,
        context: &Context,
        hosts: &Hosts,
        (names, boot, undo_after): (&[HostName], Boot, Duration),
    ) -> Result<Vec<HostName>, CommandError> {
        let names: Vec<HostName> =
            names.iter().filter(|host| self.standing(host) != Standing::InStep).cloned().collect();
        for name in &names {
            self.check(name, boot)?;
        }
        let mut changes = JoinSet::new();
        for name in &names {
            let (Some(host), Some(state)) = (hosts.get(name).cloned(), self.states.get(name)) else {
                continue;
            };
            let activity = context.ui.begin("firewall", name.as_str());
            let has_nft = state.means.has_nft;
            let change = GuardChange {
                stem: self.stem.clone(),
                policy: self.wanted.get(name).cloned(),
                ruleset: ruleset(&self.wanted(name)),
                undo_after,
                surveyed: state.digest.clone(),
            };
            changes.spawn(async move {
                let outcome = change_one(&host, has_nft, &change).await;
                if outcome.is_ok() {
                    activity.done(None);
                }
                (host.name().clone(), outcome)
            });
        }
        let mut outcomes: BTreeMap<HostName, Result<(), GuardFailure>> =
            changes.join_all().await.into_iter().collect();
        for name in &names {
            if let Some(outcome) = outcomes.remove(name) {
                outcome?;
            }
        }
        Ok(names)
    }

    /// Takes the project's part of the guard off hosts; the guard goes with the last one.
    ///
    /// # Errors
    /// The first host that does not do it.
    pub(crate) async fn remove(
        &self,
        hosts: &Hosts,
        names: &[HostName],
        undo_after: Duration,
    ) -> Result<Vec<HostName>, CommandError> {
        let is_there = |host: &&HostName| {
            let loaded = self.states.get(host).is_some_and(|state| {
                state.policies.is_empty() && (state.loaded != LoadedGuard::Absent || state.ruleset.is_some())
            });
            self.has_own(host) || loaded
        };
        let names: Vec<HostName> = names.iter().filter(is_there).cloned().collect();
        for name in &names {
            if self.states.get(name).is_some_and(|state| !state.means.is_root) {
                return Err(GuardError::NoRoot { host: name.clone() }.into());
            }
            // What another project lets in is not known then, and would be shut out.
            if let Some(file) = self.states.get(name).and_then(|state| state.unreadable.first()) {
                return Err(GuardError::Unreadable { host: name.clone(), file: file.clone() }.into());
            }
            let (Some(host), Some(state)) = (hosts.get(name), self.states.get(name)) else { continue };
            let (others, surveyed) = (self.others(name), state.digest.clone());
            if others.is_empty() {
                host.remove_guard(&surveyed).await?;
                continue;
            }
            let (stem, ruleset) = (self.stem.clone(), ruleset(&GuardRules::of(others)));
            let change = GuardChange { stem, policy: None, ruleset, undo_after, surveyed };
            host.change_guard(&change).await?;
        }
        Ok(names)
    }

    fn check(&self, name: &HostName, boot: Boot) -> Result<(), GuardError> {
        let Some(state) = self.states.get(name) else { return Ok(()) };
        let host = name.clone();
        if !state.means.is_root {
            return Err(GuardError::NoRoot { host });
        }
        if !state.means.has_nft && !state.means.can_install {
            return Err(GuardError::NoNft { host, system: state.means.system.clone() });
        }
        let may_be_without = match boot {
            Boot::Always => false,
            Boot::AsBefore => self.has_own(name),
            Boot::ByHand => true,
        };
        if !may_be_without && !state.means.has_systemd {
            return Err(GuardError::NoInit { host });
        }
        match state.unreadable.first() {
            Some(file) => Err(GuardError::Unreadable { host, file: file.clone() }),
            None => Ok(()),
        }
    }
}

async fn change_one(host: &Arc<EngineHost>, has_nft: bool, change: &GuardChange) -> Result<(), GuardFailure> {
    if !has_nft {
        host.install_nftables().await?;
    }
    host.change_guard(change).await
}

/// Keeps the guards of a project in step with its deploy file, where they were applied once. A host that came since gets
/// one, too.
///
/// # Errors
/// What went wrong; nothing of the application was changed yet.
pub(crate) async fn keep_in_step(change: &Change<'_>) -> Result<(), CommandError> {
    let guarded = change.hosts.each(|host| async move { host.has_guard().await }).await?;
    if !guarded.iter().any(|(_, has_guard)| *has_guard) {
        return Ok(());
    }
    let (context, project) = (change.context, &change.loaded.whole);
    let all = project.all_hosts();
    let Some(hosts) = Hosts::new(context, project, &all, &change.secrets, Building::default()) else {
        return Ok(());
    };
    let survey = Survey::take(project, &hosts).await?;
    if !all.iter().any(|host| survey.has_own(host)) {
        return Ok(());
    }
    let changed = survey.apply(context, &hosts, (&all, Boot::AsBefore, UNDO_AFTER)).await?;
    let acts =
        changed.iter().filter_map(|name| Some((Arc::clone(hosts.get(name)?), "Applied firewall".to_owned())));
    audit::write_down(context, project, &change.author.email, acts).await;
    Ok(())
}

/// Says what is let in by a rule.
pub(crate) fn describe(rule: &GuardRule) -> String {
    let from = match &rule.from {
        None => "everyone".to_owned(),
        Some(from) if from.is_empty() => "nobody".to_owned(),
        Some(from) => {
            let texts = from.iter().map(|network| {
                let text = network.to_string();
                text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(&text).to_owned()
            });
            texts.collect::<Vec<_>>().join(", ")
        }
    };
    let ports = match rule.ports.protocol() {
        PortProtocol::Tcp => format!("{}/tcp", rule.ports),
        PortProtocol::Udp => rule.ports.to_string(),
    };
    format!("{ports} from {from} ({})", rule.reason)
}

/// Says everything that rules say, one line each.
pub(crate) fn statements(rules: &GuardRules) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        rules.rules.iter().map(|rule| format!("open: {}", describe(rule))).collect();
    all.extend(rules.closed.iter().map(|interface| format!("closed on {interface}: everything else")));
    let guarded: BTreeSet<String> =
        rules.rules.iter().filter(|rule| rule.from.is_some()).map(|rule| rule.ports.to_string()).collect();
    all.extend(guarded.iter().map(|ports| format!("closed everywhere to others: {ports}")));
    if rules.metadata {
        all.insert("open: the provider's metadata service to containers".to_owned());
    }
    all
}

/// Shows statements that go and that come.
pub(crate) fn difference(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<Line> {
    let gone =
        before.difference(after).map(|text| Line::new().plain("  ").add(Tone::Bad, format!("- {text}")));
    let come =
        after.difference(before).map(|text| Line::new().plain("  ").add(Tone::Good, format!("+ {text}")));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use freehold_model::{FirewallPorts, InterfaceName, Network};

    use super::*;

    #[test]
    fn rules_are_told_in_words() {
        let rule = |ports: &str, from: Option<&[&str]>, reason: &str| GuardRule {
            ports: FirewallPorts::parse(ports).unwrap(),
            from: from.map(|from| from.iter().map(|text| Network::parse(text).unwrap()).collect()),
            reason: reason.to_owned(),
        };
        let rules = GuardRules {
            closed: BTreeSet::from([InterfaceName::parse("eth0").unwrap()]),
            rules: vec![
                rule("443", None, "proxy"),
                rule("5432", Some(&["10.0.0.1", "fd00::/64"]), "accessory db"),
                rule("41641/udp", None, "tailnet"),
            ],
            metadata: false,
        };
        let lines: Vec<String> =
            difference(&BTreeSet::new(), &statements(&rules)).iter().map(Line::text).collect();
        let expected = [
            "  + closed everywhere to others: 5432",
            "  + closed on eth0: everything else",
            "  + open: 41641/udp from everyone (tailnet)",
            "  + open: 443/tcp from everyone (proxy)",
            "  + open: 5432/tcp from 10.0.0.1, fd00::/64 (accessory db)",
        ];
        assert_eq!(lines, expected);
    }
}
