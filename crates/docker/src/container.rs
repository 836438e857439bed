use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use freehold_model::{ContainerName, Diagnose, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::container::body::{create_body, needed_version};
use crate::engine::{filters, within};
use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError, EngineMessage};

pub use body::SpecError;
pub use details::{
    ContainerDetails, ContainerHealth, ContainerState, ContainerSummary, HealthStatus, PublishedPort,
};
pub use prepared::PreparedContainer;
pub use spec::{ContainerSpec, EnvValue, ImageName, Removal, StandardStreams};

mod body;
mod details;
mod port;
mod prepared;
mod rare;
mod spec;

/// The engine's identifier of a container: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    pub(crate) fn new(id: String) -> Self {
        Self(id)
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first twelve digits, as `docker ps` shows them and as the container is called on its networks.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// What a container is asked for by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerScope {
    /// Running, paused and restarting ones.
    #[default]
    Running,
    /// All.
    All,
}

/// What came of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    Started,
    /// It ran already.
    AlreadyRunning,
}

/// What came of a stop or a signal. All of them mean: it does not run, or has got the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It has stopped, or has got the signal.
    Stopped,
    /// It did not run, which is as good: a rollout may race with the container's own exit.
    AlreadyStopped,
    /// There is no such container.
    NoSuchContainer,
}

/// What came of a removal. Both mean: it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It was removed, or somebody else is doing so.
    Removed,
    /// It was not there.
    AlreadyGone,
}

/// How a container is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs; otherwise a running one is an error.
    pub force: bool,
    /// Remove its anonymous volumes too. Named ones always stay.
    pub anonymous_volumes: bool,
}

/// A container that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateContainerError {
    /// The description itself is wrong.
    #[error("container `{name}` cannot be described to the Docker engine")]
    Spec {
        /// The container.
        name: ContainerName,
        /// What is wrong.
        source: SpecError,
    },
    /// The name is taken.
    #[error("a container named `{name}` exists already")]
    NameInUse {
        /// The name.
        name: ContainerName,
        /// The engine's refusal.
        source: EngineError,
    },
    /// The image is not there.
    #[error("image `{image}` of container `{name}` is not on the engine")]
    ImageMissing {
        /// The container.
        name: ContainerName,
        /// The image.
        image: ImageName,
        /// The engine's refusal.
        source: EngineError,
    },
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Diagnose for CreateContainerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec { source, .. } => source.kind(),
            Self::NameInUse { .. } | Self::ImageMissing { .. } => ErrorKind::Failed,
            Self::Engine(error) => error.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Spec { source, .. } => source.help(),
            Self::NameInUse { name, .. } => {
                vec![format!("look at it with `docker inspect {name}`; remove it or choose another name")]
            }
            Self::ImageMissing { .. } => Vec::new(),
            Self::Engine(error) => error.help(),
        }
    }
}

/// A container that could not be renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameContainerError {
    /// The new name is taken.
    #[error("container `{from}` cannot become `{to}`: another one has that name")]
    NameInUse {
        /// The container.
        from: String,
        /// The name that is taken.
        to: ContainerName,
        /// The engine's refusal.
        source: EngineError,
    },
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Diagnose for RenameContainerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NameInUse { .. } => ErrorKind::Failed,
            Self::Engine(error) => error.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NameInUse { to, .. } => vec![format!("look at it with `docker inspect {to}`")],
            Self::Engine(error) => error.help(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateAnswer {
    pub(crate) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitAnswer {
    status_code: i64,
    error: Option<WaitError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitError {
    message: String,
}

fn path(container: &str, verb: &str) -> String {
    format!("/containers/{}{verb}", escape(container))
}

/// In every function here `container` is a container's name or identifier.
impl Engine {
    /// Lists the containers that carry all of `labels`, newest first. A label with an empty value must be there with
    /// an empty value.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list_containers(
        &self,
        scope: ContainerScope,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let wanted = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = EngineRequest::get("list containers", "/containers/json")
            .query("all", if scope == ContainerScope::All { "1" } else { "0" })
            .query("filters", filters(&[("label", wanted)]));
        let containers: Vec<details::RawSummary> = self.read(request).await?;
        // The engine takes `name=` for "has the label, whatever its value".
        let fits = |container: &ContainerSummary| {
            labels.iter().all(|(name, value)| container.labels.get(name) == Some(value))
        };
        Ok(containers.into_iter().map(ContainerSummary::from).filter(fits).collect())
    }

    /// Describes a container, or gives nothing if there is none.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn inspect_container(&self, container: &str) -> Result<Option<ContainerDetails>, EngineError> {
        let action = format!("describe container `{container}`");
        let details: Option<details::RawDetails> =
            self.read_if_there(EngineRequest::get(action, path(container, "/json"))).await?;
        Ok(details.map(ContainerDetails::from))
    }

    /// Makes a container without starting it.
    ///
    /// # Errors
    /// [`CreateContainerError`]; nothing was made then.
    ///
    /// # Cancel safety
    /// The container may have been made; look for its name.
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, CreateContainerError> {
        let body = create_body(spec)
            .map_err(|source| CreateContainerError::Spec { name: spec.name.clone(), source })?;
        self.check_version(spec).await?;
        let action = format!("make container `{}`", spec.name);
        let body = serde_json::to_vec(&body).map_err(|error| EngineError::answer(&action, error))?;
        let request = EngineRequest::post(action, "/containers/create").query("name", &spec.name).json(body);
        match self.read::<CreateAnswer>(request).await {
            Ok(answer) => {
                self.join_networks(spec).await?;
                Ok(ContainerId::new(answer.id))
            }
            Err(source) if source.status() == Some(409) => {
                Err(CreateContainerError::NameInUse { name: spec.name.clone(), source })
            }
            Err(source) if source.status() == Some(404) => Err(CreateContainerError::ImageMissing {
                name: spec.name.clone(),
                image: spec.image.clone(),
                source,
            }),
            Err(source) => Err(source.into()),
        }
    }

    /// Refuses what an older engine would pass over.
    async fn check_version(&self, spec: &ContainerSpec) -> Result<(), CreateContainerError> {
        let Some((flag, needed)) = needed_version(&spec.options) else { return Ok(()) };
        let found = self.info().await?.api_version;
        if found >= needed {
            return Ok(());
        }
        let source = SpecError::OldEngine { flag, needed, found };
        Err(CreateContainerError::Spec { name: spec.name.clone(), source })
    }

    /// Connects a new container to its further networks. Before version 1.44 of the API, one network at most can be
    /// named when a container is made.
    async fn join_networks(&self, spec: &ContainerSpec) -> Result<(), EngineError> {
        for network in &spec.options.rare.network {
            if let Err(error) = self.connect_network(network, spec.name.as_str(), &[]).await {
                let options = RemoveOptions { force: true, anonymous_volumes: true };
                // The first error tells; a container that stays is found by its name.
                if let Err(left) = self.remove_container(spec.name.as_str(), options).await {
                    tracing::warn!(container = %spec.name, error = %left, "a container that cannot be connected is left");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Starts a container.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 if there is none, and the engine's words if its command cannot be run.
    ///
    /// # Cancel safety
    /// The container may have been started; starting it again is harmless.
    pub async fn start_container(&self, container: &str) -> Result<Started, EngineError> {
        let action = format!("start container `{container}`");
        let status = self
            .order(EngineRequest::post(action, path(container, "/start")), self.deadlines().request)
            .await?;
        Ok(if status == 304 { Started::AlreadyRunning } else { Started::Started })
    }

    /// Stops a container: its stop signal, then SIGKILL after `timeout` (whole seconds; none is the container's own
    /// time). The wait is bounded by that time and the deadline of a request.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The engine goes on stopping the container.
    pub async fn stop_container(
        &self,
        container: &str,
        timeout: Option<Duration>,
    ) -> Result<Stopped, EngineError> {
        let action = format!("stop container `{container}`");
        let mut request = EngineRequest::post(action, path(container, "/stop"));
        let grace = match timeout {
            Some(timeout) => {
                request = request.query("t", timeout.as_secs().to_string());
                timeout
            }
            None => self.own_stop_timeout(container).await?,
        };
        stopped(self.order(request, self.deadlines().request.saturating_add(grace)).await)
    }

    /// The time that a stop without one takes at most: it decides how long we wait for the engine.
    async fn own_stop_timeout(&self, container: &str) -> Result<Duration, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            stop_timeout: Option<u64>,
        }
        let action = format!("describe container `{container}`");
        let inspected: Option<Inspected> =
            self.read_if_there(EngineRequest::get(action, path(container, "/json"))).await?;
        Ok(Duration::from_secs(inspected.and_then(|inspected| inspected.config.stop_timeout).unwrap_or(10)))
    }

    /// Sends a signal (`SIGKILL`, `HUP`, ...) to the first process of a container.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The signal may have been sent.
    pub async fn kill_container(&self, container: &str, signal: &str) -> Result<Stopped, EngineError> {
        let action = format!("send {signal} to container `{container}`");
        let request = EngineRequest::post(action, path(container, "/kill")).query("signal", signal);
        match self.order(request, self.deadlines().request).await {
            Err(error) if error.status() == Some(409) => Ok(Stopped::AlreadyStopped),
            outcome => stopped(outcome),
        }
    }

    /// Removes a container.
    ///
    /// # Errors
    /// [`EngineError`]; status 409 if it runs and `force` is off.
    ///
    /// # Cancel safety
    /// The engine may go on removing it; removing it again is harmless.
    pub async fn remove_container(
        &self,
        container: &str,
        options: RemoveOptions,
    ) -> Result<Removed, EngineError> {
        let action = format!("remove container `{container}`");
        let request = EngineRequest::delete(action, path(container, ""))
            .query("force", if options.force { "1" } else { "0" })
            .query("v", if options.anonymous_volumes { "1" } else { "0" });
        match self.order(request, self.deadlines().request).await {
            Ok(_) => Ok(Removed::Removed),
            Err(error) if error.status() == Some(404) => Ok(Removed::AlreadyGone),
            // With force, the only conflict is a removal that is under way.
            Err(error) if error.status() == Some(409) && options.force => Ok(Removed::Removed),
            Err(error) => Err(error),
        }
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`RenameContainerError`].
    ///
    /// # Cancel safety
    /// It may have been renamed.
    pub async fn rename_container(
        &self,
        container: &str,
        name: &ContainerName,
    ) -> Result<(), RenameContainerError> {
        let action = format!("rename container `{container}` to `{name}`");
        let request = EngineRequest::post(action, path(container, "/rename")).query("name", name);
        match self.order(request, self.deadlines().request).await {
            Ok(_) => Ok(()),
            Err(source) if source.status() == Some(409) => {
                Err(RenameContainerError::NameInUse { from: container.to_owned(), to: name.clone(), source })
            }
            Err(source) => Err(source.into()),
        }
    }

    /// Waits until a container has stopped and returns its exit code; at once if it does not run.
    ///
    /// # Errors
    /// [`EngineError::Timeout`] after `limit`, other [`EngineError`]s as usual.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn wait_container(&self, container: &str, limit: Duration) -> Result<i64, EngineError> {
        let action = format!("wait for container `{container}` to stop");
        let request = EngineRequest::post(&action, path(container, "/wait"));
        within(limit, &action, async {
            let (answer, _connection) = self.send_apart(request, limit).await?;
            let ended: WaitAnswer = answer.json().await?;
            match ended.error {
                Some(error) if !error.message.is_empty() => {
                    Err(EngineError::Failed { action: action.clone(), source: EngineMessage(error.message) })
                }
                _ => Ok(ended.status_code),
            }
        })
        .await
    }
}

fn stopped(outcome: Result<u16, EngineError>) -> Result<Stopped, EngineError> {
    match outcome {
        Ok(304) => Ok(Stopped::AlreadyStopped),
        Ok(_) => Ok(Stopped::Stopped),
        Err(error) if error.status() == Some(404) => Ok(Stopped::NoSuchContainer),
        Err(error) => Err(error),
    }
}
