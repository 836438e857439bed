//! The proofs, asked for by certificate authorities, that a name leads to this proxy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// Where an authority looks for a proof by HTTP (RFC 8555, section 8.3).
pub(crate) const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// The protocol by which it asks for a proof by TLS (RFC 8737).
pub(crate) const TLS_PROTOCOL: &[u8] = b"acme-tls/1";

/// The proofs that are asked for just now, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    open: AtomicUsize,
    answers: RwLock<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    /// By token.
    texts: BTreeMap<String, String>,
    /// By name.
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
}

/// A proof that is there to be looked at until this is dropped.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    challenges: &'a Challenges,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Token(String),
    Name(String),
}

/// The certificate that proves a name cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate that proves the name")]
pub(super) struct ProofError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Challenges {
    /// Returns the proof for a path, as it was sent, if one is asked for.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        // Nearly always there are none, and no lock is needed to know it.
        if self.open.load(Ordering::Acquire) == 0 {
            return None;
        }
        let token = path.strip_prefix(HTTP_PATH)?;
        self.answers.read().texts.get(token).cloned()
    }

    /// Returns the proof for a name, if one is asked for.
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.answers.read().certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Shows a proof by HTTP.
    pub(super) fn show_text(&self, token: &str, text: &str) -> Shown<'_> {
        self.answers.write().texts.insert(token.to_owned(), text.to_owned());
        self.shown(Place::Token(token.to_owned()))
    }

    /// Shows a proof by TLS: a certificate with the digest of the text.
    pub(super) fn show_certificate(&self, name: &str, digest: &[u8]) -> Result<Shown<'_>, ProofError> {
        let certified = proof(name, digest).map_err(|source| ProofError { source })?;
        self.answers.write().certificates.insert(name.to_owned(), Arc::new(certified));
        Ok(self.shown(Place::Name(name.to_owned())))
    }

    fn shown(&self, place: Place) -> Shown<'_> {
        self.open.fetch_add(1, Ordering::AcqRel);
        Shown { challenges: self, place }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut answers = self.challenges.answers.write();
        match &self.place {
            Place::Token(token) => drop(answers.texts.remove(token)),
            Place::Name(name) => drop(answers.certificates.remove(name)),
        }
        self.challenges.open.fetch_sub(1, Ordering::AcqRel);
    }
}

fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new([name.to_owned()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = CertificateDer::from(parameters.self_signed(&key)?.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // No check that the two belong together: it would stumble over the extension, which is critical and meant for the
    // authority alone.
    let key = ring::default_provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_there_as_long_as_it_is_shown() {
        let challenges = Challenges::default();
        let path = "/.well-known/acme-challenge/token-1";
        assert_eq!(challenges.text(path), None);
        let shown = challenges.show_text("token-1", "token-1.print");
        let other = challenges.show_certificate("shop.example.com", &[7; 32]).unwrap();
        assert_eq!(challenges.text(path).as_deref(), Some("token-1.print"));
        assert_eq!(challenges.text("/.well-known/acme-challenge/token-2"), None);
        assert_eq!(challenges.text("/token-1"), None);
        assert!(challenges.certificate("Shop.Example.com").is_some());
        assert!(challenges.certificate("www.shop.example.com").is_none());
        drop((shown, other));
        assert_eq!(challenges.text(path), None);
        assert!(challenges.certificate("shop.example.com").is_none());
    }
}
