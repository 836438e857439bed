use freehold_docker::{ContainerDetails, ExecSession, ExecSpec, LogLine, LogOptions};
use freehold_model::ContainerName;
use futures_util::Stream;

use crate::engine_host::{EngineHost, scripts};
use crate::host::HostError;

/// Questions that people ask of a host; none of them changes anything.
impl EngineHost {
    /// Describes a container, if there is one of that name.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    pub async fn container(&self, container: &str) -> Result<Option<ContainerDetails>, HostError> {
        let link = self.link().await?;
        let operation = format!("look at container `{container}`");
        link.engine.inspect_container(container).await.map_err(|error| self.engine_error(&operation, error))
    }

    /// Reads the log of a container, over a connection of its own when it is followed.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    pub async fn logs(
        &self,
        container: &ContainerName,
        options: &LogOptions,
    ) -> Result<impl Stream<Item = Result<LogLine, HostError>> + Send + use<>, HostError> {
        use futures_util::StreamExt;

        let link = self.link().await?;
        let engine = link.dedicated_engine().await.map_err(|source| self.own_connection(source))?;
        let operation = format!("read the log of container `{container}`");
        let stream = engine
            .logs(container.as_str(), options)
            .await
            .map_err(|error| self.engine_error(&operation, error))?;
        let host = self.name.clone();
        Ok(stream.map(move |line| {
            line.map_err(|error| HostError::Lost {
                host: host.clone(),
                operation: operation.clone(),
                source: Some(std::sync::Arc::new(error)),
            })
        }))
    }

    /// Runs a command in a running container, over a connection of its own.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer or the container does not run.
    pub async fn exec(&self, container: &str, spec: &ExecSpec) -> Result<ExecSession, HostError> {
        let link = self.link().await?;
        let engine = link.dedicated_engine().await.map_err(|source| self.own_connection(source))?;
        engine.exec(container, spec).await.map_err(|error| HostError::Engine {
            host: self.name.clone(),
            operation: format!("run a command in container `{container}`"),
            source: std::sync::Arc::new(error),
        })
    }

    /// Returns the last lines of the audit file.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    pub async fn audit(&self, stem: &str, lines: u32) -> Result<Vec<String>, HostError> {
        let output = self.plain_script("read the audit log", &scripts::read_audit(stem, lines)).await?;
        Ok(output.stdout.lines().map(ToOwned::to_owned).collect())
    }

    fn own_connection(
        &self,
        source: std::sync::Arc<dyn freehold_model::Diagnose + Send + Sync>,
    ) -> HostError {
        HostError::Connect { host: self.name.clone(), source }
    }
}
