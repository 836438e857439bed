use std::collections::BTreeMap;

use freehold_docker::{Engine, ImageDetails, RegistryCredentials, RegistryProgress};
use freehold_model::{Diagnose, ErrorKind, ImageDigest, ImageReference, Repository, ServiceName};
use freehold_plan::{BuildPlaceName, ImageOrigin};

use crate::engine_host::{BuildContext, BuildDestination, EngineHost, Workshop};
use crate::event::Progress;
use crate::host::{Outcome, StepError, Work};

/// The label by which Kamal and Freehold know whose image it is.
const SERVICE_LABEL: &str = "service";

/// Why an image cannot be had from a registry.
#[derive(Debug, thiserror::Error)]
enum RegistryError {
    #[error("user `{username}` cannot log in")]
    Login { username: String, source: freehold_docker::EngineError },
    #[error("there is no user and password for it")]
    NoCredentials,
    #[error("it lacks the label `{SERVICE_LABEL}={service}`: {}", found(.labels))]
    ForeignImage { service: ServiceName, labels: BTreeMap<String, String> },
    #[error("the engine does not have it after the pull")]
    Gone,
}

fn found(labels: &BTreeMap<String, String>) -> String {
    match labels.get(SERVICE_LABEL) {
        Some(other) => format!("its label says `{other}`"),
        None => "it has no such label".to_owned(),
    }
}

impl Diagnose for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Login { source, .. } => source.kind(),
            Self::NoCredentials => ErrorKind::Configuration,
            Self::ForeignImage { .. } | Self::Gone => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Login { .. } => {
                vec![
                    "check `registry: username:` and `password:`, and where the secret comes from".to_owned(),
                ]
            }
            Self::NoCredentials => vec!["set `registry: username:` and `password:`".to_owned()],
            Self::ForeignImage { service, .. } => vec![format!(
                "deploy without `--skip-push`, or build the image with `--label {SERVICE_LABEL}={service}`"
            )],
            Self::Gone => Vec::new(),
        }
    }
}

impl Workshop {
    /// Returns name and password for the registry of an image.
    pub(super) fn credentials(&self, repository: &Repository) -> Option<&RegistryCredentials> {
        let server = repository.server().filter(|server| *server != "docker.io");
        self.registries.iter().find(|known| known.server.as_deref() == server)
    }

    /// Says whether every image is built and pushed by a tool that is no engine.
    fn tools_push(&self) -> bool {
        let is_pushed =
            |source: &BuildContext| matches!(source.destination, BuildDestination::Registry { .. });
        !self.contexts.is_empty() && self.contexts.values().all(is_pushed)
    }

    /// Logs in to a registry, to learn whether name and password are good.
    ///
    /// # Errors
    /// [`StepError`] with what the registry says.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn check_registry(&self, registry: &str, place: &BuildPlaceName) -> Result<Outcome, StepError> {
        let operation = format!("log in to registry `{registry}`");
        if self.tools_push() {
            // They log in by themselves.
            return Ok(Outcome::AlreadyDone);
        }
        let server = Some(registry).filter(|name| *name != "Docker Hub");
        let credentials = self
            .registries
            .iter()
            .find(|known| known.server.as_deref() == server)
            .ok_or_else(|| StepError::image(&operation, RegistryError::NoCredentials))?;
        let engine = self.builder(place).await?;
        engine.check_credentials(credentials).await.map_err(|source| {
            let username = credentials.username.clone();
            StepError::image(&operation, RegistryError::Login { username, source })
        })?;
        Ok(Outcome::Done(Some(format!("as {}", credentials.username))))
    }

    /// Pushes an image under its tag and as the latest one.
    ///
    /// # Errors
    /// [`StepError`] with what the engine or the registry says.
    ///
    /// # Cancel safety
    /// Layers that are complete stay in the registry; the builder's latest tag is put back by the next push.
    pub async fn push(
        &self,
        image: &ImageReference,
        latest: &ImageReference,
        from: &BuildPlaceName,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let source = self.contexts.get(&image.repository);
        if source.is_some_and(|source| matches!(source.destination, BuildDestination::Registry { .. })) {
            // The tool that built it has pushed it under both tags.
            return Ok(Outcome::AlreadyDone);
        }
        let engine = self.builder(from).await?;
        self.push_tag(&engine, image, work).await?;
        // The engine may be that of a host, where this tag names the image that serves now.
        let operation = format!("tag image `{latest}`");
        let failed = |error| StepError::image(&operation, error);
        let before = engine.inspect_image(&latest.to_string()).await.map_err(failed)?;
        engine.tag_image(&image.to_string(), latest).await.map_err(failed)?;
        let pushed = self.push_tag(&engine, latest, work).await;
        match before {
            Some(before) => engine.tag_image(&before.id, latest).await.map_err(failed)?,
            None => drop(engine.remove_image(&latest.to_string()).await.map_err(failed)?),
        }
        let progress = pushed?;
        Ok(Outcome::Done(Some(format!("{} layers", progress.layers))))
    }

    async fn push_tag(
        &self,
        engine: &Engine,
        image: &ImageReference,
        work: &Work<'_>,
    ) -> Result<RegistryProgress, StepError> {
        let mut last = RegistryProgress::default();
        let mut progress = |now: RegistryProgress| {
            last = now;
            (work.progress)(shown(now));
        };
        let pushed = tokio::select! {
            pushed = engine.push_image(image, self.credentials(&image.repository), &mut progress) => pushed,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        pushed.map_err(|error| StepError::image(format!("push image `{image}`"), error))?;
        Ok(last)
    }
}

impl EngineHost {
    /// Pulls an image by its digest and tags it.
    ///
    /// # Errors
    /// [`StepError`] with what the engine or the registry says, or that the image is another service's.
    ///
    /// # Cancel safety
    /// Layers that are complete stay.
    pub async fn pull(
        &self,
        image: &ImageReference,
        origin: &ImageOrigin,
        service: Option<&ServiceName>,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let engine = &link.engine;
        let operation = format!("pull image `{image}`");
        let failed = |error| StepError::image(&operation, error);
        let credentials = self.workshop.credentials(&image.repository);
        let wanted = self.wanted(engine, image, origin).await?;
        let there = engine.inspect_image(&image.to_string()).await.map_err(failed)?;
        if let (Some(details), Some(digest)) = (&there, &wanted)
            && details.repository_digests.iter().any(|known| is_of_digest(known, digest))
        {
            check_label(&operation, service, details)?;
            return Ok(Outcome::AlreadyDone);
        }
        let name = match &wanted {
            Some(digest) => format!("{}@{digest}", image.repository),
            None => image.to_string(),
        };
        let mut layers = 0;
        let mut progress = |now: RegistryProgress| {
            layers = now.layers;
            (work.progress)(shown(now));
        };
        let pulled = tokio::select! {
            pulled = engine.pull_image(&name, credentials, &mut progress) => pulled,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        pulled.map_err(failed)?;
        let gone = || StepError::image(&operation, RegistryError::Gone);
        let details = engine.inspect_image(&name).await.map_err(failed)?.ok_or_else(gone)?;
        if let Err(error) = check_label(&operation, service, &details) {
            // Nobody will run it: only the name that it was pulled by is left.
            engine.remove_image(&name).await.map_err(failed)?;
            return Err(error);
        }
        engine.tag_image(&details.id, image).await.map_err(failed)?;
        Ok(Outcome::Done(Some(format!("{layers} layers"))))
    }

    /// Returns the digest to pull, if anybody knows it before the pull.
    async fn wanted(
        &self,
        engine: &Engine,
        image: &ImageReference,
        origin: &ImageOrigin,
    ) -> Result<Option<ImageDigest>, StepError> {
        match origin {
            ImageOrigin::Pinned(pinned) if pinned.digest.is_some() => Ok(pinned.digest.clone()),
            ImageOrigin::Pushed(place) => {
                let builder = self.builder(place).await?;
                let details = builder
                    .inspect_image(&image.to_string())
                    .await
                    .map_err(|error| StepError::image(format!("look for image `{image}`"), error))?;
                match details.and_then(|details| pushed_digest(&details, &image.repository)) {
                    Some(digest) => Ok(Some(digest)),
                    // A tool that is no engine has built and pushed it.
                    None => self.digest_of_tag(engine, image).await,
                }
            }
            ImageOrigin::Pinned(_) | ImageOrigin::Tag => self.digest_of_tag(engine, image).await,
        }
    }

    async fn digest_of_tag(
        &self,
        engine: &Engine,
        image: &ImageReference,
    ) -> Result<Option<ImageDigest>, StepError> {
        let name = image.to_string();
        let asked = engine.registry_digest(&name, self.workshop.credentials(&image.repository)).await;
        // The pull itself says best what is wrong, and an engine that cannot be asked can still pull.
        Ok(asked.inspect_err(|error| tracing::debug!(host = %self.name, %error, "no digest")).ok())
    }
}

fn pushed_digest(details: &ImageDetails, repository: &Repository) -> Option<ImageDigest> {
    details.repository_digests.iter().find_map(|known| {
        let (name, digest) = known.split_once('@')?;
        let is_same =
            name == repository.as_str() || name.strip_prefix("docker.io/") == Some(repository.as_str());
        ImageDigest::parse(digest).ok().filter(|_| is_same)
    })
}

fn is_of_digest(known: &str, digest: &ImageDigest) -> bool {
    known.split_once('@').is_some_and(|(_, known)| known == digest.as_str())
}

fn check_label(
    operation: &str,
    service: Option<&ServiceName>,
    details: &ImageDetails,
) -> Result<(), StepError> {
    let Some(service) = service else { return Ok(()) };
    if details.labels.get(SERVICE_LABEL).map(String::as_str) == Some(service.as_str()) {
        return Ok(());
    }
    let mut labels = details.labels.clone();
    labels.retain(|name, _| name == SERVICE_LABEL);
    Err(StepError::image(operation, RegistryError::ForeignImage { service: service.clone(), labels }))
}

fn shown(now: RegistryProgress) -> Progress {
    let count = |layers: usize| u32::try_from(layers).unwrap_or(u32::MAX);
    Progress::Transfer {
        bytes_sent: now.bytes,
        bytes_total: Some(now.bytes_known),
        layers_sent: count(now.layers_done),
        layers_total: count(now.layers),
    }
}
