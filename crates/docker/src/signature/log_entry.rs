//! An entry of a transparency log of signatures, and the log's promise that it has it. Source: github.com/sigstore/rekor,
//! types.md, pkg/types/hashedrekord/v0.0.1 and pkg/types/dsse/v0.0.1; the promise is that of `SignedEntryTimestamp`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::keyless::KeylessError;
use super::trusted_root::Log;
use crate::scratch_image::hex;

/// An entry, as it is kept beside a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogEntry {
    /// What the log keeps: JSON in its canonical form.
    pub(super) body: Vec<u8>,
    /// When the log took it, in seconds since 1970.
    pub(super) time: i64,
    pub(super) index: i64,
    /// Which log.
    pub(super) log: Vec<u8>,
    /// The log's signature over all of that; newer logs (Rekor 2) give none.
    pub(super) promise: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
    spec: serde_json::Value,
}

#[derive(Deserialize)]
struct HashedRecord {
    data: Hashed,
    signature: Signature,
}

#[derive(Deserialize)]
struct Hashed {
    hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    content: String,
    public_key: Key,
}

#[derive(Deserialize)]
struct Key {
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_hash: Hash,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

/// What an entry has to be about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    /// What was signed; of an envelope its content.
    pub(super) payload: &'a [u8],
    /// Whether that is in an envelope.
    pub(super) is_envelope: bool,
    pub(super) signature: &'a [u8],
    pub(super) certificate: &'a [u8],
}

impl LogEntry {
    /// Returns when one of some logs took the entry, after checking its promise.
    pub(super) fn promised(&self, logs: &[Log]) -> Result<Timestamp, KeylessError> {
        let promise = self.promise.as_ref().ok_or(KeylessError::NoPromise)?;
        let time = Timestamp::from_second(self.time).map_err(|_| KeylessError::OtherLog)?;
        // Canonical JSON (RFC 8785): nothing in it is to be escaped.
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.body),
            self.time,
            hex(&self.log),
            self.index
        );
        let is_by = |log: &&Log| {
            log.id == self.log && log.valid.holds(time) && log.key.verifies(promised.as_bytes(), promise)
        };
        logs.iter().find(is_by).map(|_| time).ok_or(KeylessError::OtherLog)
    }

    /// Checks that the entry is about a signature: over the same, by the same certificate, byte for byte.
    pub(super) fn is_about(&self, signed: &Signed<'_>) -> Result<(), KeylessError> {
        let body: Body = serde_json::from_slice(&self.body).map_err(|_| KeylessError::Form("log entry"))?;
        let form = |_| KeylessError::Form("log entry");
        let (hash, signature, certificate) = match (body.kind.as_str(), body.api_version.as_str()) {
            ("hashedrekord", "0.0.1") if !signed.is_envelope => {
                let record: HashedRecord = serde_json::from_value(body.spec).map_err(form)?;
                (record.data.hash, record.signature.content, record.signature.public_key.content)
            }
            ("dsse", "0.0.1") if signed.is_envelope => {
                let envelope: Envelope = serde_json::from_value(body.spec).map_err(form)?;
                let [only] = <[_; 1]>::try_from(envelope.signatures)
                    .map_err(|_| KeylessError::OtherEntry("signature"))?;
                (envelope.payload_hash, only.signature, only.verifier)
            }
            _ => return Err(KeylessError::EntryKind(format!("{} {}", body.kind, body.api_version))),
        };
        let digest = hex(digest(&SHA256, signed.payload).as_ref());
        if hash.algorithm != "sha256" || !hash.value.eq_ignore_ascii_case(&digest) {
            return Err(KeylessError::OtherEntry("content"));
        }
        if STANDARD.decode(signature).ok().as_deref() != Some(signed.signature) {
            return Err(KeylessError::OtherEntry("signature"));
        }
        let pem = STANDARD.decode(certificate).unwrap_or_default();
        match CertificateDer::from_pem_slice(&pem) {
            Ok(certificate) if certificate.as_ref() == signed.certificate => Ok(()),
            _ => Err(KeylessError::OtherEntry("certificate")),
        }
    }
}
