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
    AccessoryName, AliasName, ContainerName, Destination, EnvName, HostName, ImageKey, InterfaceName,
    InvalidName, JobName, ProxyServiceName, RegistryServer, RoleName, ScheduleName, SecretName, ServiceName,
};
pub use printable::printable;
pub use project::{
    Accessory, AccessoryDirectory, AccessoryFile, AssetPath, Balance, Boot, BootLimit, Buffering, BuildCache,
    BuildDriver, BuildPlace, Builder, Buildpacks, CacheKind, Canary, CanaryHeader, CanaryVerdict,
    CertificateAuthority, CertificateFleet, ClientAuthorities, Compression, ConnectionSettings,
    ContainerOptions, Credential, Device, DeviceRate, DeviceWeight, DnsUpdates, Environment, ExternalAccount,
    FileContent, FileMode, Firewall, FirewallInterfaces, FirewallPorts, FirewallRule, FirewallSource,
    GpuRequest, HeaderChanges, HeaderField, HealthCheck, HookOutput, HookSettings, Hsts, InvalidPorts,
    InvalidSchedule, InvalidTraffic, JumpHost, LoggedHeaders, Logging, Mount, MountKind, Network, NewVolume,
    OutputSettings, Overlap, PassiveHealth, PlainSecret, PortProtocol, Project, ProjectImage, ProxyAcme,
    ProxyEdge, ProxyImage, ProxyPort, ProxyRun, ProxySettings, ProxyTraces, PublishedPorts, RareOptions,
    Rate, Redirect, Registry, RegistryCredentials, RegistryPlace, RestartPolicy, Role, RoleHost, RoleImage,
    RoleOrder, Scan, Schedule, ScheduleState, ScheduledJob, Severity, SshConfigFiles, SshLogLevel,
    SshSettings, TargetProtocol, TargetTls, Timeouts, Tls, Traffic, Ulimit, UpgradeToken, Verification,
    is_database_image,
};
pub use release::{Author, Release, ReleaseId, ReleaseRole, ReleaseVersion};
pub use secret::{SecretFingerprint, SecretValues};
