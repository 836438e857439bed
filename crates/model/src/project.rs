use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    AccessoryName, AliasName, Destination, EnvName, HostName, ImageDigest, ImageKey, JobName,
    ProxyServiceName, RemoteImage, Repository, RoleName, SecretName, ServiceName,
};

pub use accessory::{Accessory, AccessoryDirectory, AccessoryFile, FileContent, FileMode};
pub use boot::{Boot, BootLimit, RoleOrder, Timeouts};
pub use builder::{BuildCache, BuildDriver, BuildPlace, Builder, Buildpacks, CacheKind, ProjectImage};
pub use canary::{Canary, CanaryHeader, CanaryVerdict};
pub use container_options::{ContainerOptions, RestartPolicy, Ulimit};
pub use firewall::{
    Firewall, FirewallInterfaces, FirewallPorts, FirewallRule, FirewallSource, InvalidPorts, PortProtocol,
    PublishedPorts, is_database_image,
};
pub use output::{HookOutput, HookSettings, OutputSettings};
pub use proxy_acme::{DnsUpdates, ExternalAccount, ProxyAcme};
pub use proxy_content::{Compression, TargetProtocol, TargetTls};
pub use proxy_settings::{
    Buffering, CertificateAuthority, CertificateFleet, ClientAuthorities, HealthCheck, LoggedHeaders,
    ProxyEdge, ProxyImage, ProxyPort, ProxyRun, ProxySettings, ProxyTraces, Tls,
};
pub use rare_options::{
    Device, DeviceRate, DeviceWeight, GpuRequest, Mount, MountKind, NewVolume, RareOptions,
};
pub use registry::{Credential, PlainSecret, Registry, RegistryCredentials, RegistryPlace};
pub use schedule::{InvalidSchedule, Overlap, Schedule, ScheduleState, ScheduledJob};
pub use ssh::{ConnectionSettings, JumpHost, SshConfigFiles, SshLogLevel, SshSettings};
pub use traffic::{
    Balance, HeaderChanges, HeaderField, Hsts, InvalidTraffic, Network, PassiveHealth, Rate, Redirect,
    Traffic, UpgradeToken,
};
pub use trust::{Scan, Severity, Verification};

mod accessory;
mod boot;
mod builder;
mod canary;
mod container_options;
mod firewall;
mod output;
mod proxy_acme;
mod proxy_content;
mod proxy_settings;
mod rare_options;
mod registry;
mod schedule;
mod ssh;
mod traffic;
mod trust;

/// A deploy file after checking: everything that a deploy needs to know, with nothing left to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The service's name.
    pub service: ServiceName,
    /// The destination, if one was chosen.
    pub destination: Option<Destination>,
    /// The image's name without tag, with the registry's server where one is set.
    pub image: Repository,
    /// The digest of an image that is made elsewhere and not built here, or none to build `image`.
    pub digest: Option<ImageDigest>,
    /// Further images of the project, by the name with which roles choose them.
    pub images: BTreeMap<ImageKey, ProjectImage>,
    /// The roles, in the order of their names; empty only for a project that has nothing but accessories.
    pub roles: BTreeMap<RoleName, Role>,
    /// The role whose health decides first; a key of `roles` unless that is empty.
    pub primary_role: RoleName,
    /// Long-lived containers beside the service.
    pub accessories: BTreeMap<AccessoryName, Accessory>,
    /// Scheduled jobs.
    pub jobs: BTreeMap<JobName, ScheduledJob>,
    /// The registry between build and hosts, or none to send images straight to the hosts.
    pub registry: Option<Registry>,
    /// Registries of accessories that have one of their own; the others use `registry`.
    pub accessory_registries: BTreeMap<AccessoryName, Registry>,
    /// How the image is built.
    pub builder: Builder,
    /// Which images may run; none for any.
    pub verification: Option<Verification>,
    /// What looks for known flaws in the images.
    pub scan: Option<Scan>,
    /// How hosts are reached.
    pub ssh: SshSettings,
    /// How many connections are made and kept.
    pub connections: ConnectionSettings,
    /// Who may reach the hosts, or none where the file says nothing of it.
    pub firewall: Option<Firewall>,
    /// How the proxy's container runs on the hosts for which the file says so.
    pub proxy_runs: BTreeMap<HostName, ProxyRun>,
    /// How a release is tried beside the one that serves.
    pub canary: Canary,
    /// How many hosts at a time take the new release.
    pub boot: Boot,
    /// How many stopped containers of each role stay on a host for a rollback.
    pub retain_containers: NonZeroU32,
    /// Deadlines and delays.
    pub timeouts: Timeouts,
    /// The base name of the secrets files, relative to the project (`.kamal/secrets`).
    pub secrets_path: PathBuf,
    /// Where the hooks are and what of them is shown.
    pub hooks: HookSettings,
    /// The local folder of the proxy's error pages, `4??.html` and `5??.html`.
    pub error_pages: Option<PathBuf>,
    /// Where the output of commands goes besides the terminal.
    pub output: OutputSettings,
    /// Command lines that have a name, each as its words.
    pub aliases: BTreeMap<AliasName, Vec<String>>,
    /// Addresses at which the hosts reach each other, of those whose name is none or another one.
    pub addresses: BTreeMap<HostName, IpAddr>,
}

impl Project {
    /// Makes a project without roles in which everything is as if the deploy file did not say it.
    #[must_use]
    pub fn new(service: ServiceName, image: Repository) -> Self {
        Self {
            service,
            destination: None,
            image,
            digest: None,
            images: BTreeMap::new(),
            roles: BTreeMap::new(),
            primary_role: RoleName::web(),
            accessories: BTreeMap::new(),
            jobs: BTreeMap::new(),
            registry: None,
            accessory_registries: BTreeMap::new(),
            builder: Builder::default(),
            verification: None,
            scan: None,
            ssh: SshSettings::default(),
            connections: ConnectionSettings::default(),
            firewall: None,
            proxy_runs: BTreeMap::new(),
            canary: Canary::default(),
            boot: Boot::default(),
            retain_containers: NonZeroU32::MIN.saturating_add(4),
            timeouts: Timeouts::default(),
            secrets_path: PathBuf::from(".kamal/secrets"),
            hooks: HookSettings::default(),
            error_pages: None,
            output: OutputSettings::default(),
            aliases: BTreeMap::new(),
            addresses: BTreeMap::new(),
        }
    }

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

    /// Returns the jobs of a role that run on a host.
    #[must_use]
    pub fn jobs_on(&self, host: &HostName, role: &RoleName) -> BTreeMap<JobName, ScheduledJob> {
        let is_meant = |job: &ScheduledJob| job.host.as_ref() == Some(host) && job.role == *role;
        self.jobs
            .iter()
            .filter(|(_, job)| is_meant(job))
            .map(|(name, job)| (name.clone(), job.clone()))
            .collect()
    }

    /// Returns how the proxy's container runs on a host: as the file says, or the default.
    #[must_use]
    pub fn proxy_run(&self, host: &HostName) -> ProxyRun {
        self.proxy_runs.get(host).cloned().unwrap_or_default()
    }

    /// Returns the address at which the other hosts reach a host: what the file says, otherwise its name if that is one.
    #[must_use]
    pub fn address_of(&self, host: &HostName) -> Option<IpAddr> {
        let said = self.addresses.get(host).copied();
        said.or_else(|| host.as_str().trim_matches(['[', ']']).parse().ok())
    }

    /// Returns every host once: those of [`Project::hosts`], then the others of the accessories.
    #[must_use]
    pub fn all_hosts(&self) -> Vec<HostName> {
        let mut hosts = self.hosts();
        for host in self.accessories.values().flat_map(|accessory| &accessory.hosts) {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// Returns every host of a role once: first the hosts of the primary role, then the others, each in the order of
    /// the file.
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

    /// Returns the secrets that the containers of the proxies need, which is each once only where they all need the same.
    #[must_use]
    pub fn proxy_secret_names(&self) -> Vec<SecretName> {
        self.proxy_runs
            .values()
            .filter_map(|run| run.acme.as_ref())
            .flat_map(|acme| acme.secret_names())
            .collect()
    }

    /// Returns every secret that the project needs but for the keys of `ssh`, each once, in the order of their names.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        let role_hosts = self.roles.values().flat_map(|role| &role.hosts);
        let environments = role_hosts.map(|host| &host.environment);
        let environments =
            environments.chain(self.accessories.values().map(|accessory| &accessory.environment));
        let proxies = self.roles.values().map(|role| &role.proxy);
        let proxies = proxies.chain(self.accessories.values().map(|accessory| &accessory.proxy)).flatten();
        let builders = std::iter::once(&self.builder).chain(self.images.values().map(|image| &image.builder));
        let registries = self.registry.iter().chain(self.accessory_registries.values());
        let mut names: Vec<SecretName> = environments
            .flat_map(|environment| environment.secret.values().cloned())
            .chain(builders.flat_map(|builder| builder.secrets.iter().cloned()))
            .chain(proxies.flat_map(ProxySettings::secret_names))
            .chain(registries.flat_map(Registry::secret_names))
            .chain(self.proxy_secret_names())
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
    /// The folder of assets in the container that two releases share; only where there is a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_path: Option<AssetPath>,
    /// How many containers run on each host.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replicas: NonZeroU32,
    /// The words of a command that runs once on the new image, with the role's new environment, before any container
    /// of the release takes requests; failing it stops the deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<Vec<String>>,
    /// The image, where it is not the project's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<RoleImage>,
}

impl Role {
    /// Makes a role without hosts in which everything is as if the deploy file did not say it.
    #[must_use]
    pub fn new(name: RoleName, proxy_service: ProxyServiceName) -> Self {
        Self {
            name,
            proxy_service,
            hosts: Vec::new(),
            command: None,
            proxy: None,
            volumes: Vec::new(),
            labels: BTreeMap::new(),
            options: ContainerOptions::default(),
            logging: Logging::default(),
            stop_timeout: None,
            asset_path: None,
            replicas: NonZeroU32::MIN,
            release_command: None,
            image: None,
        }
    }
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_one(count: &NonZeroU32) -> bool {
    *count == NonZeroU32::MIN
}

/// The image of a role that does not run the project's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleImage {
    /// One of the project's `images`.
    Built(ImageKey),
    /// One that is made elsewhere, by digest.
    Pinned(RemoteImage),
}

/// A folder of assets in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetPath {
    /// The absolute path in the container.
    pub path: String,
    /// Options of the mount, such as `ro`.
    pub options: Option<String>,
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
