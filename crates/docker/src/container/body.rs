use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_model::{ContainerOptions, Diagnose, EnvName, ErrorKind, RestartPolicy};
use secrecy::ExposeSecret;
use serde::{Serialize, Serializer};

use super::port::{parse_expose, parse_publish};
use super::rare::{self, Endpoint, RareHostConfig, endpoints};
use super::spec::{ContainerSpec, EnvValue, Removal, StandardStreams};
use crate::engine::ApiVersion;

/// A container that cannot be asked for, found before the engine is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A `--publish` value is wrong.
    #[error("`{value}` is not a published port: {rule}")]
    Publish {
        /// The value.
        value: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// An `--expose` value is wrong.
    #[error("`{value}` is not an exposed port: use `PORT[-PORT][/tcp|udp|sctp]`")]
    Expose {
        /// The value.
        value: String,
    },
    /// A path of the host in a volume is not absolute.
    #[error("the path in volume `{value}` is relative to a folder that the engine does not know")]
    RelativeVolume {
        /// The value.
        value: String,
    },
    /// A seccomp profile is a file of the client, which is not sent.
    #[error(
        "security option `{value}` names a file; only `seccomp=unconfined` and a profile written out are possible"
    )]
    SeccompFile {
        /// The value.
        value: String,
    },
    /// The engine is too old for an option, which it would pass over without a word.
    #[error("`{flag}` needs version {needed} of the Engine API, and this engine has {found}")]
    OldEngine {
        /// The flag of `docker run`.
        flag: &'static str,
        /// The version from which on it is known.
        needed: ApiVersion,
        /// The engine's version.
        found: ApiVersion,
    },
}

/// Returns the option that needs the newest engine, with the version that it needs.
pub(super) fn needed_version(options: &ContainerOptions) -> Option<(&'static str, ApiVersion)> {
    let since = |minor| ApiVersion { major: 1, minor };
    let rare = &options.rare;
    let start_interval = rare.health_start_interval.map(|_| ("--health-start-interval", since(44)));
    start_interval.or_else(|| (!rare.annotation.is_empty()).then(|| ("--annotation", since(43))))
}

impl Diagnose for SpecError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

/// The body of `POST /containers/create`. Secrets stay wrapped until it is written out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domainname: Option<String>,
    /// Where engines before version 1.44 of the API look for it; newer ones look at the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    open_stdin: bool,
    stdin_once: bool,
    tty: bool,
    env: Vec<EnvEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    image: String,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    host_config: HostConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    networking_config: Option<NetworkingConfig>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug)]
struct EnvEntry(EnvName, EnvValue);

impl Serialize for EnvEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = match &self.1 {
            EnvValue::Clear(value) => value,
            EnvValue::Secret(value) => value.expose_secret(),
        };
        serializer.collect_str(&format_args!("{}={value}", self.0))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<i64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    binds: Vec<String>,
    auto_remove: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_mode: Option<String>,
    restart_policy: RestartPolicyBody,
    log_config: LogConfig,
    port_bindings: BTreeMap<String, Vec<PortBinding>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_swap: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_reservation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nano_cpus: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_shares: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
    privileged: bool,
    readonly_rootfs: bool,
    extra_hosts: Vec<String>,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    masked_paths: Option<[String; 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readonly_paths: Option<[String; 0]>,
    dns: Vec<String>,
    group_add: Vec<String>,
    tmpfs: BTreeMap<String, String>,
    sysctls: BTreeMap<String, String>,
    ulimits: Vec<UlimitBody>,
    #[serde(flatten)]
    rare: RareHostConfig,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicyBody {
    name: &'static str,
    maximum_retry_count: u32,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    #[serde(rename = "Type")]
    driver: String,
    config: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortBinding {
    host_ip: String,
    host_port: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitBody {
    name: String,
    soft: i64,
    hard: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkingConfig {
    endpoints_config: BTreeMap<String, Endpoint>,
}

/// Makes the request of the description, as `docker run` would.
pub(crate) fn create_body(spec: &ContainerSpec) -> Result<CreateBody, SpecError> {
    let options = &spec.options;
    let mut exposed_ports = BTreeMap::new();
    let mut port_bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for value in &options.expose {
        exposed_ports.extend(parse_expose(value)?.into_iter().map(|key| (key, Empty {})));
    }
    for value in &options.publish {
        for port in parse_publish(value)? {
            exposed_ports.insert(port.key(), Empty {});
            port_bindings.entry(port.key()).or_default().push(PortBinding {
                host_ip: port.address.map(|address| address.to_string()).unwrap_or_default(),
                host_port: port.host_port(),
            });
        }
    }
    let (binds, volumes) = mounts(&spec.volumes)?;
    let (attached, input, tty) = match spec.streams {
        StandardStreams::Detached => (false, false, false),
        StandardStreams::Output => (true, false, false),
        StandardStreams::Interactive => (true, true, false),
        StandardStreams::Terminal => (true, true, true),
    };
    Ok(CreateBody {
        hostname: options.rare.hostname.clone().or_else(|| spec.hostname.clone()),
        domainname: options.rare.domain_name.clone(),
        mac_address: options.rare.mac_address.clone(),
        user: options.user.clone(),
        attach_stdin: input,
        attach_stdout: attached,
        attach_stderr: attached,
        open_stdin: input || options.rare.interactive,
        stdin_once: input,
        tty: tty || options.rare.tty,
        env: environment(spec),
        cmd: spec.command.clone(),
        entrypoint: options.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
        image: spec.image.to_string(),
        labels: spec.labels.clone(),
        working_dir: options.working_directory.clone(),
        stop_signal: options.stop_signal.clone(),
        stop_timeout: spec.stop_timeout.map(|timeout| timeout.as_secs()),
        exposed_ports,
        volumes,
        healthcheck: healthcheck(options),
        host_config: HostConfig { binds, port_bindings, ..host_config(spec)? },
        networking_config: networking(spec),
    })
}

/// Secrets first, as `docker run` puts those of `--env-file` before those of `--env`.
fn environment(spec: &ContainerSpec) -> Vec<EnvEntry> {
    let entry = |(name, value): (&EnvName, &EnvValue)| EnvEntry(name.clone(), value.clone());
    let is_secret = |value: &EnvValue| matches!(value, EnvValue::Secret(_));
    let secret = spec.env.iter().filter(|(_, value)| is_secret(value)).map(entry);
    let clear = spec.env.iter().filter(|(_, value)| !is_secret(value)).map(entry);
    secret.chain(clear).collect()
}

/// Splits `--volume` values into binds and anonymous volumes.
fn mounts(values: &[String]) -> Result<(Vec<String>, BTreeMap<String, Empty>), SpecError> {
    let mut binds = Vec::new();
    let mut anonymous = BTreeMap::new();
    for value in values {
        match value.split_once(':') {
            Some((source, _)) if source.starts_with('.') || source.starts_with('~') => {
                return Err(SpecError::RelativeVolume { value: value.clone() });
            }
            // A name without slash is a named volume, which the engine makes.
            Some((source, _)) if !source.starts_with('/') && source.contains('/') => {
                return Err(SpecError::RelativeVolume { value: value.clone() });
            }
            Some(_) => binds.push(value.clone()),
            None => {
                anonymous.insert(value.clone(), Empty {});
            }
        }
    }
    Ok((binds, anonymous))
}

fn healthcheck(options: &ContainerOptions) -> Option<Healthcheck> {
    let nanoseconds =
        |duration: Option<Duration>| duration.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let command = options.health_command.clone().map(|command| vec!["CMD-SHELL".to_owned(), command]);
    let check = Healthcheck {
        test: if options.rare.no_healthcheck { Some(vec!["NONE".to_owned()]) } else { command },
        start_interval: nanoseconds(options.rare.health_start_interval),
        interval: nanoseconds(options.health_interval),
        timeout: nanoseconds(options.health_timeout),
        start_period: nanoseconds(options.health_start_period),
        retries: options.health_retries,
    };
    let wanted = check.test.is_some()
        || check.interval.is_some()
        || check.timeout.is_some()
        || check.start_period.is_some()
        || check.start_interval.is_some()
        || check.retries.is_some();
    wanted.then_some(check)
}

fn host_config(spec: &ContainerSpec) -> Result<HostConfig, SpecError> {
    let options = &spec.options;
    let security = security_options(&options.security_opt)?;
    let capabilities = capabilities(options);
    Ok(HostConfig {
        auto_remove: spec.removal == Removal::WhenStopped,
        network_mode: spec.network.clone(),
        restart_policy: restart_policy(options.restart),
        log_config: LogConfig {
            driver: spec.logging.driver.clone().unwrap_or_default(),
            config: spec.logging.options.clone(),
        },
        memory: options.memory_bytes,
        memory_swap: options.memory_swap_bytes,
        memory_reservation: options.memory_reservation_bytes,
        nano_cpus: options.nano_cpus,
        cpu_shares: options.cpu_shares,
        cpuset_cpus: options.cpuset_cpus.clone(),
        pids_limit: options.pids_limit,
        shm_size: options.shm_size_bytes,
        init: options.init.then_some(true),
        privileged: options.privileged,
        readonly_rootfs: options.read_only,
        extra_hosts: options.add_host.iter().map(|entry| host_entry(entry)).collect(),
        cap_add: capabilities.add,
        cap_drop: capabilities.drop,
        security_opt: security.options,
        masked_paths: security.all_paths.then_some([]),
        readonly_paths: security.all_paths.then_some([]),
        dns: options.dns.clone(),
        group_add: options.group_add.clone(),
        tmpfs: options.tmpfs.clone(),
        sysctls: options.sysctl.clone(),
        ulimits: ulimits(options),
        rare: rare::host_config(&options.rare),
        ..HostConfig::default()
    })
}

/// In the order of their names, as Docker's client sends them.
fn ulimits(options: &ContainerOptions) -> Vec<UlimitBody> {
    let mut limits: Vec<UlimitBody> = options
        .ulimit
        .iter()
        .map(|limit| UlimitBody { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
        .collect();
    limits.sort_by(|one, other| one.name.cmp(&other.name));
    limits
}

struct Capabilities {
    add: Vec<String>,
    drop: Vec<String>,
}

/// Source: `EffectiveCapAddCapDrop` of github.com/docker/cli, and what its release 28 sends: full names, in order; what is
/// added beside `ALL` is left out.
fn capabilities(options: &ContainerOptions) -> Capabilities {
    let full_names = |names: &[String]| -> BTreeSet<String> {
        let full = |name: &String| match name.to_ascii_uppercase() {
            name if name == "ALL" || name.starts_with("CAP_") => name,
            name => format!("CAP_{name}"),
        };
        names.iter().map(full).collect()
    };
    let mut add = full_names(&options.cap_add);
    if add.contains("ALL") {
        add = BTreeSet::from(["ALL".to_owned()]);
    }
    Capabilities { add: add.into_iter().collect(), drop: full_names(&options.cap_drop).into_iter().collect() }
}

/// Docker's newer `name=address` means the same as `name:address`, the only form the API takes.
fn host_entry(entry: &str) -> String {
    match entry.find([':', '=']) {
        Some(at) if entry.as_bytes().get(at) == Some(&b'=') => entry.replacen('=', ":", 1),
        _ => entry.to_owned(),
    }
}

fn restart_policy(policy: RestartPolicy) -> RestartPolicyBody {
    let (name, maximum_retry_count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { maximum } => ("on-failure", maximum.unwrap_or(0)),
    };
    RestartPolicyBody { name, maximum_retry_count }
}

struct SecurityOptions {
    options: Vec<String>,
    /// `systempaths=unconfined`: nothing under /proc and /sys is hidden.
    all_paths: bool,
}

/// Source: `parseSecurityOpts` and `parseSystemPaths` of github.com/docker/cli.
fn security_options(values: &[String]) -> Result<SecurityOptions, SpecError> {
    let mut parsed = SecurityOptions { options: Vec::new(), all_paths: false };
    for value in values {
        if value == "systempaths=unconfined" {
            parsed.all_paths = true;
            continue;
        }
        let profile = value.strip_prefix("seccomp=").or_else(|| value.strip_prefix("seccomp:"));
        if profile
            .is_some_and(|profile| !matches!(profile, "unconfined" | "builtin") && !profile.starts_with('{'))
        {
            return Err(SpecError::SeccompFile { value: value.clone() });
        }
        parsed.options.push(value.clone());
    }
    Ok(parsed)
}

fn networking(spec: &ContainerSpec) -> Option<NetworkingConfig> {
    let network = spec.network.as_deref()?;
    let aliases = spec.network_aliases.iter().chain(&spec.options.network_alias).cloned().collect();
    let endpoints_config = endpoints(network, aliases, &spec.options);
    (!endpoints_config.is_empty()).then_some(NetworkingConfig { endpoints_config })
}

#[cfg(test)]
mod tests;
