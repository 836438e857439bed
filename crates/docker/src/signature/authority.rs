//! Sigstore in small, for tests: an authority with an intermediate one, a log of certificates, a log of signatures. What it
//! makes was held against `sigstore` of Python, which takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType, SerialNumber,
    SigningKey, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// A second in 2026.
pub(crate) const NOW: u64 = 1_790_000_000;

pub(crate) struct Sigstore {
    root: Vec<u8>,
    between: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    issuer_key: Vec<u8>,
    certificate_log: KeyPair,
    log: KeyPair,
}

/// What is signed, by whom, and what is wrong with it.
pub(crate) struct Wish<'a> {
    pub(crate) identity: &'a str,
    pub(crate) issuer: &'a str,
    /// When the log of signatures takes it; the certificate is good from `NOW` for ten minutes.
    pub(crate) logged: u64,
    pub(crate) is_for_code: bool,
    pub(crate) is_in_certificate_log: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            identity: "ci@example.com",
            issuer: "https://accounts.example.com",
            logged: NOW + 5,
            is_for_code: true,
            is_in_certificate_log: true,
        }
    }
}

/// A signature and all that stands beside it.
#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) payload: Vec<u8>,
    /// The type of an envelope, if it is in one.
    pub(crate) kind: Option<&'static str>,
    pub(crate) signature: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) body: String,
    pub(crate) logged: u64,
    pub(crate) log: Vec<u8>,
    pub(crate) promise: Option<Vec<u8>>,
    checkpoint: String,
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn authority(name: &str, depth: u8) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (parameters.not_before, parameters.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2036, 1, 1));
    parameters
}

impl Sigstore {
    pub(crate) fn new() -> Self {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let root = authority("sigstore of a test", 1);
        let certificate = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut between = authority("intermediate of a test", 0);
        between.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let signed = between.signed_by(&key, &root).unwrap();
        Self {
            root: certificate.der().to_vec(),
            between: signed.der().to_vec(),
            issuer_key: public(&key),
            issuer: Issuer::new(between, key),
            certificate_log: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            log: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    /// A `trusted_root.json`.
    pub(crate) fn trusted_root(&self) -> Value {
        let log = |key: &KeyPair| {
            let key = public(key);
            json!({
                "baseUrl": "https://rekor.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(&key),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": "2026-01-01T00:00:00.000Z"}
                },
                "logId": {"keyId": STANDARD.encode(sha256(&key))}
            })
        };
        let chain = [&self.between, &self.root].map(|der| json!({"rawBytes": STANDARD.encode(der)}));
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log)],
            "certificateAuthorities": [{
                "subject": {"organization": "test", "commonName": "test"},
                "uri": "https://fulcio.test",
                "certChain": {"certificates": chain},
                "validFor": {"start": "2026-01-01T00:00:00.000Z"}
            }],
            "ctlogs": [log(&self.certificate_log)]
        })
    }

    fn certificate(&self, wish: &Wish<'_>, key: &KeyPair) -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.serial_number = Some(SerialNumber::from(77_u64));
        let start = date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW);
        (parameters.not_before, parameters.not_after) = (start, start + Duration::from_secs(600));
        let name = wish.identity.try_into().unwrap();
        let is_uri = wish.identity.contains("://");
        parameters.subject_alt_names =
            vec![if is_uri { SanType::URI(name) } else { SanType::Rfc822Name(name) }];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let purpose = if wish.is_for_code {
            ExtendedKeyUsagePurpose::CodeSigning
        } else {
            ExtendedKeyUsagePurpose::EmailProtection
        };
        parameters.extended_key_usages = vec![purpose];
        let fulcio = |number: u64, content: Vec<u8>| {
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, number], content)
        };
        let mut text = vec![0x0c, u8::try_from(wish.issuer.len()).unwrap()];
        text.extend(wish.issuer.as_bytes());
        parameters.custom_extensions = vec![fulcio(1, wish.issuer.as_bytes().to_vec()), fulcio(8, text)];
        let before = parameters.signed_by(key, &self.issuer).unwrap().der().to_vec();
        if !wish.is_in_certificate_log {
            return before;
        }
        // What is signed of a certificate of this size has four bytes before it, and four of its own before its content.
        let length = usize::from(u16::from_be_bytes([before[6], before[7]]));
        let content = &before[4..8 + length];
        let time = (NOW * 1000).to_be_bytes();
        let mut signed = vec![0, 0];
        signed.extend(time);
        signed.extend([0, 1]);
        signed.extend(sha256(&self.issuer_key));
        signed.extend(&u32::try_from(content.len()).unwrap().to_be_bytes()[1..]);
        signed.extend(content);
        signed.extend([0, 0]);
        let signature = self.certificate_log.sign(&signed).unwrap();
        let mut timestamp = vec![0];
        timestamp.extend(sha256(&public(&self.certificate_log)));
        timestamp.extend(time);
        timestamp.extend([0, 0, 4, 3]);
        timestamp.extend(counted(&signature));
        let list = counted(&counted(&timestamp));
        let mut octets = vec![4, u8::try_from(list.len()).unwrap()];
        if list.len() > 127 {
            octets.insert(1, 0x81);
        }
        octets.extend(list);
        let list = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2], octets);
        parameters.custom_extensions.push(list);
        parameters.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    /// Signs a payload as it is, or in an envelope.
    pub(crate) fn sign(&self, payload: &str, kind: Option<&'static str>, wish: &Wish<'_>) -> Proof {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = self.certificate(wish, &key);
        let message = match kind {
            Some(kind) => format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()),
            None => payload.to_owned(),
        };
        let signature = key.sign(message.as_bytes()).unwrap();
        let digest = json!({"algorithm": "sha256", "value": hex(&sha256(payload.as_bytes()))});
        let by = STANDARD.encode(pem(&certificate));
        let text = STANDARD.encode(&signature);
        let (name, spec) = match kind {
            Some(_) => (
                "dsse",
                json!({"envelopeHash": digest, "payloadHash": digest, "signatures": [{"signature": text, "verifier": by}]}),
            ),
            None => (
                "hashedrekord",
                json!({"data": {"hash": digest}, "signature": {"content": text, "publicKey": {"content": by}}}),
            ),
        };
        let body = json!({"apiVersion": "0.0.1", "kind": name, "spec": spec}).to_string();
        let log = sha256(&public(&self.log));
        let mut proof = Proof {
            payload: payload.as_bytes().to_vec(),
            kind,
            signature,
            certificate,
            checkpoint: self.checkpoint(&body),
            body,
            logged: wish.logged,
            log,
            promise: None,
        };
        self.promise(&mut proof);
        proof
    }

    /// Gives an entry a new promise of the log.
    pub(crate) fn promise(&self, proof: &mut Proof) {
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":7}}"#,
            STANDARD.encode(&proof.body),
            proof.logged,
            hex(&proof.log)
        );
        proof.promise = Some(self.log.sign(promised.as_bytes()).unwrap());
    }

    /// A tree of one leaf, signed.
    fn checkpoint(&self, body: &str) -> String {
        let root = STANDARD.encode(leaf(body));
        let note = format!("rekor.test\n1\n{root}\n");
        let mut signed = sha256(&public(&self.log))[..4].to_vec();
        signed.extend(self.log.sign(note.as_bytes()).unwrap());
        format!("{note}\n\u{2014} rekor.test {}\n", STANDARD.encode(signed))
    }
}

fn leaf(body: &str) -> Vec<u8> {
    sha256(&[&[0], body.as_bytes()].concat())
}

fn public(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut counted = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    counted.extend(bytes);
    counted
}

impl Proof {
    /// As cosign 2 noted it beside a signature, but for the signature itself.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let promise = self.promise.as_ref().map(|promise| STANDARD.encode(promise));
        let entry = json!({
            "SignedEntryTimestamp": promise,
            "Payload": {
                "body": STANDARD.encode(&self.body), "integratedTime": self.logged, "logIndex": 7, "logID": hex(&self.log)
            }
        });
        BTreeMap::from([
            ("dev.sigstore.cosign/bundle".to_owned(), entry.to_string()),
            ("dev.sigstore.cosign/certificate".to_owned(), pem(&self.certificate)),
        ])
    }

    /// As a bundle.
    pub(crate) fn bundle(&self) -> Value {
        let mut entry = json!({
            "logIndex": "7",
            "logId": {"keyId": STANDARD.encode(&self.log)},
            "kindVersion": {"kind": if self.kind.is_some() { "dsse" } else { "hashedrekord" }, "version": "0.0.1"},
            "integratedTime": self.logged.to_string(),
            "inclusionProof": {
                "logIndex": "0", "rootHash": STANDARD.encode(leaf(&self.body)), "treeSize": "1", "hashes": [],
                "checkpoint": {"envelope": self.checkpoint}
            },
            "canonicalizedBody": STANDARD.encode(&self.body)
        });
        if let Some(promise) = &self.promise {
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": STANDARD.encode(promise)});
        }
        let signature = STANDARD.encode(&self.signature);
        let mut bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": STANDARD.encode(&self.certificate)},
                "tlogEntries": [entry],
                "timestampVerificationData": {"rfc3161Timestamps": []}
            }
        });
        match self.kind {
            Some(kind) => {
                bundle["dsseEnvelope"] = json!({
                    "payload": STANDARD.encode(&self.payload), "payloadType": kind, "signatures": [{"sig": signature}]
                });
            }
            None => {
                bundle["messageSignature"] = json!({
                    "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(&self.payload))},
                    "signature": signature
                });
            }
        }
        bundle
    }
}
