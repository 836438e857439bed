//! The proofs, asked for by certificate authorities, that a name leads to this proxy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Proven, TOKEN};

/// Where an authority looks for a proof by HTTP (RFC 8555, section 8.3).
pub(crate) const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// The protocol by which it asks for a proof by TLS (RFC 8737).
pub(crate) const TLS_PROTOCOL: &[u8] = b"acme-tls/1";

/// How long a proof is shown that another proxy of a fleet was asked for.
const LENT: Duration = Duration::from_secs(10 * 60);

/// The proofs that are asked for just now, shared by all threads.
#[derive(Default)]
pub(crate) struct Challenges {
    open: AtomicUsize,
    answers: RwLock<Answers>,
    /// By the names of their keys.
    fleets: RwLock<BTreeMap<String, Arc<Fleet>>>,
}

#[derive(Debug, Default)]
struct Answers {
    /// By token.
    texts: BTreeMap<String, String>,
    /// By name.
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
    /// Those that another proxy of a fleet has told, by token and by name, and when.
    lent_texts: BTreeMap<String, (Proven, Instant)>,
    lent_certificates: BTreeMap<String, (Arc<CertifiedKey>, Instant)>,
}

/// A proof that another proxy of a fleet was asked for, as it is handed over to a new process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LentProof {
    proven: Proven,
    /// For how long it has been shown.
    age_ms: u64,
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

impl fmt::Debug for Challenges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Challenges").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Challenges {
    /// Returns what is said for a path and query, as they were sent: a proof, or an answer to another proxy of the fleet.
    pub(crate) fn answer(&self, path: &str, query: Option<&str>) -> Option<String> {
        if path.strip_prefix(HTTP_PATH) == Some(TOKEN) {
            let (key, sealed) = query?.split_once('.')?;
            let fleet = self.fleets.read().get(key).cloned()?;
            return fleet.receive(self, sealed);
        }
        self.text(path)
    }

    /// Lets the proxies of a fleet be heard.
    pub(super) fn hear(&self, fleet: &Arc<Fleet>) {
        self.fleets.write().insert(fleet.key.id().to_owned(), Arc::clone(fleet));
    }

    /// Shows a proof, for a while, that another proxy of the fleet was asked for.
    pub(super) fn lend(&self, proven: &Proven) {
        self.lend_since(proven, Instant::now());
    }

    /// Returns what is shown for others, for a process that takes over.
    pub(crate) fn lent(&self) -> Vec<LentProof> {
        let answers = self.answers.read();
        let lent = answers.lent_texts.values().map(|(proven, at)| LentProof {
            proven: proven.clone(),
            age_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        lent.collect()
    }

    /// Goes on to show what the process before has shown for others.
    pub(crate) fn lend_again(&self, lent: &[LentProof]) {
        for LentProof { proven, age_ms } in lent {
            if let Some(at) = Instant::now().checked_sub(Duration::from_millis(*age_ms)) {
                self.lend_since(proven, at);
            }
        }
    }

    fn lend_since(&self, proven: &Proven, now: Instant) {
        let certified = proof(&proven.name, &proven.digest).ok();
        let mut answers = self.answers.write();
        answers.lent_texts.retain(|_, (_, at)| at.elapsed() < LENT);
        answers.lent_certificates.retain(|_, (_, at)| at.elapsed() < LENT);
        answers.lent_texts.insert(proven.token.clone(), (proven.clone(), now));
        if let Some(certified) = certified {
            answers.lent_certificates.insert(proven.name.clone(), (Arc::new(certified), now));
        }
        drop(answers);
        // Never taken back: from now on there may be some.
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the proof for a path, as it was sent, if one is asked for.
    fn text(&self, path: &str) -> Option<String> {
        // Nearly always there are none, and no lock is needed to know it.
        if self.open.load(Ordering::Acquire) == 0 {
            return None;
        }
        let token = path.strip_prefix(HTTP_PATH)?;
        let answers = self.answers.read();
        let lent = || answers.lent_texts.get(token).filter(|(_, at)| at.elapsed() < LENT);
        answers.texts.get(token).or_else(|| lent().map(|(proven, _)| &proven.text)).cloned()
    }

    /// Returns the proof for a name, if one is asked for.
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let (answers, name) = (self.answers.read(), name.to_ascii_lowercase());
        let lent = || answers.lent_certificates.get(&name).filter(|(_, at)| at.elapsed() < LENT);
        answers.certificates.get(&name).or_else(|| lent().map(|(certified, _)| certified)).cloned()
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
    fn what_is_shown_for_others_goes_on_in_a_process_that_takes_over() {
        let (first, next) = (Challenges::default(), Challenges::default());
        let proven = Proven {
            name: "shop.example.com".to_owned(),
            token: "token-1".to_owned(),
            text: "token-1.print".to_owned(),
            digest: vec![7; 32],
        };
        first.lend(&proven);
        let lent: Vec<LentProof> =
            serde_json::from_str(&serde_json::to_string(&first.lent()).unwrap()).unwrap();
        next.lend_again(&lent);
        let path = "/.well-known/acme-challenge/token-1";
        assert_eq!(next.text(path).as_deref(), Some("token-1.print"));
        assert!(next.certificate("shop.example.com").is_some());
        let over = LentProof { proven, age_ms: u64::try_from(LENT.as_millis()).unwrap() };
        let late = Challenges::default();
        late.lend_again(&[over]);
        assert_eq!(late.text(path), None, "not for longer than otherwise");
    }

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
