//! Encrypted connections to targets: whose certificates are trusted, and by which name.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use freehold_wire::{TargetAddress, TargetProtocol, TargetTls};
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http2;
use crate::link::TargetSocket;

/// Targets that speak TLS cannot be known as a service wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetTlsError {
    #[error("cannot read the authorities of targets")]
    Read { source: io::Error },
    #[error("the authorities of targets hold no certificate in PEM that can be used")]
    NoAuthority,
    #[error("`{name}` is neither a host name nor an IP address")]
    Name { name: String, source: InvalidDnsNameError },
    #[error("encrypted connections to targets cannot be set up")]
    Setup { source: rustls::Error },
}

/// There is no encrypted connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTrusted {
    #[error(transparent)]
    Trust(#[from] TargetTlsError),
    #[error(transparent)]
    Handshake(#[from] io::Error),
}

/// By what a target is known.
#[derive(Debug)]
pub(crate) struct Trust {
    server_name: Option<ServerName<'static>>,
    /// Offers HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    /// Offers HTTP/2 first.
    http2: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the authorities.
    pub(crate) fn load(wanted: &TargetTls) -> Result<Self, TargetTlsError> {
        let text = match (&wanted.ca_path, &wanted.ca_pem) {
            (Some(path), _) => Some(fs_err::read(path).map_err(|source| TargetTlsError::Read { source })?),
            (None, pem) => pem.clone().map(String::into_bytes),
        };
        let mut roots = RootCertStore::empty();
        match text {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(text) => {
                let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
                if roots.add_parsable_certificates(certificates).0 == 0 {
                    return Err(TargetTlsError::NoAuthority);
                }
            }
        }
        Self::of(roots, wanted)
    }

    fn of(roots: RootCertStore, wanted: &TargetTls) -> Result<Self, TargetTlsError> {
        let provider = Arc::new(ring::default_provider());
        let setup = |source| TargetTlsError::Setup { source };
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(setup)?;
        let mut http1 = builder.with_root_certificates(roots).with_no_client_auth();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![http2::ALPN.to_vec(), b"http/1.1".to_vec()];
        let server_name = wanted.server_name.as_deref().map(server_name).transpose()?;
        Ok(Self { server_name, http1: Arc::new(http1), http2: Arc::new(http2) })
    }

    /// Agrees with a target on an encrypted connection.
    ///
    /// # Cancel safety
    /// Dropped, it ends the connection.
    pub(crate) async fn agree(
        &self,
        protocol: TargetProtocol,
        target: &TargetAddress,
        stream: TcpStream,
    ) -> Result<TargetSocket, NotTrusted> {
        let config = if protocol == TargetProtocol::H2 { &self.http2 } else { &self.http1 };
        let name = self.server_name.clone().map_or_else(|| server_name(target.host()), Ok)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(TargetSocket::Tls(Box::new(stream)))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, TargetTlsError> {
    ServerName::try_from(text.trim_matches(['[', ']']).to_owned())
        .map_err(|source| TargetTlsError::Name { name: text.to_owned(), source })
}

/// By what the targets of a service are known, which follows its file.
#[derive(Debug)]
pub(crate) struct TargetAuthorities {
    wanted: TargetTls,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// None where nobody is trusted.
    trust: Option<Arc<Trust>>,
    stamp: Option<(u64, SystemTime)>,
}

impl TargetAuthorities {
    /// Reads the authorities.
    pub(crate) fn load(wanted: &TargetTls) -> Result<Self, TargetTlsError> {
        let stamp = stamp(wanted);
        let trust = Some(Arc::new(Trust::load(wanted)?));
        Ok(Self { wanted: wanted.clone(), loaded: Mutex::new(Loaded { trust, stamp }) })
    }

    /// Trusts nobody until the authorities can be read.
    pub(crate) fn none(wanted: &TargetTls) -> Self {
        Self { wanted: wanted.clone(), loaded: Mutex::new(Loaded { trust: None, stamp: None }) }
    }

    /// Reads the file again if it has changed; says whether it did. What cannot be used changes nothing.
    pub(crate) fn refresh(&self) -> Result<bool, TargetTlsError> {
        let stamp = stamp(&self.wanted);
        if self.loaded.lock().stamp == stamp {
            return Ok(false);
        }
        let trust = Trust::load(&self.wanted);
        let mut loaded = self.loaded.lock();
        loaded.stamp = stamp;
        loaded.trust = Some(Arc::new(trust?));
        Ok(true)
    }

    /// Returns by what targets are known now.
    pub(crate) fn trust(&self) -> Option<Arc<Trust>> {
        self.loaded.lock().trust.clone()
    }
}

fn stamp(wanted: &TargetTls) -> Option<(u64, SystemTime)> {
    let metadata = fs_err::metadata(wanted.ca_path.as_deref()?).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Says whether a text may be the name in a target's certificate.
pub(crate) fn is_server_name(text: &str) -> bool {
    server_name(text).is_ok()
}
