use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_docker::{BuildEvent, BuildRequest, Deadlines, Engine, StepOutcome, UnixSocket};
use freehold_model::{Diagnose, ErrorKind, HostName, ImageReference};
use freehold_plan::BuildPlaceName;

use crate::engine_host::EngineHost;
use crate::engine_host::workshop::BuildContext;
use crate::event::Progress;
use crate::host::{Outcome, StepContext, StepError};

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
            BuildPlaceName::Local => {
                let dial = Arc::new(UnixSocket::new(&self.workshop.engine_socket));
                Ok(Engine::over(dial, Deadlines::default()))
            }
            BuildPlaceName::Host(name) if *name == self.name => Ok(self.link().await?.engine.clone()),
            BuildPlaceName::Host(name) => {
                let host = self.workshop.host(name).ok_or_else(|| {
                    StepError::image("find the builder", BuilderError::UnknownHost { host: name.clone() })
                })?;
                let link = host.link().await?;
                link.dedicated_engine()
                    .await
                    .map_err(|source| StepError::Image { operation: "reach the builder".to_owned(), source })
            }
        }
    }

    pub(super) async fn build(
        &self,
        image: &ImageReference,
        place: &BuildPlaceName,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let operation = format!("build image `{image}`");
        let source = self
            .workshop
            .contexts
            .get(&image.repository)
            .ok_or_else(|| StepError::image(&operation, BuilderError::NoContext))?;
        let engine = self.builder(place).await?;
        let request = build_request(source, image, context)?;
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
            (context.progress)(Progress::Build { line });
        };
        let built = tokio::select! {
            built = engine.build(request, &mut progress) => built,
            () = context.stop.cancelled() => return Err(StepError::Stopped),
        };
        built.map_err(|error| StepError::image(&operation, error))?;
        let note = if cached > 0 { Some(format!("{cached} of {} steps cached", names.len())) } else { None };
        Ok(Outcome::Done(note))
    }
}

fn build_request(
    source: &BuildContext,
    image: &ImageReference,
    context: &StepContext<'_>,
) -> Result<BuildRequest, StepError> {
    let mut request = BuildRequest::new(&source.directory);
    request.dockerfile = source.dockerfile.clone();
    request.target = source.target.clone();
    request.args = source.args.clone();
    request.labels = source.labels.clone();
    request.tags = vec![image.clone()];
    request.architecture = source.architecture;
    request.cache = source.cache;
    for name in &source.secrets {
        let value =
            context.secrets.value(name).ok_or_else(|| StepError::Secret { name: name.to_string() })?;
        request.secrets.insert(name.clone(), value.clone());
    }
    Ok(request)
}
