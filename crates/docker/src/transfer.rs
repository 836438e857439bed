use std::sync::Arc;

use freehold_model::ImageReference;

use crate::Engine;

pub use error::TransferError;
pub use neighbours::{Neighbours, PieceOrder};
pub use piece::TELLING_BYTES;
pub use registry::{ExposedRegistry, IncomingConnections, LocalRegistry, RegistryExposure};
pub use staging::{PieceOnWay, PieceWriter, Reopen, Room, Staging, StagingError};

use job::Job;

mod archive;
mod error;
mod fan_out;
mod job;
mod layers;
mod neighbours;
mod patience;
mod piece;
mod registry;
mod stager;
mod staging;
mod survey;

/// An engine that shall get an image.
#[derive(Clone)]
pub struct TransferTarget {
    /// The engine.
    pub engine: Engine,
    /// How the image gets there.
    pub strategy: TransferStrategy,
    /// How a registry of ours becomes reachable for the engine, if it can.
    pub exposure: Option<Arc<dyn RegistryExposure>>,
    /// Where the pieces of an image wait on its machine; without it a transfer that breaks off begins anew.
    pub staging: Option<Arc<dyn Staging>>,
    /// How to connect again after the connection broke; without it that ends the transfer.
    pub reopen: Option<Arc<dyn Reopen>>,
}

impl TransferTarget {
    /// Makes a target of an engine with the best way that needs no registry.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, strategy: TransferStrategy::Best, exposure: None, staging: None, reopen: None }
    }
}

/// How an image gets to an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransferStrategy {
    /// Only missing layers: by a partial load into graph-driver stores, by the registry way into containerd's.
    #[default]
    Best,
    /// The whole image, whatever is there.
    Everything,
    /// The engine pulls what it lacks from a read-only registry of ours. Without an exposure, everything is loaded.
    Registry,
}

/// How far the transfer to one engine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferProgress {
    /// The layers to send.
    pub layers_total: usize,
    /// Those of them that are sent.
    pub layers_sent: usize,
    /// About how many bytes those layers have, if the source can tell.
    pub bytes_total: Option<u64>,
    /// Those of them that are there, also of configuration and manifest; what gzip saves is counted in.
    pub bytes_sent: u64,
}

/// How an image got to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferWay {
    /// It was there under that name.
    AlreadyThere,
    /// It was there under another name.
    Tagged,
    /// By a load of the layers that were missing.
    MissingLayers,
    /// By a load of the whole image.
    Everything,
    /// By a pull from a registry of ours.
    Registry,
}

/// An image that is on an engine now, with its name, layers and configuration checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// How.
    pub way: TransferWay,
    /// The layers of the image.
    pub layers_total: usize,
    /// The layers that were sent.
    pub layers_sent: usize,
    /// The bytes that were sent from here, as they were on the wire.
    pub bytes_sent: u64,
    /// The bytes that came without being sent as they are: gzip's savings, and what an earlier try had brought.
    pub bytes_saved: u64,
    /// Those of the bytes saved that came from a neighbour.
    pub bytes_from_neighbour: u64,
    /// Why a neighbour did not give all that it has, if it was asked.
    pub neighbour_failed: Option<String>,
    /// How often the connection broke on the way.
    pub reconnects: usize,
}

/// Sends an image from one engine to another, only the layers that it lacks.
///
/// # Errors
/// [`TransferError`]; the target then has no half image under that name.
///
/// # Cancel safety
/// Layers may stay on the target without a name.
pub async fn transfer(
    source: &Engine,
    target: &TransferTarget,
    reference: &ImageReference,
    progress: &(dyn Fn(TransferProgress) + Sync),
) -> Result<Transferred, TransferError> {
    let targets = std::slice::from_ref(target);
    let outcomes = transfer_to_many(source, targets, None, reference, &|_, step| progress(step)).await?;
    outcomes
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(TransferError::NotOnSource { reference: reference.clone() }))
}

/// Sends an image from one engine to several, each only the layers that it lacks, and reads the source once for all
/// loads. The outcomes are in the order of the targets; `progress` gets the target's position. The slowest target
/// decides the pace of the loads.
///
/// A target whose connection breaks is connected to again, for as long as that brings it further, and gets what it lacks
/// by then in a reading of its own.
///
/// Where targets are neighbours, what several of them lack goes to one of them, which hands it on. Whatever does not
/// come that way is sent from here.
///
/// # Errors
/// [`TransferError`] if the source does not have the image.
///
/// # Cancel safety
/// Layers may stay on the targets without a name.
pub async fn transfer_to_many(
    source: &Engine,
    targets: &[TransferTarget],
    neighbours: Option<&dyn Neighbours>,
    reference: &ImageReference,
    progress: &(dyn Fn(usize, TransferProgress) + Sync),
) -> Result<Vec<Result<Transferred, TransferError>>, TransferError> {
    let name = reference.to_string();
    let image = source
        .inspect_image(&name)
        .await
        .map_err(|error| TransferError::Source { reference: reference.clone(), cause: error.into() })?
        .ok_or_else(|| TransferError::NotOnSource { reference: reference.clone() })?;
    let sizes = source
        .layer_sizes(&image)
        .await
        .map_err(|error| TransferError::Source { reference: reference.clone(), cause: error.into() })?;
    let copied = parking_lot::Mutex::default();
    let job = Job { source, reference, image: &image, sizes, progress, neighbours, copied };
    Ok(job.run(targets).await)
}
