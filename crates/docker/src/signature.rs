//! Signatures of images as cosign makes them: by a key or keyless, over a "simple signing" payload or, since cosign 3, an
//! in-toto statement in an envelope; both name the image's digest. Sources: github.com/sigstore/cosign,
//! specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md; github.com/secure-systems-lab/dsse, protocol.md.

use std::collections::BTreeMap;

use freehold_model::ImageDigest;
use serde::Deserialize;

use crate::{RegistryClient, RegistryError};

pub use key::{PublicKey, PublicKeyError};
pub use keyless::{ExpressionError, KeylessError, KeylessSigner};
pub use trusted_root::{TrustedRoot, TrustedRootError};

use keyless::Witness;

#[cfg(test)]
mod authority;
mod bundle;
mod certificate;
mod der;
mod key;
mod keyless;
#[cfg(test)]
mod keyless_tests;
mod log_entry;
mod trusted_root;

/// The annotation that holds the signature of a layer, which is what was signed.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The type that a payload of cosign names.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// The type of a statement in an envelope.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What a statement of cosign says of an image: no more than that it is signed. Others say what is in it, or how it was
/// made, and mean no consent.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// The type of a bundle that refers to an image.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Who may sign images: one of them has to have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signers {
    /// Whoever has one of these keys.
    pub keys: Vec<PublicKey>,
    /// Whom an authority knows.
    pub keyless: Option<KeylessSigner>,
}

impl Signers {
    /// Says whether nobody may.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.keyless.is_none()
    }
}

/// A signature of an image, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSignature {
    content: SignedContent,
    signature: Vec<u8>,
    witness: Option<Witness>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SignedContent {
    /// A text by itself.
    Text(Vec<u8>),
    /// A text of some kind, in an envelope of DSSE.
    Envelope { kind: String, payload: Vec<u8> },
}

impl SignedContent {
    /// What the signature is over.
    fn message(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Envelope { kind, payload } => {
                let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
                [head.as_bytes(), payload].concat()
            }
        }
    }

    fn payload(&self) -> (&[u8], bool) {
        match self {
            Self::Text(text) => (text, false),
            Self::Envelope { payload, .. } => (payload, true),
        }
    }

    /// Checks that it is a signature's, and for this image.
    fn is_for(&self, digest: &ImageDigest) -> Result<(), Untrusted> {
        let digests = match self {
            Self::Text(text) => match serde_json::from_slice::<Payload>(text) {
                Ok(Payload { critical }) if critical.kind == PAYLOAD_TYPE => vec![critical.image.digest],
                _ => return Err(Untrusted::NotAnImage),
            },
            Self::Envelope { kind, payload } => match serde_json::from_slice::<Statement>(payload) {
                Ok(statement) if kind == STATEMENT && statement.predicate == SIGNED => {
                    let subjects = statement.subject.into_iter();
                    let digests = subjects.filter_map(|mut subject| subject.digest.remove("sha256"));
                    digests.map(|digits| format!("sha256:{digits}")).collect()
                }
                _ => return Err(Untrusted::NotAnImage),
            },
        };
        if digests.iter().any(|signed| signed == digest.as_str()) {
            return Ok(());
        }
        match digests.into_iter().next() {
            Some(digest) => Err(Untrusted::OtherImage { digest }),
            None => Err(Untrusted::NotAnImage),
        }
    }
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

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "predicateType")]
    predicate: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Something beside an image that should be a signature, of which a part cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} of a signature cannot be understood")]
pub struct Unreadable(&'static str);

/// What is found beside an image.
pub type FoundSignature = Result<ImageSignature, Unreadable>;

/// Why an image is not taken for one that somebody trusted has signed. Later ones come closer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Untrusted {
    /// There is no signature.
    #[error("it is not signed")]
    Unsigned,
    /// There is one that cannot be read.
    #[error("the {0} of its signature cannot be understood")]
    Unreadable(&'static str),
    /// There are only those of other keys, or what was signed has been changed.
    #[error("its signature is not by a key of the project, or what was signed has been changed")]
    OtherKey,
    /// There are only keyless ones that do not count.
    #[error(transparent)]
    Keyless(#[from] KeylessError),
    /// Somebody trusted signed something else.
    #[error("what was signed is not an image")]
    NotAnImage,
    /// Somebody trusted signed another image.
    #[error("what was signed is another image, `{digest}`")]
    OtherImage {
        /// That image's digest.
        digest: String,
    },
}

impl ImageSignature {
    /// Makes one of a payload and a signature over it in base64, by a key.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn by_key(payload: &[u8], signature: &str) -> FoundSignature {
        bundle::noted(payload, signature, &BTreeMap::new())
    }

    /// Reads a bundle of Sigstore. One that holds a signature only is over `payload`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn of_bundle(text: &[u8], payload: Option<&[u8]>) -> FoundSignature {
        bundle::bundle(text, payload)
    }

    /// Returns who signed, of those who may.
    fn signer(&self, signers: &Signers) -> Result<String, Untrusted> {
        let message = self.content.message();
        if signers.keys.iter().any(|key| key.verifies(&message, &self.signature)) {
            return Ok("a key of the project".to_owned());
        }
        match (&signers.keyless, &self.witness) {
            (None, _) => Err(Untrusted::OtherKey),
            (Some(_), None) if !signers.keys.is_empty() => Err(Untrusted::OtherKey),
            (Some(_), None) => Err(KeylessError::NoCertificate.into()),
            (Some(keyless), Some(witness)) => {
                Ok(keyless.check(&message, self.content.payload(), &self.signature, witness)?)
            }
        }
    }
}

/// Checks that one of some signatures is by somebody who may sign, and for this very image; says who that is.
///
/// # Errors
/// [`Untrusted`], with what came closest.
pub fn check_signatures(
    digest: &ImageDigest,
    signatures: &[FoundSignature],
    signers: &Signers,
) -> Result<String, Untrusted> {
    let mut closest = Untrusted::Unsigned;
    for signature in signatures {
        let checked = match signature {
            Ok(signature) => {
                let by = signature.signer(signers);
                by.and_then(|by| signature.content.is_for(digest).map(|()| by))
            }
            Err(Unreadable(part)) => Err(Untrusted::Unreadable(part)),
        };
        match checked {
            Ok(by) => return Ok(by),
            Err(error) => closest = closest.max(error),
        }
    }
    Err(closest)
}

/// Returns the name under which signatures of a digest are stored: `sha256-` and the hex digits.
#[must_use]
pub fn signature_name(digest: &ImageDigest) -> String {
    digest.as_str().replacen(':', "-", 1)
}

impl RegistryClient {
    /// Returns the signatures that the registry has beside an image: under the tag `sha256-DIGEST.sig`, and the bundles that
    /// refer to it.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn signatures(&self, digest: &ImageDigest) -> Result<Vec<FoundSignature>, RegistryError> {
        let mut signatures = Vec::new();
        let tag = format!("{}.sig", signature_name(digest));
        if let Some(manifest) = self.manifest(&tag).await? {
            for layer in self.content(&manifest)?.layers {
                if let Some(signature) = layer.annotations.get(SIGNATURE) {
                    let payload = self.blob(&layer.digest).await?;
                    signatures.push(bundle::noted(&payload, signature, &layer.annotations));
                }
            }
        }
        for referrer in self.referrers(digest, BUNDLE).await? {
            let Some(manifest) = self.manifest(&referrer.digest).await? else { continue };
            for layer in self.content(&manifest)?.layers {
                if layer.media_type == BUNDLE {
                    signatures.push(bundle::bundle(&self.blob(&layer.digest).await?, None));
                }
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

    fn signed(payload: &str, signature: &str) -> FoundSignature {
        ImageSignature::by_key(payload.as_bytes(), signature)
    }

    #[test]
    fn signatures_of_both_kinds_are_checked() {
        let digest = ImageDigest::parse(DIGEST).unwrap();
        let other = ImageDigest::parse(DIGEST.replace('1', "2")).unwrap();
        for (key, own, foreign) in
            [(P256_KEY, P256_SIGNATURE, ED25519_SIGNATURE), (ED25519_KEY, ED25519_SIGNATURE, P256_SIGNATURE)]
        {
            let signers = Signers { keys: vec![PublicKey::parse(key).unwrap()], keyless: None };
            let check = |digest, signatures: &[FoundSignature]| {
                check_signatures(digest, signatures, &signers).map(drop)
            };
            assert_eq!(check(&digest, &[signed(PAYLOAD, foreign), signed(PAYLOAD, own)]), Ok(()));
            assert_eq!(check(&digest, &[]), Err(Untrusted::Unsigned));
            assert_eq!(check(&digest, &[signed(PAYLOAD, foreign)]), Err(Untrusted::OtherKey));
            assert_eq!(
                check(&digest, &[signed(PAYLOAD, "no base64")]),
                Err(Untrusted::Unreadable("signature"))
            );
            let another = Untrusted::OtherImage { digest: DIGEST.to_owned() };
            assert_eq!(check(&other, &[signed(PAYLOAD, own)]), Err(another));
            for place in 0..PAYLOAD.len() {
                let mut changed = PAYLOAD.as_bytes().to_vec();
                changed[place] ^= 1;
                let changed = ImageSignature::by_key(&changed, own);
                assert_eq!(check(&digest, &[changed]), Err(Untrusted::OtherKey), "byte {place}");
            }
        }
    }
}
