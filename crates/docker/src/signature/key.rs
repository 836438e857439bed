use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// What stands before the point of a P-256 key in its DER form (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What stands before an Ed25519 key in its DER form (RFC 8410).
const EDWARDS: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

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
        Self::from_der(&der)
    }

    /// Reads a key in DER, as `SubjectPublicKeyInfo` of RFC 5280.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, PublicKeyError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_kinds_are_refused() {
        assert_eq!(PublicKey::parse(b"cosign"), Err(PublicKeyError::NoKey));
        let rsa = include_bytes!("rsa.pub");
        assert_eq!(PublicKey::parse(rsa), Err(PublicKeyError::Algorithm));
        let private = String::from_utf8_lossy(include_bytes!("p256.pub")).replace("PUBLIC", "PRIVATE");
        assert_eq!(PublicKey::parse(private.as_bytes()), Err(PublicKeyError::NoKey));
    }
}
