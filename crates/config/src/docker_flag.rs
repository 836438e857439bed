//! The flags of `docker run` and the fields of the Engine API that they set.

mod value;

use freehold_model::ContainerOptions;

use crate::quantity::{InvalidQuantity, parse_cpus, parse_duration, parse_size};
pub(crate) use value::published_port;
use value::{
    address, bounded, cgroup_rule, cpu_set, device, device_bytes, device_operations, device_weight,
    exposed_port, gpus, host_entry, integer, ipv4, ipv6, link, mac_address, mount, namespace, network, pair,
    plain, sysctl, tmpfs, ulimit, weight, word,
};

/// One flag.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) setter: Setter,
}

/// How a flag's value gets into its field.
pub(crate) enum Setter {
    Switch(fn(&mut ContainerOptions, bool)),
    Value(fn(&mut ContainerOptions, &str) -> Result<(), Problem>),
    /// May be given several times.
    Each(fn(&mut ContainerOptions, &str) -> Result<(), Problem>),
}

/// What is wrong with a value.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Problem {
    fn new(text: &str, what: &str, help: &str) -> Self {
        Self { message: format!("`{text}` is not {what}"), help: help.to_owned() }
    }
}

impl From<InvalidQuantity> for Problem {
    fn from(error: InvalidQuantity) -> Self {
        Self { message: error.to_string(), help: format!("write it like {}", error.example()) }
    }
}

macro_rules! flags {
    ($($name:literal => $kind:ident($set:expr)),+ $(,)?) => {
        &[$(Flag { name: $name, setter: Setter::$kind($set) }),+]
    };
}

macro_rules! put {
    ($($field:ident).+, $parse:expr) => {
        |options, text| {
            let parse: fn(&str) -> Result<_, Problem> = $parse;
            options.$($field).+ = Some(parse(text)?);
            Ok(())
        }
    };
}

macro_rules! push {
    ($($field:ident).+, $parse:expr) => {
        |options, text| {
            let parse: fn(&str) -> Result<_, Problem> = $parse;
            options.$($field).+.push(parse(text)?);
            Ok(())
        }
    };
}

/// Every flag with a field, in alphabetical order; `restart` has its own rules.
pub(crate) const FLAGS: &[Flag] = flags! {
    "add-host" => Each(push!(add_host, host_entry)),
    "annotation" => Each(|options, text| { options.rare.annotation.extend([pair(text)?]); Ok(()) }),
    "blkio-weight" => Value(put!(rare.blkio_weight, weight)),
    "blkio-weight-device" => Each(push!(rare.blkio_weight_device, device_weight)),
    "cap-add" => Each(push!(cap_add, plain)),
    "cap-drop" => Each(push!(cap_drop, plain)),
    "cgroup-parent" => Value(put!(rare.cgroup_parent, plain)),
    "cgroupns" => Value(put!(rare.cgroup_namespace, |text| word(text, &["host", "private"]))),
    "cpu-period" => Value(put!(rare.cpu_period, |text| integer(text, 0))),
    "cpu-quota" => Value(put!(rare.cpu_quota, |text| integer(text, -1))),
    "cpu-rt-period" => Value(put!(rare.cpu_realtime_period, |text| integer(text, 0))),
    "cpu-rt-runtime" => Value(put!(rare.cpu_realtime_runtime, |text| integer(text, 0))),
    "cpu-shares" => Value(put!(cpu_shares, |text| integer(text, 0))),
    "cpus" => Value(put!(nano_cpus, |text| Ok(parse_cpus(text)?))),
    "cpuset-cpus" => Value(put!(cpuset_cpus, cpu_set)),
    "cpuset-mems" => Value(put!(rare.cpuset_mems, cpu_set)),
    "device" => Each(push!(rare.device, device)),
    "device-cgroup-rule" => Each(push!(rare.device_cgroup_rule, cgroup_rule)),
    "device-read-bps" => Each(push!(rare.device_read_bps, device_bytes)),
    "device-read-iops" => Each(push!(rare.device_read_iops, device_operations)),
    "device-write-bps" => Each(push!(rare.device_write_bps, device_bytes)),
    "device-write-iops" => Each(push!(rare.device_write_iops, device_operations)),
    "dns" => Each(push!(dns, address)),
    "dns-option" => Each(push!(rare.dns_option, plain)),
    "dns-search" => Each(push!(rare.dns_search, plain)),
    "domainname" => Value(put!(rare.domain_name, plain)),
    "entrypoint" => Value(put!(entrypoint, plain)),
    "expose" => Each(push!(expose, exposed_port)),
    "gpus" => Each(push!(rare.gpus, gpus)),
    "group-add" => Each(push!(group_add, plain)),
    "health-cmd" => Value(put!(health_command, plain)),
    "health-interval" => Value(put!(health_interval, |text| Ok(parse_duration(text)?))),
    "health-retries" => Value(put!(health_retries, |text| integer(text, 0))),
    "health-start-interval" => Value(put!(rare.health_start_interval, |text| Ok(parse_duration(text)?))),
    "health-start-period" => Value(put!(health_start_period, |text| Ok(parse_duration(text)?))),
    "health-timeout" => Value(put!(health_timeout, |text| Ok(parse_duration(text)?))),
    "hostname" => Value(put!(rare.hostname, plain)),
    "init" => Switch(|options, value| options.init = value),
    "interactive" => Switch(|options, value| options.rare.interactive = value),
    "ip" => Value(put!(rare.ip, ipv4)),
    "ip6" => Value(put!(rare.ip6, ipv6)),
    "ipc" => Value(put!(rare.ipc, |text| namespace(text, &["none", "private", "shareable", "host"]))),
    "isolation" => Value(put!(rare.isolation, |text| word(text, &["default"]))),
    "link" => Each(push!(rare.link, link)),
    "link-local-ip" => Each(push!(rare.link_local_ip, address)),
    "mac-address" => Value(put!(rare.mac_address, mac_address)),
    "memory" => Value(put!(memory_bytes, |text| Ok(parse_size(text)?))),
    "memory-reservation" => Value(put!(memory_reservation_bytes, |text| Ok(parse_size(text)?))),
    "memory-swap" => Value(put!(memory_swap_bytes, |text| if text == "-1" { Ok(-1) } else { Ok(parse_size(text)?) })),
    "memory-swappiness" => Value(put!(rare.memory_swappiness, |text| bounded(text, -1, 100))),
    "mount" => Each(push!(rare.mount, mount)),
    "network" => Each(push!(rare.network, network)),
    "network-alias" => Each(push!(network_alias, plain)),
    "no-healthcheck" => Switch(|options, value| options.rare.no_healthcheck = value),
    "oom-kill-disable" => Switch(|options, value| options.rare.oom_kill_disable = value),
    "oom-score-adj" => Value(put!(rare.oom_score_adjust, |text| bounded(text, -1000, 1000))),
    "pid" => Value(put!(rare.pid, |text| namespace(text, &["host"]))),
    "pids-limit" => Value(put!(pids_limit, |text| integer(text, -1))),
    "privileged" => Switch(|options, value| options.privileged = value),
    "publish" => Each(push!(publish, published_port)),
    "publish-all" => Switch(|options, value| options.rare.publish_all = value),
    "read-only" => Switch(|options, value| options.read_only = value),
    "runtime" => Value(put!(rare.runtime, plain)),
    "security-opt" => Each(push!(security_opt, plain)),
    "shm-size" => Value(put!(shm_size_bytes, |text| Ok(parse_size(text)?))),
    "stop-signal" => Value(put!(stop_signal, plain)),
    "storage-opt" => Each(|options, text| { options.rare.storage_opt.extend([pair(text)?]); Ok(()) }),
    "sysctl" => Each(sysctl),
    "tmpfs" => Each(tmpfs),
    "tty" => Switch(|options, value| options.rare.tty = value),
    "ulimit" => Each(push!(ulimit, ulimit)),
    "user" => Value(put!(user, plain)),
    "userns" => Value(put!(rare.user_namespace, |text| word(text, &["host"]))),
    "uts" => Value(put!(rare.uts_namespace, |text| word(text, &["host"]))),
    "volume-driver" => Value(put!(rare.volume_driver, plain)),
    "volumes-from" => Each(push!(rare.volumes_from, plain)),
    "workdir" => Value(put!(working_directory, plain)),
};

/// Returns every flag of `docker run` that `options` takes, without its dashes.
pub fn docker_flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|flag| flag.name).chain(["restart"])
}

/// Names that Docker's client still takes for others.
pub(crate) const ALIASES: [(&str, &str); 3] =
    [("dns-opt", "dns-option"), ("net", "network"), ("net-alias", "network-alias")];

const BY_KEY: &str = "use the deploy file's own key for it";
const OURS: &str = "freehold sets it itself";
const CLIENT: &str = "it says what Docker's client does, not what the container is";
const WINDOWS: &str = "it is for Windows only";

/// The other flags of `docker run` (Docker 28), with the reason why they are refused.
pub(crate) const UNSUPPORTED: &[(&str, &str)] = &[
    ("attach", CLIENT),
    ("cidfile", CLIENT),
    ("cpu-count", WINDOWS),
    ("cpu-percent", WINDOWS),
    ("detach", OURS),
    ("detach-keys", CLIENT),
    ("disable-content-trust", CLIENT),
    ("env", BY_KEY),
    ("env-file", BY_KEY),
    ("help", CLIENT),
    ("io-maxbandwidth", WINDOWS),
    ("io-maxiops", WINDOWS),
    ("kernel-memory", "Docker has given it up"),
    ("label", BY_KEY),
    ("label-file", BY_KEY),
    ("log-driver", "use `logging: {driver: …}`"),
    ("log-opt", "use `logging: {options: …}`"),
    ("name", OURS),
    ("platform", "the image decides; see `builder: {arch: …}`"),
    ("pull", OURS),
    ("quiet", CLIENT),
    ("rm", OURS),
    ("sig-proxy", CLIENT),
    ("stop-timeout", "use the role's `stop_timeout`"),
    ("use-api-socket", "it needs files of Docker's client"),
    ("volume", "use `volumes`"),
];

#[cfg(test)]
mod tests {
    use freehold_model::Ulimit;

    use super::*;

    #[test]
    fn ports_are_those_of_docker() {
        for good in [
            "80",
            "8080:80",
            "127.0.0.1:8080:80",
            "127.0.0.1::80",
            "[::1]:8080:80",
            "80/udp",
            "8000-8010:8000-8010",
            "8000-8010:80",
            "127.0.0.1:80",
        ] {
            assert!(published_port(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "0:80",
            "80:0",
            "x:80",
            "80/foo",
            "8000-8001:80-83",
            "1.2.3:1:1",
            "70000",
            "80-70",
            "a:b:c:d",
        ] {
            assert!(published_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_and_hosts() {
        assert_eq!(
            ulimit("nofile=1024:2048").unwrap(),
            Ulimit { name: "nofile".into(), soft: 1024, hard: 2048 }
        );
        assert_eq!(ulimit("memlock=-1").unwrap().hard, -1);
        for bad in ["nofile", "nofile=", "nofile=2:1", "files=1", "nofile=-2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(host_entry("db=10.0.0.2").unwrap(), "db:10.0.0.2");
        assert_eq!(host_entry("db:fe80::1").unwrap(), "db:fe80::1");
        assert!(host_entry("db").is_err());
        assert!(cpu_set("0-2,5").is_ok() && cpu_set("2-0").is_err());
    }

    #[test]
    fn no_flag_stands_twice() {
        let mut names: Vec<&str> =
            FLAGS.iter().map(|flag| flag.name).chain(UNSUPPORTED.iter().map(|(name, _)| *name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    /// A value that each flag takes, and one that it does not; an empty one where it takes any text.
    const VALUES: &[(&str, &str, &str)] = &[
        ("add-host", "db:10.0.0.2", "db"),
        ("annotation", "a=b", "a"),
        ("blkio-weight", "500", "5"),
        ("blkio-weight-device", "/dev/sda:200", "/dev/sda:5"),
        ("cap-add", "NET_ADMIN", ""),
        ("cap-drop", "ALL", ""),
        ("cgroup-parent", "/x", ""),
        ("cgroupns", "private", "public"),
        ("cpu-period", "100000", "-5"),
        ("cpu-quota", "50000", "much"),
        ("cpu-rt-period", "1000", "-1"),
        ("cpu-rt-runtime", "950", "-1"),
        ("cpu-shares", "512", "-1"),
        ("cpus", "1.5", "two"),
        ("cpuset-cpus", "0-2,5", "2-0"),
        ("cpuset-mems", "0", "x"),
        ("device", "/dev/sda:/dev/xvda:rw", "/dev/sda:/dev/x:xyz"),
        ("device-cgroup-rule", "c 1:3 mr", "x 1:3 mr"),
        ("device-read-bps", "/dev/sda:1mb", "/dev/sda:fast"),
        ("device-read-iops", "/dev/sda:1000", "sda:1"),
        ("device-write-bps", "/dev/sda:1mb", "/dev/sda"),
        ("device-write-iops", "/dev/sda:1000", "/dev/sda:-1"),
        ("dns", "1.1.1.1", "one"),
        ("dns-option", "ndots:2", ""),
        ("dns-search", "example.com", ""),
        ("domainname", "example.com", ""),
        ("entrypoint", "/entry", ""),
        ("expose", "80-90/udp", "x"),
        ("gpus", "\"device=0,1\",driver=nvidia", "some"),
        ("group-add", "video", ""),
        ("health-cmd", "true", ""),
        ("health-interval", "30s", "30"),
        ("health-retries", "3", "-1"),
        ("health-start-interval", "1s", "1"),
        ("health-start-period", "5s", "5"),
        ("health-timeout", "5s", "x"),
        ("hostname", "box", ""),
        ("init", "true", ""),
        ("interactive", "true", ""),
        ("ip", "172.30.0.2", "::1"),
        ("ip6", "2001:db8::33", "1.1.1.1"),
        ("ipc", "container:db", "mine"),
        ("isolation", "default", "hyperv"),
        ("link", "db:database", "a:b:c"),
        ("link-local-ip", "169.254.0.2", "x"),
        ("mac-address", "92:d0:c6:0a:29:33", "92:d0"),
        ("memory", "2g", "much"),
        ("memory-reservation", "1g", "much"),
        ("memory-swap", "-1", "-2"),
        ("memory-swappiness", "60", "101"),
        ("mount", "type=bind,source=/a,target=/b,readonly", "type=bind,target=/b"),
        ("network", "backend", "host"),
        ("network-alias", "db", ""),
        ("no-healthcheck", "true", ""),
        ("oom-kill-disable", "true", ""),
        ("oom-score-adj", "-500", "-2000"),
        ("pid", "host", "mine"),
        ("pids-limit", "100", "-2"),
        ("privileged", "true", ""),
        ("publish", "127.0.0.1:80:80", "x:80"),
        ("publish-all", "true", ""),
        ("read-only", "true", ""),
        ("runtime", "runc", ""),
        ("security-opt", "no-new-privileges", ""),
        ("shm-size", "64m", "x"),
        ("stop-signal", "SIGINT", ""),
        ("storage-opt", "size=10g", "size"),
        ("sysctl", "net.core.somaxconn=1024", "x"),
        ("tmpfs", "/run:size=64m", "run"),
        ("tty", "true", ""),
        ("ulimit", "nofile=1024:2048", "nofile=2:1"),
        ("user", "1000:1000", ""),
        ("userns", "host", "mine"),
        ("uts", "host", "mine"),
        ("volume-driver", "local", ""),
        ("volumes-from", "data:ro", ""),
        ("workdir", "/app", ""),
    ];

    #[test]
    fn every_flag_has_a_field_and_checks_its_value() {
        assert_eq!(
            FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>(),
            VALUES.iter().map(|v| v.0).collect::<Vec<_>>()
        );
        for (flag, (name, good, bad)) in FLAGS.iter().zip(VALUES) {
            let mut options = ContainerOptions::default();
            match flag.setter {
                Setter::Switch(set) => set(&mut options, true),
                Setter::Value(set) | Setter::Each(set) => {
                    set(&mut options, good).unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
                    if !bad.is_empty() {
                        assert!(set(&mut options.clone(), bad).is_err(), "{name} {bad}");
                    }
                }
            }
            assert_ne!(options, ContainerOptions::default(), "{name}");
        }
    }

    #[test]
    fn gpus_are_those_of_docker() {
        let all = value::gpus("all").unwrap();
        assert_eq!((all.count, all.capabilities), (-1, vec!["gpu".to_owned()]));
        let two = value::gpus("\"device=0,1\",\"capabilities=utility,compute\"").unwrap();
        assert_eq!(two.devices, ["0", "1"]);
        assert_eq!((two.count, two.capabilities.len()), (0, 3));
        assert_eq!(value::gpus("driver=nvidia").unwrap().count, 1);
        for bad in ["", "-2", "a=b", "\"device=0"] {
            assert!(value::gpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_those_of_docker() {
        let tmpfs = value::mount("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777").unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (Some(64 << 20), Some(0o1777)));
        assert!(value::mount("source=data,target=/data,volume-nocopy").unwrap().no_copy);
        let shared =
            "source=n,target=/n,volume-driver=local,volume-opt=type=nfs,\"volume-opt=o=addr=10.0.0.9,rw\"";
        let options = value::mount(shared).unwrap().new_volume.options;
        assert_eq!(options["o"], "addr=10.0.0.9,rw");
        for bad in [
            "target=data",
            "type=tmpfs,source=a,target=/b",
            "type=npipe,target=/a",
            "type=bind,source=a,target=/b",
            "source=a,target=/b,tmpfs-size=1m",
            "type=bind,source=/a,target=/b,volume-opt=a=b",
            "source=a,target=/b,volume-label=a",
            "source=a,target=/b,consistency=cached",
        ] {
            assert!(value::mount(bad).is_err(), "{bad}");
        }
    }
}
