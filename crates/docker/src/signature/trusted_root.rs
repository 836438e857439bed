//! Whom keyless signatures are trusted for: Sigstore's `trusted_root.json`. Source: github.com/sigstore/protobuf-specs,
//! protos/sigstore_trustroot.proto.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::certificate::Certificate;
use super::key::PublicKey;

/// Authorities and logs that are trusted, each for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    pub(super) authorities: Vec<Authority>,
    /// Transparency logs of signatures (Rekor).
    pub(super) logs: Vec<Log>,
    /// Transparency logs of certificates.
    pub(super) certificate_logs: Vec<Log>,
}

/// An authority that issues certificates (Fulcio).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Its certificates, the root's last. Never empty.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) valid: Period,
}

/// A log and the key with which it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) id: Vec<u8>,
    pub(super) key: PublicKey,
    pub(super) valid: Period,
}

/// For how long something is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Period {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Period {
    pub(super) fn holds(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

/// A text that is no trusted root.
#[derive(Debug, thiserror::Error)]
pub enum TrustedRootError {
    /// It is something else.
    #[error("it is no `trusted_root.json` of Sigstore")]
    Form(#[source] serde_json::Error),
    /// It is of a kind that is not known.
    #[error(
        "its `mediaType` is `{0}`, not `application/vnd.dev.sigstore.trustedroot+json;version=0.1` or `…v0.2+json`"
    )]
    Kind(String),
    /// A certificate or key in it cannot be read.
    #[error("a certificate or key under `{0}` cannot be read")]
    Content(&'static str),
    /// It trusts nobody.
    #[error("it has nothing usable under `{0}`; keys of logs have to be ECDSA P-256 or Ed25519")]
    Empty(&'static str),
}

// Others add fields to this form as they need them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogEntry>,
    #[serde(default)]
    ctlogs: Vec<LogEntry>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    public_key: KeyEntry,
    log_id: LogId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyEntry {
    raw_bytes: String,
    #[serde(default)]
    valid_for: Option<Period>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogId {
    pub(super) key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityEntry {
    cert_chain: Chain,
    #[serde(default)]
    valid_for: Option<Period>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

/// Where no time is given, something is trusted always.
const ALWAYS: Period = Period { start: None, end: None };

impl TrustedRoot {
    /// Reads a `trusted_root.json`, as Sigstore publishes it and `cosign trusted-root create` makes it.
    ///
    /// # Errors
    /// [`TrustedRootError`].
    pub fn parse(text: &[u8]) -> Result<Self, TrustedRootError> {
        let file: File = serde_json::from_slice(text).map_err(TrustedRootError::Form)?;
        let kind = file.media_type.as_str();
        if !kind.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(TrustedRootError::Kind(file.media_type));
        }
        let mut authorities = Vec::new();
        for entry in file.certificate_authorities {
            authorities.push(authority(&entry).ok_or(TrustedRootError::Content("certificateAuthorities"))?);
        }
        if authorities.is_empty() {
            return Err(TrustedRootError::Empty("certificateAuthorities"));
        }
        Ok(Self {
            authorities,
            logs: logs(file.tlogs, "tlogs")?,
            certificate_logs: logs(file.ctlogs, "ctlogs")?,
        })
    }
}

fn authority(entry: &AuthorityEntry) -> Option<Authority> {
    let mut chain = Vec::new();
    for certificate in &entry.cert_chain.certificates {
        let der = STANDARD.decode(&certificate.raw_bytes).ok()?;
        Certificate::read(&der)?;
        chain.push(CertificateDer::from(der));
    }
    (!chain.is_empty()).then(|| Authority { chain, valid: entry.valid_for.unwrap_or(ALWAYS) })
}

/// Returns the logs whose keys are of a kind that is known.
fn logs(entries: Vec<LogEntry>, name: &'static str) -> Result<Vec<Log>, TrustedRootError> {
    let mut logs = Vec::new();
    for entry in entries {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| TrustedRootError::Content(name));
        let key = decode(&entry.public_key.raw_bytes)?;
        let id = decode(&entry.log_id.key_id)?;
        if let Ok(key) = PublicKey::from_der(&key) {
            logs.push(Log { id, key, valid: entry.public_key.valid_for.unwrap_or(ALWAYS) });
        }
    }
    if logs.is_empty() { Err(TrustedRootError::Empty(name)) } else { Ok(logs) }
}
