//! What is only for the proxies of one fleet: encrypted and authenticated with their key (ChaCha20-Poly1305, RFC 8439).

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// The least length of a key.
const MIN_KEY_BYTES: usize = 32;

/// The key of a fleet cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot read the key of the fleet")]
    Read { source: std::io::Error },
    #[error("the key of the fleet in `{path}` has less than {MIN_KEY_BYTES} characters", path = path.display())]
    Short { path: PathBuf },
}

/// The key that the proxies of a fleet share.
pub(in crate::acme) struct Key {
    key: LessSafeKey,
    id: String,
    random: SystemRandom,
}

impl Key {
    /// Reads a key from a file.
    pub(in crate::acme) fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs_err::read(path).map_err(|source| KeyError::Read { source })?;
        Self::new(text.trim_ascii()).ok_or_else(|| KeyError::Short { path: path.to_owned() })
    }

    /// Makes the key that a secret stands for.
    fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < MIN_KEY_BYTES {
            return None;
        }
        let derived = |purpose: &[u8]| Sha256::new().chain_update(purpose).chain_update(secret).finalize();
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derived(b"freehold fleet key\0")).ok()?;
        let id = derived(b"freehold fleet id\0");
        Some(Self {
            key: LessSafeKey::new(key),
            id: id.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            random: SystemRandom::new(),
        })
    }

    /// Returns a name of the key, which tells nothing of it.
    pub(in crate::acme) fn id(&self) -> &str {
        &self.id
    }

    /// Encrypts bytes; they can be opened only for the same purpose.
    pub(in crate::acme) fn seal(&self, plain: &[u8], purpose: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut text = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(unique, Aad::from(purpose), &mut text).ok()?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut text);
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what was encrypted with the same key for the same purpose.
    pub(in crate::acme) fn open(&self, sealed: &str, purpose: &[u8]) -> Option<Vec<u8>> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(purpose), &mut text).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_for_the_same_purpose() {
        let key = |text: &str| Key::new(text.as_bytes()).unwrap();
        let (one, same) = (key(&"a".repeat(32)), key(&"a".repeat(32)));
        let sealed = one.seal(b"secret", b"x").unwrap();
        assert_eq!(same.open(&sealed, b"x").unwrap(), b"secret");
        assert_eq!(same.open(&sealed, b"y"), None);
        assert_eq!(key(&"b".repeat(32)).open(&sealed, b"x"), None);
        assert_ne!(one.seal(b"secret", b"x").unwrap(), sealed);
        let cut: String = sealed.chars().skip(1).collect();
        let turned: String = sealed.chars().rev().collect();
        for broken in ["", "AAAA", &cut, &turned] {
            assert_eq!(one.open(broken, b"x"), None, "{broken}");
        }
        assert!(Key::new(b"short").is_none());
    }
}
