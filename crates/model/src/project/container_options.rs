use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RareOptions;

/// Options of `docker run`, already in the units of the Engine API.
///
/// An absent option is the engine's default. Lists keep the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerOptions {
    /// When the engine starts the container again by itself.
    pub restart: RestartPolicy,
    /// `--memory`, bytes.
    pub memory_bytes: Option<i64>,
    /// `--memory-swap`, bytes; -1 is unlimited.
    pub memory_swap_bytes: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation_bytes: Option<i64>,
    /// `--cpus`, billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--pids-limit`; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// `--shm-size`, bytes.
    pub shm_size_bytes: Option<i64>,
    /// `--init`.
    pub init: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `--user`.
    pub user: Option<String>,
    /// `--workdir`.
    pub working_directory: Option<String>,
    /// `--entrypoint`.
    pub entrypoint: Option<String>,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--add-host`.
    pub add_host: Vec<String>,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security_opt: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--group-add`.
    pub group_add: Vec<String>,
    /// `--network-alias`.
    pub network_alias: Vec<String>,
    /// `--publish`, as Docker reads it.
    pub publish: Vec<String>,
    /// `--expose`.
    pub expose: Vec<String>,
    /// `--tmpfs`: path and mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// `--sysctl`.
    pub sysctl: BTreeMap<String, String>,
    /// `--ulimit`.
    pub ulimit: Vec<Ulimit>,
    /// `--health-cmd`.
    pub health_command: Option<String>,
    /// `--health-interval`.
    pub health_interval: Option<Duration>,
    /// `--health-timeout`.
    pub health_timeout: Option<Duration>,
    /// `--health-start-period`.
    pub health_start_period: Option<Duration>,
    /// `--health-retries`.
    pub health_retries: Option<i64>,
    /// Options that few containers need.
    #[serde(skip_serializing_if = "RareOptions::is_default")]
    pub rare: Box<RareOptions>,
}

impl ContainerOptions {
    /// Says whether every option is the engine's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// Always.
    Always,
    /// Unless a person stopped it.
    #[default]
    UnlessStopped,
    /// When it exits with a code other than 0, at most this many times if there is a limit.
    OnFailure {
        /// The greatest number of tries.
        maximum: Option<u32>,
    },
}

/// One resource limit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: String,
    /// The soft limit.
    pub soft: i64,
    /// The hard limit.
    pub hard: i64,
}
