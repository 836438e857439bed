//! What a service needs beside its settings: pages for errors, and its certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{
    CertificateSource, CertificateState, CertificateStatus, DeployRequest, ErrorCode, ErrorReply,
    ServiceSettings,
};

use tokio::time::sleep;

use super::{Control, chain, refusal};
use crate::acme::{AcmeError, Keeper, time_text};
use crate::certificate::{Certificate, CertificateError};
use crate::client_auth::{ClientAuth, ClientAuthError};
use crate::clock::Clock;
use crate::table::{Service, ServiceCertificate, Shared};
use crate::target_tls::{TargetAuthorities, TargetTlsError};
use crate::template::{ErrorPages, PagesError};

pub(super) fn load_pages(settings: &ServiceSettings) -> Result<Option<Arc<ErrorPages>>, PagesError> {
    let folder = settings.error_pages.as_deref().map(Path::new);
    folder.map(|folder| ErrorPages::load(folder).map(Arc::new)).transpose()
}

/// A service's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceCertificateError {
    #[error(transparent)]
    Files(#[from] CertificateError),
    #[error(transparent)]
    Automatic(#[from] AcmeError),
    #[error(transparent)]
    Clients(#[from] ClientAuthError),
}

/// Keeps the key of a fleet that came with a deploy.
pub(super) fn keep_fleet_key(
    keeper: &Keeper,
    service: &ProxyServiceName,
    request: &DeployRequest,
) -> Result<(), ErrorReply> {
    let Some(key) = &request.fleet_key else { return Ok(()) };
    keeper.keep_key(service, key).map_err(|error| {
        refusal(ErrorCode::State, format!("the key of the fleet cannot be stored: {}", chain(&error)))
    })
}

/// Reads by whom a service's targets are trusted, where they speak TLS.
pub(super) fn load_authorities(
    settings: &ServiceSettings,
) -> Result<Option<Arc<TargetAuthorities>>, TargetTlsError> {
    if !settings.target_protocol.is_encrypted() {
        return Ok(None);
    }
    let wanted = settings.target_tls.clone().unwrap_or_default();
    Ok(Some(Arc::new(TargetAuthorities::load(&wanted)?)))
}

/// What a service is served over HTTPS with.
#[derive(Debug, Default)]
pub(super) struct Encryption {
    pub(super) certificate: Option<ServiceCertificate>,
    pub(super) client_auth: Option<Arc<ClientAuth>>,
}

/// Loads a service's certificate and, where clients are to show theirs, by whom those are trusted.
pub(super) fn load_encryption(
    keeper: &Keeper,
    shared: &Arc<Shared>,
    service: &ProxyServiceName,
    settings: &ServiceSettings,
) -> Result<Encryption, ServiceCertificateError> {
    let clients = settings.tls.as_ref().and_then(|tls| tls.clients.as_ref());
    let load = |clients| ClientAuth::load(clients, shared, &keeper.challenges()).map(Arc::new);
    let client_auth = clients.map(load).transpose()?;
    Ok(Encryption { certificate: load_certificate(keeper, service, settings)?, client_auth })
}

fn load_certificate(
    keeper: &Keeper,
    service: &ProxyServiceName,
    settings: &ServiceSettings,
) -> Result<Option<ServiceCertificate>, ServiceCertificateError> {
    Ok(match settings.tls.as_ref().map(|tls| &tls.certificate) {
        None => None,
        Some(CertificateSource::Files { certificate_path, private_key_path }) => {
            let certificate = Certificate::load(certificate_path.as_ref(), private_key_path.as_ref())?;
            Some(ServiceCertificate::Files(Arc::new(certificate)))
        }
        Some(CertificateSource::Acme(acme)) => {
            Some(ServiceCertificate::Automatic(keeper.certificates(service, acme, &settings.hosts)?))
        }
    })
}

/// Says how a service's certificates stand.
pub(super) fn statuses(service: &Service) -> Vec<CertificateStatus> {
    let (state, end, error) = match &service.certificate {
        Some(ServiceCertificate::Automatic(automatic)) => return automatic.statuses(),
        None if service.settings.tls.is_none() => return Vec::new(),
        None => (CertificateState::Failed, None, Some("it cannot be loaded".to_owned())),
        Some(ServiceCertificate::Files(certificate)) => {
            let end = certificate.end();
            let is_over =
                end.is_some_and(|end| Duration::from_secs(end.try_into().unwrap_or(0)) < Clock::unix());
            match is_over {
                true => (CertificateState::Failed, end, Some("it has ended".to_owned())),
                false => (CertificateState::Valid, end, None),
            }
        }
    };
    let hosts = service.settings.hosts.iter().map(ToString::to_string).filter(|host| !host.is_empty());
    let mut names: Vec<String> = hosts.collect();
    if names.is_empty() {
        names.push("*".to_owned());
    }
    let status = |name| CertificateStatus {
        name,
        state,
        expires_at: end.and_then(time_text),
        next_order_at: None,
        error: error.clone(),
    };
    names.into_iter().map(status).collect()
}

impl Control {
    /// Reads certificates again whose files have changed, and those that could not be read when the proxy started, until the
    /// proxy stops.
    pub(crate) async fn watch_certificates(&self, interval: Duration) {
        while self.stopping.run_until_cancelled(sleep(interval)).await.is_some() {
            let (_, table) = self.shared.load();
            for service in table.services() {
                if let Some(clients) = &service.client_auth {
                    self.refreshed(service, "Authorities of clients", clients.refresh());
                }
                if let Some(authorities) = &service.target_authorities {
                    self.refreshed(service, "Authorities of targets", authorities.refresh());
                }
                match &service.certificate {
                    Some(ServiceCertificate::Files(certificate)) => {
                        self.refreshed(service, "Certificate", certificate.refresh());
                    }
                    None if service.settings.tls.is_some() => self.load_late(service),
                    None | Some(ServiceCertificate::Automatic(_)) => {}
                }
            }
        }
    }

    /// Tells what became of reading files of a service again.
    fn refreshed<E: std::error::Error>(&self, service: &Service, what: &str, outcome: Result<bool, E>) {
        match outcome {
            Ok(false) => {}
            Ok(true) => self.log.info(&format!("{what} reloaded"), &[("service", &service.name)]),
            Err(error) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("service", &service.name), ("error", &chain(&error))];
                self.log.error(&format!("{what} not reloaded"), &fields);
            }
        }
    }

    /// Tries to load the certificate of a service that was restored without one.
    fn load_late(&self, service: &Arc<Service>) {
        // That it cannot be loaded was told when the proxy started.
        let loaded = load_encryption(&self.keeper, &self.shared, &service.name, &service.settings);
        let Ok(Encryption { certificate, client_auth }) = loaded else { return };
        let _ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        if table.service(&service.name).is_some_and(|now| Arc::ptr_eq(now, service)) {
            self.shared.store(table.with(Arc::new(Service {
                certificate,
                client_auth,
                ..Service::clone(service)
            })));
            self.log.info("Certificate loaded", &[("service", &service.name)]);
        }
    }

    /// Returns when the certificates end that are served, by host.
    pub(super) fn certificate_ends(&self) -> Vec<(String, i64)> {
        let (_, table) = self.shared.load();
        let mut ends = Vec::new();
        for service in table.services() {
            match &service.certificate {
                None => {}
                Some(ServiceCertificate::Automatic(automatic)) => ends.extend(automatic.ends()),
                Some(ServiceCertificate::Files(certificate)) => {
                    let hosts = service.settings.hosts.iter().map(ToString::to_string);
                    ends.extend(hosts.filter_map(|host| Some((host, certificate.end()?))));
                }
            }
        }
        ends
    }
}
