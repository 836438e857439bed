//! Signatures of images as cosign makes them with a key: a "simple signing" payload that names the image's digest, and a
//! signature over its bytes. Source: github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md.

use std::fmt;

use base64::Engine as _;
use bytes::Bytes;
use freehold_model::ImageDigest;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::{RegistryClient, RegistryError};

/// What stands before the point of a P-256 key in its DER form (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What stands before an Ed25519 key in its DER form (RFC 8410).
const EDWARDS: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The annotation that holds the signature of a layer, which is what was signed.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The type that a payload of cosign names.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// A public key that signs images.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    Ed25519,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PublicKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A text that holds no public key of a kind that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It is something else.
    #[error("it holds no public key in PEM (`-----BEGIN PUBLIC KEY-----`)")]
    NoKey,
    /// It is for another algorithm.
    #[error("its key is neither ECDSA P-256 nor Ed25519")]
    Algorithm,
}

impl PublicKey {
    /// Reads a key in PEM, as `cosign generate-key-pair` and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn parse(pem: &[u8]) -> Result<Self, PublicKeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| PublicKeyError::NoKey)?;
        let of = |kind, bytes: &[u8], length: usize| {
            if bytes.len() == length {
                Ok(Self { kind, bytes: bytes.to_vec() })
            } else {
                Err(PublicKeyError::NoKey)
            }
        };
        match (der.strip_prefix(P256.as_slice()), der.strip_prefix(EDWARDS.as_slice())) {
            (Some(point), _) => of(Kind::P256, point, 65),
            (_, Some(key)) => of(Kind::Ed25519, key, 32),
            _ => Err(PublicKeyError::Algorithm),
        }
    }

    /// Says whether a signature over a message was made with this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match self.kind {
            Kind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(message, signature)
            }
            Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature),
        };
        checked.is_ok()
    }
}

/// A signature of an image, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSignature {
    /// What was signed.
    pub payload: Bytes,
    /// The signature in base64, as it is stored.
    pub signature: String,
}

/// Why an image is not taken for one that somebody trusted has signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// There is no signature.
    #[error("it is not signed")]
    Unsigned,
    /// There are only those of other keys, or what was signed has been changed.
    #[error("its signature is not by a key of the project, or what was signed has been changed")]
    OtherKey,
    /// A trusted key signed another image.
    #[error("what was signed is another image, `{digest}`")]
    OtherImage {
        /// That image's digest.
        digest: String,
    },
    /// A trusted key signed something else.
    #[error("what was signed is not an image")]
    NotAnImage,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Checks that one of some signatures is by one of some keys and for this very image.
///
/// # Errors
/// [`Untrusted`], with what came closest.
pub fn check_signatures(
    digest: &ImageDigest,
    signatures: &[ImageSignature],
    keys: &[PublicKey],
) -> Result<(), Untrusted> {
    let mut closest = if signatures.is_empty() { Untrusted::Unsigned } else { Untrusted::OtherKey };
    for signed in signatures {
        let decoded = base64::engine::general_purpose::STANDARD.decode(signed.signature.trim());
        let Ok(signature) = decoded else { continue };
        if !keys.iter().any(|key| key.verifies(&signed.payload, &signature)) {
            continue;
        }
        closest = match serde_json::from_slice::<Payload>(&signed.payload) {
            Ok(Payload { critical }) if critical.kind != PAYLOAD_TYPE => Untrusted::NotAnImage,
            Ok(Payload { critical }) if critical.image.digest == digest.as_str() => return Ok(()),
            Ok(Payload { critical }) => Untrusted::OtherImage { digest: critical.image.digest },
            Err(_) => Untrusted::NotAnImage,
        };
    }
    Err(closest)
}

/// Returns the name under which signatures of a digest are stored: `sha256-` and the hex digits.
#[must_use]
pub fn signature_name(digest: &ImageDigest) -> String {
    digest.as_str().replacen(':', "-", 1)
}

impl RegistryClient {
    /// Returns the signatures that the registry has beside an image, under the tag `sha256-DIGEST.sig`.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn signatures(&self, digest: &ImageDigest) -> Result<Vec<ImageSignature>, RegistryError> {
        let tag = format!("{}.sig", signature_name(digest));
        let Some(manifest) = self.manifest(&tag).await? else { return Ok(Vec::new()) };
        let mut signatures = Vec::new();
        for layer in self.content(&manifest)?.layers {
            if let Some(signature) = layer.annotations.get(SIGNATURE) {
                let payload = self.blob(&layer.digest).await?;
                signatures.push(ImageSignature { payload, signature: signature.clone() });
            }
        }
        Ok(signatures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with OpenSSL 3.0: `openssl genpkey`, `openssl pkey -pubout` and `openssl dgst -sha256 -sign` or
    // `openssl pkeyutl -sign -rawin`, over payloads in the form of cosign's specification.
    const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    const PAYLOAD: &str = include_str!("signature/payload.json");
    const P256_KEY: &[u8] = include_bytes!("signature/p256.pub");
    const P256_SIGNATURE: &str = include_str!("signature/p256.sig");
    const ED25519_KEY: &[u8] = include_bytes!("signature/ed25519.pub");
    const ED25519_SIGNATURE: &str = include_str!("signature/ed25519.sig");

    fn signed(payload: &str, signature: &str) -> ImageSignature {
        ImageSignature { payload: Bytes::from(payload.to_owned()), signature: signature.to_owned() }
    }

    #[test]
    fn signatures_of_both_kinds_are_checked() {
        let digest = ImageDigest::parse(DIGEST).unwrap();
        let other = ImageDigest::parse(DIGEST.replace('1', "2")).unwrap();
        for (key, own, foreign) in
            [(P256_KEY, P256_SIGNATURE, ED25519_SIGNATURE), (ED25519_KEY, ED25519_SIGNATURE, P256_SIGNATURE)]
        {
            let keys = [PublicKey::parse(key).unwrap()];
            let check = |digest, signatures: &[ImageSignature]| check_signatures(digest, signatures, &keys);
            assert_eq!(check(&digest, &[signed(PAYLOAD, foreign), signed(PAYLOAD, own)]), Ok(()));
            assert_eq!(check(&digest, &[]), Err(Untrusted::Unsigned));
            assert_eq!(check(&digest, &[signed(PAYLOAD, foreign)]), Err(Untrusted::OtherKey));
            assert_eq!(check(&digest, &[signed(PAYLOAD, "no base64")]), Err(Untrusted::OtherKey));
            let another = Untrusted::OtherImage { digest: DIGEST.to_owned() };
            assert_eq!(check(&other, &[signed(PAYLOAD, own)]), Err(another));
            for place in 0..PAYLOAD.len() {
                let mut changed = PAYLOAD.as_bytes().to_vec();
                changed[place] ^= 1;
                let changed = ImageSignature { payload: changed.into(), signature: own.to_owned() };
                assert_eq!(check(&digest, &[changed]), Err(Untrusted::OtherKey), "byte {place}");
            }
        }
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        assert_eq!(PublicKey::parse(b"cosign"), Err(PublicKeyError::NoKey));
        let rsa = include_bytes!("signature/rsa.pub");
        assert_eq!(PublicKey::parse(rsa), Err(PublicKeyError::Algorithm));
        let private = String::from_utf8_lossy(P256_KEY).replace("PUBLIC", "PRIVATE");
        assert_eq!(PublicKey::parse(private.as_bytes()), Err(PublicKeyError::NoKey));
    }
}
