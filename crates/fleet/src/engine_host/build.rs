use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_docker::{
    BuildCache, BuildEvent, BuildRequest, Deadlines, Engine, EngineInfo, StepOutcome, UnixSocket,
};
use freehold_model::{Diagnose, ErrorKind, HostName, ImageReference};
use freehold_plan::{BuildPlaceName, BuildTool};

use crate::engine_host::EngineHost;
use crate::engine_host::known::with_key;
use crate::engine_host::workshop::{BuildContext, Workshop};
use crate::event::Progress;
use crate::host::{Outcome, StepError, Work};

/// Why an engine that builds cannot be used.
#[derive(Debug, thiserror::Error)]
enum BuilderError {
    #[error("this command was given nothing to build")]
    NoContext,
    #[error("the build host `{host}` is not one of the project's hosts")]
    UnknownHost { host: HostName },
}

impl Diagnose for BuilderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoContext => ErrorKind::Bug,
            Self::UnknownHost { .. } => ErrorKind::Configuration,
        }
    }
}

impl EngineHost {
    /// Returns the engine that builds.
    pub(super) async fn builder(&self, place: &BuildPlaceName) -> Result<Engine, StepError> {
        match place {
            BuildPlaceName::Host(name) if *name == self.name => Ok(self.link().await?.engine.clone()),
            place => self.workshop.builder(place).await,
        }
    }
}

impl Workshop {
    /// Returns the engine that builds.
    pub(super) async fn builder(&self, place: &BuildPlaceName) -> Result<Engine, StepError> {
        match place {
            BuildPlaceName::Local => {
                let dial = Arc::new(UnixSocket::new(&self.engine_socket));
                Ok(Engine::over(dial, Deadlines::default()))
            }
            BuildPlaceName::Host(name) => {
                let host = self.host(name).ok_or_else(|| {
                    StepError::image("find the builder", BuilderError::UnknownHost { host: name.clone() })
                })?;
                let link = host.link().await?;
                link.dedicated_engine()
                    .await
                    .map_err(|source| StepError::Image { operation: "reach the builder".to_owned(), source })
            }
        }
    }

    /// Asks an engine that builds what it is.
    ///
    /// # Errors
    /// [`StepError`] when it does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn engine_info(&self, place: &BuildPlaceName) -> Result<EngineInfo, StepError> {
        let engine = self.builder(place).await?;
        engine.info().await.map_err(|error| StepError::image("ask the engine that builds", error))
    }

    /// Gives an image that was built a second tag.
    ///
    /// # Errors
    /// [`StepError`] when the engine does not have it.
    ///
    /// # Cancel safety
    /// The tag is set or not.
    pub async fn tag(
        &self,
        place: &BuildPlaceName,
        image: &ImageReference,
        tag: &ImageReference,
    ) -> Result<(), StepError> {
        let engine = self.builder(place).await?;
        let tagged = engine.tag_image(&image.to_string(), tag).await;
        tagged.map_err(|error| StepError::image(format!("tag image `{tag}`"), error))
    }

    /// Builds an image, unless one of the same content is where it would go.
    ///
    /// # Errors
    /// [`StepError`] with what the builder says.
    ///
    /// # Cancel safety
    /// The builder stops; the tag is then what it was.
    pub async fn build(
        &self,
        image: &ImageReference,
        place: &BuildPlaceName,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let operation = format!("build image `{image}`");
        let source = self
            .contexts
            .get(&image.repository)
            .ok_or_else(|| StepError::image(&operation, BuilderError::NoContext))?;
        let engine = self.builder(place).await?;
        let key = self.content_key(source, work, &engine).await;
        if let Some(key) = &key {
            self.keys.write().insert(image.clone(), key.clone());
        }
        if let Some(key) = key.as_ref().filter(|_| source.cache == BuildCache::Use)
            && let Some(outcome) = self.known(source, image, key, &engine).await?
        {
            return Ok(outcome);
        }
        let source = &BuildContext { labels: with_key(&source.labels, key.as_ref()), ..source.clone() };
        match &source.tool {
            BuildTool::Engine | BuildTool::RemoteEngine(_) => {
                self.build_by_engine(source, image, &engine, work).await
            }
            BuildTool::Buildx(buildx) => self.build_by_buildx(source, buildx, image, work).await,
            BuildTool::Pack(pack) => self.build_by_pack(source, pack, image, work).await,
        }
    }

    async fn build_by_engine(
        &self,
        source: &BuildContext,
        image: &ImageReference,
        engine: &Engine,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let operation = format!("build image `{image}`");
        let request = build_request(source, std::slice::from_ref(image), work)?;
        let mut names: BTreeMap<freehold_docker::StepId, String> = BTreeMap::new();
        let mut cached = 0_usize;
        let mut progress = |event: BuildEvent| {
            let line = match event {
                BuildEvent::StepStarted { step, name } => {
                    names.insert(step, name.clone());
                    name
                }
                BuildEvent::StepOutput { line, .. } => line,
                BuildEvent::StepFinished { step, outcome: StepOutcome::Cached } => {
                    cached += 1;
                    format!("{} (cached)", names.get(&step).map_or("step", String::as_str))
                }
                BuildEvent::ContextSent { .. }
                | BuildEvent::StepProgress { .. }
                | BuildEvent::StepFinished { .. } => {
                    return;
                }
            };
            (work.progress)(Progress::Build { line });
        };
        let built = tokio::select! {
            built = engine.build(request, &mut progress) => built,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        built.map_err(|error| StepError::image(&operation, error))?;
        let note = if cached > 0 { Some(format!("{cached} of {} steps cached", names.len())) } else { None };
        Ok(Outcome::Done(note))
    }
}

/// Says what an engine is to build.
pub(super) fn build_request(
    source: &BuildContext,
    tags: &[ImageReference],
    work: &Work<'_>,
) -> Result<BuildRequest, StepError> {
    let mut request = BuildRequest::new(&source.directory);
    let builder = &source.builder;
    request.dockerfile = builder.dockerfile.clone();
    request.target = builder.target.clone();
    request.args = builder.args.clone();
    request.ssh_agents = source.ssh_agents.clone();
    request.labels = source.labels.clone();
    request.tags = tags.to_vec();
    request.architecture = builder.architectures.first().copied();
    request.cache = source.cache;
    for name in &builder.secrets {
        let value = work.secrets.value(name).ok_or_else(|| StepError::Secret { name: name.to_string() })?;
        request.secrets.insert(name.clone(), value.clone());
    }
    Ok(request)
}
