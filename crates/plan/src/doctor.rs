//! What is wrong with hosts: from what was seen, to findings with their causes and the commands that mend them.
//!
//! Everything here is pure. A healthy fleet gives no warning and no fault; what cannot be known is not judged.

use std::collections::BTreeMap;
use std::net::IpAddr;

use freehold_model::{AccessoryName, Architecture, HostName, Project};
use serde::Serialize;

use crate::accessory::ObservedAccessory;
use crate::observed::ObservedHost;

pub use vitals::{Disk, Listening, RegistryAnswer, Sudo, Vitals};

mod service;
mod system;
mod vitals;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// OpenSSH's configuration and the deploy file's `ssh` section.
    Configuration,
    /// The name of a host on the way.
    Name,
    /// Whether packets get there.
    Route,
    /// Whether an SSH server listens there.
    Port,
    /// Whether a jump host carries us on.
    Jump,
    /// Whether an SSH server answers as one.
    Handshake,
    /// The key of a host.
    HostKey,
    /// Whether a host lets us in.
    Authentication,
    /// Whether the login shell runs commands.
    Shell,
    /// Root's rights, where they are needed.
    Sudo,
    /// Whether the container engine answers.
    Engine,
    /// Its version.
    EngineVersion,
    /// Whether the processor is one that the image is built for.
    Architecture,
    /// What the host says of itself: disks, memory, clock.
    System,
    /// Free space.
    Disk,
    /// Free inodes.
    Inodes,
    /// Free memory.
    Memory,
    /// The clock.
    Clock,
    /// The ports of the proxy.
    Ports,
    /// The names under which the service is to be reached.
    Dns,
    /// Whether the host gets to the registry.
    Registry,
    /// The proxy.
    Proxy,
    /// Certificates of the proxy.
    Certificate,
    /// The deploy lock.
    Lock,
    /// A rollout that did not come to its end.
    Rollout,
    /// The containers of the service.
    Service,
    /// The containers of accessories.
    Accessory,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but will or may not.
    Warning,
    /// Does not work.
    Fault,
}

/// One thing that was looked at on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The host; none for what belongs to the project.
    pub host: Option<HostName>,
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found, one line.
    pub finding: String,
    /// Why it is so, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What mends it: commands in backticks.
    pub fix: Vec<String>,
}

/// Something that could not be looked at: a host that was not reached, or a part of one that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// What was to be looked at, or what failed on the way.
    pub check: Check,
    /// What failed, one line, with the hop.
    pub finding: String,
    /// Why, if more is known.
    pub cause: Option<String>,
    /// What to try.
    pub fix: Vec<String>,
}

/// What was seen on a host that was reached.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// The jump hosts, the nearest first.
    pub jumps: Vec<String>,
    /// How the host let us in.
    pub authentication: String,
    /// What the host says of itself; none if it did not say it.
    pub vitals: Option<Vitals>,
    /// What its engine says, or why it does not.
    pub engine: Engine,
    /// The service on it; none if it was not seen, such as without an engine.
    pub observed: Option<ObservedHost>,
    /// The accessories on it; none if they were not seen.
    pub accessories: Option<BTreeMap<AccessoryName, ObservedAccessory>>,
    /// Who holds the deploy lock; only of the host that keeps it.
    pub lock: Option<String>,
    /// Whether the journal of a rollout is there.
    pub has_unfinished_rollout: bool,
    /// The parts that could not be looked at. Nothing is said of them but that.
    pub unseen: Vec<Unseen>,
}

/// The container engine of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engine {
    /// It answers.
    Answers {
        /// Its version.
        version: String,
        /// Whether it is Podman in Docker's place.
        is_podman: bool,
        /// Whether it runs without root's rights.
        is_rootless: bool,
    },
    /// It does not.
    Silent {
        /// Why, one line.
        cause: String,
        /// What to try.
        fix: Vec<String>,
    },
    /// It was not asked, as the connection broke before.
    #[default]
    NotAsked,
}

/// What is the same for every host.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The project.
    pub project: &'a Project,
    /// The time here, seconds since 1970.
    pub now_seconds: i64,
}

/// Says what is wrong with one host, in the order in which it has to be mended.
#[must_use]
pub fn examine(
    around: Surroundings<'_>,
    host: &HostName,
    seen: &Result<Box<Examined>, Unseen>,
) -> Vec<Finding> {
    let mut findings = Findings { host: Some(host.clone()), all: Vec::new() };
    match seen {
        Err(unseen) => findings.unseen(unseen),
        Ok(seen) => {
            system::examine(&mut findings, around, host, seen);
            seen.unseen.iter().for_each(|unseen| findings.unseen(unseen));
            service::examine(&mut findings, around.project, host, seen);
        }
    }
    findings.all
}

/// Says what is wrong with the names under which the service is to be reached, from the addresses that they have here.
#[must_use]
pub fn examine_names(names: &BTreeMap<String, Result<Vec<IpAddr>, String>>) -> Vec<Finding> {
    let mut findings = Findings { host: None, all: Vec::new() };
    for (name, found) in names {
        match found {
            Err(cause) => {
                findings.fault(Check::Dns, format!("`{name}` has no address")).because(cause).fix([format!(
                    "make a record for it that leads to the hosts of the proxy; then `getent ahosts {name}`"
                )])
            }
            Ok(addresses) if addresses.iter().all(IpAddr::is_unspecified) => findings
                .fault(Check::Dns, format!("`{name}` leads nowhere: it has no usable address"))
                .fix([format!(
                    "make a record for it that leads to the hosts of the proxy; then `getent ahosts {name}`"
                )]),
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                findings.good(Check::Dns, format!("`{name}` leads to {}", list.join(", ")));
            }
        }
    }
    findings.all
}

/// Says where hosts differ from each other that should not.
#[must_use]
pub fn compare(
    around: Surroundings<'_>,
    seen: &BTreeMap<HostName, Result<Box<Examined>, Unseen>>,
) -> Vec<Finding> {
    let mut findings = Findings { host: None, all: Vec::new() };
    service::compare(&mut findings, around.project, seen);
    findings.all
}

/// Names for which the project's proxy answers.
#[must_use]
pub fn names(project: &Project) -> Vec<String> {
    let of_roles = project.roles.values().filter_map(|role| role.proxy.as_ref());
    let of_accessories = project.accessories.values().filter_map(|accessory| accessory.proxy.as_ref());
    let mut names: Vec<String> =
        of_roles.chain(of_accessories).flat_map(|proxy| proxy.hosts.clone()).collect();
    // Any name below a pattern may have an address, and the pattern itself has none.
    names.retain(|name| !name.contains('*'));
    names.sort();
    names.dedup();
    names
}

/// The findings of a host as they are made.
struct Findings {
    host: Option<HostName>,
    all: Vec<Finding>,
}

/// A finding that still gets its cause and what mends it.
struct Open<'a>(Option<&'a mut Finding>);

impl Findings {
    fn push(&mut self, check: Check, verdict: Verdict, finding: String) -> Open<'_> {
        let host = self.host.clone();
        self.all.push(Finding { host, check, verdict, finding, cause: None, fix: Vec::new() });
        Open(self.all.last_mut())
    }

    /// Something that should have been looked at.
    fn unseen(&mut self, unseen: &Unseen) {
        let Unseen { check, finding, cause, fix } = unseen.clone();
        self.all.push(Finding {
            host: self.host.clone(),
            check,
            verdict: Verdict::Fault,
            finding,
            cause,
            fix,
        });
    }

    fn good(&mut self, check: Check, finding: impl Into<String>) {
        self.push(check, Verdict::Good, finding.into());
    }

    fn warning(&mut self, check: Check, finding: impl Into<String>) -> Open<'_> {
        self.push(check, Verdict::Warning, finding.into())
    }

    fn fault(&mut self, check: Check, finding: impl Into<String>) -> Open<'_> {
        self.push(check, Verdict::Fault, finding.into())
    }
}

impl Open<'_> {
    fn because(mut self, cause: &str) -> Self {
        if let Some(finding) = &mut self.0 {
            finding.cause = Some(cause.to_owned());
        }
        self
    }

    fn fix(self, lines: impl IntoIterator<Item = String>) {
        if let Some(finding) = self.0 {
            finding.fix.extend(lines);
        }
    }
}

/// Says whether an image is built for a processor; without a word on it, it is built for that of the hosts.
fn is_built_for(project: &Project, architecture: Architecture) -> bool {
    let wanted = &project.builder.architectures;
    wanted.is_empty() || wanted.contains(&architecture)
}
