//! `deploy` and `remove`: one call to the running proxy each.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{
    Acme, Buffering, CertificateSource, ClientCertificates, ClientMode, DeployRequest, FleetStore,
    HealthCheck, HealthGate, HostPattern, InvalidAddress, PathPrefix, ProxyClient, ProxyError,
    ServiceSettings, TargetProtocol, TargetTls, Tls,
};

use super::arguments::{DeployArguments, RemoveArguments, list};
use super::rollout::addresses;
use super::{CommandError, socket_path};
use crate::acme::STAGING_DIRECTORY;
use crate::control::bounds;

/// How long a call may take beyond what it asks the proxy to wait for.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn deploy(
    arguments: DeployArguments,
    environment: &BTreeMap<String, String>,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    check_limits(&arguments)?;
    check_certificate(&arguments)?;
    check_target_tls(&arguments)?;
    let name = ProxyServiceName::parse(&arguments.service)?;
    let mut request = deploy_request(&arguments)?;
    request.settings.traffic = arguments.traffic.traffic()?;
    // The proxy checks them, too; whether it runs is not to matter for what is wrong here.
    bounds::settings(&request.settings).map_err(|error| CommandError::Usage { message: error.message })?;
    let limit = arguments.deploy_timeout + arguments.drain_timeout + arguments.tunnel_timeout + CALL_LIMIT;
    let checked = Some(request.settings.health_check.path.clone());
    call(&path, async |mut client| client.deploy(&name, &request, limit).await.map(drop))
        .map_err(|error| error.unhealthy(checked))
}

fn deploy_request(arguments: &DeployArguments) -> Result<DeployRequest, InvalidAddress> {
    let (hosts, prefixes) = (list(&arguments.host), list(&arguments.path_prefix));
    let settings = ServiceSettings {
        hosts: hosts.iter().map(|text| HostPattern::parse(text)).collect::<Result<_, _>>()?,
        path_prefixes: prefixes.iter().map(|text| PathPrefix::parse(text)).collect::<Result<_, _>>()?,
        strip_path_prefix: arguments.strip_path_prefix,
        health_check: HealthCheck {
            path: arguments.health_check_path.clone(),
            host: filled(&arguments.health_check_host),
            port: Some(arguments.health_check_port).filter(|port| *port > 0),
            interval_ms: milliseconds(arguments.health_check_interval),
            timeout_ms: milliseconds(arguments.health_check_timeout),
            // Another port is another server.
            protocol: match arguments.health_check_port {
                0 => arguments.target_protocol,
                _ => TargetProtocol::Http1,
            },
            tls: target_tls(arguments).filter(|_| arguments.health_check_port == 0),
        },
        response_timeout_ms: milliseconds(arguments.target_timeout),
        forward_headers: arguments.forward_headers.unwrap_or(!arguments.tls),
        buffering: Buffering {
            requests: arguments.buffer_requests.unwrap_or(false),
            responses: arguments.buffer_responses.unwrap_or(false),
            memory_bytes: arguments.buffer_memory,
            max_request_bytes: arguments.max_request_body.unwrap_or(0),
            max_response_bytes: arguments.max_response_body.unwrap_or(0),
        },
        log_request_headers: list(&arguments.log_request_header),
        log_response_headers: list(&arguments.log_response_header),
        canonical_host: match arguments.canonical_host.as_str() {
            "" => None,
            host => Some(HostPattern::parse(host)?),
        },
        error_pages: filled(&arguments.error_pages),
        scope_cookie_paths: arguments.scope_cookie_paths,
        tls: tls(arguments)?,
        read_targets_take_websockets: arguments.read_target_websockets,
        writer_affinity_ms: milliseconds(arguments.writer_affinity_timeout),
        client_ip_header: filled(&arguments.client_ip_header),
        exclude_metrics_paths: list(&arguments.exclude_metrics_path),
        target_protocol: arguments.target_protocol,
        target_tls: target_tls(arguments),
        compression: arguments.compress.0.clone(),
        traffic: None,
        basic_auth_file: filled(&arguments.traffic.basic_auth_file),
    };
    let mut request = DeployRequest::new(addresses(&arguments.target)?, settings);
    request.read_targets = addresses(&arguments.read_target)?;
    request.deploy_timeout_ms = milliseconds(arguments.deploy_timeout);
    request.drain_timeout_ms = milliseconds(arguments.drain_timeout);
    request.tunnel_timeout_ms = milliseconds(arguments.tunnel_timeout);
    request.health = if arguments.force { HealthGate::Skip } else { HealthGate::Wait };
    Ok(request)
}

fn filled(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Says how targets are known that speak TLS.
fn target_tls(arguments: &DeployArguments) -> Option<TargetTls> {
    let ca_path = filled(&arguments.target_tls_ca_path);
    let server_name = filled(&arguments.target_tls_server_name);
    let is_said = ca_path.is_some() || server_name.is_some();
    is_said.then_some(TargetTls { ca_path, ca_pem: None, server_name })
}

fn tls(arguments: &DeployArguments) -> Result<Option<Tls>, InvalidAddress> {
    if !arguments.tls {
        return Ok(None);
    }
    let (redirect, clients) = (arguments.tls_redirect, clients(arguments));
    Ok(Some(Tls { certificate: source(arguments)?, redirect, clients }))
}

/// Says with which other proxies certificates are shared.
fn fleet(arguments: &DeployArguments) -> Result<Option<FleetStore>, InvalidAddress> {
    let key_path = filled(&arguments.tls_fleet_key_path);
    if key_path.is_none() {
        return Ok(None);
    }
    Ok(Some(FleetStore { peers: addresses(&list(&arguments.tls_fleet_peer))?, key_path }))
}

/// Says how the service's clients are known.
fn clients(arguments: &DeployArguments) -> Option<ClientCertificates> {
    Some(ClientCertificates {
        ca_path: Some(filled(&arguments.tls_client_ca_path)?),
        ca_pem: None,
        mode: if arguments.tls_client_optional { ClientMode::Optional } else { ClientMode::Required },
        crl_path: filled(&arguments.tls_client_crl_path),
        crl_pem: None,
    })
}

/// Says where the service's certificate comes from.
fn source(arguments: &DeployArguments) -> Result<CertificateSource, InvalidAddress> {
    Ok(match filled(&arguments.tls_certificate_path) {
        Some(certificate_path) => CertificateSource::Files {
            certificate_path,
            private_key_path: arguments.tls_private_key_path.clone(),
        },
        None => CertificateSource::Acme(Acme {
            directory: match arguments.tls_staging {
                true => Some(STAGING_DIRECTORY.to_owned()),
                false => filled(&arguments.tls_acme_directory),
            },
            contact: None,
            cache_path: filled(&arguments.tls_acme_cache_path),
            on_demand_url: filled(&arguments.tls_on_demand_url),
            skip_name_check: arguments.tls_acme_skip_name_check,
            fleet: fleet(arguments)?,
        }),
    })
}

/// Refuses flags that do not fit together: none of them would have its effect.
fn check_certificate(arguments: &DeployArguments) -> Result<(), CommandError> {
    const FLAGS: [&str; 2] = ["tls-certificate-path", "tls-private-key-path"];
    let usage = |message: String| Err(CommandError::Usage { message });
    let has_files =
        [&arguments.tls_certificate_path, &arguments.tls_private_key_path].map(|path| !path.is_empty());
    let missing = FLAGS.into_iter().zip(has_files).find(|(_, is_there)| !is_there).map(|(flag, _)| flag);
    if let Some(missing) = missing.filter(|_| has_files != [false, false]) {
        let group = FLAGS.join(" ");
        return usage(format!(
            "if any flags in the group [{group}] are set they must all be set; missing [{missing}]"
        ));
    }
    if arguments.tls_fleet_peer.is_empty() != arguments.tls_fleet_key_path.is_empty() {
        return usage("`--tls-fleet-peer` and `--tls-fleet-key-path` can only be set together".to_owned());
    }
    let authorities = [
        ("--tls-staging", arguments.tls_staging),
        ("--tls-acme-directory", !arguments.tls_acme_directory.is_empty()),
    ];
    let orders = authorities.into_iter().chain([
        ("--tls-acme-skip-name-check", arguments.tls_acme_skip_name_check),
        ("--tls-fleet-key-path", !arguments.tls_fleet_key_path.is_empty()),
    ]);
    let has_authority = !arguments.tls_client_ca_path.is_empty();
    for (flag, is_set, needed) in [
        ("--tls-client-ca-path", has_authority, ("--tls", arguments.tls)),
        (
            "--tls-client-crl-path",
            !arguments.tls_client_crl_path.is_empty(),
            ("--tls-client-ca-path", has_authority),
        ),
        ("--tls-client-optional", arguments.tls_client_optional, ("--tls-client-ca-path", has_authority)),
    ] {
        if is_set && !needed.1 {
            return usage(format!("`{flag}` can only be set with `{}`", needed.0));
        }
    }
    let with_url = !arguments.tls_on_demand_url.is_empty();
    if with_url && !arguments.tls {
        return usage("service options invalid: TLS must be enabled to use a TLS on-demand URL".to_owned());
    }
    if with_url && has_files == [true, true] {
        let rule = "cannot use a custom TLS certificate with a TLS on-demand URL";
        return usage(format!("service options invalid: {rule}"));
    }
    let mut orders = orders;
    let ordering = orders.find(|(_, is_set)| *is_set).map(|(flag, _)| flag);
    match ordering {
        _ if has_files == [true, true] && !arguments.tls => {
            usage(format!("{} can only be set with `--tls`", FLAGS.join(" and ")))
        }
        Some(flag) if !arguments.tls => usage(format!("`{flag}` can only be set with `--tls`")),
        Some(flag) if has_files == [true, true] => {
            usage(format!("`{flag}` cannot be set with `--{}`: nothing is ordered then", FLAGS[0]))
        }
        Some(_) if authorities.iter().all(|(_, is_set)| *is_set) => {
            usage("`--tls-staging` and `--tls-acme-directory` name two certificate authorities".to_owned())
        }
        _ => Ok(()),
    }
}

/// Refuses what says how targets are known whose certificates nobody looks at.
fn check_target_tls(arguments: &DeployArguments) -> Result<(), CommandError> {
    for (flag, value) in [
        ("--target-tls-ca-path", &arguments.target_tls_ca_path),
        ("--target-tls-server-name", &arguments.target_tls_server_name),
    ] {
        if !value.is_empty() && !arguments.target_protocol.is_encrypted() {
            let message = format!("`{flag}` can only be set with `--target-protocol` `h2` or `https`");
            return Err(CommandError::Usage { message });
        }
    }
    Ok(())
}

/// Refuses a limit for what is not held back, as kamal-proxy does: it would have no effect.
fn check_limits(arguments: &DeployArguments) -> Result<(), CommandError> {
    for (side, limit, buffers) in [
        ("request", arguments.max_request_body, arguments.buffer_requests),
        ("response", arguments.max_response_body, arguments.buffer_responses),
    ] {
        if limit.is_some() && buffers.is_none() {
            let message = format!("max-{side}-body can only be set when {side} buffering is enabled");
            return Err(CommandError::Usage { message });
        }
    }
    Ok(())
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn remove(
    arguments: &RemoveArguments,
    environment: &BTreeMap<String, String>,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let name = ProxyServiceName::parse(&arguments.service)?;
    call(&path, async |mut client| client.remove(&name, None, CALL_LIMIT).await.map(drop))
}

/// Makes one call to the proxy behind a socket.
pub(super) fn call<T, F>(path: &Path, use_client: impl FnOnce(ProxyClient) -> F) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, ProxyError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source: io::Error| CommandError::Bridge { path: path.to_owned(), source })?;
    let result = runtime.block_on(async { use_client(ProxyClient::connect(path, CALL_LIMIT).await?).await });
    Ok(result?)
}
