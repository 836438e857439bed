//! The forms in which keyless signatures are stored: Sigstore's bundle, and the notes that cosign put beside a signature
//! before there were bundles. Sources: github.com/sigstore/protobuf-specs, protos/sigstore_bundle.proto;
//! github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::keyless::Witness;
use super::log_entry::LogEntry;
use super::trusted_root::LogId;
use super::{ImageSignature, SignedContent, Unreadable};

/// The notes of cosign beside a signature.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

// Others add fields to these forms as they need them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    #[serde(default)]
    dsse_envelope: Option<Envelope>,
    #[serde(default)]
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default)]
    certificate: Option<Certificate>,
    #[serde(default)]
    x509_certificate_chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

// Numbers of 64 bits are texts in the JSON of protocol buffers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    log_index: String,
    log_id: LogId,
    #[serde(default)]
    integrated_time: Option<String>,
    #[serde(default)]
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

/// The older form of cosign.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Note {
    signed_entry_timestamp: String,
    payload: NotePayload,
}

#[derive(Deserialize)]
struct NotePayload {
    body: String,
    #[serde(rename = "integratedTime")]
    time: i64,
    #[serde(rename = "logIndex")]
    index: i64,
    #[serde(rename = "logID")]
    log: String,
}

/// Reads a bundle. One without an envelope is over a text that stands elsewhere.
pub(super) fn bundle(text: &[u8], payload: Option<&[u8]>) -> Result<ImageSignature, Unreadable> {
    let bundle: Bundle = serde_json::from_slice(text).map_err(|_| Unreadable("bundle"))?;
    if !bundle.media_type.starts_with("application/vnd.dev.sigstore.bundle") {
        return Err(Unreadable("bundle"));
    }
    let (content, signature) = match (bundle.dsse_envelope, bundle.message_signature, payload) {
        (Some(envelope), None, _) => {
            let [only] = <[_; 1]>::try_from(envelope.signatures).map_err(|_| Unreadable("envelope"))?;
            let payload = decode(&envelope.payload, "envelope")?;
            (SignedContent::Envelope { kind: envelope.payload_type, payload }, only.sig)
        }
        (None, Some(message), Some(payload)) => (SignedContent::Text(payload.to_vec()), message.signature),
        _ => return Err(Unreadable("bundle")),
    };
    let witness = bundle.verification_material.witness()?;
    Ok(ImageSignature { content, signature: decode(&signature, "signature")?, witness })
}

impl Material {
    fn witness(self) -> Result<Option<Witness>, Unreadable> {
        let chain = self.x509_certificate_chain.map(|chain| chain.certificates).unwrap_or_default();
        let mut certificates = Vec::new();
        for certificate in self.certificate.into_iter().chain(chain) {
            certificates.push(CertificateDer::from(decode(&certificate.raw_bytes, "certificate")?));
        }
        if certificates.is_empty() {
            return Ok(None);
        }
        let certificate = certificates.remove(0);
        let mut entries = self.tlog_entries.into_iter();
        let entry = entries.next().map(Entry::read).transpose()?;
        // Several would each have to be checked; nobody writes them.
        if entries.next().is_some() {
            return Err(Unreadable("log entry"));
        }
        Ok(Some(Witness { certificate, chain: certificates, entry }))
    }
}

impl Entry {
    fn read(self) -> Result<LogEntry, Unreadable> {
        let number = |text: &str| text.parse().map_err(|_| Unreadable("log entry"));
        // What is 0 may be left out.
        let index = if self.log_index.is_empty() { 0 } else { number(&self.log_index)? };
        let promise = self.inclusion_promise.map(|promise| promise.signed_entry_timestamp);
        Ok(LogEntry {
            body: decode(&self.canonicalized_body, "log entry")?,
            time: self.integrated_time.as_deref().map_or(Ok(0), number)?,
            index,
            log: decode(&self.log_id.key_id, "log entry")?,
            promise: promise.map(|promise| decode(&promise, "log entry")).transpose()?,
        })
    }
}

/// Reads what cosign noted beside a signature over a payload.
pub(super) fn noted(
    payload: &[u8],
    signature: &str,
    notes: &BTreeMap<String, String>,
) -> Result<ImageSignature, Unreadable> {
    let certificate = match notes.get(CERTIFICATE) {
        Some(pem) => {
            Some(CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Unreadable("certificate"))?)
        }
        None => None,
    };
    let witness = match certificate {
        Some(certificate) => Some(Witness {
            certificate,
            chain: notes
                .get(CHAIN)
                .map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>())
                .transpose()
                .map_err(|_| Unreadable("certificate"))?
                .unwrap_or_default(),
            entry: notes.get(BUNDLE).map(|text| note(text)).transpose()?,
        }),
        None => None,
    };
    let content = SignedContent::Text(payload.to_vec());
    Ok(ImageSignature { content, signature: decode(signature.trim(), "signature")?, witness })
}

fn note(text: &str) -> Result<LogEntry, Unreadable> {
    let note: Note = serde_json::from_str(text).map_err(|_| Unreadable("log entry"))?;
    Ok(LogEntry {
        body: decode(&note.payload.body, "log entry")?,
        time: note.payload.time,
        index: note.payload.index,
        log: from_hex(&note.payload.log).ok_or(Unreadable("log entry"))?,
        promise: Some(decode(&note.signed_entry_timestamp, "log entry")?),
    })
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, Unreadable> {
    STANDARD.decode(text).map_err(|_| Unreadable(part))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
