use std::collections::BTreeMap;

use freehold_docker::{Engine, ImageDetails, RegistryCredentials, RegistryProgress};
use freehold_model::{Diagnose, ErrorKind, ImageDigest, ImageReference, Repository, ServiceName};
use freehold_plan::{BuildPlaceName, ImageOrigin};

use crate::engine_host::known::Found;
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
    #[error("registry `{registry}` has no such image")]
    NoImage { registry: String, source: freehold_docker::EngineError },
    #[error("the engine did not push it to registry `{registry}`")]
    Push { registry: String, source: freehold_docker::EngineError },
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
            Self::Push { source, .. } => source.kind(),
            Self::ForeignImage { .. } | Self::Gone | Self::NoImage { .. } => ErrorKind::Failed,
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
            Self::NoImage { .. } => {
                vec!["deploy without `--skip-push`, or push the image of this version first: `freehold build push`".to_owned()]
            }
            Self::Push { .. } => {
                vec!["look at the log of the registry, its disk, and what its user may do".to_owned()]
            }
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
        for repository in self.contexts.keys().filter(|name| name.server() == server) {
            self.check_push(repository)
                .await
                .map_err(|error| StepError::image(format!("push to registry `{registry}`"), error))?;
        }
        Ok(Outcome::Done(Some(format!("as {}", credentials.username))))
    }

    /// Finds out before the build whether the registry will take the image. Where we cannot ask it ourselves, as behind
    /// an HTTP proxy that only the engine knows, the push will tell.
    async fn check_push(&self, repository: &Repository) -> Result<(), freehold_docker::RegistryError> {
        let checked = match self.registry_client(repository) {
            Ok(client) => client.check_push().await,
            Err(error) => Err(error),
        };
        match checked {
            Err(error) if error.is_refusal() => Err(error),
            Err(error) => {
                tracing::debug!(%error, %repository, "the registry was not asked");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
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
        if matches!(self.found(image), Some(Found::InRegistry(_))) {
            return Ok(Outcome::AlreadyDone);
        }
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
        let Err(source) = pushed else { return Ok(last) };
        let operation = format!("push image `{image}`");
        // The registry itself says best what is wrong.
        self.check_push(&image.repository).await.map_err(|error| StepError::image(&operation, error))?;
        let registry = registry_of(&image.repository);
        Err(StepError::image(operation, RegistryError::Push { registry, source }))
    }

    /// Says why an image could not be pulled.
    async fn pull_failed(
        &self,
        operation: &str,
        image: &ImageReference,
        source: freehold_docker::EngineError,
    ) -> StepError {
        let asked = match self.registry_client(&image.repository) {
            Ok(client) => client.manifest(image.tag.as_str()).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(None) => {
                let registry = registry_of(&image.repository);
                StepError::image(operation, RegistryError::NoImage { registry, source })
            }
            Err(error) if error.is_refusal() => StepError::image(operation, error),
            Ok(Some(_)) | Err(_) => StepError::image(operation, source),
        }
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
        // Under another tag it may be there as well.
        if wanted.is_some()
            && let Some(details) = engine.inspect_image(&name).await.map_err(failed)?
        {
            check_label(&operation, service, &details)?;
            engine.tag_image(&details.id, image).await.map_err(failed)?;
            return Ok(Outcome::Done(Some("was there under another name".to_owned())));
        }
        let mut layers = 0;
        let mut progress = |now: RegistryProgress| {
            layers = now.layers;
            (work.progress)(shown(now));
        };
        let pulled = tokio::select! {
            pulled = engine.pull_image(&name, credentials, &mut progress) => pulled,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        if let Err(error) = pulled {
            return Err(match origin {
                // Its tag is the one that it gets, not one that the registry has.
                ImageOrigin::Pinned(_) => failed(error),
                ImageOrigin::Pushed(_) | ImageOrigin::Tag => {
                    self.workshop.pull_failed(&operation, image, error).await
                }
            });
        }
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
        if let ImageOrigin::Pinned(pinned) = origin
            && pinned.digest.is_some()
        {
            return Ok(pinned.digest.clone());
        }
        if let Some(Found::InRegistry(digest)) = self.workshop.found(image) {
            return Ok(Some(digest));
        }
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

fn registry_of(repository: &Repository) -> String {
    repository.server().unwrap_or("Docker Hub").to_owned()
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
