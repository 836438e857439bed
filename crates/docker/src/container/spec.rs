use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use freehold_model::{
    ContainerName, ContainerOptions, EnvName, ImageId, ImageReference, Logging, RemoteImage,
};
use secrecy::SecretString;

/// Everything that a `docker run` says about a container.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Its name.
    pub name: ContainerName,
    /// Its image, which must be there already: nothing is pulled.
    pub image: ImageName,
    /// The words of its command, or none for the image's own.
    pub command: Option<Vec<String>>,
    /// Its host name, or none for the first digits of its identifier.
    pub hostname: Option<String>,
    /// Its environment beside the image's own.
    pub env: BTreeMap<EnvName, EnvValue>,
    /// `--volume` values as Docker reads them; paths of the host must be absolute.
    pub volumes: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its log driver.
    pub logging: Logging,
    /// Its network, or none for the engine's default.
    pub network: Option<String>,
    /// Names by which others on that network find it, beside those of `options`.
    pub network_aliases: Vec<String>,
    /// Options of `docker run`, the restart policy among them.
    pub options: ContainerOptions,
    /// How long `stop` without a time waits before it kills; none is the engine's 10 s. Whole seconds count.
    pub stop_timeout: Option<Duration>,
    /// What becomes of its standard input and output.
    pub streams: StandardStreams,
    /// What becomes of it when it stops.
    pub removal: Removal,
}

impl ContainerSpec {
    /// Makes a container of an image with nothing else set.
    #[must_use]
    pub fn new(name: ContainerName, image: ImageName) -> Self {
        Self {
            name,
            image,
            command: None,
            hostname: None,
            env: BTreeMap::new(),
            volumes: Vec::new(),
            labels: BTreeMap::new(),
            logging: Logging { driver: None, options: BTreeMap::new() },
            network: None,
            network_aliases: Vec::new(),
            options: ContainerOptions::default(),
            stop_timeout: None,
            streams: StandardStreams::Detached,
            removal: Removal::Keep,
        }
    }
}

/// What becomes of a container's standard input and output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StandardStreams {
    /// Output goes to the log, there is no input (`--detach`).
    #[default]
    Detached,
    /// As detached, and somebody may attach and read the output.
    Output,
    /// Input comes from whoever attaches (`--interactive`).
    Interactive,
    /// A terminal (`--interactive --tty`).
    Terminal,
}

/// What becomes of a container when it stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Removal {
    /// It stays.
    #[default]
    Keep,
    /// The engine removes it (`--rm`).
    WhenStopped,
}

/// The value of an environment variable.
#[derive(Debug, Clone)]
pub enum EnvValue {
    /// Anyone may read it.
    Clear(String),
    /// Only the container may.
    Secret(SecretString),
}

/// How an image is named in a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageName {
    /// By repository and tag.
    Reference(ImageReference),
    /// By repository with tag, digest or both.
    Remote(RemoteImage),
    /// By the engine's own identifier.
    Id(ImageId),
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => reference.fmt(formatter),
            Self::Remote(image) => image.fmt(formatter),
            Self::Id(id) => id.fmt(formatter),
        }
    }
}

impl From<ImageReference> for ImageName {
    fn from(reference: ImageReference) -> Self {
        Self::Reference(reference)
    }
}

impl From<RemoteImage> for ImageName {
    fn from(image: RemoteImage) -> Self {
        Self::Remote(image)
    }
}

impl From<ImageId> for ImageName {
    fn from(id: ImageId) -> Self {
        Self::Id(id)
    }
}
