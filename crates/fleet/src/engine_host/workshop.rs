use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use freehold_docker::{BuildCache, ContentKey, RegistryCredentials};
use freehold_model::{AccessoryName, Architecture, Builder, HostName, ImageReference, Repository, Tag};
use freehold_plan::BuildTool;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use crate::engine_host::EngineHost;
use crate::engine_host::courier::Courier;
use crate::engine_host::known::Found;
use crate::engine_host::trust::ImageTrust;

/// What this machine gives to hosts: the source to build, the engine that builds it, and our own executable.
pub struct Workshop {
    /// The socket of this machine's engine.
    pub engine_socket: PathBuf,
    /// What is built, by the image's name; empty for a command that builds nothing.
    pub contexts: BTreeMap<Repository, BuildContext>,
    /// Names and passwords for registries.
    pub registries: Vec<RegistryCredentials>,
    /// Our executable for each architecture, from which the proxy's image is made.
    pub executables: BTreeMap<Architecture, PathBuf>,
    /// The environment of programs that build.
    pub environment: BTreeMap<String, String>,
    hosts: RwLock<BTreeMap<HostName, Weak<EngineHost>>>,
    stock: RwLock<Stock>,
    /// Images that several hosts get in one go.
    pub(super) courier: Courier,
    digests: tokio::sync::Mutex<BTreeMap<PathBuf, String>>,
    /// Images that were not built because somebody has them.
    pub(super) found: RwLock<BTreeMap<ImageReference, Found>>,
    /// The keys of images that were built, or would have been.
    pub(super) keys: RwLock<BTreeMap<ImageReference, ContentKey>>,
    /// What decides which images may run.
    pub(super) trust: RwLock<ImageTrust>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold secrets.
        formatter.debug_struct("Workshop").field("engine", &self.engine_socket).finish_non_exhaustive()
    }
}

/// What an operation on accessories gives to hosts.
#[derive(Default)]
pub struct Stock {
    /// The content of files by their path on the host. It may hold secrets.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names and passwords for the registries of accessories.
    pub logins: BTreeMap<AccessoryName, RegistryCredentials>,
}

impl std::fmt::Debug for Stock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stock").field("files", &self.files.keys()).finish_non_exhaustive()
    }
}

/// What an image is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildContext {
    /// The folder that is sent to the builder.
    pub directory: PathBuf,
    /// The project's settings.
    pub builder: Builder,
    /// Labels of the image; `service` is among them.
    pub labels: BTreeMap<String, String>,
    /// Whether the builder's cache is used.
    pub cache: BuildCache,
    /// What builds.
    pub tool: BuildTool,
    /// Sockets of SSH agents that the build may use, by name.
    pub ssh_agents: BTreeMap<String, PathBuf>,
    /// Where a tool that is no engine leaves the image.
    pub destination: BuildDestination,
    /// The commit, if the folder is a clone of it that we made.
    pub clone_of: Option<String>,
    /// The hosts that run the image.
    pub hosts: Vec<HostName>,
    /// The latest tag, where the image goes through a registry.
    pub registry_latest: Option<Tag>,
}

/// Where a tool that is no engine leaves an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildDestination {
    /// In the engine of this machine, from where it is sent.
    Engine,
    /// In the registry, under the latest tag too.
    Registry {
        /// The latest tag.
        latest: Tag,
    },
}

impl Workshop {
    /// Makes a workshop.
    #[must_use]
    pub fn new(
        engine_socket: PathBuf,
        contexts: BTreeMap<Repository, BuildContext>,
        registries: Vec<RegistryCredentials>,
        executables: BTreeMap<Architecture, PathBuf>,
        environment: BTreeMap<String, String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine_socket,
            contexts,
            registries,
            executables,
            environment,
            hosts: RwLock::default(),
            stock: RwLock::default(),
            courier: Courier::default(),
            digests: tokio::sync::Mutex::default(),
            found: RwLock::default(),
            keys: RwLock::default(),
            trust: RwLock::default(),
        })
    }

    /// Lays in what accessories need.
    pub fn lay_in(&self, stock: Stock) {
        *self.stock.write() = stock;
    }

    /// Returns the digest of one of our executables, which is read once only.
    pub(super) async fn digest_of(&self, executable: &Path) -> std::io::Result<String> {
        let mut known = self.digests.lock().await;
        if let Some(digest) = known.get(executable) {
            return Ok(digest.clone());
        }
        let path = executable.to_owned();
        let read = tokio::task::spawn_blocking(move || file_digest(&path)).await;
        let digest = read.map_err(std::io::Error::other)??;
        known.insert(executable.to_owned(), digest.clone());
        Ok(digest)
    }

    pub(super) fn stocked_file(&self, path: &str) -> Option<Vec<u8>> {
        self.stock.read().files.get(path).cloned()
    }

    pub(super) fn accessory_login(&self, accessory: &AccessoryName) -> Option<RegistryCredentials> {
        self.stock.read().logins.get(accessory).cloned()
    }

    /// Makes a host known, so that its engine can build for the others.
    pub fn register(&self, host: &Arc<EngineHost>) {
        self.hosts.write().insert(host.name.clone(), Arc::downgrade(host));
    }

    pub(super) fn host(&self, name: &HostName) -> Option<Arc<EngineHost>> {
        self.hosts.read().get(name).and_then(Weak::upgrade)
    }
}

fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut file = fs_err::File::open(path)?;
    std::io::copy(&mut file, &mut HashWriter(&mut digest))?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
