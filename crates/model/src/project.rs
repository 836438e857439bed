use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Destination, EnvName, HostName, ProxyServiceName, Repository, RoleName, SecretName,
    ServiceName,
};

pub use container_options::{ContainerOptions, RestartPolicy, Ulimit};
pub use proxy_settings::{Buffering, HealthCheck, ProxyRun, ProxySettings};

mod container_options;
mod proxy_settings;

/// A deploy file after checking: everything that a deploy needs to know, with nothing left to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The service's name.
    pub service: ServiceName,
    /// The destination, if one was chosen.
    pub destination: Option<Destination>,
    /// The image's name without tag, with the registry's server where one is set.
    pub image: Repository,
    /// The roles, in the order of their names.
    pub roles: BTreeMap<RoleName, Role>,
    /// The role whose health decides first; always a key of `roles`.
    pub primary_role: RoleName,
    /// How the image is built.
    pub builder: Builder,
    /// How hosts are reached.
    pub ssh: SshSettings,
    /// How the proxy's container runs.
    pub proxy_run: ProxyRun,
    /// How many hosts at a time take the new release.
    pub boot: Boot,
    /// How many stopped containers of each role stay on a host for a rollback.
    pub retain_containers: NonZeroU32,
    /// Deadlines and delays.
    pub timeouts: Timeouts,
    /// The base name of the secrets files, relative to the project (`.kamal/secrets`).
    pub secrets_path: PathBuf,
    /// Where the hooks are.
    pub hooks: HookSettings,
}

impl Project {
    /// Returns `SERVICE` or `SERVICE-DESTINATION`, the stem of every path on a host.
    #[must_use]
    pub fn stem(&self) -> String {
        match &self.destination {
            Some(destination) => format!("{}-{destination}", self.service),
            None => self.service.to_string(),
        }
    }

    /// Returns `SERVICE-ROLE` or `SERVICE-ROLE-DESTINATION`, the prefix of the containers of a role and the name of
    /// its proxy service (Kamal 2.12's naming).
    #[must_use]
    pub fn role_prefix(&self, role: &RoleName) -> String {
        match &self.destination {
            Some(destination) => format!("{}-{role}-{destination}", self.service),
            None => format!("{}-{role}", self.service),
        }
    }

    /// Returns every host once: first the hosts of the primary role, then the others, each in the order of the file.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostName> {
        let mut hosts: Vec<HostName> = Vec::new();
        let primary = self.roles.get(&self.primary_role);
        let others = self.roles.values().filter(|role| role.name != self.primary_role);
        for host in primary.into_iter().chain(others).flat_map(|role| &role.hosts) {
            if !hosts.contains(&host.name) {
                hosts.push(host.name.clone());
            }
        }
        hosts
    }

    /// Returns every secret that a container of the project gets, each once, in the order of their names.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        let mut names: Vec<SecretName> = self
            .roles
            .values()
            .flat_map(|role| &role.hosts)
            .flat_map(|host| host.environment.secret.values().cloned())
            .chain(self.builder.secrets.iter().cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The containers of a service that run one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role's name.
    pub name: RoleName,
    /// The name under which the proxy knows it.
    pub proxy_service: ProxyServiceName,
    /// The hosts that run it, in the order of the file.
    pub hosts: Vec<RoleHost>,
    /// The words of the command, or none for the image's own.
    pub command: Option<Vec<String>>,
    /// How the proxy serves it, or none if it takes no requests.
    pub proxy: Option<ProxySettings>,
    /// `volume` flags as Docker reads them, host paths relative to the login directory allowed.
    pub volumes: Vec<String>,
    /// Labels beside `service`, `role` and `destination`.
    pub labels: BTreeMap<String, String>,
    /// Options of `docker run`.
    pub options: ContainerOptions,
    /// The log driver.
    pub logging: Logging,
    /// How long a container may take to stop before it is killed; none is the engine's 10 s.
    pub stop_timeout: Option<Duration>,
}

/// One host of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleHost {
    /// The host.
    pub name: HostName,
    /// The environment of the role's containers there: root, role and tags merged.
    pub environment: Environment,
}

/// The environment of a container. A name stands in one of the two maps only: clear beats secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Values that anyone may read.
    pub clear: BTreeMap<EnvName, String>,
    /// Variables whose value is a secret, with the secret's name.
    pub secret: BTreeMap<EnvName, SecretName>,
}

/// The log driver of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// The driver's name, or none for the engine's default.
    pub driver: Option<String>,
    /// Its options; by default `max-size: 10m`.
    pub options: BTreeMap<String, String>,
}

impl Default for Logging {
    fn default() -> Self {
        Self { driver: None, options: BTreeMap::from([("max-size".to_owned(), "10m".to_owned())]) }
    }
}

/// How the image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// The architectures; empty means that of the hosts.
    pub architectures: Vec<Architecture>,
    /// The build context relative to the project, or none for a clone of the git repository.
    pub context: Option<PathBuf>,
    /// The Dockerfile, relative to the build directory.
    pub dockerfile: PathBuf,
    /// The stage to build, or none for the last.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Secrets that the build may mount.
    pub secrets: Vec<SecretName>,
    /// Where it is built.
    pub on: BuildPlace,
}

/// The engine that builds an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BuildPlace {
    /// The engine of the machine on which the command runs.
    #[default]
    Local,
    /// The engine of a host of the project.
    Host(HostName),
}

/// How hosts are reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    /// The user, or none if the file is silent: then OpenSSH's configuration decides, then `root`.
    pub user: Option<String>,
    /// The port, or none if the file is silent: then OpenSSH's configuration decides, then 22.
    pub port: Option<u16>,
    /// Jump hosts, the nearest first.
    pub proxy: Vec<JumpHost>,
    /// A command whose standard input and output are the connection; `%h`, `%p` and `%r` are replaced.
    pub proxy_command: Option<String>,
    /// Private key files.
    pub keys: Vec<PathBuf>,
    /// Secrets that hold private keys in PEM.
    pub key_data: Vec<SecretName>,
    /// Only the keys named here, no others of the agent.
    pub keys_only: bool,
    /// Which OpenSSH configuration files are read.
    pub config: SshConfigFiles,
    /// Whether the agent is forwarded to interactive sessions.
    pub forward_agent: bool,
    /// Seconds between keep-alive messages.
    pub keepalive: Duration,
    /// How long connecting, the handshake and authentication may take together.
    pub connect_timeout: Duration,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            proxy: Vec::new(),
            proxy_command: None,
            keys: Vec::new(),
            key_data: Vec::new(),
            keys_only: false,
            config: SshConfigFiles::Default,
            forward_agent: true,
            keepalive: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
        }
    }
}

/// Which OpenSSH client configuration is honoured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SshConfigFiles {
    /// The user's and the system's files.
    #[default]
    Default,
    /// None.
    Nothing,
    /// These files.
    Files(Vec<PathBuf>),
}

/// One hop on the way to a host: `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpHost {
    /// The user; Kamal's default is `root`.
    pub user: String,
    /// The host.
    pub host: HostName,
    /// The port, or none for the configured one or 22.
    pub port: Option<u16>,
}

/// How many hosts at a time take a new release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// The size of a batch, or none for all at once.
    pub limit: Option<BootLimit>,
    /// The pause between batches.
    pub wait: Duration,
}

/// The size of a batch of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLimit {
    /// That many hosts.
    Hosts(NonZeroU32),
    /// That share of the application's hosts, 1 to 100, rounded down, at least one host.
    Percent(u8),
}

/// Deadlines and delays of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a new container may take to become healthy.
    pub deploy: Duration,
    /// How long requests in flight on the old release may take to finish.
    pub drain: Duration,
    /// How long a container that has no health check must keep running to count as healthy.
    pub readiness_delay: Duration,
    /// How long the new release is watched after the switch before the old one is retired.
    pub soak: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            deploy: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            readiness_delay: Duration::from_secs(7),
            soak: Duration::from_secs(2),
        }
    }
}

/// Where hooks are and whether they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// The folder, relative to the project.
    pub path: PathBuf,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self { path: PathBuf::from(".kamal/hooks") }
    }
}
