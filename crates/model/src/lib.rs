//! The nouns of Freehold: names, hosts, images, releases, secrets and error kinds.
//!
//! Everything here is plain data with checked constructors. The crate reads no file, clock or environment and knows
//! nothing of SSH, Docker or HTTP; holding one of its values is the proof that it is well formed.
//!
//! Start with [`Project`], the whole of a deploy file after checking, and [`Diagnose`], which every error that can
//! reach a person implements.

mod diagnose;
mod image;
mod name;
mod printable;
mod project;
mod release;
mod secret;

pub use diagnose::{Diagnose, ErrorKind, Evidence};
pub use image::{Architecture, ImageId, ImageReference, ParseImageError, Repository, Tag};
pub use name::{
    ContainerName, Destination, EnvName, HostName, InvalidName, ProxyServiceName, RoleName, SecretName,
    ServiceName,
};
pub use printable::printable;
pub use project::{
    Boot, BootLimit, Buffering, BuildPlace, Builder, ContainerOptions, Environment, HealthCheck,
    HookSettings, JumpHost, Logging, Project, ProxyRun, ProxySettings, RestartPolicy, Role, RoleHost,
    SshConfigFiles, SshSettings, Timeouts, Ulimit,
};
pub use release::{Author, Release, ReleaseId, ReleaseRole, ReleaseVersion};
pub use secret::{SecretFingerprint, SecretValues};
