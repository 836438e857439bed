use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{Architecture, HostName, Repository, SecretName};

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// The architectures; empty means that of the hosts.
    pub architectures: Vec<Architecture>,
    /// The build context relative to the project, or none for a clone of the git repository.
    pub context: Option<PathBuf>,
    /// The Dockerfile, relative to the build directory.
    pub dockerfile: PathBuf,
    /// The stage to build, or none for the last.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Secrets that the build may mount.
    pub secrets: Vec<SecretName>,
    /// The SSH agent or keys that the build may use, as `docker buildx build --ssh` reads it.
    pub ssh: Option<String>,
    /// Where layers are cached between builds.
    pub cache: Option<BuildCache>,
    /// What builds.
    pub driver: BuildDriver,
    /// The engine of another machine that builds what this one cannot: `ssh://user@host`, `tcp://host:port`.
    pub remote: Option<String>,
    /// Whether the machine on which the command runs builds at all; never false without `remote`.
    pub local: bool,
    /// Cloud Native Buildpacks instead of a Dockerfile; never with several architectures.
    pub pack: Option<Buildpacks>,
    /// The provenance attestation, as `docker buildx build --provenance` reads it.
    pub provenance: Option<String>,
    /// The bill of materials, as `docker buildx build --sbom` reads it.
    pub sbom: Option<String>,
    /// Where it is built.
    pub on: BuildPlace,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
            context: None,
            dockerfile: PathBuf::from("Dockerfile"),
            target: None,
            args: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: None,
            cache: None,
            driver: BuildDriver::DockerContainer,
            remote: None,
            local: true,
            pack: None,
            provenance: None,
            sbom: None,
            on: BuildPlace::Local,
        }
    }
}

/// The engine that builds an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BuildPlace {
    /// The engine of the machine on which the command runs.
    #[default]
    Local,
    /// The engine of a host of the project.
    Host(HostName),
}

/// What builds an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BuildDriver {
    /// A builder in a container of its own, Kamal's default.
    #[default]
    DockerContainer,
    /// The engine itself.
    Docker,
    /// Docker Build Cloud, `ORGANISATION/NAME`.
    Cloud(String),
    /// Another driver of `docker buildx`.
    Named(String),
}

/// Where layers are cached between builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildCache {
    /// The kind of cache.
    pub kind: CacheKind,
    /// Further attributes for `--cache-to`, `key=value` with commas, as written.
    pub options: Option<String>,
}

/// The kind of a build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKind {
    /// That of GitHub Actions.
    Gha,
    /// A folder of the machine that builds.
    Local(PathBuf),
    /// An image in a registry, with the project's server in front; `IMAGE-build-cache` by default.
    Registry(Repository),
}

/// Cloud Native Buildpacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpacks {
    /// The image of the builder.
    pub builder: String,
    /// The buildpacks, in their order.
    pub buildpacks: Vec<String>,
}

/// One of several images of a project, built beside the project's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectImage {
    /// The image's name without tag, with the registry's server where one is set.
    pub repository: Repository,
    /// How it is built: the root's `builder` with this image's own settings over it.
    pub builder: Builder,
}
