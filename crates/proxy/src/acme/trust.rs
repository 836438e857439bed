//! Whom the proxy trusts when it talks to servers elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    #[error("cannot read the trusted certificates")]
    Read { source: std::io::Error },
    #[error("`{path}` holds no certificate in PEM", path = path.display())]
    Empty { path: PathBuf },
    #[error("encrypted connections to a certificate authority cannot be set up")]
    Tls { source: rustls::Error },
}

/// Which certificates are trusted beside those in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Public,
}

/// Makes what encrypted connections to servers of the public are made with, and to those that a file of certificates trusts.
pub(crate) fn public_connector(roots: Option<&Path>) -> Result<TlsConnector, RootsError> {
    connector(roots, Beside::Public)
}

/// Makes a connector; without a file of its own, the public certificates are trusted.
pub(super) fn connector(roots: Option<&Path>, beside: Beside) -> Result<TlsConnector, RootsError> {
    let mut trusted = RootCertStore::empty();
    if roots.is_none() || beside == Beside::Public {
        trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = roots {
        let text = fs_err::read(path).map_err(|source| RootsError::Read { source })?;
        let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
        if trusted.add_parsable_certificates(certificates).0 == 0 {
            return Err(RootsError::Empty { path: path.to_owned() });
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions =
        builder.with_safe_default_protocol_versions().map_err(|source| RootsError::Tls { source })?;
    Ok(TlsConnector::from(Arc::new(versions.with_root_certificates(trusted).with_no_client_auth())))
}
