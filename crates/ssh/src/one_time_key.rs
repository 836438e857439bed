use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use secrecy::{SecretString, zeroize::Zeroizing};

/// An Ed25519 key pair that is made in memory for one use, and is stored nowhere here.
#[derive(Debug)]
pub struct OneTimeKey {
    public: String,
    private: SecretString,
}

/// A key pair could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OneTimeKeyError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// It cannot be written as OpenSSH reads it.
    #[error("a key cannot be written as OpenSSH reads it")]
    Format(#[from] russh::keys::ssh_key::Error),
}

impl OneTimeKey {
    /// Makes a new pair.
    ///
    /// # Errors
    /// [`OneTimeKeyError`].
    pub fn new() -> Result<Self, OneTimeKeyError> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut())?;
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        let private = key.to_openssh(LineEnding::LF)?;
        Ok(Self {
            public: key.public_key().to_openssh()?.trim().to_owned(),
            private: SecretString::from(private.as_str()),
        })
    }

    /// Returns the public half as `authorized_keys` has it, without a comment: `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Returns the private half as `ssh -i` reads it from a file.
    #[must_use]
    pub fn private(&self) -> &SecretString {
        &self.private
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn each_pair_is_another_and_both_halves_belong_together() {
        let (one, other) = (OneTimeKey::new().unwrap(), OneTimeKey::new().unwrap());
        assert_ne!(one.public(), other.public());
        assert!(one.public().starts_with("ssh-ed25519 "), "{}", one.public());
        assert_eq!(one.public().split(' ').count(), 2, "no comment");
        let read = PrivateKey::from_openssh(one.private().expose_secret()).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap().trim(), one.public());
        let words = format!("{one:?}");
        assert!(!words.contains("PRIVATE"), "{words}");
    }
}
