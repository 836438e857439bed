//! The Engine API over any byte stream: containers, builds, images, layers.
//!
//! An [`Engine`] speaks to one Docker engine (20.10 or newer, either image store) or to Podman's compatible socket,
//! through whatever a [`Dial`] opens: a local socket or a channel of an SSH connection. It knows nothing of SSH,
//! deploy files or rollouts, pulls nothing that it is not asked to and never runs the `docker` command.
//!
//! Start with [`Engine::over`], then [`ContainerSpec`] for containers.

mod build;
mod byte_channel;
mod connection;
mod container;
mod distribution;
mod engine;
mod error;
mod exec;
mod frame;
mod image;
mod json;
mod load;
mod logs;
mod network;
mod proc_net;
mod registry;
mod request;
mod scratch_image;
mod signature;
mod transfer;
mod volume;

pub use build::{
    BuildCache, BuildError, BuildEvent, BuildRequest, BuilderChoice, BuiltImage, ContentKey, ContextError,
    FailedStep, IgnorePatternError, KeyError, KeyFacts, StepId, StepOutcome,
};
pub use byte_channel::ByteFlow;
pub use connection::{ByteStream, Deadlines, Dial, UnixSocket};
pub use container::{
    ContainerDetails, ContainerHealth, ContainerId, ContainerScope, ContainerSpec, ContainerState,
    ContainerSummary, CreateContainerError, EnvValue, HealthStatus, ImageName, PreparedContainer,
    PublishedPort, Removal, RemoveOptions, Removed, RenameContainerError, SpecError, StandardStreams,
    Started, Stopped,
};
pub use distribution::{
    Authorities, Descriptor, Manifest, ManifestContent, RegistryClient, RegistryError, RegistryMessage,
};
pub use engine::{ApiVersion, Engine, EngineInfo, ImageStore};
pub use error::{EngineError, EngineMessage};
pub use exec::{
    ExecControl, ExecError, ExecIo, ExecOutcome, ExecSession, ExecSpec, SessionInput, SessionOutput,
};
pub use frame::OutputStream;
pub use image::{DiffId, ImageDetails, ImageSummary, Pruned, Untagged};
pub use load::load_failure;
pub use logs::{LogLine, LogOptions};
pub use proc_net::{Listener, parse_proc_net_tcp};
pub use registry::{RegistryCredentials, RegistryProgress};
pub use scratch_image::{
    FileSource, Owner, ScratchConfig, ScratchEntry, ScratchImage, ScratchImageError, SealedImage,
};
pub use signature::{
    ExpressionError, FoundSignature, ImageSignature, KeylessError, KeylessSigner, PublicKey, PublicKeyError,
    Signers, TrustedRoot, TrustedRootError, Unreadable, Untrusted, check_signatures, signature_name,
};
pub use transfer::{
    ExposedRegistry, IncomingConnections, LocalRegistry, Neighbours, PieceOnWay, PieceOrder, PieceWriter,
    RegistryExposure, Reopen, Room, Staging, StagingError, TELLING_BYTES, TransferError, TransferProgress,
    TransferStrategy, TransferTarget, TransferWay, Transferred, transfer, transfer_to_many,
};
pub use volume::ContainerFile;
