//! What a service needs beside its settings: pages for errors, and its certificate.

use std::path::Path;
use std::sync::Arc;

use freehold_model::ProxyServiceName;
use freehold_wire::{CertificateSource, ServiceSettings};

use crate::acme::{AcmeError, Keeper};
use crate::certificate::{Certificate, CertificateError};
use crate::table::ServiceCertificate;
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
}

pub(super) fn load_certificate(
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
