use freehold_model::{JobName, ScheduleName};
use freehold_wire::agent::{RunOutput, RunRecord, ScheduleStatus};

use crate::engine_host::EngineHost;
use crate::host::HostError;

/// What people ask of the agent of a host.
impl EngineHost {
    /// Returns every schedule of the host; none where no agent runs.
    ///
    /// # Errors
    /// [`HostError`] when the host or the agent does not answer.
    pub async fn schedules(&self) -> Result<Vec<ScheduleStatus>, HostError> {
        let link = self.link().await?;
        match self.agent_container(&link).await? {
            Some(details) if details.state.is_alive() => {}
            _ => return Ok(Vec::new()),
        }
        let answer = self.ask_agent(&link, async |client| client.schedules().await).await;
        Ok(answer.map_err(|failure| self.agent_failure(failure))?.schedules)
    }

    /// Returns the runs that are remembered of a schedule's jobs, each job's latest first.
    ///
    /// # Errors
    /// [`HostError`] when the host or the agent does not answer, or the agent does not know the schedule.
    pub async fn job_runs(&self, name: &ScheduleName) -> Result<Vec<RunRecord>, HostError> {
        let link = self.link().await?;
        let answer = self.ask_agent(&link, async |client| client.runs(name).await).await;
        Ok(answer.map_err(|failure| self.agent_failure(failure))?.runs)
    }

    /// Runs a job now. What its overlap says counts.
    ///
    /// # Errors
    /// [`HostError`] when the host or the agent does not answer, or the agent does not know the job.
    ///
    /// # Cancel safety
    /// The run may have begun.
    pub async fn run_job(&self, name: &ScheduleName, job: &JobName) -> Result<RunRecord, HostError> {
        let link = self.link().await?;
        let answer = self.ask_agent(&link, async |client| client.run(name, job).await).await;
        answer.map_err(|failure| self.agent_failure(failure))
    }

    /// Returns a run, and what it wrote from a line on.
    ///
    /// # Errors
    /// [`HostError`] when the host or the agent does not answer, or the agent does not know the run.
    pub async fn run_output(
        &self,
        name: &ScheduleName,
        (job, run): (&JobName, u64),
        after: u64,
    ) -> Result<RunOutput, HostError> {
        let link = self.link().await?;
        let answer = self.ask_agent(&link, async |client| client.output(name, (job, run), after).await).await;
        answer.map_err(|failure| self.agent_failure(failure))
    }
}
