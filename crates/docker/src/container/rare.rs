//! Fields of the Engine API that few containers need. Source: `container/opts.go` of github.com/docker/cli.

use std::collections::BTreeMap;

use freehold_model::{
    ContainerOptions, Device, DeviceRate, DeviceWeight, GpuRequest, Mount, MountKind, NewVolume, RareOptions,
};
use serde::Serialize;

/// The part of `HostConfig` that is left out where nothing in it is set.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RareHostConfig {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blkio_weight: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blkio_weight_device: Vec<WeightBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blkio_device_read_bps: Vec<RateBody>,
    #[serde(rename = "BlkioDeviceReadIOps", skip_serializing_if = "Vec::is_empty")]
    blkio_device_read_iops: Vec<RateBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blkio_device_write_bps: Vec<RateBody>,
    #[serde(rename = "BlkioDeviceWriteIOps", skip_serializing_if = "Vec::is_empty")]
    blkio_device_write_iops: Vec<RateBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroupns_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_realtime_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_realtime_runtime: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpuset_mems: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<DeviceBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_cgroup_rules: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_requests: Vec<DeviceRequestBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns_options: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns_search: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipc_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_swappiness: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_kill_disable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_score_adj: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_mode: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    publish_all_ports: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    userns_mode: Option<String>,
    #[serde(rename = "UTSMode", skip_serializing_if = "Option::is_none")]
    uts_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_driver: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes_from: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightBody {
    path: String,
    weight: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RateBody {
    path: String,
    rate: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceBody {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceRequestBody {
    driver: String,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    devices: Option<Vec<String>>,
    capabilities: [Vec<String>; 1],
    options: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MountBody {
    #[serde(rename = "Type")]
    kind: MountKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    target: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BindOptions {
    propagation: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeOptions {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_copy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    driver_config: DriverConfig,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriverConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TmpfsOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
}

/// One network of a container.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(rename = "IPAMConfig", skip_serializing_if = "Option::is_none")]
    addresses: Option<Addresses>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<String>,
}

#[derive(Debug, Serialize)]
struct Addresses {
    #[serde(rename = "IPv4Address", skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(rename = "IPv6Address", skip_serializing_if = "Option::is_none")]
    ip6: Option<String>,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local: Vec<String>,
}

/// Makes the networks of a container: its own with everything that is set, and further ones. None is needed where the
/// engine's defaults do.
pub(super) fn endpoints(
    network: &str,
    aliases: Vec<String>,
    options: &ContainerOptions,
) -> BTreeMap<String, Endpoint> {
    let rare = &options.rare;
    let has_address = rare.ip.is_some() || rare.ip6.is_some() || !rare.link_local_ip.is_empty();
    let is_plain = aliases.is_empty() && !has_address && rare.link.is_empty() && rare.mac_address.is_none();
    if is_plain {
        return BTreeMap::new();
    }
    let addresses = has_address.then(|| Addresses {
        ip: rare.ip.clone(),
        ip6: rare.ip6.clone(),
        link_local: rare.link_local_ip.clone(),
    });
    let own =
        Endpoint { aliases, addresses, links: rare.link.clone(), mac_address: rare.mac_address.clone() };
    BTreeMap::from([(network.to_owned(), own)])
}

/// Makes the rare part of `HostConfig`.
pub(super) fn host_config(options: &RareOptions) -> RareHostConfig {
    RareHostConfig {
        annotations: options.annotation.clone(),
        blkio_weight: options.blkio_weight,
        blkio_weight_device: options.blkio_weight_device.iter().map(weight).collect(),
        blkio_device_read_bps: options.device_read_bps.iter().map(rate).collect(),
        blkio_device_read_iops: options.device_read_iops.iter().map(rate).collect(),
        blkio_device_write_bps: options.device_write_bps.iter().map(rate).collect(),
        blkio_device_write_iops: options.device_write_iops.iter().map(rate).collect(),
        cgroup_parent: options.cgroup_parent.clone(),
        cgroupns_mode: options.cgroup_namespace.clone(),
        cpu_period: options.cpu_period,
        cpu_quota: options.cpu_quota,
        cpu_realtime_period: options.cpu_realtime_period,
        cpu_realtime_runtime: options.cpu_realtime_runtime,
        cpuset_mems: options.cpuset_mems.clone(),
        devices: options.device.iter().map(device).collect(),
        device_cgroup_rules: options.device_cgroup_rule.clone(),
        device_requests: options.gpus.iter().map(device_request).collect(),
        dns_options: options.dns_option.clone(),
        dns_search: options.dns_search.clone(),
        ipc_mode: options.ipc.clone(),
        isolation: options.isolation.clone(),
        links: options.link.clone(),
        memory_swappiness: options.memory_swappiness,
        mounts: options.mount.iter().map(mount).collect(),
        oom_kill_disable: options.oom_kill_disable.then_some(true),
        oom_score_adj: options.oom_score_adjust,
        pid_mode: options.pid.clone(),
        publish_all_ports: options.publish_all,
        runtime: options.runtime.clone(),
        storage_opt: options.storage_opt.clone(),
        userns_mode: options.user_namespace.clone(),
        uts_mode: options.uts_namespace.clone(),
        volume_driver: options.volume_driver.clone(),
        volumes_from: options.volumes_from.clone(),
    }
}

fn weight(device: &DeviceWeight) -> WeightBody {
    WeightBody { path: device.path.clone(), weight: device.weight }
}

fn rate(device: &DeviceRate) -> RateBody {
    RateBody { path: device.path.clone(), rate: device.rate }
}

fn device(device: &Device) -> DeviceBody {
    DeviceBody {
        path_on_host: device.host.clone(),
        path_in_container: device.container.clone(),
        cgroup_permissions: device.permissions.clone(),
    }
}

fn device_request(request: &GpuRequest) -> DeviceRequestBody {
    DeviceRequestBody {
        driver: request.driver.clone(),
        count: request.count,
        devices: Some(request.devices.clone()).filter(|devices| !devices.is_empty()),
        capabilities: [request.capabilities.clone()],
        options: request.options.clone(),
    }
}

fn volume_options(mount: &Mount) -> Option<VolumeOptions> {
    let NewVolume { driver, options, labels } = mount.new_volume.clone();
    let is_set = mount.no_copy || !mount.new_volume.is_default();
    // Docker's client sends the driver with each of the options, also where nothing of it is set.
    let driver_config = DriverConfig { name: driver, options };
    is_set.then_some(VolumeOptions { no_copy: mount.no_copy, labels, driver_config })
}

fn mount(mount: &Mount) -> MountBody {
    let is_sized = mount.size_bytes.is_some() || mount.mode.is_some();
    MountBody {
        kind: mount.kind,
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        bind_options: mount.propagation.clone().map(|propagation| BindOptions { propagation }),
        volume_options: volume_options(mount),
        tmpfs_options: is_sized.then_some(TmpfsOptions { size_bytes: mount.size_bytes, mode: mount.mode }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(set: impl FnOnce(&mut RareOptions)) -> Value {
        let mut options = RareOptions::default();
        set(&mut options);
        serde_json::to_value(host_config(&options)).unwrap()
    }

    #[test]
    fn what_is_not_set_is_not_sent() {
        assert_eq!(written(|_| {}), json!({}));
    }

    #[test]
    fn fields_have_the_names_of_the_engine() {
        let rate = || vec![DeviceRate { path: "/dev/sda".to_owned(), rate: 7 }];
        let rates = json!([{"Path": "/dev/sda", "Rate": 7}]);
        assert_eq!(
            written(|options| {
                options.device_read_bps = rate();
                options.device_read_iops = rate();
                options.device_write_bps = rate();
                options.device_write_iops = rate();
            }),
            json!({
                "BlkioDeviceReadBps": rates, "BlkioDeviceReadIOps": rates,
                "BlkioDeviceWriteBps": rates, "BlkioDeviceWriteIOps": rates,
            })
        );
        assert_eq!(
            written(|options| {
                options.cgroup_namespace = Some("host".to_owned());
                options.uts_namespace = Some("host".to_owned());
                options.user_namespace = Some("host".to_owned());
                options.pid = Some("host".to_owned());
                options.ipc = Some("none".to_owned());
                options.publish_all = true;
                options.oom_kill_disable = true;
                options.oom_score_adjust = Some(-5);
            }),
            json!({
                "CgroupnsMode": "host", "UTSMode": "host", "UsernsMode": "host", "PidMode": "host",
                "IpcMode": "none", "PublishAllPorts": true, "OomKillDisable": true, "OomScoreAdj": -5,
            })
        );
    }

    #[test]
    fn devices_and_mounts_are_objects() {
        let request = GpuRequest {
            driver: String::new(),
            count: -1,
            devices: Vec::new(),
            capabilities: vec!["gpu".to_owned()],
            options: BTreeMap::new(),
        };
        let sound = Device {
            host: "/dev/snd".to_owned(),
            container: "/dev/snd".to_owned(),
            permissions: "rwm".to_owned(),
        };
        let tmpfs = Mount {
            kind: MountKind::Tmpfs,
            source: None,
            target: "/t".to_owned(),
            read_only: false,
            propagation: None,
            no_copy: false,
            size_bytes: Some(64),
            mode: Some(0o1777),
            new_volume: NewVolume::default(),
        };
        assert_eq!(
            written(|options| {
                options.gpus = vec![request];
                options.device = vec![sound];
                options.mount = vec![tmpfs];
            }),
            json!({
                "DeviceRequests": [
                    {"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {}}
                ],
                "Devices": [
                    {"PathOnHost": "/dev/snd", "PathInContainer": "/dev/snd", "CgroupPermissions": "rwm"}
                ],
                "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 64, "Mode": 1023}}],
            })
        );
    }

    #[test]
    fn networks_are_named_only_where_something_is_set() {
        let mut options = ContainerOptions::default();
        assert!(endpoints("kamal", Vec::new(), &options).is_empty());
        options.rare.network = vec!["backend".to_owned()];
        options.rare.ip = Some("172.30.0.2".to_owned());
        let endpoints = serde_json::to_value(endpoints("kamal", vec!["web".to_owned()], &options)).unwrap();
        assert_eq!(
            endpoints,
            json!({
                "kamal": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "172.30.0.2"}},
            })
        );
    }
}
