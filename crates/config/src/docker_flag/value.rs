//! The values of flags, each checked as Docker's client checks it.

use std::net::IpAddr;

use freehold_model::{
    ContainerOptions, Device, DeviceRate, DeviceWeight, GpuRequest, Mount, MountKind, NewVolume, Ulimit,
};

use super::Problem;
use crate::quantity::parse_size;

pub(super) fn plain(text: &str) -> Result<String, Problem> {
    if text.contains('\0') {
        Err(Problem::new(text, "a text without NUL", "remove the character"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn integer(text: &str, least: i64) -> Result<i64, Problem> {
    let value = text.parse().ok().filter(|value| *value >= least);
    value.ok_or_else(|| {
        Problem::new(text, "a whole number that fits", &format!("write a number of at least {least}"))
    })
}

pub(super) fn address(text: &str) -> Result<String, Problem> {
    text.parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| Problem::new(text, "an IP address", "write an address such as `10.0.0.2`"))
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; returns the first form, that of the Engine API.
pub(super) fn host_entry(text: &str) -> Result<String, Problem> {
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
pub(super) fn cpu_set(text: &str) -> Result<String, Problem> {
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

pub(super) fn exposed_port(text: &str) -> Result<String, Problem> {
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

pub(super) fn sysctl(options: &mut ContainerOptions, text: &str) -> Result<(), Problem> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) =
        pair.ok_or_else(|| Problem::new(text, "a kernel setting", "write `net.core.somaxconn=1024`"))?;
    options.sysctl.insert(name.to_owned(), value.to_owned());
    Ok(())
}

pub(super) fn tmpfs(options: &mut ContainerOptions, text: &str) -> Result<(), Problem> {
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
pub(super) fn ulimit(text: &str) -> Result<Ulimit, Problem> {
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

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), Problem> {
    match text.split_once('=').filter(|(name, _)| !name.is_empty()) {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Problem::new(text, "a name with a value", "write `NAME=VALUE`")),
    }
}

/// One of a few words.
pub(super) fn word(text: &str, words: &[&str]) -> Result<String, Problem> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    Err(Problem::new(text, "possible here", &format!("write {}", words.join(" or "))))
}

/// One of a few words, or `container:NAME`.
pub(super) fn namespace(text: &str, words: &[&str]) -> Result<String, Problem> {
    match text.strip_prefix("container:") {
        Some(name) if !name.is_empty() => Ok(text.to_owned()),
        _ => word(text, words),
    }
}

pub(super) fn bounded(text: &str, least: i64, most: i64) -> Result<i64, Problem> {
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| {
        Problem::new(text, "a number that fits", &format!("write a number from {least} to {most}"))
    })
}

/// 10 to 1000, or 0 for none.
pub(super) fn weight(text: &str) -> Result<u16, Problem> {
    let value = text.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    value.ok_or_else(|| Problem::new(text, "a weight", "write a number from 10 to 1000, or 0"))
}

/// `/dev/PATH:VALUE`.
fn of_device<'a>(text: &'a str, example: &str) -> Result<(String, &'a str), Problem> {
    match text.split_once(':').filter(|(path, _)| path.starts_with("/dev/")) {
        Some((path, value)) => Ok((path.to_owned(), value)),
        None => Err(Problem::new(text, "a device with a value", &format!("write `/dev/sda:{example}`"))),
    }
}

pub(super) fn device_weight(text: &str) -> Result<DeviceWeight, Problem> {
    let (path, value) = of_device(text, "200")?;
    Ok(DeviceWeight { path, weight: weight(value)? })
}

pub(super) fn device_bytes(text: &str) -> Result<DeviceRate, Problem> {
    let (path, value) = of_device(text, "1mb")?;
    Ok(DeviceRate { path, rate: parse_size(value)?.unsigned_abs() })
}

pub(super) fn device_operations(text: &str) -> Result<DeviceRate, Problem> {
    let (path, value) = of_device(text, "1000")?;
    let rate = integer(value, 0)?.unsigned_abs();
    Ok(DeviceRate { path, rate })
}

/// `HOST[:CONTAINER][:PERMISSIONS]`.
pub(super) fn device(text: &str) -> Result<Device, Problem> {
    let problem = || Problem::new(text, "a device", "write `/dev/snd` or `/dev/sda:/dev/xvda:rwm`");
    let parts: Vec<&str> = text.split(':').collect();
    let is_path = |part: &str| part.starts_with('/');
    let is_mode = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        _ => return Err(problem()),
    };
    if !is_path(host) || !is_path(container) {
        return Err(problem());
    }
    Ok(Device { host: host.to_owned(), container: container.to_owned(), permissions: permissions.to_owned() })
}

/// `c 1:3 rwm`.
pub(super) fn cgroup_rule(text: &str) -> Result<String, Problem> {
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let is_rule = match text.split(' ').collect::<Vec<_>>().as_slice() {
        [kind, numbers, mode] => {
            ["a", "b", "c"].contains(kind)
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    is_rule
        .then(|| text.to_owned())
        .ok_or_else(|| Problem::new(text, "a rule for devices", "write it like `c 1:3 rwm`"))
}

/// `all`, a number, or `device=0,driver=nvidia,capabilities=utility`.
pub(super) fn gpus(text: &str) -> Result<GpuRequest, Problem> {
    let problem = || Problem::new(text, "a wish for GPUs", "write `all`, `2`, or `\"device=0\"`");
    let mut request = GpuRequest {
        driver: String::new(),
        count: 0,
        devices: Vec::new(),
        capabilities: Vec::new(),
        options: std::collections::BTreeMap::new(),
    };
    let count = |value: &str| match value {
        "all" => Some(-1),
        number => number.parse().ok().filter(|count: &i64| *count >= -1),
    };
    let mut has_count = false;
    for field in csv(text).ok_or_else(problem)? {
        match field.split_once('=') {
            None if !has_count => {
                request.count = count(&field).ok_or_else(problem)?;
                has_count = true;
            }
            Some(("count", value)) => {
                request.count = count(value).ok_or_else(problem)?;
                has_count = true;
            }
            Some(("driver", value)) => request.driver = value.to_owned(),
            Some(("device", value)) => request.devices = value.split(',').map(str::to_owned).collect(),
            Some(("capabilities", value)) => {
                request.capabilities = value.split(',').map(str::to_owned).collect();
            }
            Some(("options", value)) => {
                for option in value.split(',') {
                    request.options.extend([pair(option)?]);
                }
            }
            _ => return Err(problem()),
        }
    }
    if !has_count && request.devices.is_empty() {
        request.count = 1;
    }
    // Docker's client asks for `gpu` always.
    if !request.capabilities.iter().any(|capability| capability == "gpu") {
        request.capabilities.push("gpu".to_owned());
    }
    Ok(request)
}

/// Splits at commas, but not within double quotes.
fn csv(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    (!is_quoted && fields.iter().all(|field| !field.is_empty())).then_some(fields)
}

/// `type=bind,source=/a,target=/b,readonly`.
pub(super) fn mount(text: &str) -> Result<Mount, Problem> {
    let problem = || Problem::new(text, "a mount", "write `type=bind,source=/PATH,target=/PATH,readonly`");
    let mut mount = Mount {
        kind: MountKind::Volume,
        source: None,
        target: String::new(),
        read_only: false,
        propagation: None,
        no_copy: false,
        size_bytes: None,
        mode: None,
        new_volume: NewVolume::default(),
    };
    for field in csv(text).ok_or_else(problem)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        match (key, value) {
            ("type", "bind") => mount.kind = MountKind::Bind,
            ("type", "volume") => mount.kind = MountKind::Volume,
            ("type", "tmpfs") => mount.kind = MountKind::Tmpfs,
            ("source" | "src", value) => mount.source = Some(value.to_owned()),
            ("target" | "dst" | "destination", value) => mount.target = value.to_owned(),
            ("readonly" | "ro", "true" | "1") => mount.read_only = true,
            ("readonly" | "ro", "false" | "0") => mount.read_only = false,
            ("bind-propagation", value) => {
                let words = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
                mount.propagation = Some(word(value, &words)?);
            }
            ("volume-nocopy", "true" | "1") => mount.no_copy = true,
            ("volume-nocopy", "false" | "0") => mount.no_copy = false,
            ("volume-driver", value) => mount.new_volume.driver = Some(value.to_owned()),
            ("volume-opt", value) => mount.new_volume.options.extend([pair(value)?]),
            ("volume-label", value) => mount.new_volume.labels.extend([pair(value)?]),
            ("tmpfs-size", value) => mount.size_bytes = Some(parse_size(value)?),
            ("tmpfs-mode", value) => {
                mount.mode = Some(u32::from_str_radix(value, 8).map_err(|_| problem())?);
            }
            _ => return Err(problem()),
        }
    }
    let fits = match mount.kind {
        MountKind::Bind => {
            mount.source.as_ref().is_some_and(|source| source.starts_with('/')) && !mount.no_copy
        }
        MountKind::Volume => true,
        MountKind::Tmpfs => mount.source.is_none() && !mount.no_copy,
    };
    let is_bind = mount.kind == MountKind::Bind;
    let is_tmpfs = mount.kind == MountKind::Tmpfs;
    let options_fit = (is_bind || mount.propagation.is_none())
        && (is_tmpfs || (mount.size_bytes.is_none() && mount.mode.is_none()))
        && (mount.kind == MountKind::Volume || mount.new_volume.is_default());
    if mount.target.starts_with('/') && fits && options_fit { Ok(mount) } else { Err(problem()) }
}

/// Six pairs of hex digits.
pub(super) fn mac_address(text: &str) -> Result<String, Problem> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_pair = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(is_pair) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(text, "a MAC address", "write it like `92:d0:c6:0a:29:33`"))
}

/// A network beside the container's own; what would take its place is not possible.
pub(super) fn network(text: &str) -> Result<String, Problem> {
    let takes_over = ["host", "none", "bridge", "default"].contains(&text) || text.starts_with("container:");
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if takes_over || !is_name {
        let help = "name a network that exists on the host; the container is on freehold's own as well";
        return Err(Problem::new(text, "a further network", help));
    }
    Ok(text.to_owned())
}

/// `NAME` or `NAME:ALIAS`.
pub(super) fn link(text: &str) -> Result<String, Problem> {
    let (name, alias) = text.split_once(':').unwrap_or((text, "x"));
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Problem::new(text, "a link", "write `CONTAINER` or `CONTAINER:ALIAS`"));
    }
    Ok(text.to_owned())
}

pub(super) fn ipv4(text: &str) -> Result<String, Problem> {
    let address = text.parse::<std::net::Ipv4Addr>();
    address
        .map(|address| address.to_string())
        .map_err(|_| Problem::new(text, "an IPv4 address", "write it like `172.30.100.104`"))
}

pub(super) fn ipv6(text: &str) -> Result<String, Problem> {
    let address = text.parse::<std::net::Ipv6Addr>();
    address
        .map(|address| address.to_string())
        .map_err(|_| Problem::new(text, "an IPv6 address", "write it like `2001:db8::33`"))
}
