use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_model::{Diagnose, ErrorKind};

use super::TransferTarget;
use crate::{DiffId, EngineError};

/// Files on the machine of an engine, where the pieces of an image wait until all of them are there. An engine forgets
/// what it was sent when a connection breaks; these files stay.
///
/// The name of a piece is `DIFF-ID.INDEX` for a part of a layer, `f.SHA256` for what stands between layers: hex digits,
/// letters and dots only.
#[async_trait]
pub trait Staging: Send + Sync {
    /// Looks at the free space, and at what the machine can do.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn room(&self, data_root: &Path) -> Result<Room, StagingError>;

    /// Returns the SHA-256 digests of the pieces that an earlier try left, by name, after removing those of other layers.
    /// A load that still runs there is waited for.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn found(&self, layers: &[DiffId]) -> Result<BTreeMap<String, String>, StagingError>;

    /// Opens a way for pieces.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn open(&self) -> Result<Box<dyn PieceWriter>, StagingError>;

    /// Loads the archive that the pieces make in this order.
    ///
    /// # Errors
    /// [`StagingError::Refused`] with the engine's words.
    ///
    /// # Cancel safety
    /// The load goes on; [`Staging::found`] waits for it.
    async fn load(&self, order: &[String]) -> Result<(), StagingError>;

    /// Removes all pieces.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn clear(&self) -> Result<(), StagingError>;
}

/// Takes pieces, one after another.
#[async_trait]
pub trait PieceWriter: Send {
    /// Sends a piece. It may return before the machine has it.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn send(&mut self, piece: PieceOnWay<'_>) -> Result<(), StagingError>;

    /// Returns how many pieces the machine has confirmed.
    fn confirmed(&self) -> usize;

    /// Returns the bytes in a second at which the last confirmed piece went, as they were on the wire.
    fn rate(&self) -> Option<u64>;

    /// Waits until the machine has confirmed every piece.
    ///
    /// # Errors
    /// [`StagingError`].
    async fn finish(&mut self) -> Result<(), StagingError>;
}

/// A piece as it is sent.
#[derive(Debug, Clone, Copy)]
pub struct PieceOnWay<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its size when it has arrived.
    pub size: usize,
    /// What is sent.
    pub bytes: &'a Bytes,
    /// Whether what is sent is compressed by gzip.
    pub gzip: bool,
}

/// What a machine has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// The free space where the engine keeps images, if the machine tells.
    pub engine_free_bytes: Option<u64>,
    /// The free space where pieces wait; none if they cannot wait there at all.
    pub staging_free_bytes: Option<u64>,
    /// Whether both are on one file system.
    pub is_one_disk: bool,
    /// How many bytes an earlier try has left.
    pub left_bytes: u64,
}

/// Opens a target again whose connection broke.
#[async_trait]
pub trait Reopen: Send + Sync {
    /// Connects anew.
    ///
    /// # Errors
    /// [`EngineError::Connection`] if the machine cannot be reached.
    async fn reopen(&self) -> Result<TransferTarget, EngineError>;
}

/// Why the machine of an engine did not do something with pieces.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The connection to it broke.
    #[error("the connection broke while trying to {action}")]
    Lost {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not do it.
    #[error("the host did not {action}: {message}")]
    Refused {
        /// What was tried.
        action: String,
        /// What it said, one line.
        message: String,
    },
    /// Its disk is full. What it has taken stays.
    #[error(
        "the disk of the host is full: {} MB more are needed in `{folder}`, where {} MB are free",
        needed_bytes.div_ceil(1_000_000), free_bytes / 1_000_000
    )]
    Full {
        /// Where pieces wait.
        folder: String,
        /// What is still to come.
        needed_bytes: u64,
        /// The space that is free.
        free_bytes: u64,
    },
    /// It took too long.
    #[error("the host did not {action} within {} s", limit.as_secs())]
    Timeout {
        /// What was tried.
        action: String,
        /// The deadline that passed.
        limit: Duration,
    },
}

impl StagingError {
    /// Makes the error of a connection that broke.
    pub fn lost(
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Lost { action: action.into(), source: source.into() }
    }
}

impl Diagnose for StagingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } => ErrorKind::Unreachable,
            Self::Refused { .. } | Self::Full { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } => {
                vec!["deploy again: what has arrived is not sent a second time".to_owned()]
            }
            Self::Full { .. } => vec![super::error::FREE_SPACE.to_owned()],
            Self::Refused { .. } => {
                vec![
                    "look at the engine's log on that host (`journalctl -u docker`) and its disk (`df -h`)"
                        .to_owned(),
                ]
            }
        }
    }
}
