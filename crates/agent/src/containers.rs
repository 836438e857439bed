use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use freehold_docker::{ContainerScope, Engine, LogOptions, PreparedContainer, RemoveOptions, Started};
use freehold_model::ContainerName;
use freehold_wire::agent::ScheduledContainer;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::error::chain;

/// How long one wait for the end of a container may take; then it is begun again.
const WAIT_LIMIT: Duration = Duration::from_secs(3600);

/// The label with the number of a run.
pub(crate) const RUN_LABEL: &str = "freehold.job.run";
/// The labels that a client gives to the containers of jobs.
pub(crate) const SCHEDULE_LABEL: &str = "freehold.schedule";
pub(crate) const JOB_LABEL: &str = "freehold.job";
pub(crate) const RELEASE_LABEL: &str = "freehold.release";

/// Something that the engine did not do, with all causes in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ContainerError(pub(crate) String);

impl ContainerError {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self(chain(error).replace('\n', " "))
    }
}

/// How a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was made and never started.
    Made,
    /// It runs.
    Runs,
    /// It has ended with a code.
    Ended(i64),
}

/// A container of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundContainer {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) is_alive: bool,
}

/// What the agent needs of an engine.
#[async_trait]
pub(crate) trait Containers: Send + Sync {
    /// Says whether the engine answers.
    async fn answers(&self) -> Result<(), ContainerError>;

    /// Makes a container with more labels.
    async fn make(
        &self,
        name: &ContainerName,
        container: &ScheduledContainer,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ContainerError>;

    /// Starts a container. Says whether it did not run before.
    async fn start(&self, name: &ContainerName) -> Result<bool, ContainerError>;

    /// Says how a container stands, if there is one.
    async fn look(&self, name: &ContainerName) -> Result<Option<Standing>, ContainerError>;

    /// Waits until a container has ended and returns its exit code.
    async fn wait(&self, name: &ContainerName) -> Result<i64, ContainerError>;

    /// Stops a container in the time that it has for it.
    async fn stop(&self, name: &ContainerName) -> Result<(), ContainerError>;

    /// Removes a container, also one that runs. There may be none.
    async fn remove(&self, name: &ContainerName) -> Result<(), ContainerError>;

    /// Returns what a container writes, from its beginning until its end.
    async fn follow(&self, name: &ContainerName) -> Result<BoxStream<'static, String>, ContainerError>;

    /// Returns every container of a job.
    async fn list(&self) -> Result<Vec<FoundContainer>, ContainerError>;
}

#[async_trait]
impl Containers for Engine {
    async fn answers(&self) -> Result<(), ContainerError> {
        self.info().await.map(drop).map_err(|error| ContainerError::of(&error))
    }

    async fn make(
        &self,
        name: &ContainerName,
        container: &ScheduledContainer,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ContainerError> {
        let prepared = PreparedContainer {
            body: container.container.json().clone(),
            networks: container.networks.clone(),
        };
        let made = self.create_prepared(name, &prepared, labels).await;
        made.map(drop).map_err(|error| ContainerError::of(&error))
    }

    async fn start(&self, name: &ContainerName) -> Result<bool, ContainerError> {
        let started = self.start_container(name.as_str()).await;
        started.map(|started| started == Started::Started).map_err(|error| ContainerError::of(&error))
    }

    async fn look(&self, name: &ContainerName) -> Result<Option<Standing>, ContainerError> {
        let details = self.inspect_container(name.as_str()).await;
        let details = details.map_err(|error| ContainerError::of(&error))?;
        Ok(details.map(|details| match details.state {
            freehold_docker::ContainerState::Created => Standing::Made,
            state if state.is_alive() => Standing::Runs,
            _ => Standing::Ended(details.exit_code),
        }))
    }

    async fn wait(&self, name: &ContainerName) -> Result<i64, ContainerError> {
        self.wait_container(name.as_str(), WAIT_LIMIT).await.map_err(|error| ContainerError::of(&error))
    }

    async fn stop(&self, name: &ContainerName) -> Result<(), ContainerError> {
        let stopped = self.stop_container(name.as_str(), None).await;
        stopped.map(drop).map_err(|error| ContainerError::of(&error))
    }

    async fn remove(&self, name: &ContainerName) -> Result<(), ContainerError> {
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let removed = self.remove_container(name.as_str(), options).await;
        removed.map(drop).map_err(|error| ContainerError::of(&error))
    }

    async fn follow(&self, name: &ContainerName) -> Result<BoxStream<'static, String>, ContainerError> {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let lines = self.logs(name.as_str(), &options).await.map_err(|error| ContainerError::of(&error))?;
        let text = lines.filter_map(|line| {
            std::future::ready(match line {
                Ok(line) => Some(line.text()),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the output of a run is not complete");
                    None
                }
            })
        });
        Ok(text.boxed())
    }

    async fn list(&self) -> Result<Vec<FoundContainer>, ContainerError> {
        let found = self.list_containers(ContainerScope::All, &BTreeMap::new()).await;
        let found = found.map_err(|error| ContainerError::of(&error))?;
        let of_jobs = found.into_iter().filter(|container| container.labels.contains_key(RUN_LABEL));
        Ok(of_jobs
            .map(|container| FoundContainer {
                is_alive: container.state.is_alive(),
                name: container.name,
                labels: container.labels,
            })
            .collect())
    }
}
