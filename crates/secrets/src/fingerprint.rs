use freehold_model::SecretFingerprint;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The block size of SHA-256.
const BLOCK: usize = 64;

/// Returns the fingerprint of a secret's value: the first 16 hex digits of its HMAC-SHA256 under a key.
///
/// Source: RFC 2104; a key longer than a block is hashed first.
#[must_use]
pub fn fingerprint(key: &[u8], value: &SecretString) -> SecretFingerprint {
    let mut block = [0_u8; BLOCK];
    let hashed = Sha256::digest(key);
    let key = if key.len() > BLOCK { hashed.as_slice() } else { key };
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(value.expose_secret().as_bytes());
    let digest = mac.finalize().into_bytes();
    SecretFingerprint(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &[u8], value: &str) -> String {
        fingerprint(key, &SecretString::from(value)).0
    }

    #[test]
    fn it_is_hmac_sha256_of_rfc_4231() {
        assert_eq!(of(&[0x0b; 20], "Hi There"), "b0344c61d8db3853");
        assert_eq!(of(b"Jefe", "what do ya want for nothing?"), "5bdcc146bf60754e");
        let long = "Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(of(&[0xaa; 131], long), "60e431591ee0b67f");
    }
}
