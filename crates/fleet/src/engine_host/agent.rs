//! The agent of a host: its container, and what it is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_docker::{
    ContainerDetails, ContainerSpec, CreateContainerError, ExecSpec, ImageName, RemoveOptions,
};
use freehold_model::{ContainerName, ContainerOptions, Diagnose as _, ErrorKind, InvalidName, RestartPolicy};
use freehold_wire::agent::{AGENT_API_VERSION, AgentClient, AgentError, AgentErrorCode};

use crate::engine_host::EngineHost;
use crate::engine_host::link::Link;
use crate::host::{HostError, Outcome, StepContext, StepError};

mod queries;
mod schedule;

/// The name of the agent's container and of the volume with its state.
const AGENT: &str = "freehold-agent";

/// The label with the version of its API.
const API_LABEL: &str = "freehold.agent.api";

/// Where it has its volume, and where it looks for the engine's socket.
const STATE_FOLDER: &str = "/var/lib/freehold-agent";
const ENGINE_SOCKET: &str = "/run/docker.sock";

const CONTROL_DEADLINE: Duration = Duration::from_secs(30);
const START_DEADLINE: Duration = Duration::from_secs(15);

/// How long it may take to stop: it waits for nobody, as runs go on without it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What asking the agent can end in.
enum AgentFailure {
    Host(HostError),
    Agent(AgentError),
}

impl EngineHost {
    fn agent_failure(&self, failure: AgentFailure) -> HostError {
        let host = self.name.clone();
        let error = match failure {
            AgentFailure::Host(error) => return error,
            AgentFailure::Agent(error) => error,
        };
        let operation = "ask the agent".to_owned();
        match &error {
            AgentError::Refused { code: AgentErrorCode::Fenced, .. } => HostError::Fenced { host },
            // A broken stream is a lost connection like any other: a step that may be done twice is tried again.
            AgentError::Closed { .. } | AgentError::Transport { .. } => {
                HostError::Lost { host, operation, source: Some(Arc::new(error)) }
            }
            _ => HostError::Engine { host, operation, source: Arc::new(error) },
        }
    }

    /// Asks the agent something through its control socket, reached by a command in its container.
    async fn ask_agent<T>(
        &self,
        link: &Link,
        question: impl AsyncFnOnce(&mut AgentClient) -> Result<T, AgentError>,
    ) -> Result<T, AgentFailure> {
        let mut slot = link.agent.lock().await;
        let mut client = match slot.take() {
            Some(client) => client,
            None => self.open_agent(link).await?,
        };
        let answer = question(&mut client).await;
        // Only an answer of the agent itself leaves the stream in a known state.
        if answer.as_ref().map_or_else(|error| error.code().is_some(), |_| true) {
            *slot = Some(client);
        }
        answer.map_err(AgentFailure::Agent)
    }

    async fn open_agent(&self, link: &Link) -> Result<AgentClient, AgentFailure> {
        let argv = ["/freehold", "agent", "api"].map(str::to_owned).to_vec();
        let spec = ExecSpec { argv, stdin: true, ..ExecSpec::default() };
        let session = link.engine.exec(AGENT, &spec).await.map_err(|error| {
            let is_lost = error.kind() == ErrorKind::Unreachable;
            let (host, operation) = (self.name.clone(), "reach the agent".to_owned());
            AgentFailure::Host(match is_lost {
                true => HostError::Lost { host, operation, source: Some(Arc::new(error)) },
                false => HostError::Engine { host, operation, source: Arc::new(error) },
            })
        })?;
        let (io, _control) = session.into_io();
        AgentClient::over(io, CONTROL_DEADLINE).await.map_err(AgentFailure::Agent)
    }

    /// Forgets the stream to an agent that is replaced.
    async fn close_agent(&self, link: &Link) {
        *link.agent.lock().await = None;
    }

    async fn agent_container(&self, link: &Link) -> Result<Option<ContainerDetails>, HostError> {
        let details = link.engine.inspect_container(AGENT).await;
        details.map_err(|error| self.engine_error("look at the agent", error))
    }

    /// Makes sure that the agent runs, of the very executable that the client has.
    async fn ensure_agent(&self, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let earlier = self.agent_container(&link).await?;
        if let Some(earlier) = &earlier {
            self.check_agent_version(earlier)?;
        }
        let image = match (self.deliver_proxy_image(&link, context).await, &earlier) {
            (Ok(image), _) => image,
            // One that works is better than none: this computer may not have an executable for the host's processor.
            (Err(error @ StepError::Image { .. }), Some(earlier)) if earlier.state.is_alive() => {
                return Ok(Outcome::Done(Some(format!("not renewed: {error}"))));
            }
            (Err(error), _) => return Err(error),
        };
        let wanted = link.engine.inspect_image(&image.to_string()).await;
        let wanted = wanted.map_err(|error| self.engine_error("look for the agent's image", error))?;
        let is_same =
            |earlier: &ContainerDetails| wanted.as_ref().is_some_and(|image| image.id == earlier.image_id);
        let outcome = match &earlier {
            Some(earlier) if is_same(earlier) && earlier.state.is_alive() => Outcome::AlreadyDone,
            Some(earlier) if is_same(earlier) => Outcome::Done(Some("started again".to_owned())),
            Some(_) => {
                self.remove_agent_container(&link).await?;
                self.make_agent(&link, image).await?;
                Outcome::Done(Some("renewed".to_owned()))
            }
            None => {
                self.make_agent(&link, image).await?;
                Outcome::Done(None)
            }
        };
        self.start_agent(&link).await?;
        Ok(outcome)
    }

    fn check_agent_version(&self, details: &ContainerDetails) -> Result<(), HostError> {
        let api = details.labels.get(API_LABEL).and_then(|text| text.parse::<u32>().ok());
        match api.filter(|api| *api > AGENT_API_VERSION) {
            None => Ok(()),
            Some(api) => Err(HostError::Refused {
                host: self.name.clone(),
                operation: "speak with the agent".to_owned(),
                message: format!(
                    "it is of a newer Freehold (version {api} of its API, this program knows {AGENT_API_VERSION}): use that one"
                ),
            }),
        }
    }

    async fn make_agent(&self, link: &Link, image: ImageName) -> Result<(), StepError> {
        let spec = agent_spec(image, link.socket()).map_err(|source| {
            let operation = "describe the agent".to_owned();
            HostError::Engine { host: self.name.clone(), operation, source: Arc::new(source) }
        })?;
        match link.engine.create_container(&spec).await {
            // The deploy of another service may make it just now.
            Ok(_) | Err(CreateContainerError::NameInUse { .. }) => Ok(()),
            Err(error) => Err(self.create_error(&spec.name, error)),
        }
    }

    /// Starts the agent's container, if it does not run, and waits until it answers.
    async fn start_agent(&self, link: &Link) -> Result<(), HostError> {
        let started = link.engine.start_container(AGENT).await;
        started.map_err(|error| self.engine_error("start the agent", error))?;
        let deadline = Instant::now() + START_DEADLINE;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.ask_agent(link, async |client| client.version().await).await {
                Ok(_) => return Ok(()),
                Err(failure) if Instant::now() >= deadline => return Err(self.agent_failure(failure)),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn remove_agent_container(&self, link: &Link) -> Result<(), HostError> {
        self.close_agent(link).await;
        let stopped = link.engine.stop_container(AGENT, Some(STOP_LIMIT)).await;
        stopped.map_err(|error| self.engine_error("stop the agent", error))?;
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let removed = link.engine.remove_container(AGENT, options).await;
        removed.map(drop).map_err(|error| self.engine_error("remove the agent", error))
    }

    /// Removes the agent and its volume if it has no jobs. Returns whether it was removed.
    pub(super) async fn remove_unused_agent(&self) -> Result<bool, StepError> {
        let link = self.link().await?;
        let there = self.agent_container(&link).await?;
        if let Some(details) = &there {
            self.check_agent_version(details)?;
            self.start_agent(&link).await?;
            let schedules = self.ask_agent(&link, async |client| client.schedules().await).await;
            let schedules = schedules.map_err(|failure| self.agent_failure(failure))?.schedules;
            if !schedules.is_empty() {
                return Ok(false);
            }
            self.remove_agent_container(&link).await?;
        }
        // Also after a client that ended between the two.
        let removed = link.engine.remove_volume(AGENT).await;
        removed.map_err(|error| self.engine_error("remove the agent's volume", error))?;
        Ok(there.is_some())
    }
}

/// Describes the agent's container. It speaks with the engine, which is all that it needs: no network, no port, no
/// capability, and nothing to write to but its volume.
fn agent_spec(image: ImageName, socket: &Path) -> Result<ContainerSpec, InvalidName> {
    let mut spec = ContainerSpec::new(ContainerName::parse(AGENT)?, image);
    spec.command = Some(["agent", "serve"].map(str::to_owned).to_vec());
    spec.network = Some("none".to_owned());
    spec.labels = BTreeMap::from([
        ("freehold.agent".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (API_LABEL.to_owned(), AGENT_API_VERSION.to_string()),
    ]);
    spec.volumes = vec![format!("{AGENT}:{STATE_FOLDER}"), format!("{}:{ENGINE_SOCKET}", socket.display())];
    spec.logging = freehold_model::Logging::default();
    spec.options = ContainerOptions {
        restart: RestartPolicy::UnlessStopped,
        // The engine's socket is root's.
        user: Some("0:0".to_owned()),
        read_only: true,
        cap_drop: vec!["ALL".to_owned()],
        security_opt: vec!["no-new-privileges".to_owned()],
        pids_limit: Some(256),
        ..ContainerOptions::default()
    };
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_gets_the_engine_and_nothing_else() {
        let image = freehold_model::ImageId::parse(format!("sha256:{}", "a1".repeat(32))).unwrap();
        let spec = agent_spec(image.into(), Path::new("/run/user/1000/docker.sock")).unwrap();
        assert_eq!(
            spec.volumes,
            ["freehold-agent:/var/lib/freehold-agent", "/run/user/1000/docker.sock:/run/docker.sock"]
        );
        assert_eq!(spec.network.as_deref(), Some("none"));
        assert!(spec.options.read_only && spec.options.publish.is_empty());
        assert_eq!(spec.options.cap_drop, ["ALL"]);
    }
}
