//! Certificates of services, and the choice of one by the name that a client asks for.

pub(crate) mod details;

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::ring::cipher_suite;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};

use crate::acme::{Challenges, Managed, OnDemand, TLS_PROTOCOL};
use crate::client_auth::ClientAuth;
use crate::http2::ALPN;
use details::Details;

use crate::table::{ServiceCertificate, Shared, Table};
use crate::ticket::Tickets;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot read the file")]
    Read { source: io::Error },
    #[error("`{path}` holds no certificate in PEM", path = path.display())]
    Chain { path: PathBuf },
    #[error("`{path}` holds no private key in PEM", path = path.display())]
    Key { path: PathBuf },
    #[error("the private key does not belong to the certificate, or one of them cannot be used")]
    Mismatch { source: rustls::Error },
}

/// A service's certificate, which follows its files.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    certified: Arc<CertifiedKey>,
    stamps: Stamps,
}

type Stamps = [Option<(u64, SystemTime)>; 2];

impl Certificate {
    /// Reads a certificate with its chain, and its key.
    pub(crate) fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let (chain, key) = (chain.to_owned(), key.to_owned());
        let stamps = stamps(&chain, &key);
        let certified = Arc::new(read(&chain, &key)?);
        Ok(Self { chain, key, loaded: Mutex::new(Loaded { certified, stamps }) })
    }

    /// Reads the files again if they have changed; says whether it did. What cannot be used changes nothing.
    pub(crate) fn refresh(&self) -> Result<bool, CertificateError> {
        let stamps = stamps(&self.chain, &self.key);
        if self.loaded.lock().stamps == stamps {
            return Ok(false);
        }
        let certified = read(&self.chain, &self.key);
        let mut loaded = self.loaded.lock();
        // A file that cannot be used is looked at again when it has changed again.
        loaded.stamps = stamps;
        loaded.certified = Arc::new(certified?);
        Ok(true)
    }

    /// Returns when it ends, in seconds since 1970.
    pub(crate) fn end(&self) -> Option<i64> {
        Some(Details::read(self.current().cert.first()?)?.valid.end)
    }

    /// Returns the certificate as it is served.
    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.loaded.lock().certified)
    }
}

fn stamps(chain: &Path, key: &Path) -> Stamps {
    let stamp = |metadata: Metadata| Some((metadata.len(), metadata.modified().ok()?));
    [chain, key].map(|path| fs_err::metadata(path).ok().and_then(stamp))
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let text = |path: &Path| fs_err::read(path).map_err(|source| CertificateError::Read { source });
    parse((&text(chain)?, chain), (&text(key)?, key))
}

/// Reads a certificate with its chain, and its key, from texts whose places are told where they cannot be used.
pub(crate) fn parse(
    (chain_text, chain): (&[u8], &Path),
    (key_text, key): (&[u8], &Path),
) -> Result<CertifiedKey, CertificateError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_text).collect();
    let certificates = certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| CertificateError::Chain { path: chain.to_owned() })?;
    let private_key = PrivateKeyDer::from_pem_slice(key_text)
        .map_err(|_| CertificateError::Key { path: key.to_owned() })?;
    CertifiedKey::from_der(certificates, private_key, &ring::default_provider())
        .map_err(|source| CertificateError::Mismatch { source })
}

/// Chooses a certificate by the name that the client asks for, and the first one for a client that names none.
#[derive(Debug)]
struct Chooser {
    shared: Arc<Shared>,
    challenges: Arc<Challenges>,
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (_, table) = self.shared.load();
        choose(&table, &self.challenges, hello.server_name(), asks_for_proof(&hello))
    }
}

/// Says whether a client is a certificate authority that wants a proof, and nothing else.
pub(crate) fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == TLS_PROTOCOL))
}

/// Chooses a certificate by the name that a client asks for.
pub(crate) fn choose(
    table: &Table,
    challenges: &Challenges,
    server_name: Option<&str>,
    is_proof: bool,
) -> Option<Arc<CertifiedKey>> {
    match server_name {
        name if is_proof => challenges.certificate(name?),
        Some(name) => table.route(name, "/")?.service.certificate.as_ref()?.find(name),
        None => table.services().find_map(|service| service.certificate.as_ref()?.any()),
    }
}

/// Returns the name whose certificate is just being ordered for the first time.
pub(crate) fn awaited(table: &Table, server_name: &str) -> Option<Arc<Managed>> {
    match table.route(server_name, "/")?.service.certificate.as_ref()? {
        ServiceCertificate::Automatic(automatic) => automatic.awaited(server_name),
        ServiceCertificate::Files(_) => None,
    }
}

/// Returns who is to be asked for the certificate of a name that is not known yet.
pub(crate) fn to_ask(table: &Table, server_name: &str) -> Option<Arc<OnDemand>> {
    match table.route(server_name, "/")?.service.certificate.as_ref()? {
        ServiceCertificate::Automatic(automatic) => automatic.to_ask(server_name),
        ServiceCertificate::Files(_) => None,
    }
}

/// In our order, whatever a client prefers: all have forward secrecy and are authenticated, and of those the cheapest goes first.
const CIPHERS: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Makes what encrypted connections are accepted with.
pub(crate) fn server_config(
    shared: Arc<Shared>,
    challenges: Arc<Challenges>,
    tickets: Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = config(Chooser { shared, challenges }, WebPkiClientVerifier::no_client_auth())?;
    config.ticketer = tickets;
    Ok(Arc::new(config))
}

/// Makes what encrypted connections are accepted with whose clients show certificates. Nothing is resumed.
pub(crate) fn config_for_clients(
    shared: Arc<Shared>,
    challenges: Arc<Challenges>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = config(Chooser { shared, challenges }, verifier)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn config(chooser: Chooser, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error> {
    let provider = CryptoProvider { cipher_suites: CIPHERS.to_vec(), ..ring::default_provider() };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider));
    // TLS 1.3 and 1.2.
    let versions = builder.with_safe_default_protocol_versions()?;
    let mut config = versions.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(chooser));
    config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec(), TLS_PROTOCOL.to_vec()];
    config.ignore_client_order = true;
    Ok(config)
}

/// Returns how the clients of a name are known, where they have to be.
pub(crate) fn clients_of(table: &Table, server_name: &str) -> Option<Arc<ClientAuth>> {
    if !table.knows_clients() {
        return None;
    }
    table.route(server_name, "/")?.service.client_auth.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(certificate: &str, key: &str) -> Result<Certificate, CertificateError> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        Certificate::load(&folder.join(certificate), &folder.join(key))
    }

    // proxy-compat case 172.
    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        assert!(load("first.crt", "first.key").is_ok());
        let load = |certificate, key| load(certificate, key).unwrap_err();
        assert!(matches!(load("first.crt", "second.key"), CertificateError::Mismatch { .. }));
        assert!(matches!(load("first.key", "first.key"), CertificateError::Chain { .. }));
        assert!(matches!(load("first.crt", "first.crt"), CertificateError::Key { .. }));
        assert!(matches!(load("none.crt", "first.key"), CertificateError::Read { .. }));
    }
}
