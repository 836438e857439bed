//! `serve`: the proxy in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use freehold_wire::TargetAddress;
use http::Uri;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::SecretString;

use super::arguments::ServeArguments;
use super::{CommandError, Console, socket_path, temporary_folder};
use crate::acme::{AcmeConfig, DnsConfig, ExternalAccount, ProofPorts, is_directory};
use crate::handover::{Program, Role};
use crate::limits::Limits;
use crate::resolve::NameFiles;
use crate::server::{Ended, Server, ServerConfig};
use crate::trace::TraceConfig;

/// How long the other name servers of a zone get to follow a change.
const DNS_PAUSE: Duration = Duration::from_secs(15);

/// Docker kills a container 10 s after it has asked it to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(9);

/// How much of the disk bodies may take that are held back: a few of the longest that a service takes by default.
const SPILL_LIMIT: u64 = 4 * 1024 * 1024 * 1024;

pub(super) fn run(
    arguments: ServeArguments,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<u8, CommandError> {
    let http_port = arguments.http_port.or_else(|| setting(environment, "HTTP_PORT")).unwrap_or(80);
    let https_port = arguments.https_port.or_else(|| setting(environment, "HTTPS_PORT")).unwrap_or(443);
    if http_port != 0 && http_port == https_port {
        let message = format!("`--http-port` and `--https-port` must differ, both are {http_port}");
        return Err(CommandError::Usage { message });
    }
    let metrics_port = arguments.metrics_port.or_else(|| setting(environment, "METRICS_PORT"));
    let acme = acme(&arguments, environment)?;
    let traces = traces(&arguments, environment)?;
    let edge = arguments.edge.config(environment)?;
    let config = ServerConfig {
        bind: arguments.bind,
        http_port,
        https_port,
        metrics_port: metrics_port.filter(|port| *port != 0),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        socket: socket_path(&arguments.socket, environment),
        state_folder: arguments.state_dir.unwrap_or_else(|| data_folder(environment)),
        debug: arguments.debug.or_else(|| setting(environment, "DEBUG")).unwrap_or(false),
        stop_deadline: STOP_DEADLINE,
        limits: Limits::default(),
        names: NameFiles::default(),
        spill_folder: temporary_folder(environment),
        spill_limit: arguments
            .buffer_disk
            .or_else(|| setting(environment, "BUFFER_DISK"))
            .unwrap_or(SPILL_LIMIT),
        acme,
        traces,
        // Without it the proxy serves as well; only it cannot hand over.
        program: Program::running().ok(),
        edge,
    };
    raise_file_limit();
    let output = std::mem::replace(&mut console.output, Box::new(std::io::sink()));
    let server = match Role::of(environment) {
        Role::First => Server::start(config, output)?,
        Role::Later => Server::take_over(config, output)?,
    };
    match server.join() {
        Ended::Stopped => Ok(0),
        Ended::HandedOver { code } => Ok(code),
        Ended::Deserted | Ended::Refused => Err(CommandError::Deserted),
    }
}

/// Returns where traces go. The names of the environment are OpenTelemetry's.
fn traces(
    arguments: &ServeArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Option<TraceConfig>, CommandError> {
    let usage = |message: String| CommandError::Usage { message };
    let text = |name: &str| environment.get(name).filter(|text| !text.is_empty()).cloned();
    let endpoint = arguments.otlp_endpoint.clone().or_else(|| text("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
        return match arguments.trace_ratio {
            Some(_) => Err(usage("`--trace-ratio` needs `--otlp-endpoint`, where traces go".to_owned())),
            None => Ok(None),
        };
    };
    let is_sound = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    let endpoint =
        endpoint.parse::<Uri>().ok().filter(is_sound).ok_or_else(|| {
            usage(format!("`{endpoint}` is not the `http` or `https` address of a collector"))
        })?;
    let stored = text("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok());
    let ratio = arguments.trace_ratio.or(stored).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        return Err(usage(format!("`--trace-ratio` must be 0 to 1, not {ratio}")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1000000")]
    let per_million = (ratio * 1_000_000.0).round() as u32;
    let headers = text("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
    let headers = headers
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), SecretString::from(value.trim().to_owned())));
    Ok(Some(TraceConfig { endpoint, headers: headers.collect(), per_million }))
}

/// Lets the process have as many open connections as it may: each is a file, and the usual limit is for programs that use
/// `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what there is must do.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}

/// Returns how certificates are ordered. `SSL_CERT_FILE` says whom to trust, as it does to kamal-proxy.
fn acme(
    arguments: &ServeArguments,
    environment: &BTreeMap<String, String>,
) -> Result<AcmeConfig, CommandError> {
    let usage = |message: &str| CommandError::Usage { message: message.to_owned() };
    let text = |name: &str| setting::<String>(environment, name).filter(|text| !text.is_empty());
    let key_id = arguments.acme_eab_key_id.clone().or_else(|| text("ACME_EAB_KEY_ID"));
    let key_file = arguments.acme_eab_hmac_key_file.clone();
    let key_file = key_file.or_else(|| text("ACME_EAB_HMAC_KEY_FILE").map(PathBuf::from));
    let key = match &key_file {
        None => text("ACME_EAB_HMAC_KEY"),
        Some(path) => {
            let key = fs_err::read_to_string(path).map_err(|source| CommandError::File { source })?;
            Some(key.trim().to_owned())
        }
    };
    let external_account = match (key_id, key.map(SecretString::from)) {
        (None, None) => None,
        (Some(key_id), Some(hmac_key)) => Some(ExternalAccount { key_id, hmac_key }),
        (None, Some(_)) => {
            return Err(usage("the key of an external account needs `--acme-eab-key-id`, its name"));
        }
        (Some(_), None) => {
            return Err(usage(
                "`--acme-eab-key-id` needs `--acme-eab-hmac-key-file` or `ACME_EAB_HMAC_KEY`, the key",
            ));
        }
    };
    if external_account.as_ref().is_some_and(|account| !account.is_sound()) {
        return Err(usage("the key of the external account is not URL-safe base64"));
    }
    let directory = arguments.acme_directory.clone().or_else(|| text("ACME_DIRECTORY")).unwrap_or_default();
    if !directory.is_empty() && !is_directory(&directory) {
        let message = format!("`{directory}` is not the `https` URL of a certificate authority's directory");
        return Err(CommandError::Usage { message });
    }
    let roots = arguments.acme_ca_file.clone().or_else(|| text("ACME_CA_FILE").map(PathBuf::from));
    Ok(AcmeConfig {
        directory,
        contact: arguments.acme_contact.clone().or_else(|| text("ACME_CONTACT")),
        external_account,
        ports: ProofPorts::default(),
        dns: dns(arguments, environment)?,
        roots: roots.or_else(|| environment.get("SSL_CERT_FILE").map(PathBuf::from)),
    })
}

/// Returns who puts proofs into the DNS.
fn dns(
    arguments: &ServeArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Option<DnsConfig>, CommandError> {
    let usage = |message: &str| CommandError::Usage { message: message.to_owned() };
    let text = |name: &str| setting::<String>(environment, name).filter(|text| !text.is_empty());
    let server = arguments.acme_dns_server.clone().or_else(|| text("ACME_DNS_SERVER"));
    let key_name = arguments.acme_dns_key_name.clone().or_else(|| text("ACME_DNS_KEY_NAME"));
    let key_file = arguments.acme_dns_key_file.clone();
    let key_file = key_file.or_else(|| text("ACME_DNS_KEY_FILE").map(PathBuf::from));
    let key = match &key_file {
        None => text("ACME_DNS_KEY"),
        Some(path) => Some(fs_err::read_to_string(path).map_err(|source| CommandError::File { source })?),
    };
    let (server, key_name, key) = match (server, key_name, key) {
        (None, None, None) => return Ok(None),
        (Some(server), Some(key_name), Some(key)) => (server, key_name, key),
        _ => {
            return Err(usage(
                "`--acme-dns-server` needs `--acme-dns-key-name` and the key, by `--acme-dns-key-file` or `ACME_DNS_KEY`",
            ));
        }
    };
    let server = TargetAddress::parse(&server)?;
    let key =
        BASE64_STANDARD.decode(key.trim()).map_err(|_| usage("the key of the name server is not base64"))?;
    Ok(Some(DnsConfig { server, key_name, key, pause: DNS_PAUSE }))
}

/// Reads a setting from the environment; one that cannot be read is ignored, as by kamal-proxy.
pub(super) fn setting<T: std::str::FromStr>(environment: &BTreeMap<String, String>, name: &str) -> Option<T> {
    let value = environment.get(&format!("KAMAL_PROXY_{name}")).or_else(|| environment.get(name))?;
    value.parse().ok()
}

fn data_folder(environment: &BTreeMap<String, String>) -> PathBuf {
    let home = environment.get("HOME").filter(|value| !value.is_empty());
    home.map_or_else(|| temporary_folder(environment), PathBuf::from).join(".config/kamal-proxy")
}
