use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LabError, Topology};

/// What another process needs in order to use a lab that runs: the content of its `lab.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabState {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) engine: String,
    pub(super) directory: PathBuf,
    pub(super) network: String,
    pub(super) private_network: Option<String>,
    pub(super) topology: Topology,
    pub(super) hosts: Vec<HostState>,
}

/// One host of a running lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostState {
    pub(super) name: String,
    pub(super) container: String,
    /// The loopback address at which this computer reaches the host's ports 22, 80 and 443.
    pub(super) published: Option<Ipv4Addr>,
    /// Its address on the open network.
    pub(super) open: Option<Ipv4Addr>,
    /// Its address on the private network.
    pub(super) private: Option<Ipv4Addr>,
    /// The same, where the networks have such addresses.
    #[serde(default)]
    pub(super) open_ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    pub(super) private_ipv6: Option<Ipv6Addr>,
    /// The host through which it is reached.
    pub(super) jump: Option<String>,
}

impl LabState {
    /// Reads the description in a lab's folder.
    pub(super) fn read(directory: &Path) -> Result<Self, LabError> {
        let path = directory.join("lab.json");
        let text = fs_err::read_to_string(&path)?;
        serde_json::from_str(&text).map_err(|source| LabError::Description { path, source })
    }

    /// Writes the description into the lab's folder.
    pub(super) fn write(&self) -> Result<(), LabError> {
        let path = self.directory.join("lab.json");
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| LabError::Description { path: path.clone(), source })?;
        fs_err::write(path, text)?;
        Ok(())
    }
}

/// Returns the folder below which every lab has one of its own.
pub(super) fn labs_directory() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "the lab is started from tests, which have no main to read this"
    )]
    let (cache, home) = (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
    let cache =
        cache.map(PathBuf::from).unwrap_or_else(|| PathBuf::from(home.unwrap_or_default()).join(".cache"));
    cache.join("freehold/lab/run")
}

/// Returns the folders of all labs that left one, running or not.
pub(super) fn lab_directories() -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(labs_directory()) else { return Vec::new() };
    let mut directories: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    directories.sort();
    directories
}
