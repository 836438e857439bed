use std::time::{Duration, Instant};

use freehold_docker::ImageName;
use freehold_model::{ImageId, Project, Release, ReleaseId, ScheduleName, ScheduleState, ScheduledJob};
use freehold_plan::{Action, ContainerRequest, ObservedAgent, ObservedSchedule, ScheduleRequest};
use freehold_wire::agent::{
    AgentError, AgentErrorCode, ContainerText, ForgetRequest, RevertRequest, ScheduleReply, ScheduleSet,
    ScheduledContainer, StoreRequest, SwitchRequest,
};

use super::AgentFailure;
use crate::engine_host::EngineHost;
use crate::engine_host::container::container_spec;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::status;
use crate::event::milliseconds;
use crate::host::{HostError, Outcome, StepContext, StepError};

/// How long runs may take to end that a removal stops.
const ENDING_LIMIT: Duration = Duration::from_secs(15 * 60);

impl EngineHost {
    /// Does what is to be done with scheduled jobs. Any other action changes nothing.
    pub(in crate::engine_host) async fn schedule(
        &self,
        action: &Action,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        match action {
            Action::EnsureAgent => self.ensure_agent(context).await,
            Action::StoreSchedule(request) => self.store_schedule(request, context).await,
            Action::SwitchSchedule { name, to, .. } => self.switch_schedule(name, to, context).await,
            Action::ForgetSchedules { name, releases } => {
                self.forget_schedules(name, releases, context).await
            }
            Action::RemoveSchedule { name } => self.remove_schedule(name, context).await,
            Action::RemoveAgentIfUnused if self.remove_unused_agent().await? => Ok(Outcome::Done(None)),
            _ => Ok(Outcome::AlreadyDone),
        }
    }

    /// Looks at the agent, where the project has to do with it.
    pub(in crate::engine_host) async fn look_at_agent(
        &self,
        link: &Link,
        project: &Project,
        releases: &[Release],
    ) -> Result<ObservedAgent, HostError> {
        let mut recorded = releases.iter().flat_map(|release| release.roles.values());
        if project.jobs.is_empty() && recorded.all(|role| role.jobs.is_empty()) {
            return Ok(ObservedAgent::Absent);
        }
        let Some(details) = self.agent_container(link).await? else { return Ok(ObservedAgent::Absent) };
        self.check_agent_version(&details)?;
        if !details.state.is_alive() {
            return Ok(ObservedAgent::Stopped);
        }
        let list = self.ask_agent(link, async |client| client.schedules().await).await;
        let list = list.map_err(|failure| self.agent_failure(failure))?;
        let own = list.schedules.into_iter().filter(|schedule| {
            schedule.service == project.service && schedule.destination == project.destination
        });
        let schedules = own.map(|schedule| ObservedSchedule {
            name: schedule.name,
            role: schedule.role,
            state: schedule.state,
            releases: schedule.releases.into_iter().map(|stored| (stored.release, stored.image)).collect(),
        });
        Ok(ObservedAgent::Running { schedules: schedules.collect() })
    }

    async fn store_schedule(
        &self,
        request: &ScheduleRequest,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let mut jobs = Vec::new();
        for (job, container) in &request.jobs {
            jobs.push(self.prepare_job(&link, job, container, context).await?);
        }
        let image = request.jobs.first().map(|(_, container)| container.image.to_string());
        let set = ScheduleSet {
            service: request.service.clone(),
            destination: request.destination.clone(),
            role: request.role.clone(),
            version: request.version.clone(),
            image: image.unwrap_or_default(),
            jobs,
        };
        let body = StoreRequest { set, fence: context.lease.fence };
        let answer = self
            .ask_agent(&link, async |client| client.store(&request.name, &request.release, &body).await)
            .await;
        Ok(outcome(answer.map_err(|failure| self.agent_failure(failure))?))
    }

    /// Makes the request that starts a job, with the values of its secrets and with the image by its identifier: the tag
    /// may be given to another image while the jobs of this release still run.
    async fn prepare_job(
        &self,
        link: &Link,
        job: &ScheduledJob,
        container: &ContainerRequest,
        context: &StepContext<'_>,
    ) -> Result<ScheduledContainer, StepError> {
        let mut spec = container_spec(container, context.secrets, &link.home)?;
        let name = container.image.to_string();
        let image = link.engine.inspect_image(&name).await;
        let image = image.map_err(|error| self.engine_error(&format!("look for image `{name}`"), error))?;
        let missing = || HostError::Refused {
            host: self.name.clone(),
            operation: format!("prepare job `{}`", job.name),
            message: format!("image `{name}` is not there"),
        };
        let id = image.ok_or_else(missing)?.id;
        // Podman's identifiers have no `sha256:` before them; then the name must do.
        if let Ok(id) = ImageId::parse(id) {
            spec.image = ImageName::Id(id);
        }
        self.expand(&mut spec).await?;
        let prepared = link.engine.prepare_container(&spec).await;
        let prepared = prepared.map_err(|error| self.create_error(&spec.name, error))?;
        Ok(ScheduledContainer {
            name: job.name.clone(),
            schedule: job.schedule.clone(),
            overlap: job.overlap,
            timeout_ms: job.timeout.map(milliseconds),
            history: job.history.get(),
            container_prefix: container.name.to_string(),
            container: ContainerText::new(prepared.body),
            networks: prepared.networks,
        })
    }

    async fn switch_schedule(
        &self,
        name: &ScheduleName,
        to: &ScheduleState,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let request = SwitchRequest { to: to.clone(), fence: context.lease.fence };
        let answer = self.ask_agent(&link, async |client| client.switch(name, &request).await).await;
        Ok(outcome(answer.map_err(|failure| self.agent_failure(failure))?))
    }

    pub(in crate::engine_host) async fn revert_schedule(
        &self,
        name: &ScheduleName,
        from: &ScheduleState,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let link = self.link().await?;
        let request = RevertRequest { from: from.clone(), fence: context.lease.fence };
        let answer = self.ask_running_agent(&link, async |client| client.revert(name, &request).await).await;
        Ok(answer.map(drop)?)
    }

    pub(in crate::engine_host) async fn forget_schedules(
        &self,
        name: &ScheduleName,
        releases: &[ReleaseId],
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let request = ForgetRequest { releases: releases.to_vec(), fence: context.lease.fence };
        let answer = self.ask_running_agent(&link, async |client| client.forget(name, &request).await).await;
        Ok(answer?.map_or(Outcome::AlreadyDone, outcome))
    }

    async fn remove_schedule(
        &self,
        name: &ScheduleName,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let fence = context.lease.fence;
        let mut is_done = false;
        let deadline = Instant::now() + ENDING_LIMIT;
        loop {
            let answer =
                self.ask_running_agent(&link, async |client| client.remove(name, fence).await).await?;
            let Some(reply) = answer else { break };
            is_done |= reply.changed;
            if reply.ending_runs == 0 {
                break;
            }
            if Instant::now() >= deadline {
                let refused = HostError::Refused {
                    host: self.name.clone(),
                    operation: format!("remove the jobs of `{name}`"),
                    message: format!("{} of their runs do not end", reply.ending_runs),
                };
                return Err(refused.into());
            }
            status(context, format!("waiting for {} runs to end", reply.ending_runs));
        }
        Ok(if is_done { Outcome::Done(None) } else { Outcome::AlreadyDone })
    }

    /// Asks the agent to give something up. Where there is none, or it does not know the schedule, nothing is to be done;
    /// one that does not run is started first.
    async fn ask_running_agent(
        &self,
        link: &Link,
        question: impl AsyncFnOnce(&mut freehold_wire::agent::AgentClient) -> Result<ScheduleReply, AgentError>,
    ) -> Result<Option<ScheduleReply>, HostError> {
        let Some(details) = self.agent_container(link).await? else { return Ok(None) };
        if !details.state.is_alive() {
            self.start_agent(link).await?;
        }
        match self.ask_agent(link, question).await {
            Ok(reply) => Ok(Some(reply)),
            Err(AgentFailure::Agent(AgentError::Refused { code: AgentErrorCode::Unknown, .. })) => Ok(None),
            Err(failure) => Err(self.agent_failure(failure)),
        }
    }
}

fn outcome(reply: ScheduleReply) -> Outcome {
    if reply.changed { Outcome::Done(None) } else { Outcome::AlreadyDone }
}
