use std::path::PathBuf;

use freehold_model::{Diagnose, ErrorKind, ImageReference};

use super::StagingError;
use crate::EngineError;

/// An image that did not get from one engine to another.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source has no such image.
    #[error("image `{reference}` is not on the engine that it should be sent from")]
    NotOnSource {
        /// The image.
        reference: ImageReference,
    },
    /// The source could not be read.
    #[error("image `{reference}` cannot be read from the engine that it should be sent from")]
    Source {
        /// The image.
        reference: ImageReference,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room for it. Nothing was sent.
    #[error(
        "image `{reference}` needs {} MB for a while in `{}`, where {} MB are free",
        megabytes(*.needed_bytes), path.display(), .free_bytes / 1_000_000
    )]
    NoRoom {
        /// The image.
        reference: ImageReference,
        /// The folder of the engine.
        path: PathBuf,
        /// The space that it takes at its peak.
        needed_bytes: u64,
        /// The space that is free.
        free_bytes: u64,
    },
    /// The target could not take it. Nothing has that name there that had not before.
    #[error("image `{reference}` cannot be sent")]
    Target {
        /// The image.
        reference: ImageReference,
        /// Why.
        #[source]
        cause: EngineError,
    },
    /// The machine of the target could not take its pieces. What it has taken stays for the next try.
    #[error("image `{reference}` cannot be sent")]
    Staging {
        /// The image.
        reference: ImageReference,
        /// Why.
        #[source]
        cause: StagingError,
    },
    /// The registry way broke on our side.
    #[error("image `{reference}` cannot be offered to the engine")]
    Offer {
        /// The image.
        reference: ImageReference,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What arrived is another image. Its name was taken away again.
    #[error("image `{reference}` arrived with other layers or another configuration than it left with")]
    NotTheSame {
        /// The image.
        reference: ImageReference,
    },
}

/// What helps where a disk is full.
pub(super) const FREE_SPACE: &str = "free some space: `freehold prune` removes old releases, `docker system df` on that host shows what takes it";

/// Rounds up, so that what is needed is never said to be less than it is.
fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

impl Diagnose for TransferError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotOnSource { .. }
            | Self::Source { .. }
            | Self::NoRoom { .. }
            | Self::NotTheSame { .. }
            | Self::Offer { .. } => ErrorKind::Failed,
            Self::Target { cause, .. } => cause.kind(),
            Self::Staging { cause, .. } => cause.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotOnSource { reference } => {
                vec![format!(
                    "build it first, or look for it with `docker image ls {}`",
                    reference.repository
                )]
            }
            Self::NoRoom { .. } => vec![FREE_SPACE.to_owned()],
            Self::Target { cause, .. } => cause.help(),
            Self::Staging { cause, .. } => cause.help(),
            Self::NotTheSame { .. } => vec!["try again; if it stays so, please report it".to_owned()],
            Self::Source { .. } | Self::Offer { .. } => Vec::new(),
        }
    }
}
