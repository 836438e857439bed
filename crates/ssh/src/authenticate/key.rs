use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Certificate, Error, PrivateKey, PublicKey, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};

use crate::route::Identities;

/// A key as a file or a secret holds it: its public part, and its private part unless that is encrypted.
#[derive(Clone)]
pub(super) struct KeyText(Arc<Inner>);

struct Inner {
    origin: String,
    text: SecretString,
    public: Option<PublicKey>,
    private: Private,
}

enum Private {
    Open(Arc<PrivateKey>),
    Encrypted,
    /// Only the public part is there; an agent may hold the private one.
    Absent,
}

impl KeyText {
    /// Reads a text; `beside` is the text of the public key file next to it.
    fn read(origin: String, text: SecretString, beside: Option<&str>) -> Result<Self, Error> {
        let public_beside = || PublicKey::from_openssh(beside?.trim()).ok();
        if let Ok(public) = PublicKey::from_openssh(text.expose_secret().trim()) {
            return Ok(Self(Arc::new(Inner {
                origin,
                text,
                public: Some(public),
                private: Private::Absent,
            })));
        }
        // The format of OpenSSH shows the public part of an encrypted key as well.
        let (public, private) = match PrivateKey::from_openssh(text.expose_secret()) {
            Ok(key) if key.is_encrypted() => (Some(key.public_key().clone()), Private::Encrypted),
            Ok(key) => (Some(key.public_key().clone()), Private::Open(Arc::new(key))),
            Err(_) => match decode_secret_key(text.expose_secret(), None) {
                Ok(key) => (Some(key.public_key().clone()), Private::Open(Arc::new(key))),
                Err(Error::KeyIsEncrypted) => (public_beside(), Private::Encrypted),
                Err(error) if is_encrypted_pem(text.expose_secret()) => match public_beside() {
                    Some(public) => (Some(public), Private::Encrypted),
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            },
        };
        Ok(Self(Arc::new(Inner { origin, text, public, private })))
    }

    pub(super) fn origin(&self) -> String {
        self.0.origin.clone()
    }

    pub(super) fn public(&self) -> Option<&PublicKey> {
        self.0.public.as_ref()
    }

    pub(super) fn is_private(&self) -> bool {
        !matches!(self.0.private, Private::Absent)
    }

    /// Returns the private key unless it is encrypted.
    pub(super) fn open(&self) -> Option<Arc<PrivateKey>> {
        match &self.0.private {
            Private::Open(key) => Some(Arc::clone(key)),
            Private::Encrypted | Private::Absent => None,
        }
    }

    /// Decrypts the private key, on a thread of its own: that takes a tenth of a second of computing.
    pub(super) async fn decrypt(&self, passphrase: SecretString) -> Result<PrivateKey, Error> {
        let inner = Arc::clone(&self.0);
        let work = move || decode_secret_key(inner.text.expose_secret(), Some(passphrase.expose_secret()));
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::IO(std::io::Error::other(error)))?
    }
}

fn is_encrypted_pem(text: &str) -> bool {
    text.contains("ENCRYPTED")
}

/// Reads the keys that are named; what cannot be used is noted in `tried`, files that do not exist are not.
pub(super) async fn load(
    identities: &Identities,
    key_data: &[SecretString],
    tried: &mut Vec<String>,
) -> Vec<KeyText> {
    let files = identities.files.clone();
    let data = if identities.key_data { key_data.to_vec() } else { Vec::new() };
    let work = move || {
        let from_files = files.iter().filter_map(|file| {
            let origin = format!("key file {}", file.display());
            match fs_err::read_to_string(file) {
                Ok(text) => {
                    let beside = fs_err::read_to_string(with_suffix(file, ".pub")).ok();
                    Some((origin.clone(), KeyText::read(origin, text.into(), beside.as_deref())))
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    // With the public part alone, the agent's key can be chosen.
                    let beside = fs_err::read_to_string(with_suffix(file, ".pub")).ok()?;
                    Some((origin.clone(), KeyText::read(origin, beside.into(), None)))
                }
                Err(error) => Some((origin, Err(Error::IO(error)))),
            }
        });
        let from_data = data.into_iter().enumerate().map(|(index, text)| {
            let origin = format!("key {} of `key_data`", index + 1);
            (origin.clone(), KeyText::read(origin, text, None))
        });
        from_files.chain(from_data).collect::<Vec<_>>()
    };
    let found = tokio::task::spawn_blocking(work).await.unwrap_or_default();
    let mut keys = Vec::new();
    for (origin, key) in found {
        match key {
            Ok(key) => keys.push(key),
            Err(error) => tried.push(format!("{origin} (not readable: {error})")),
        }
    }
    keys
}

/// Reads the certificates: those that are configured, and those that stand beside a key file.
pub(super) async fn certificates(identities: &Identities) -> Vec<(String, Certificate)> {
    let beside = identities.files.iter().map(|file| with_suffix(file, "-cert.pub"));
    let files: Vec<PathBuf> = identities.certificates.iter().cloned().chain(beside).collect();
    let work = move || {
        let read = |file: &PathBuf| {
            let text = fs_err::read_to_string(file).ok()?;
            match Certificate::from_openssh(text.trim()) {
                Ok(certificate) => Some((format!("certificate {}", file.display()), certificate)),
                Err(error) => {
                    tracing::debug!(file = %file.display(), %error, "certificate not readable");
                    None
                }
            }
        };
        files.iter().filter_map(read).collect()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}
