//! The files of one certificate authority: account, certificates, and when to try again.
//!
//! Certificates stand where kamal-proxy has them and as it writes them, so that they survive a change from one to the
//! other, both ways.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::os::unix::fs::OpenOptionsExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fleet::{Fleet, Subject};

const ACCOUNT: &str = "freehold-account.json";
const ORDERS: &str = "freehold-orders.json";

/// The folder of an authority.
#[derive(Clone)]
pub(super) struct Store {
    folder: PathBuf,
    /// The fleet that it belongs to, with whose key its files are encrypted.
    fleet: Option<Arc<Fleet>>,
}

/// A file of the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot make the folder for certificates")]
    Folder { source: io::Error },
    #[error("cannot read a file of the certificates")]
    Read { source: io::Error },
    #[error("`{path}` is damaged", path = path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("`{path}` cannot be opened with the key of the fleet", path = path.display())]
    Sealed { path: PathBuf },
    #[error("cannot write a file of the certificates")]
    Write { source: io::Error },
}

/// What is known of a name's orders beside its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    /// How many orders in a row have failed.
    pub(super) failures: u32,
    /// When it may be tried again, in seconds since 1970.
    pub(super) not_before: i64,
    /// When the last order was begun.
    pub(super) tried: i64,
    /// Whether the authority itself asked for the pause.
    pub(super) is_asked: bool,
    /// Why the last order failed.
    pub(super) error: Option<String>,
    /// When the certificate is to be renewed, as the authority wants it.
    pub(super) renewal: Option<i64>,
    /// When the authority is to be asked again for that.
    pub(super) ask_again: i64,
    /// The kind of proof that succeeded last.
    pub(super) proof: Option<Proof>,
}

/// How a name is proven to lead here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proof {
    /// HTTP-01.
    Http,
    /// TLS-ALPN-01.
    Tls,
    /// DNS-01.
    Dns,
}

impl Store {
    /// Names the folder of a directory URL below the folder of all certificates. As kamal-proxy, by the digest of the URL;
    /// that of the usual authority is empty. What belongs to a fleet stands beside it and is encrypted.
    pub(super) fn new(certificates: &Path, directory: &str, fleet: Option<Arc<Fleet>>) -> Self {
        let digest = Sha256::digest(directory);
        let mut name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(fleet) = &fleet {
            name = format!("{name}-{}", fleet.key.id());
        }
        Self { folder: certificates.join(name), fleet }
    }

    /// Returns the name by which a fleet knows a file.
    pub(super) fn subject(&self, name: &str) -> Subject {
        let folder = self.folder.file_name().map(|folder| folder.to_string_lossy().into_owned());
        (folder.unwrap_or_default(), name.to_owned())
    }

    /// Returns the name by which a fleet knows the account.
    pub(super) fn account_subject(&self) -> Subject {
        self.subject(ACCOUNT)
    }

    /// Stores what another proxy of the fleet has stored.
    pub(super) fn put(&self, subject: &Subject, text: &str) -> Result<(), StoreError> {
        self.write(&subject.1, text.as_bytes())
    }

    /// Returns the file of a name's certificate.
    pub(super) fn certificate_path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Reads a name's key and certificate.
    pub(super) fn certificate(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(name)
    }

    /// Stores a name's key with its certificate.
    pub(super) fn put_certificate(&self, name: &str, key: &str, chain: &str) -> Result<(), StoreError> {
        self.write(name, format!("{}\n{chain}", key.trim_end()).as_bytes())
    }

    /// Reads the account.
    pub(super) fn account<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        self.read(ACCOUNT)?.map(|text| self.parse(ACCOUNT, &text)).transpose()
    }

    /// Stores the account.
    pub(super) fn put_account<T: Serialize>(&self, account: &T) -> Result<(), StoreError> {
        self.write(ACCOUNT, &json(account)?)
    }

    /// Reads how the orders stand.
    pub(super) fn orders(&self) -> Result<BTreeMap<String, Progress>, StoreError> {
        self.read(ORDERS)?.map_or_else(|| Ok(BTreeMap::new()), |text| self.parse(ORDERS, &text))
    }

    /// Stores how the orders stand.
    pub(super) fn put_orders(&self, orders: &BTreeMap<String, Progress>) -> Result<(), StoreError> {
        self.write(ORDERS, &json(orders)?)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match fs_err::read(self.folder.join(name)) {
            Ok(text) => self.opened(name, text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { source }),
        }
    }

    /// Opens a file, and lets the fleet fetch it.
    fn opened(&self, name: &str, text: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let Some(fleet) = &self.fleet else { return Ok(text) };
        let plain = std::str::from_utf8(&text).ok().and_then(|text| fleet.key.open(text, name.as_bytes()));
        let plain = plain.ok_or_else(|| StoreError::Sealed { path: self.folder.join(name) })?;
        self.stock(fleet, name, &plain);
        Ok(plain)
    }

    fn stock(&self, fleet: &Fleet, name: &str, plain: &[u8]) {
        if let Some(text) = std::str::from_utf8(plain).ok().filter(|_| name != ORDERS) {
            fleet.stock(self.subject(name), text);
        }
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(text)
            .map_err(|source| StoreError::Damaged { path: self.folder.join(name), source })
    }

    /// Replaces a file as a whole; nobody but the proxy's user may read it.
    fn write(&self, name: &str, text: &[u8]) -> Result<(), StoreError> {
        let sealed = match &self.fleet {
            None => None,
            Some(fleet) => {
                // It can be fetched also where it cannot be stored.
                self.stock(fleet, name, text);
                let sealed = fleet.key.seal(text, name.as_bytes());
                Some(sealed.ok_or_else(|| StoreError::Sealed { path: self.folder.join(name) })?)
            }
        };
        let text = sealed.as_deref().map_or(text, str::as_bytes);
        write_private(&self.folder.join(name), text)
    }
}

/// Replaces a file as a whole, in a folder that is made where it is missing; nobody but the proxy's user may read it.
pub(super) fn write_private(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| StoreError::Folder { source })?;
    let write = || {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = folder.join(format!(".{name}.new"));
        let mut options = fs_err::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs_err::rename(&fresh, path)?;
        fs_err::File::open(folder)?.sync_all()
    };
    write().map_err(|source| StoreError::Write { source })
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(value).map_err(|error| StoreError::Write { source: error.into() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // Section 17 of the description of kamal-proxy.
    #[test]
    fn the_folders_are_those_of_kamal_proxy() {
        let name = |directory: &str| {
            let folder = Store::new(Path::new("/c"), directory, None).folder;
            folder.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let staging = name("https://acme-staging-v02.api.letsencrypt.org/directory");
        assert!(staging.starts_with("67f27506") && staging.ends_with("a904"), "{staging}");
    }

    #[test]
    fn what_is_stored_is_read_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("certs"), "", None);
        assert_eq!(store.certificate("a.example").unwrap(), None);
        assert!(store.orders().unwrap().is_empty());
        store.put_certificate("a.example", "KEY\n", "CHAIN\n").unwrap();
        assert_eq!(store.certificate("a.example").unwrap().unwrap(), b"KEY\nCHAIN\n");
        let orders = BTreeMap::from([(
            "a.example".to_owned(),
            Progress { failures: 2, proof: Some(Proof::Tls), ..Progress::default() },
        )]);
        store.put_orders(&orders).unwrap();
        assert_eq!(store.orders().unwrap(), orders);
        for name in ["a.example", ORDERS] {
            let mode = fs_err::metadata(store.folder.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs_err::metadata(&store.folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs_err::write(store.folder.join(ORDERS), "{").unwrap();
        assert!(matches!(store.orders(), Err(StoreError::Damaged { .. })));
    }
}
