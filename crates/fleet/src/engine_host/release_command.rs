use std::collections::VecDeque;

use freehold_docker::{ContainerState, CreateContainerError, LogOptions, RemoveOptions};
use freehold_plan::{ContainerRequest, RELEASE_LABEL, ReleaseCommand};
use futures_util::StreamExt as _;

use crate::engine_host::EngineHost;
use crate::engine_host::container::container_spec;
use crate::engine_host::link::Link;
use crate::event::Progress;
use crate::host::{Explanation, HostError, Outcome, StepContext, StepError};

/// How many lines of its output a failed command shows.
const LAST_LINES: usize = 20;

impl EngineHost {
    /// Runs a release command to its end. Its container stays until the rollout is over: a later client learns from it
    /// that the command ran, and how it ended.
    pub(super) async fn run_release_command(
        &self,
        command: &ReleaseCommand,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let name = command.container.name.as_str();
        let ran_before = self.has_ended(&link, &command.container).await?;
        if !ran_before {
            self.start_command(&link, &command.container, context).await?;
        }
        let watched = tokio::time::timeout(command.deadline, self.follow(&link, name, context)).await;
        let (code, log) = match watched {
            Ok(ended) => ended?,
            Err(_) => {
                self.stop(&command.container.name, None).await?;
                let text = format!("did not end within {} s and was stopped", command.deadline.as_secs());
                return Err(self.command_failed(command, &text, Vec::new()));
            }
        };
        match code {
            0 if ran_before => Ok(Outcome::AlreadyDone),
            0 => Ok(Outcome::Done(None)),
            code => Err(self.command_failed(command, &format!("ended with code {code}"), log)),
        }
    }

    /// Says whether the container of this very release is there and has ended. One of an earlier release is removed.
    async fn has_ended(&self, link: &Link, request: &ContainerRequest) -> Result<bool, StepError> {
        let failed = |error| StepError::Host(self.engine_error("look at the release command", error));
        let details = link.engine.inspect_container(request.name.as_str()).await.map_err(failed)?;
        let Some(details) = details else { return Ok(false) };
        if details.labels.get(RELEASE_LABEL) == request.labels.get(RELEASE_LABEL) {
            return Ok(!details.state.is_alive() && details.state != ContainerState::Created);
        }
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        link.engine.remove_container(request.name.as_str(), options).await.map_err(failed)?;
        Ok(false)
    }

    async fn start_command(
        &self,
        link: &Link,
        request: &ContainerRequest,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let mut spec = container_spec(request, context.secrets, &link.home)?;
        self.expand(&mut spec).await?;
        match link.engine.create_container(&spec).await {
            // One of an earlier run of this rollout, made or running: it is gone on with.
            Ok(_) | Err(CreateContainerError::NameInUse { .. }) => {}
            Err(error) => return Err(self.create_error(&request.name, error)),
        }
        let started = link.engine.start_container(request.name.as_str()).await;
        started.map_err(|error| self.engine_error(&format!("start container `{}`", request.name), error))?;
        Ok(())
    }

    /// Shows what the command prints and waits for its end. Returns its exit code and last lines.
    async fn follow(
        &self,
        link: &Link,
        name: &str,
        context: &StepContext<'_>,
    ) -> Result<(i64, Vec<String>), StepError> {
        let failed = |error| StepError::Host(self.engine_error("follow the release command", error));
        // A connection of its own: on a shared one a stream that is not read stalls all others.
        let engine = link
            .dedicated_engine()
            .await
            .map_err(|source| HostError::Connect { host: self.name.clone(), source })?;
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = engine.logs(name, &options).await.map_err(failed)?;
        let mut last = VecDeque::new();
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = context.stop.cancelled() => return Err(StepError::Stopped),
            };
            let Some(line) = line else { break };
            let text = line.map_err(failed)?.text();
            (context.progress)(Progress::Output { line: text.clone() });
            last.push_back(text);
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
        let limit = engine.deadlines().request;
        let code = engine.wait_container(name, limit).await.map_err(failed)?;
        Ok((code, last.into()))
    }

    fn command_failed(&self, command: &ReleaseCommand, how: &str, log: Vec<String>) -> StepError {
        let words = command.container.command.clone().unwrap_or_default();
        StepError::ReleaseCommand(Box::new(Explanation {
            host: self.name.clone(),
            container: command.container.name.to_string(),
            summary: format!("the release command of role `{}` {how}", command.role),
            evidence: vec![format!("command: {}", words.join(" "))],
            log,
            help: vec![format!(
                "try it by hand: `freehold app exec --roles {} -- {}`",
                command.role,
                words.join(" ")
            )],
        }))
    }
}
