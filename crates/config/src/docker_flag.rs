//! The flags of `docker run` and the fields of the Engine API that they set.

use std::net::IpAddr;

use freehold_model::{ContainerOptions, Ulimit};

use crate::quantity::{InvalidQuantity, parse_cpus, parse_duration, parse_size};

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
    ($field:ident, $parse:expr) => {
        |options, text| {
            let parse: fn(&str) -> Result<_, Problem> = $parse;
            options.$field = Some(parse(text)?);
            Ok(())
        }
    };
}

macro_rules! push {
    ($field:ident, $parse:expr) => {
        |options, text| {
            let parse: fn(&str) -> Result<_, Problem> = $parse;
            options.$field.push(parse(text)?);
            Ok(())
        }
    };
}

/// Every flag with a field, in alphabetical order; `restart` has its own rules.
pub(crate) const FLAGS: &[Flag] = flags! {
    "add-host" => Each(push!(add_host, host_entry)),
    "cap-add" => Each(push!(cap_add, plain)),
    "cap-drop" => Each(push!(cap_drop, plain)),
    "cpu-shares" => Value(put!(cpu_shares, |text| integer(text, 0))),
    "cpus" => Value(put!(nano_cpus, |text| Ok(parse_cpus(text)?))),
    "cpuset-cpus" => Value(put!(cpuset_cpus, cpu_set)),
    "dns" => Each(push!(dns, address)),
    "entrypoint" => Value(put!(entrypoint, plain)),
    "expose" => Each(push!(expose, exposed_port)),
    "group-add" => Each(push!(group_add, plain)),
    "health-cmd" => Value(put!(health_command, plain)),
    "health-interval" => Value(put!(health_interval, |text| Ok(parse_duration(text)?))),
    "health-retries" => Value(put!(health_retries, |text| integer(text, 0))),
    "health-start-period" => Value(put!(health_start_period, |text| Ok(parse_duration(text)?))),
    "health-timeout" => Value(put!(health_timeout, |text| Ok(parse_duration(text)?))),
    "init" => Switch(|options, value| options.init = value),
    "memory" => Value(put!(memory_bytes, |text| Ok(parse_size(text)?))),
    "memory-reservation" => Value(put!(memory_reservation_bytes, |text| Ok(parse_size(text)?))),
    "memory-swap" => Value(put!(memory_swap_bytes, |text| if text == "-1" { Ok(-1) } else { Ok(parse_size(text)?) })),
    "network-alias" => Each(push!(network_alias, plain)),
    "pids-limit" => Value(put!(pids_limit, |text| integer(text, -1))),
    "privileged" => Switch(|options, value| options.privileged = value),
    "publish" => Each(push!(publish, published_port)),
    "read-only" => Switch(|options, value| options.read_only = value),
    "security-opt" => Each(push!(security_opt, plain)),
    "shm-size" => Value(put!(shm_size_bytes, |text| Ok(parse_size(text)?))),
    "stop-signal" => Value(put!(stop_signal, plain)),
    "sysctl" => Each(sysctl),
    "tmpfs" => Each(tmpfs),
    "ulimit" => Each(push!(ulimit, ulimit)),
    "user" => Value(put!(user, plain)),
    "workdir" => Value(put!(working_directory, plain)),
};

const BY_KEY: &str = "use the deploy file's own key for it";
const OURS: &str = "freehold sets it itself";

/// The other flags of `docker run` (Docker 28), with what to do instead where there is something.
pub(crate) const UNSUPPORTED: &[(&str, &str)] = &[
    ("annotation", ""),
    ("attach", ""),
    ("blkio-weight", ""),
    ("blkio-weight-device", ""),
    ("cgroup-parent", ""),
    ("cgroupns", ""),
    ("cidfile", ""),
    ("cpu-period", "use `cpus`"),
    ("cpu-quota", "use `cpus`"),
    ("cpu-rt-period", ""),
    ("cpu-rt-runtime", ""),
    ("cpuset-mems", ""),
    ("detach", OURS),
    ("detach-keys", ""),
    ("device", ""),
    ("device-cgroup-rule", ""),
    ("device-read-bps", ""),
    ("device-read-iops", ""),
    ("device-write-bps", ""),
    ("device-write-iops", ""),
    ("disable-content-trust", ""),
    ("dns-option", ""),
    ("dns-search", ""),
    ("domainname", ""),
    ("env", BY_KEY),
    ("env-file", BY_KEY),
    ("gpus", ""),
    ("health-start-interval", ""),
    ("hostname", OURS),
    ("interactive", ""),
    ("ip", ""),
    ("ip6", ""),
    ("ipc", ""),
    ("isolation", ""),
    ("kernel-memory", ""),
    ("label", BY_KEY),
    ("label-file", BY_KEY),
    ("link", ""),
    ("link-local-ip", ""),
    ("log-driver", "use `logging: {driver: …}`"),
    ("log-opt", "use `logging: {options: …}`"),
    ("mac-address", ""),
    ("memory-swappiness", ""),
    ("mount", "use `volumes`"),
    ("name", OURS),
    ("network", OURS),
    ("no-healthcheck", ""),
    ("oom-kill-disable", ""),
    ("oom-score-adj", ""),
    ("pid", ""),
    ("platform", ""),
    ("publish-all", "use `publish`"),
    ("pull", OURS),
    ("quiet", ""),
    ("rm", OURS),
    ("runtime", ""),
    ("sig-proxy", ""),
    ("stop-timeout", "use the role's `stop_timeout`"),
    ("storage-opt", ""),
    ("tty", ""),
    ("use-api-socket", ""),
    ("userns", ""),
    ("uts", ""),
    ("volume", "use `volumes`"),
    ("volume-driver", ""),
    ("volumes-from", ""),
];

fn plain(text: &str) -> Result<String, Problem> {
    if text.contains('\0') {
        Err(Problem::new(text, "a text without NUL", "remove the character"))
    } else {
        Ok(text.to_owned())
    }
}

fn integer(text: &str, least: i64) -> Result<i64, Problem> {
    let value = text.parse().ok().filter(|value| *value >= least);
    value.ok_or_else(|| {
        Problem::new(text, "a whole number that fits", &format!("write a number of at least {least}"))
    })
}

fn address(text: &str) -> Result<String, Problem> {
    text.parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| Problem::new(text, "an IP address", "write an address such as `10.0.0.2`"))
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; returns the first form, that of the Engine API.
fn host_entry(text: &str) -> Result<String, Problem> {
    let problem =
        || Problem::new(text, "a host with its address", "write `NAME:ADDRESS`, or `NAME:host-gateway`");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(problem)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || (address != "host-gateway" && bare.parse::<IpAddr>().is_err()) {
        return Err(problem());
    }
    Ok(format!("{name}:{bare}"))
}

/// `0-2,5`.
fn cpu_set(text: &str) -> Result<String, Problem> {
    let is_range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if from <= to)
    };
    if text.split(',').all(is_range) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(text, "a set of processors", "write numbers and ranges: `0-2,5`"))
}

/// The number of ports in `PORT` or `FROM-TO`, if both are ports.
fn port_range(text: &str) -> Option<u16> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
    (from > 0).then(|| to.checked_sub(from)).flatten()
}

fn split_protocol(text: &str) -> Option<&str> {
    match text.rsplit_once('/') {
        Some((ports, "tcp" | "udp" | "sctp")) => Some(ports),
        Some(_) => None,
        None => Some(text),
    }
}

fn exposed_port(text: &str) -> Result<String, Problem> {
    let is_valid = split_protocol(text).is_some_and(|ports| port_range(ports).is_some());
    let problem = || Problem::new(text, "a port to expose", "write `PORT`, `FROM-TO` or `PORT/udp`");
    is_valid.then(|| text.to_owned()).ok_or_else(problem)
}

/// `[[ADDRESS:][HOST_PORTS]:]CONTAINER_PORTS[/PROTOCOL]`.
pub(crate) fn published_port(text: &str) -> Result<String, Problem> {
    let is_valid = || {
        let ports = split_protocol(text)?;
        let Some((rest, container)) = ports.rsplit_once(':') else { return port_range(ports).map(|_| ()) };
        let container = port_range(container)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None if rest.contains('.') => (Some(rest), ""),
            None => (None, rest),
        };
        let bare = address.map(|address| address.trim_start_matches('[').trim_end_matches(']'));
        let address_ok = bare.is_none_or(|address| address.is_empty() || address.parse::<IpAddr>().is_ok());
        // One container port may be published on any port of a range.
        let host_ok =
            host.is_empty() || port_range(host).is_some_and(|host| host == container || container == 0);
        (address_ok && host_ok).then_some(())
    };
    let problem =
        || Problem::new(text, "a port to publish", "write `[ADDRESS:]HOST_PORT:CONTAINER_PORT[/udp]`");
    is_valid().map(|()| text.to_owned()).ok_or_else(problem)
}

fn sysctl(options: &mut ContainerOptions, text: &str) -> Result<(), Problem> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) =
        pair.ok_or_else(|| Problem::new(text, "a kernel setting", "write `net.core.somaxconn=1024`"))?;
    options.sysctl.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn tmpfs(options: &mut ContainerOptions, text: &str) -> Result<(), Problem> {
    let (path, mount) = text.split_once(':').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(Problem::new(text, "a tmpfs mount", "write `/PATH` or `/PATH:size=64m,mode=1777`"));
    }
    options.tmpfs.insert(path.to_owned(), mount.to_owned());
    Ok(())
}

/// The limits that the kernel knows, from go-units.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`, where -1 is unlimited.
fn ulimit(text: &str) -> Result<Ulimit, Problem> {
    let problem = || Problem::new(text, "a resource limit", "write `nofile=1024` or `nofile=1024:2048`");
    let (name, limits) = text.split_once('=').ok_or_else(problem)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().ok().filter(|value| *value >= -1).ok_or_else(problem);
    let (soft, hard) = (number(soft)?, number(hard)?);
    let is_ordered = hard == -1 || (soft != -1 && soft <= hard);
    if !ULIMITS.contains(&name) || !is_ordered {
        return Err(problem());
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
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
}
