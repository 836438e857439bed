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
pub use image::{
    Architecture, ImageDigest, ImageId, ImageReference, ParseImageError, RemoteImage, Repository, Tag,
};
pub use name::{
    AccessoryName, AliasName, ContainerName, Destination, EnvName, HostName, ImageKey, InvalidName, JobName,
    ProxyServiceName, RegistryServer, RoleName, ScheduleName, SecretName, ServiceName,
};
pub use printable::printable;
pub use project::{
    Accessory, AccessoryDirectory, AccessoryFile, AssetPath, Balance, Boot, BootLimit, Buffering, BuildCache,
    BuildDriver, BuildPlace, Builder, Buildpacks, CacheKind, CertificateAuthority, CertificateFleet,
    ClientAuthorities, Compression, ConnectionSettings, ContainerOptions, Credential, Device, DeviceRate,
    DeviceWeight, Environment, FileContent, FileMode, GpuRequest, HeaderChanges, HeaderField, HealthCheck,
    HookOutput, HookSettings, Hsts, InvalidSchedule, InvalidTraffic, JumpHost, LoggedHeaders, Logging, Mount,
    MountKind, Network, NewVolume, OutputSettings, Overlap, PassiveHealth, PlainSecret, Project,
    ProjectImage, ProxyEdge, ProxyImage, ProxyPort, ProxyRun, ProxySettings, ProxyTraces, RareOptions, Rate,
    Redirect, Registry, RegistryCredentials, RegistryPlace, RestartPolicy, Role, RoleHost, RoleImage,
    RoleOrder, Scan, Schedule, ScheduleState, ScheduledJob, Severity, SshConfigFiles, SshLogLevel,
    SshSettings, TargetProtocol, Timeouts, Tls, Traffic, Ulimit, Verification,
};
pub use release::{Author, Release, ReleaseId, ReleaseRole, ReleaseVersion};
pub use secret::{SecretFingerprint, SecretValues};
