use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind, ImageReference};
use futures_util::future::join_all;

use crate::image::ImageDetails;
use crate::{Engine, EngineError, ImageStore};

pub use registry::{ExposedRegistry, IncomingConnections, LocalRegistry, RegistryExposure};

use fan_out::Share;
use layers::LayerNames;

mod archive;
mod fan_out;
mod layers;
mod registry;

/// An engine that shall get an image.
#[derive(Clone)]
pub struct TransferTarget {
    /// The engine.
    pub engine: Engine,
    /// How the image gets there.
    pub strategy: TransferStrategy,
    /// How a registry of ours becomes reachable for the engine, if it can.
    pub exposure: Option<Arc<dyn RegistryExposure>>,
}

impl TransferTarget {
    /// Makes a target of an engine with the best way that needs no registry.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, strategy: TransferStrategy::Best, exposure: None }
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
    /// The bytes sent, also of configuration and manifest.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transferred {
    /// How.
    pub way: TransferWay,
    /// The layers of the image.
    pub layers_total: usize,
    /// The layers that were sent.
    pub layers_sent: usize,
    /// The bytes that were sent.
    pub bytes_sent: u64,
}

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
    /// The target could not take it. Nothing has that name there that had not before.
    #[error("image `{reference}` cannot be sent")]
    Target {
        /// The image.
        reference: ImageReference,
        /// Why.
        #[source]
        cause: EngineError,
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

impl Diagnose for TransferError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotOnSource { .. } | Self::Source { .. } | Self::NotTheSame { .. } | Self::Offer { .. } => {
                ErrorKind::Failed
            }
            Self::Target { cause, .. } => cause.kind(),
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
            Self::Target { cause, .. } => cause.help(),
            Self::NotTheSame { .. } => vec!["try again; if it stays so, please report it".to_owned()],
            Self::Source { .. } | Self::Offer { .. } => Vec::new(),
        }
    }
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
    let outcomes = transfer_to_many(source, targets, reference, &|_, step| progress(step)).await?;
    outcomes
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(TransferError::NotOnSource { reference: reference.clone() }))
}

/// Sends an image from one engine to several, each only the layers that it lacks, and reads the source once for all
/// loads. The outcomes are in the order of the targets; `progress` gets the target's position. The slowest target
/// decides the pace of the loads.
///
/// # Errors
/// [`TransferError`] if the source does not have the image.
///
/// # Cancel safety
/// Layers may stay on the targets without a name.
pub async fn transfer_to_many(
    source: &Engine,
    targets: &[TransferTarget],
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
    let job = Job { source, reference, image: &image, sizes, progress };
    let plans = join_all(targets.iter().map(|target| job.plan(target))).await;

    let mut deliveries: Vec<Delivery<'_>> = targets
        .iter()
        .zip(plans)
        .enumerate()
        .map(|(index, (target, plan))| Delivery::new(index, target, plan, &job))
        .collect();
    // First what is missing, in one reading; then, where an engine had forgotten a layer meanwhile, everything.
    job.load_all(&mut deliveries).await;
    for delivery in &mut deliveries {
        delivery.fall_back();
    }
    job.load_all(&mut deliveries).await;
    Ok(join_all(deliveries.into_iter().map(|delivery| job.settle(delivery))).await)
}

/// What all targets have in common.
struct Job<'a> {
    source: &'a Engine,
    reference: &'a ImageReference,
    image: &'a ImageDetails,
    sizes: Option<Vec<u64>>,
    progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
}

/// What is to be done for one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Done(TransferWay),
    /// Load the layers from that one on.
    Load {
        present: usize,
    },
    Pull,
}

struct Delivery<'a> {
    index: usize,
    target: &'a TransferTarget,
    plan: Result<Plan, EngineError>,
    had_name: bool,
    /// The outcome of the last load: what was sent, or why not.
    loaded: Option<Result<Share, fan_out::LoadError>>,
    way: TransferWay,
}

impl<'a> Delivery<'a> {
    fn new(
        index: usize,
        target: &'a TransferTarget,
        survey: Result<Survey, EngineError>,
        job: &Job<'_>,
    ) -> Self {
        let had_name = survey.as_ref().is_ok_and(|survey| survey.had_name);
        let plan = survey.map(|survey| survey.plan);
        let way = match &plan {
            Ok(Plan::Done(way)) => *way,
            Ok(Plan::Load { present: 0 }) | Err(_) => TransferWay::Everything,
            Ok(Plan::Load { .. }) => TransferWay::MissingLayers,
            Ok(Plan::Pull) => TransferWay::Registry,
        };
        if matches!(plan, Ok(Plan::Done(_))) {
            (job.progress)(index, TransferProgress::default());
        }
        Self { index, target, plan, had_name, loaded: None, way }
    }

    /// After a partial load that the engine did not accept: the whole image.
    fn fall_back(&mut self) {
        let refused = matches!(&self.loaded, Some(Err(fan_out::LoadError::Target(error)))
            if matches!(error, EngineError::Failed { .. } | EngineError::Refused { .. }));
        if refused && matches!(self.plan, Ok(Plan::Load { present: 1.. })) {
            tracing::debug!(target = self.index, "the partial load was refused, sending everything");
            self.plan = Ok(Plan::Load { present: 0 });
            self.way = TransferWay::Everything;
            self.loaded = None;
        }
    }
}

struct Survey {
    plan: Plan,
    had_name: bool,
}

impl Job<'_> {
    /// Looks at what the target has.
    async fn plan(&self, target: &TransferTarget) -> Result<Survey, EngineError> {
        let engine = &target.engine;
        let name = self.reference.to_string();
        let (info, there) = tokio::try_join!(engine.info(), engine.inspect_image(&name))?;
        let had_name = there.is_some();
        let survey = |plan| Ok(Survey { plan, had_name });
        if there.is_some_and(|there| there.fingerprint == self.image.fingerprint) {
            return survey(Plan::Done(TransferWay::AlreadyThere));
        }
        if let Some(same) = engine.inspect_image(&self.image.id).await?
            && same.fingerprint == self.image.fingerprint
        {
            engine.tag_image(&same.id, self.reference).await?;
            return survey(Plan::Done(TransferWay::Tagged));
        }
        let graph_driver = info.image_store == ImageStore::GraphDriver;
        match target.strategy {
            TransferStrategy::Everything => survey(Plan::Load { present: 0 }),
            TransferStrategy::Registry if target.exposure.is_some() => survey(Plan::Pull),
            TransferStrategy::Registry => survey(Plan::Load { present: 0 }),
            TransferStrategy::Best => {
                let present = self.present(engine).await?;
                // A partial load leaves containerd's store with an image that cannot be exported again.
                if graph_driver || present == 0 {
                    survey(Plan::Load { present })
                } else if target.exposure.is_some() {
                    survey(Plan::Pull)
                } else {
                    survey(Plan::Load { present: 0 })
                }
            }
        }
    }

    /// Counts the layers from the bottom that some image of the engine has in the same places.
    async fn present(&self, engine: &Engine) -> Result<usize, EngineError> {
        let images = engine.all_layers().await?;
        let shared =
            |layers: &Vec<_>| layers.iter().zip(&self.image.layers).take_while(|(a, b)| a == b).count();
        Ok(images.iter().map(shared).max().unwrap_or(0))
    }

    fn bytes_total(&self, present: usize) -> Option<u64> {
        match &self.sizes {
            Some(sizes) => Some(sizes.iter().skip(present).sum()),
            None => (present == 0).then_some(self.image.size_bytes),
        }
    }

    /// Loads into every target that has a load before it and none behind it, in one reading of the source.
    async fn load_all(&self, deliveries: &mut [Delivery<'_>]) {
        let waiting: Vec<(usize, Engine, usize)> = deliveries
            .iter()
            .enumerate()
            .filter(|(_, delivery)| delivery.loaded.is_none())
            .filter_map(|(at, delivery)| match delivery.plan {
                Ok(Plan::Load { present }) => Some((at, delivery.target.engine.clone(), present)),
                _ => None,
            })
            .collect();
        if waiting.is_empty() {
            return;
        }
        let names = LayerNames::new(&self.image.layers);
        let loads: Vec<fan_out::Load> = waiting
            .iter()
            .map(|(at, engine, present)| fan_out::Load {
                index: *at,
                engine: engine.clone(),
                present: *present,
                bytes_total: self.bytes_total(*present),
            })
            .collect();
        let outcomes = fan_out::load(self.source, self.reference, names, loads, self.progress).await;
        for ((at, _, _), outcome) in waiting.into_iter().zip(outcomes) {
            if let Some(delivery) = deliveries.get_mut(at) {
                delivery.loaded = Some(outcome);
            }
        }
    }

    /// Does what is left for one target and checks that the image is there.
    async fn settle(&self, delivery: Delivery<'_>) -> Result<Transferred, TransferError> {
        let engine = &delivery.target.engine;
        let reference = self.reference.clone();
        let target = |cause| TransferError::Target { reference: reference.clone(), cause };
        let arrived = |share: Share| Transferred {
            way: delivery.way,
            layers_total: self.image.layers.len(),
            layers_sent: share.layers,
            bytes_sent: share.bytes,
        };
        let sent = match (delivery.plan.map_err(target)?, delivery.loaded) {
            // It was looked at just now.
            (Plan::Done(_), _) => return Ok(arrived(Share::default())),
            (Plan::Pull, _) => self.pull(delivery.index, delivery.target).await,
            (Plan::Load { .. }, Some(Ok(share))) => Ok(share),
            (Plan::Load { .. }, Some(Err(error))) => Err(error.about(self.reference)),
            (Plan::Load { .. }, None) => Ok(Share::default()),
        };
        let there = engine.inspect_image(&reference.to_string()).await;
        let same = matches!(&there, Ok(Some(there)) if there.fingerprint == self.image.fingerprint);
        match (sent, there) {
            (Ok(share), _) if same => Ok(arrived(share)),
            (Err(error), there) => {
                // A name that was there before is still that of the old image.
                if !same && !delivery.had_name && matches!(there, Ok(Some(_))) {
                    self.take_name_away(engine).await;
                }
                Err(error)
            }
            (Ok(_), Ok(_)) => {
                self.take_name_away(engine).await;
                Err(TransferError::NotTheSame { reference })
            }
            (Ok(_), Err(cause)) => Err(target(cause)),
        }
    }

    async fn take_name_away(&self, engine: &Engine) {
        if let Err(error) = engine.remove_image(&self.reference.to_string()).await {
            tracing::warn!(
                image = %self.reference,
                error = &error as &dyn std::error::Error,
                "the name of a half image could not be removed"
            );
        }
    }

    async fn pull(&self, index: usize, target: &TransferTarget) -> Result<Share, TransferError> {
        let names = LayerNames::new(&self.image.layers);
        registry::pull(self.source, self.reference, names, target, &|step| (self.progress)(index, step)).await
    }
}
