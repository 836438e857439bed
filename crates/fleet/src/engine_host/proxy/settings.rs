//! What the deploy file says of a service, in the words of the proxy's API.

use freehold_model::{Diagnose, ErrorKind, ProxySettings};
use freehold_plan::Route;
use freehold_wire::{
    Acme, CertificateSource, ClientCertificates, ClientMode, DeployRequest, FleetStore, HealthCheck,
    HostPattern, InvalidAddress, PathPrefix, ServiceSettings, TargetAddress, TargetTls, Tls,
};

use super::{CERTIFICATE_FILE, PRIVATE_KEY_FILE, USERS_FILE};
use crate::event::milliseconds;

/// Settings that cannot be given to the proxy.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine_host) enum SettingsError {
    /// The proxy itself would refuse it.
    #[error("the deploy file's proxy settings cannot be given to the proxy")]
    Address(#[from] InvalidAddress),
    /// What the proxy had before was noted by another version.
    #[error("what the proxy served before cannot be read")]
    Stored(#[source] serde_json::Error),
}

impl Diagnose for SettingsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(_) => ErrorKind::Configuration,
            Self::Stored(_) => ErrorKind::Failed,
        }
    }
}

pub(in crate::engine_host) fn health_check(check: &freehold_model::HealthCheck) -> HealthCheck {
    HealthCheck {
        path: check.path.clone(),
        host: None,
        port: None,
        interval_ms: milliseconds(check.interval).max(1),
        timeout_ms: milliseconds(check.timeout).max(1),
        protocol: check.protocol,
        tls: check.tls.as_ref().map(target_tls),
    }
}

pub(in crate::engine_host) fn deploy_request(route: &Route) -> Result<DeployRequest, SettingsError> {
    if let Some(stored) = &route.stored {
        return serde_json::from_str(stored).map_err(SettingsError::Stored);
    }
    let targets =
        route.targets.iter().map(|target| TargetAddress::parse(target)).collect::<Result<_, _>>()?;
    let settings = ServiceSettings {
        error_pages: route.files.error_pages.clone(),
        tls: tls(route)?,
        basic_auth_file: route.files.users.as_ref().map(|folder| format!("{folder}/{USERS_FILE}")),
        ..service_settings(&route.settings)?
    };
    Ok(DeployRequest::new(targets, settings))
}

/// Returns how a route is served over HTTPS. A folder with a certificate is one of one's own, also where the settings no
/// longer tell the names of its secrets.
fn tls(route: &Route) -> Result<Option<Tls>, InvalidAddress> {
    let certificate = match (&route.files.certificate, &route.settings.tls) {
        (Some(folder), _) => CertificateSource::Files {
            certificate_path: format!("{folder}/{CERTIFICATE_FILE}"),
            private_key_path: format!("{folder}/{PRIVATE_KEY_FILE}"),
        },
        (None, freehold_model::Tls::Automatic(authority)) => CertificateSource::Acme(Acme {
            directory: authority.directory.clone(),
            contact: authority.contact.clone(),
            skip_name_check: authority.skip_name_check,
            on_demand_url: authority.on_demand_url.clone(),
            fleet: authority.fleet.as_ref().map(fleet).transpose()?,
            ..Acme::default()
        }),
        (None, freehold_model::Tls::Off | freehold_model::Tls::Custom { .. }) => return Ok(None),
    };
    let clients = route.settings.clients.as_ref().map(|clients| ClientCertificates {
        ca_path: None,
        ca_pem: Some(clients.certificates.clone()),
        mode: if clients.is_optional { ClientMode::Optional } else { ClientMode::Required },
        crl_path: None,
        crl_pem: clients.revoked.clone(),
    });
    Ok(Some(Tls { certificate, redirect: route.settings.redirect_to_https, clients }))
}

fn fleet(fleet: &freehold_model::CertificateFleet) -> Result<FleetStore, InvalidAddress> {
    let peers = fleet.peers.iter().map(|peer| TargetAddress::parse(peer)).collect::<Result<_, _>>()?;
    Ok(FleetStore { peers, key_path: None })
}

pub(in crate::engine_host) fn service_settings(
    settings: &ProxySettings,
) -> Result<ServiceSettings, InvalidAddress> {
    Ok(ServiceSettings {
        hosts: settings.hosts.iter().map(|host| HostPattern::parse(host)).collect::<Result<_, _>>()?,
        path_prefixes: settings
            .path_prefixes
            .iter()
            .map(|prefix| PathPrefix::parse(prefix))
            .collect::<Result<_, _>>()?,
        strip_path_prefix: settings.strip_path_prefix,
        health_check: health_check(&settings.health_check),
        response_timeout_ms: milliseconds(settings.response_timeout),
        forward_headers: settings.forward_headers,
        buffering: buffering(&settings.buffering),
        log_request_headers: settings.logged_headers.request.clone(),
        log_response_headers: settings.logged_headers.response.clone(),
        target_protocol: settings.target_protocol,
        target_tls: settings.target_tls.as_ref().map(target_tls),
        compression: settings.compression.clone(),
        traffic: settings.traffic.clone(),
        ..ServiceSettings::default()
    })
}

fn target_tls(wanted: &freehold_model::TargetTls) -> TargetTls {
    TargetTls { ca_path: None, ca_pem: wanted.authorities.clone(), server_name: wanted.server_name.clone() }
}

fn buffering(wanted: &freehold_model::Buffering) -> freehold_wire::Buffering {
    let default = freehold_wire::Buffering::default();
    freehold_wire::Buffering {
        requests: wanted.requests,
        responses: wanted.responses,
        memory_bytes: wanted.memory_bytes.unwrap_or(default.memory_bytes),
        max_request_bytes: wanted.max_request_body_bytes.unwrap_or(default.max_request_bytes),
        max_response_bytes: wanted.max_response_body_bytes.unwrap_or(default.max_response_bytes),
    }
}
