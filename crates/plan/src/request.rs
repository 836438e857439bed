use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use freehold_model::{
    AccessoryName, BuildPlace, ContainerName, ContainerOptions, Environment, FileMode, HostName,
    ImageReference, Logging, RemoteImage, RoleName,
};
use serde::{Deserialize, Serialize};

use crate::observed::ProxyMaker;

/// The part of a project that a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A role of the service.
    Role(RoleName),
    /// An accessory.
    Accessory(AccessoryName),
    /// The proxy of a host.
    Proxy,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(name) => name.fmt(formatter),
            Self::Accessory(name) => name.fmt(formatter),
            Self::Proxy => formatter.write_str("proxy"),
        }
    }
}

impl From<&RoleName> for Subject {
    fn from(name: &RoleName) -> Self {
        Self::Role(name.clone())
    }
}

impl From<&AccessoryName> for Subject {
    fn from(name: &AccessoryName) -> Self {
        Self::Accessory(name.clone())
    }
}

/// The engine that builds, as it stands in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildPlaceName {
    /// The engine of the machine on which the command runs.
    Local,
    /// The engine of a host.
    Host(HostName),
}

impl From<&BuildPlace> for BuildPlaceName {
    fn from(place: &BuildPlace) -> Self {
        match place {
            BuildPlace::Local => Self::Local,
            BuildPlace::Host(host) => Self::Host(host.clone()),
        }
    }
}

/// A container to create, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRequest {
    /// Its name.
    pub name: ContainerName,
    /// The image, which the host has.
    pub image: RemoteImage,
    /// Its host name, or none for the engine's choice.
    pub hostname: Option<String>,
    /// The network.
    pub network: String,
    /// The words of the command, or none for the image's own.
    pub command: Option<Vec<String>>,
    /// The environment: clear values and secrets by name.
    pub environment: Environment,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// `volume` flags, host paths relative to the login directory allowed.
    pub volumes: Vec<String>,
    /// Options of `docker run`.
    pub options: ContainerOptions,
    /// The log driver.
    pub logging: Logging,
    /// How long it may take to stop before it is killed; none is the engine's default.
    pub stop_timeout: Option<Duration>,
}

/// What healthy means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Readiness {
    /// The proxy gets a good answer from it.
    Answers {
        /// The port on which it listens.
        port: u16,
        /// The check.
        check: freehold_model::HealthCheck,
        /// How long it may take.
        deadline: Duration,
        /// Whose proxy it is.
        #[serde(default, skip_serializing_if = "ProxyMaker::is_freehold")]
        proxy: ProxyMaker,
    },
    /// The engine's health check says so; without one it keeps running for the delay.
    Runs {
        /// How long it must keep running.
        delay: Duration,
        /// How long becoming healthy may take.
        deadline: Duration,
    },
}

/// What decides which image a host pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageOrigin {
    /// What this engine pushed under the tag.
    Pushed(BuildPlaceName),
    /// What the registry has under the tag.
    Tag,
    /// What is made elsewhere, by digest.
    Pinned(RemoteImage),
}

/// Where an image is before the hosts have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePlace {
    /// In its registry, found as a pull finds it.
    Registry(ImageOrigin),
    /// On the engine that built it.
    Engine(BuildPlaceName),
}

/// A command that looks for known flaws in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageScan {
    /// The command line, for a shell.
    pub command: String,
    /// The least severity in its report that stops the rollout, in the words of the deploy file.
    pub fail_on: Option<String>,
    /// How long it may take.
    #[serde(default = "scan_timeout")]
    pub timeout: Duration,
}

/// What plans meant that were stored before they said so.
fn scan_timeout() -> Duration {
    freehold_model::Scan::TIMEOUT
}

/// The assets of a release that is to serve beside those of the release that serves. All paths are in `directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetBridge {
    /// The role.
    pub role: RoleName,
    /// The image that has them.
    pub image: ImageReference,
    /// Their absolute path in the container.
    pub path: String,
    /// The folder on the host, relative to the login directory.
    pub directory: String,
    /// The container that is made for the copy and removed after it.
    pub container: ContainerName,
    /// The new release's folder in `extracted` and `volumes`: `ROLE-VERSION`.
    pub new: String,
    /// That of the release that serves, if there is one.
    pub old: Option<String>,
}

/// A command that runs once on the new image, in a container of its own, before any container of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseCommand {
    /// The role.
    pub role: RoleName,
    /// Its container.
    pub container: ContainerRequest,
    /// How long it may take.
    pub deadline: Duration,
}

/// Files that the proxy reads, as paths in its container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyFiles {
    /// The folder of the error pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_pages: Option<String>,
    /// The folder of the certificate `cert.pem` and its key `key.pem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The folder of the file `users`, with those who may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<String>,
}

impl ProxyFiles {
    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which image of a name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageAge {
    /// The one that the host has, otherwise the registry's.
    Any,
    /// The registry's; where it cannot be pulled, the one that the host has.
    Newest,
}

/// A file of the project on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedFile {
    /// Its path relative to the login directory.
    pub path: String,
    /// A fingerprint of its content; the content itself may hold secrets and is no part of a plan.
    pub fingerprint: String,
    /// Its permissions.
    pub mode: FileMode,
    /// Its owner as `chown` reads it, or none to leave it.
    pub owner: Option<String>,
}

/// A directory on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedDirectory {
    /// Its path, absolute or relative to the login directory.
    pub path: String,
    /// Its permissions, or none to leave them.
    pub mode: Option<FileMode>,
    /// Its owner as `chown` reads it, or none to leave it.
    pub owner: Option<String>,
}
