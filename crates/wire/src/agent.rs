//! The agent's HTTP API: versioned types and a client.
//!
//! The agent answers HTTP/1.1 with JSON bodies on a Unix socket, under the path prefix `/v1`.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/version` | – | [`AgentVersion`] |
//! | `GET /v1/schedules` | – | [`ScheduleList`] |
//! | `PUT /v1/schedules/{name}/releases/{release}` | [`StoreRequest`] | [`ScheduleReply`] |
//! | `POST /v1/schedules/{name}/forget` | [`ForgetRequest`] | [`ScheduleReply`] |
//! | `POST /v1/schedules/{name}/switch` | [`SwitchRequest`] | [`ScheduleReply`] |
//! | `POST /v1/schedules/{name}/revert` | [`RevertRequest`] | [`ScheduleReply`] |
//! | `DELETE /v1/schedules/{name}?fence=N` | – | [`ScheduleReply`] |
//! | `GET /v1/schedules/{name}/runs` | – | [`RunList`] |
//! | `POST /v1/schedules/{name}/jobs/{job}/runs` | – | [`RunRecord`] |
//! | `GET /v1/schedules/{name}/jobs/{job}/runs/{run}?after=N` | – | [`RunOutput`] |
//!
//! Everything else, and every request that is refused, is answered with an [`AgentRefusal`]. All types refuse unknown
//! fields.

mod client;
mod error;
mod run;
mod schedule;

pub use client::AgentClient;
pub use error::{AgentError, AgentErrorCode, AgentRefusal};
pub use run::{RunCause, RunList, RunOutput, RunRecord, RunState};
pub use schedule::{
    AgentVersion, ContainerText, ForgetRequest, JobStatus, RevertRequest, ScheduleList, ScheduleReply,
    ScheduleSet, ScheduleStatus, ScheduledContainer, StoreRequest, StoredRelease, SwitchRequest,
};

/// The number of the agent's API; it is part of every path as `/v1`.
pub const AGENT_API_VERSION: u32 = 1;
