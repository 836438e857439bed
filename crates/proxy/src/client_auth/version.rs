//! Certificates of X.509 version 1, which cannot be looked at: that is said, and not only that something is wrong.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::certificate::details::{Reader, SEQUENCE, VERSION};

/// A certificate is of a version that says nothing of what it may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is of X.509 version 1, without extensions; certificates of clients must be of version 3")]
pub(crate) struct VersionOne;

/// Looks at clients as another verifier does, and says where a certificate is of version 1.
#[derive(Debug)]
struct Telling(Arc<dyn ClientCertVerifier>);

/// Makes a verifier say it.
pub(super) fn telling(verifier: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Telling(verifier))
}

/// Says whether a certificate in DER is of version 1: the field is left out then (RFC 5280, section 4.1.2.1).
fn is_version_one(certificate: &[u8]) -> bool {
    let first_tag = || {
        let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
        Reader(outer.expect(SEQUENCE)?).next().map(|(tag, _)| tag)
    };
    first_tag().is_some_and(|tag| tag != VERSION)
}

impl ClientCertVerifier for Telling {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(leaf, chain, now);
        verified.map_err(|error| match [leaf].into_iter().chain(chain).any(|shown| is_version_one(shown)) {
            true => CertificateError::Other(OtherError(Arc::new(VersionOne))).into(),
            false => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
