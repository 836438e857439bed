use std::time::Duration;

use bytes::Bytes;
use freehold_model::{JobName, ReleaseId, ScheduleName};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    AgentError, AgentRefusal, AgentVersion, ForgetRequest, RevertRequest, RunList, RunOutput, RunRecord,
    ScheduleList, ScheduleReply, StoreRequest, SwitchRequest,
};
use crate::call::{Call, CallFailure, CallLine};

/// Calls the agent's API over one byte stream: a socket, or a tunnel to one.
///
/// Calls are made one after the other. A call that failed for any reason but a refusal leaves the client unusable: later
/// calls report [`AgentError::Closed`]. Every call fails as [`AgentError`] says.
///
/// # Cancel safety
/// Dropping a call leaves the client unusable; the agent may or may not have done what was asked.
pub struct AgentClient {
    line: CallLine,
    /// How long each call may take.
    deadline: Duration,
}

impl std::fmt::Debug for AgentClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AgentClient").field("open", &self.line.is_open()).finish()
    }
}

impl AgentClient {
    /// Makes a client of a stream whose other end is the agent's control socket.
    ///
    /// # Errors
    /// [`AgentError::Transport`] where the stream fails.
    pub async fn over<S>(stream: S, deadline: Duration) -> Result<Self, AgentError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let line = CallLine::over(stream)
            .await
            .map_err(|source| AgentError::Transport { operation: "open a connection".to_owned(), source })?;
        Ok(Self { line, deadline })
    }

    /// Asks which agent answers.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn version(&mut self) -> Result<AgentVersion, AgentError> {
        self.plain(Method::GET, "/v1/version".to_owned(), "say its version".to_owned()).await
    }

    /// Asks for all schedules.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn schedules(&mut self) -> Result<ScheduleList, AgentError> {
        self.plain(Method::GET, "/v1/schedules".to_owned(), "list the schedules".to_owned()).await
    }

    /// Stores the jobs of a release.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn store(
        &mut self,
        name: &ScheduleName,
        release: &ReleaseId,
        request: &StoreRequest,
    ) -> Result<ScheduleReply, AgentError> {
        let path = format!("/v1/schedules/{name}/releases/{release}");
        self.with_body(Method::PUT, path, request, format!("store the jobs of `{name}`")).await
    }

    /// Forgets the jobs of releases.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn forget(
        &mut self,
        name: &ScheduleName,
        request: &ForgetRequest,
    ) -> Result<ScheduleReply, AgentError> {
        let path = format!("/v1/schedules/{name}/forget");
        self.with_body(Method::POST, path, request, format!("forget jobs of `{name}`")).await
    }

    /// Decides which jobs run.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn switch(
        &mut self,
        name: &ScheduleName,
        request: &SwitchRequest,
    ) -> Result<ScheduleReply, AgentError> {
        let path = format!("/v1/schedules/{name}/switch");
        self.with_body(Method::POST, path, request, format!("switch the jobs of `{name}`")).await
    }

    /// Goes back to the state before a switch.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn revert(
        &mut self,
        name: &ScheduleName,
        request: &RevertRequest,
    ) -> Result<ScheduleReply, AgentError> {
        let path = format!("/v1/schedules/{name}/revert");
        self.with_body(Method::POST, path, request, format!("switch the jobs of `{name}` back")).await
    }

    /// Removes a schedule: its jobs, its history, and its runs with their containers.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn remove(&mut self, name: &ScheduleName, fence: u64) -> Result<ScheduleReply, AgentError> {
        let path = format!("/v1/schedules/{name}?fence={fence}");
        self.plain(Method::DELETE, path, format!("remove the jobs of `{name}`")).await
    }

    /// Asks for the runs that are remembered.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn runs(&mut self, name: &ScheduleName) -> Result<RunList, AgentError> {
        let path = format!("/v1/schedules/{name}/runs");
        self.plain(Method::GET, path, format!("list the runs of `{name}`")).await
    }

    /// Runs a job now.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn run(&mut self, name: &ScheduleName, job: &JobName) -> Result<RunRecord, AgentError> {
        let path = format!("/v1/schedules/{name}/jobs/{job}/runs");
        self.plain(Method::POST, path, format!("run job `{job}`")).await
    }

    /// Asks for what a run wrote, from a line on.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn output(
        &mut self,
        name: &ScheduleName,
        (job, run): (&JobName, u64),
        after: u64,
    ) -> Result<RunOutput, AgentError> {
        let path = format!("/v1/schedules/{name}/jobs/{job}/runs/{run}?after={after}");
        self.plain(Method::GET, path, format!("show run {run} of job `{job}`")).await
    }

    async fn plain<R: DeserializeOwned>(
        &mut self,
        method: Method,
        path: String,
        operation: String,
    ) -> Result<R, AgentError> {
        self.call(Call { operation, method, path, body: Bytes::new() }).await
    }

    async fn with_body<B: Serialize, R: DeserializeOwned>(
        &mut self,
        method: Method,
        path: String,
        body: &B,
        operation: String,
    ) -> Result<R, AgentError> {
        let call = Call::with_body(operation.clone(), method, path, body)
            .map_err(|source| AgentError::Malformed { operation, status: 0, source })?;
        self.call(call).await
    }

    async fn call<R: DeserializeOwned>(&mut self, call: Call) -> Result<R, AgentError> {
        let (operation, deadline) = (call.operation.clone(), self.deadline);
        let answer = self.line.call(call, deadline).await.map_err(|failure| match failure {
            CallFailure::Request(source) => AgentError::Request { operation: operation.clone(), source },
            CallFailure::Closed => AgentError::Closed { operation: operation.clone() },
            CallFailure::Deadline => AgentError::Deadline { operation: operation.clone(), deadline },
            CallFailure::Transport(source) => AgentError::Transport { operation: operation.clone(), source },
        })?;
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|source| AgentError::Malformed {
                operation,
                status,
                source,
            });
        }
        match serde_json::from_slice::<AgentRefusal>(&answer.body) {
            Ok(AgentRefusal { code, message }) => Err(AgentError::Refused { operation, code, message }),
            Err(source) => Err(AgentError::Malformed { operation, status, source }),
        }
    }
}
