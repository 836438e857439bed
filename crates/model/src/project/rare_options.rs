use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Options of `docker run` that few containers need, already in the units of the Engine API.
///
/// An absent option is the engine's default. Lists keep the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RareOptions {
    /// `--annotation`.
    pub annotation: BTreeMap<String, String>,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--blkio-weight-device`.
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--cgroupns`: `host` or `private`.
    pub cgroup_namespace: Option<String>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<i64>,
    /// `--cpu-quota`, microseconds.
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_realtime_period: Option<i64>,
    /// `--cpu-rt-runtime`, microseconds.
    pub cpu_realtime_runtime: Option<i64>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--device`.
    pub device: Vec<Device>,
    /// `--device-cgroup-rule`.
    pub device_cgroup_rule: Vec<String>,
    /// `--device-read-bps`, bytes in a second.
    pub device_read_bps: Vec<DeviceRate>,
    /// `--device-read-iops`.
    pub device_read_iops: Vec<DeviceRate>,
    /// `--device-write-bps`, bytes in a second.
    pub device_write_bps: Vec<DeviceRate>,
    /// `--device-write-iops`.
    pub device_write_iops: Vec<DeviceRate>,
    /// `--dns-option`.
    pub dns_option: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--domainname`.
    pub domain_name: Option<String>,
    /// `--gpus`.
    pub gpus: Vec<GpuRequest>,
    /// `--health-start-interval`.
    pub health_start_interval: Option<Duration>,
    /// `--no-healthcheck`; never with another `--health-…`.
    pub no_healthcheck: bool,
    /// `--hostname`, in place of the one that freehold gives.
    pub hostname: Option<String>,
    /// `--interactive`.
    pub interactive: bool,
    /// `--tty`.
    pub tty: bool,
    /// `--ip`.
    pub ip: Option<String>,
    /// `--ip6`.
    pub ip6: Option<String>,
    /// `--link-local-ip`.
    pub link_local_ip: Vec<String>,
    /// `--mac-address`.
    pub mac_address: Option<String>,
    /// `--ipc`.
    pub ipc: Option<String>,
    /// `--isolation`.
    pub isolation: Option<String>,
    /// `--link`.
    pub link: Vec<String>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// `--mount`.
    pub mount: Vec<Mount>,
    /// `--network`: networks beside the container's own.
    pub network: Vec<String>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--oom-score-adj`, -1000 to 1000.
    pub oom_score_adjust: Option<i64>,
    /// `--pid`.
    pub pid: Option<String>,
    /// `--publish-all`.
    pub publish_all: bool,
    /// `--runtime`.
    pub runtime: Option<String>,
    /// `--storage-opt`.
    pub storage_opt: BTreeMap<String, String>,
    /// `--userns`.
    pub user_namespace: Option<String>,
    /// `--uts`.
    pub uts_namespace: Option<String>,
    /// `--volume-driver`.
    pub volume_driver: Option<String>,
    /// `--volumes-from`.
    pub volumes_from: Vec<String>,
}

impl RareOptions {
    /// Says whether every option is the engine's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The weight of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceWeight {
    /// Its path on the host.
    pub path: String,
    /// 10 to 1000, or 0 for none.
    pub weight: u16,
}

/// The greatest rate of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRate {
    /// Its path on the host.
    pub path: String,
    /// Bytes or operations in a second.
    pub rate: u64,
}

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path on the host.
    pub host: String,
    /// Its path in the container.
    pub container: String,
    /// What may be done with it: some of `r`, `w` and `m`.
    pub permissions: String,
}

/// A wish for graphics processors or their like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuRequest {
    /// The driver's name; empty lets the engine choose.
    pub driver: String,
    /// How many; -1 is all; 0 where `devices` says which.
    pub count: i64,
    /// Which, by their identifiers.
    pub devices: Vec<String>,
    /// What they must be able to do.
    pub capabilities: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// A mount as `--mount` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: MountKind,
    /// The path on the host or the name of the volume; none for a tmpfs and for a new volume.
    pub source: Option<String>,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read.
    pub read_only: bool,
    /// How mounts below a bind are passed on.
    pub propagation: Option<String>,
    /// Whether a new volume stays empty in place of what the image has there.
    pub no_copy: bool,
    /// The size of a tmpfs in bytes.
    pub size_bytes: Option<i64>,
    /// The permissions of a tmpfs.
    pub mode: Option<u32>,
    /// How a volume that is not there is made.
    #[serde(default, skip_serializing_if = "NewVolume::is_default")]
    pub new_volume: NewVolume,
}

/// How a volume that is not there yet is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// The driver, or none for the engine's own.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// The volume's labels.
    pub labels: BTreeMap<String, String>,
}

impl NewVolume {
    /// Says whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// A file system in memory.
    Tmpfs,
}
