use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What installs packages on a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageManager {
    /// Debian, Ubuntu and their kin.
    Apt,
    /// Fedora, Red Hat Enterprise Linux and their kin.
    Dnf,
}

/// Whom an SSH server lets in without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshdFacts {
    /// `PasswordAuthentication` is on.
    pub password: bool,
    /// `KbdInteractiveAuthentication` is on.
    pub keyboard_interactive: bool,
    /// `PermitRootLogin yes`: root may come with a password where passwords are taken.
    pub root_by_password: bool,
}

/// What was seen of a host that is to be hardened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// What installs packages, if it is one that we know.
    pub packages: Option<PackageManager>,
    /// Whether security updates are installed by themselves.
    pub upgrades_on: bool,
    /// The SSH server, if there is one.
    pub sshd: Option<SshdFacts>,
    /// Whether we proved who we are by a key or a certificate, and not by a password.
    pub let_in_by_key: bool,
    /// The kernel's settings that were asked for and exist.
    pub sysctl: BTreeMap<String, String>,
    /// The text of `/etc/docker/daemon.json`, empty where there is no such file; none where there is no `dockerd`.
    pub docker_file: Option<String>,
    /// The options that the engine was started with, without their dashes and values.
    pub docker_options: BTreeSet<String>,
    /// Whether the engine is part of a swarm, which excludes live-restore.
    pub in_swarm: bool,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Swap in MiB.
    pub swap_mib: u64,
    /// Free space on the root file system in MiB.
    pub free_disk_mib: u64,
    /// Whether something sets the clock.
    pub time_synchronised: bool,
    /// Whether the host is itself a container.
    pub in_container: bool,
}

/// What a host printed of itself cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot understand `{line}`")]
pub struct ParseFactsError {
    line: String,
}

impl ServerFacts {
    /// Reads facts: lines of `name=value`, and after the line `docker-file` the text of Docker's configuration.
    ///
    /// `let_in_by_key` is not among them: only the client knows it.
    ///
    /// # Errors
    /// [`ParseFactsError`] with the line that has no meaning.
    pub fn parse(text: &str) -> Result<Self, ParseFactsError> {
        let mut facts = Self::default();
        let mut sshd = BTreeMap::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            if line == "docker-file" {
                facts.docker_file = Some(rest.to_owned());
                break;
            }
            let unknown = || ParseFactsError { line: line.to_owned() };
            let (name, value) = line.split_once('=').ok_or_else(unknown)?;
            let is_yes = value == "yes";
            let number = || value.parse::<u64>().map_err(|_| unknown());
            match name {
                "packages" => facts.packages = package_manager(value),
                "upgrades" => facts.upgrades_on = is_yes,
                "docker_option" => drop(facts.docker_options.insert(value.to_owned())),
                "swarm" => facts.in_swarm = is_yes,
                "container" => facts.in_container = is_yes,
                "time" => facts.time_synchronised = is_yes,
                "memory_kib" => facts.memory_mib = number()? / 1024,
                "swap_kib" => facts.swap_mib = number()?.div_ceil(1024),
                "free_kib" => facts.free_disk_mib = number()? / 1024,
                name => match name.split_once('.') {
                    Some(("sshd", keyword)) => {
                        sshd.insert(keyword.to_owned(), value.to_owned());
                    }
                    Some(("sysctl", name)) => {
                        facts.sysctl.insert(name.to_owned(), value.trim().to_owned());
                    }
                    _ => return Err(unknown()),
                },
            }
        }
        let says = |keyword: &str, word: &str| sshd.get(keyword).is_some_and(|value| value == word);
        facts.sshd = (!sshd.is_empty()).then(|| SshdFacts {
            password: says("passwordauthentication", "yes"),
            keyboard_interactive: says("kbdinteractiveauthentication", "yes")
                || says("challengeresponseauthentication", "yes"),
            root_by_password: says("permitrootlogin", "yes"),
        });
        Ok(facts)
    }
}

fn package_manager(word: &str) -> Option<PackageManager> {
    match word {
        "apt" => Some(PackageManager::Apt),
        "dnf" => Some(PackageManager::Dnf),
        _ => None,
    }
}
