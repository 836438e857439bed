//! Certificates of clients (mutual TLS): which service wants them, and how one that was shown is told to the target.
//!
//! A service that wants them is agreed with by a configuration of its own. It resumes no earlier connection: each client is
//! looked at again, by the authorities and revocations of now, and nothing agreed on for another name is let in.

mod subject;
mod version;

use std::sync::Arc;
use std::time::SystemTime;

use freehold_wire::{ClientCertificates, ClientMode};
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

pub(crate) use version::VersionOne;

use crate::acme::Challenges;
use crate::certificate::config_for_clients;
use crate::table::Shared;

/// Clients' certificates cannot be asked for as a service wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientAuthError {
    #[error("cannot read the authorities of clients")]
    Read { source: std::io::Error },
    #[error("the authorities of clients hold no certificate in PEM that can be used")]
    NoAuthority,
    #[error("there is no list of revoked certificates in PEM where there should be one")]
    NoRevocations,
    #[error("the authorities of clients, or the revoked certificates, cannot be used")]
    Verifier { source: Box<dyn std::error::Error + Send + Sync> },
}

/// How the clients of a service are known, which follows its files.
pub(crate) struct ClientAuth {
    wanted: ClientCertificates,
    shared: Arc<Shared>,
    challenges: Arc<Challenges>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    check: Arc<Check>,
    stamps: [Option<(u64, SystemTime)>; 2],
}

/// The way in which clients are looked at.
pub(crate) struct Check {
    /// How encrypted connections are agreed on.
    pub(crate) config: Arc<ServerConfig>,
    /// Tells two ways apart: of authorities, revocations and mode.
    digest: [u8; 32],
}

/// What is known of the client of a connection.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    digest: [u8; 32],
    /// Of the certificate that it showed.
    pub(crate) shown: Option<ShownCertificate>,
}

/// The certificate of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShownCertificate {
    /// Its subject, as RFC 4514 writes it, in ASCII.
    pub(crate) subject: String,
    /// Its SHA-256, in hexadecimal digits.
    pub(crate) fingerprint: String,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientAuth").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl ClientAuth {
    /// Reads the authorities and the revoked certificates.
    pub(crate) fn load(
        wanted: &ClientCertificates,
        shared: &Arc<Shared>,
        challenges: &Arc<Challenges>,
    ) -> Result<Self, ClientAuthError> {
        let stamps = stamps(wanted);
        let check = Arc::new(Check::load(wanted, shared, challenges)?);
        Ok(Self {
            wanted: wanted.clone(),
            shared: Arc::clone(shared),
            challenges: Arc::clone(challenges),
            loaded: Mutex::new(Loaded { check, stamps }),
        })
    }

    /// Reads the files again if they have changed; says whether it did. What cannot be used changes nothing.
    pub(crate) fn refresh(&self) -> Result<bool, ClientAuthError> {
        let stamps = stamps(&self.wanted);
        if self.loaded.lock().stamps == stamps {
            return Ok(false);
        }
        let check = Check::load(&self.wanted, &self.shared, &self.challenges);
        let mut loaded = self.loaded.lock();
        loaded.stamps = stamps;
        loaded.check = Arc::new(check?);
        Ok(true)
    }

    /// Returns how clients are looked at now.
    pub(crate) fn check(&self) -> Arc<Check> {
        Arc::clone(&self.loaded.lock().check)
    }

    /// Says whether a client was looked at in the way of now.
    pub(crate) fn accepts(&self, identity: Option<&ClientIdentity>) -> bool {
        identity.is_some_and(|identity| identity.digest == self.loaded.lock().check.digest)
    }
}

impl Check {
    fn load(
        wanted: &ClientCertificates,
        shared: &Arc<Shared>,
        challenges: &Arc<Challenges>,
    ) -> Result<Self, ClientAuthError> {
        let read = |path: &str| fs_err::read(path).map_err(|source| ClientAuthError::Read { source });
        let authorities = match (&wanted.ca_path, &wanted.ca_pem) {
            (Some(path), _) => read(path)?,
            (None, pem) => pem.clone().unwrap_or_default().into_bytes(),
        };
        let revoked = match (&wanted.crl_path, &wanted.crl_pem) {
            (Some(path), _) => Some(read(path)?),
            (None, pem) => pem.clone().map(String::into_bytes),
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&authorities).filter_map(Result::ok);
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(ClientAuthError::NoAuthority);
        }
        let lists = revoked.as_deref().map(revocations).transpose()?.unwrap_or_default();
        let provider = Arc::new(ring::default_provider());
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
        if wanted.mode == ClientMode::Optional {
            builder = builder.allow_unauthenticated();
        }
        let verifier =
            builder.build().map_err(|error| ClientAuthError::Verifier { source: Box::new(error) })?;
        let verifier = version::telling(verifier);
        let config = config_for_clients(Arc::clone(shared), Arc::clone(challenges), verifier)
            .map_err(|error| ClientAuthError::Verifier { source: Box::new(error) })?;
        let mut digest = Sha256::new();
        for part in [&authorities[..], revoked.as_deref().unwrap_or_default()] {
            digest.update(Sha256::digest(part));
        }
        digest.update([u8::from(wanted.mode == ClientMode::Optional)]);
        Ok(Self { config, digest: digest.finalize().into() })
    }

    /// Takes note of who a client is that was just agreed with in this way.
    pub(crate) fn identity(&self, certificates: Option<&[CertificateDer<'_>]>) -> ClientIdentity {
        let leaf = certificates.and_then(<[_]>::first);
        ClientIdentity { digest: self.digest, shown: leaf.map(|leaf| ShownCertificate::of(leaf)) }
    }
}

impl ShownCertificate {
    fn of(certificate: &[u8]) -> Self {
        let digest = Sha256::digest(certificate);
        Self {
            subject: subject::of(certificate).unwrap_or_default(),
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

fn revocations(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ClientAuthError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    let lists = lists.ok().filter(|lists| !lists.is_empty());
    lists.ok_or(ClientAuthError::NoRevocations)
}

fn stamps(wanted: &ClientCertificates) -> [Option<(u64, SystemTime)>; 2] {
    [&wanted.ca_path, &wanted.crl_path].map(|path| {
        let metadata = fs_err::metadata(path.as_deref()?).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    })
}
