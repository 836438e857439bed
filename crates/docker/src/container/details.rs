use std::collections::BTreeMap;
use std::net::IpAddr;

use freehold_model::RestartPolicy;
use jiff::Timestamp;
use serde::Deserialize;

use super::ContainerId;
use crate::json::or_default;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Between a crash and the next start.
    Restarting,
    /// On its way out.
    Removing,
    /// Ended.
    Exited,
    /// Half removed.
    Dead,
    /// A state that this version does not know.
    Other,
}

impl ContainerState {
    fn parse(text: &str) -> Self {
        match text {
            "created" | "configured" | "initialized" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" => Self::Removing,
            "exited" | "stopped" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Other,
        }
    }

    /// Says whether the container has processes or is about to have some.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// One container of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Its identifier.
    pub id: ContainerId,
    /// Its name without leading slash.
    pub name: String,
    /// The image as it was named when the container was made, or its identifier once that name means another.
    pub image: String,
    /// The identifier of the image.
    pub image_id: String,
    /// What it is doing.
    pub state: ContainerState,
    /// Its labels, with those of the image.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
}

/// A container in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetails {
    /// Its identifier.
    pub id: ContainerId,
    /// Its name without leading slash.
    pub name: String,
    /// The image as it was named when the container was made.
    pub image: String,
    /// The identifier of the image.
    pub image_id: String,
    /// What it is doing.
    pub state: ContainerState,
    /// The code with which it last ended.
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started, in the engine's words; empty if it could.
    pub error: String,
    /// The process identifier of its first process on the host, 0 if there is none.
    pub pid: u32,
    /// The engine's own health check, if the container has one.
    pub health: Option<ContainerHealth>,
    /// When it last started, if it ever did.
    pub started_at: Option<Timestamp>,
    /// When it last ended, if it ever did.
    pub finished_at: Option<Timestamp>,
    /// How often the engine started it again by itself.
    pub restart_count: u64,
    /// Its addresses, by the names of its networks.
    pub ip_addresses: BTreeMap<String, IpAddr>,
    /// The host's ports that lead to it while it runs.
    pub published: Vec<PublishedPort>,
    /// Those for datagrams.
    pub published_udp: Vec<PublishedPort>,
    /// The ports that the image or the options expose, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// The names, never the values, of its environment variables.
    pub env_names: Vec<String>,
    /// Its labels, with those of the image.
    pub labels: BTreeMap<String, String>,
    /// Whether its output is that of a terminal.
    pub tty: bool,
    /// When the engine starts it again by itself, if the policy is one that is known.
    pub restart: Option<RestartPolicy>,
}

/// A port of the host that leads to one of a container, TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The host's address; an unspecified one is every address.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// The state of the engine's own health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerHealth {
    /// The verdict.
    pub status: HealthStatus,
    /// How many checks in a row failed.
    pub failing_streak: u64,
    /// The exit code of the last check, if there was one.
    pub last_exit_code: Option<i64>,
    /// The output of the last check.
    pub last_output: String,
}

/// The verdict of the engine's own health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// Not yet known.
    Starting,
    /// It passes.
    Healthy,
    /// It fails.
    Unhealthy,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RawSummary {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    state: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    created: i64,
}

impl From<RawSummary> for ContainerSummary {
    fn from(raw: RawSummary) -> Self {
        // A container that others link to has further names with more slashes.
        let own = raw.names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
        Self {
            name: own.unwrap_or_default().to_owned(),
            id: ContainerId::new(raw.id),
            image: raw.image,
            image_id: raw.image_id,
            state: ContainerState::parse(&raw.state),
            labels: raw.labels,
            created: Timestamp::from_second(raw.created).unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RawDetails {
    id: String,
    name: String,
    #[serde(default)]
    image: String,
    state: RawState,
    #[serde(default)]
    restart_count: u64,
    config: RawConfig,
    #[serde(default, deserialize_with = "or_default")]
    host_config: RawHostConfig,
    #[serde(default, deserialize_with = "or_default")]
    network_settings: RawNetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default, deserialize_with = "or_default")]
    error: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
    health: Option<RawHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    #[serde(default)]
    status: String,
    #[serde(default)]
    failing_streak: u64,
    #[serde(default, deserialize_with = "or_default")]
    log: Vec<RawHealthResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealthResult {
    exit_code: i64,
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    #[serde(default)]
    image: String,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    tty: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHostConfig {
    restart_policy: Option<RawRestartPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRestartPolicy {
    #[serde(default)]
    name: String,
    #[serde(default)]
    maximum_retry_count: u32,
}

impl RawRestartPolicy {
    fn policy(&self) -> Option<RestartPolicy> {
        match self.name.as_str() {
            "no" | "" => Some(RestartPolicy::No),
            "always" => Some(RestartPolicy::Always),
            "unless-stopped" => Some(RestartPolicy::UnlessStopped),
            "on-failure" => Some(RestartPolicy::OnFailure {
                maximum: (self.maximum_retry_count > 0).then_some(self.maximum_retry_count),
            }),
            _ => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawNetworkSettings {
    #[serde(deserialize_with = "or_default")]
    networks: BTreeMap<String, RawEndpoint>,
    #[serde(deserialize_with = "or_default")]
    ports: BTreeMap<String, Option<Vec<RawBinding>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawBinding {
    host_ip: String,
    host_port: String,
}

impl RawNetworkSettings {
    fn published(&self, protocol: &str) -> Vec<PublishedPort> {
        let mut found: Vec<PublishedPort> = Vec::new();
        for (port, bindings) in &self.ports {
            let Some(container_port) = port.strip_suffix(protocol).and_then(|port| port.parse().ok()) else {
                continue;
            };
            for binding in bindings.iter().flatten() {
                let every = IpAddr::from([0, 0, 0, 0]);
                let address = if binding.host_ip.is_empty() { Ok(every) } else { binding.host_ip.parse() };
                if let (Ok(address), Ok(port)) = (address, binding.host_port.parse()) {
                    found.push(PublishedPort { address, port, container_port });
                }
            }
        }
        found.sort();
        found
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawEndpoint {
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
}

impl From<RawHealth> for ContainerHealth {
    fn from(raw: RawHealth) -> Self {
        let last = raw.log.into_iter().last();
        Self {
            status: match raw.status.as_str() {
                "healthy" => HealthStatus::Healthy,
                "unhealthy" => HealthStatus::Unhealthy,
                _ => HealthStatus::Starting,
            },
            failing_streak: raw.failing_streak,
            last_exit_code: last.as_ref().map(|result| result.exit_code),
            last_output: last.map(|result| result.output).unwrap_or_default(),
        }
    }
}

impl From<RawDetails> for ContainerDetails {
    fn from(raw: RawDetails) -> Self {
        let state = raw.state;
        // Docker says `none` for an image without check.
        let health = state.health.filter(|health| !matches!(health.status.as_str(), "" | "none"));
        let addresses = raw.network_settings.networks.iter().filter_map(|(network, endpoint)| {
            let address =
                endpoint.ip_address.parse().or_else(|_| endpoint.global_ipv6_address.parse()).ok()?;
            Some((network.clone(), address))
        });
        let env_names =
            raw.config.env.iter().filter_map(|entry| entry.split('=').next()).map(str::to_owned).collect();
        Self {
            id: ContainerId::new(raw.id),
            name: raw.name.trim_start_matches('/').to_owned(),
            image: raw.config.image,
            image_id: raw.image,
            state: ContainerState::parse(&state.status),
            exit_code: state.exit_code,
            oom_killed: state.oom_killed,
            error: state.error,
            pid: state.pid,
            health: health.map(ContainerHealth::from),
            started_at: time(&state.started_at),
            finished_at: time(&state.finished_at),
            restart_count: raw.restart_count,
            published: raw.network_settings.published("/tcp"),
            published_udp: raw.network_settings.published("/udp"),
            ip_addresses: addresses.collect(),
            exposed_ports: raw.config.exposed_ports.into_keys().collect(),
            env_names,
            labels: raw.config.labels,
            tty: raw.config.tty,
            restart: raw.host_config.restart_policy.as_ref().and_then(RawRestartPolicy::policy),
        }
    }
}

/// The engine writes year 1 for "never".
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|time: &Timestamp| *time > Timestamp::UNIX_EPOCH)
}
