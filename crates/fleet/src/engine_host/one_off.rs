use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{Engine, EnvValue, RemoveOptions, SessionInput, SessionOutput, StandardStreams};
use freehold_model::{ContainerName, EnvName, RemoteImage, RestartPolicy, SecretValues};
use freehold_plan::ContainerRequest;

use crate::engine_host::EngineHost;
use crate::engine_host::container::container_spec;
use crate::host::{HostError, StepError};

/// A command to run in a container of its own.
#[derive(Debug, Clone)]
pub struct OneOff {
    /// The container. Neither its published ports nor its restart policy count: the ports would be taken from the
    /// container that serves, and a command runs once.
    pub container: ContainerRequest,
    /// Variables beside its environment.
    pub variables: Vec<(EnvName, String)>,
    /// What becomes of its input and output.
    pub streams: StandardStreams,
    /// What happens where the host does not have the image.
    pub missing: MissingImage,
}

/// What happens where a host does not have the image of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingImage {
    /// It is pulled.
    Pull,
    /// No registry has it, so that nothing runs.
    Fail,
}

/// A container that runs one command, and what it reads and writes.
pub struct Attached {
    /// What the command writes.
    pub output: SessionOutput,
    /// What it reads; shutting it down is end of file.
    pub input: SessionInput,
    /// Ends it.
    pub control: AttachedControl,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// Asks after a container that runs one command.
pub struct AttachedControl {
    engine: Engine,
    host: Arc<EngineHost>,
    name: ContainerName,
}

impl std::fmt::Debug for AttachedControl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AttachedControl").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AttachedControl {
    /// Tells the command's terminal its size in characters.
    ///
    /// # Errors
    /// [`HostError`] when the engine refuses.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), HostError> {
        let resized = self.engine.resize_container(self.name.as_str(), columns, rows).await;
        resized.map_err(|error| self.host.engine_error("resize the terminal", error))
    }

    /// Waits until the command has ended, removes its container, and returns its exit code.
    ///
    /// # Errors
    /// [`HostError`] when the engine does not answer in time.
    pub async fn finish(self, limit: Duration) -> Result<i64, HostError> {
        let name = self.name.as_str();
        let code = self.engine.wait_container(name, limit).await;
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let removed = self.engine.remove_container(name, options).await;
        let operation = format!("end container `{name}`");
        let code = code.map_err(|error| self.host.engine_error(&operation, error))?;
        removed.map_err(|error| self.host.engine_error(&operation, error))?;
        Ok(code)
    }
}

impl EngineHost {
    /// Starts a command in a container of its own and attaches to it, over a connection of its own.
    ///
    /// # Errors
    /// [`StepError`] when the container cannot be made or started; nothing is left of it then.
    ///
    /// # Cancel safety
    /// The container may have been made and stays.
    pub async fn run_attached(
        self: &Arc<Self>,
        command: &OneOff,
        secrets: &SecretValues,
    ) -> Result<Attached, StepError> {
        let link = self.link().await?;
        let engine = link
            .dedicated_engine()
            .await
            .map_err(|source| HostError::Connect { host: self.name.clone(), source })?;
        self.make(&engine, command, secrets, &link.home).await?;
        let name = command.container.name.as_str();
        let failed = |error| StepError::Host(self.engine_error(&format!("start container `{name}`"), error));
        let started = async {
            let is_terminal = command.streams == StandardStreams::Terminal;
            let (output, input) = engine.attach_container(name, is_terminal).await.map_err(failed)?;
            engine.start_container(name).await.map_err(failed)?;
            Ok((output, input))
        };
        match started.await {
            Ok((output, input)) => {
                let control =
                    AttachedControl { engine, host: Arc::clone(self), name: command.container.name.clone() };
                Ok(Attached { output, input, control })
            }
            Err(error) => {
                let options = RemoveOptions { force: true, anonymous_volumes: true };
                if let Err(error) = engine.remove_container(name, options).await {
                    tracing::warn!(host = %self.name, %error, "a container that did not start is left");
                }
                Err(error)
            }
        }
    }

    /// Starts a command in a container of its own that stays when the command has ended.
    ///
    /// # Errors
    /// [`StepError`] when the container cannot be made or started.
    ///
    /// # Cancel safety
    /// The container may have been made and stays.
    pub async fn run_detached(&self, command: &OneOff, secrets: &SecretValues) -> Result<(), StepError> {
        let link = self.link().await?;
        self.make(&link.engine, command, secrets, &link.home).await?;
        let name = command.container.name.as_str();
        let started = link.engine.start_container(name).await;
        started.map_err(|error| self.engine_error(&format!("start container `{name}`"), error))?;
        Ok(())
    }

    async fn make(
        &self,
        engine: &Engine,
        command: &OneOff,
        secrets: &SecretValues,
        home: &str,
    ) -> Result<(), StepError> {
        let mut request = command.container.clone();
        request.options.publish = Vec::new();
        request.options.restart = RestartPolicy::No;
        if command.missing == MissingImage::Pull {
            self.pull_if_missing(engine, &request.image).await?;
        }
        let mut spec = container_spec(&request, secrets, home)?;
        self.expand(&mut spec).await?;
        spec.streams = command.streams;
        for (name, value) in &command.variables {
            spec.env.insert(name.clone(), EnvValue::Clear(value.clone()));
        }
        match engine.create_container(&spec).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.create_error(&request.name, error)),
        }
    }

    async fn pull_if_missing(&self, engine: &Engine, image: &RemoteImage) -> Result<(), StepError> {
        let operation = format!("pull image `{image}`");
        let failed = |error| StepError::Host(self.engine_error(&operation, error));
        // Without a tag an engine would pull every one there is.
        let name = match (&image.tag, &image.digest) {
            (None, None) => format!("{image}:latest"),
            _ => image.to_string(),
        };
        if engine.inspect_image(&name).await.map_err(failed)?.is_some() {
            return Ok(());
        }
        let credentials = self.workshop.credentials(&image.repository);
        engine.pull_image(&name, credentials, &mut |_| ()).await.map_err(failed)
    }
}
