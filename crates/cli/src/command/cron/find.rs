use std::sync::Arc;

use freehold_fleet::EngineHost;
use freehold_model::{Diagnose, ErrorKind, HostName, JobName};
use freehold_wire::agent::ScheduleStatus;

use crate::error::CommandError;
use crate::sight::Sight;

/// The schedule of a role on a host.
pub(super) struct Found {
    pub(super) host: HostName,
    pub(super) engine: Arc<EngineHost>,
    pub(super) schedule: ScheduleStatus,
}

/// Why a job cannot be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    /// None of that name is deployed.
    #[error("no job `{job}` is deployed")]
    NoJob {
        job: String,
        /// Whether the deploy file has it.
        is_in_file: bool,
        known: Vec<String>,
    },
    /// It was never run, or no longer remembers it.
    #[error("no run of job `{job}` is remembered")]
    NoRun { job: JobName },
}

impl Diagnose for FindError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoJob { .. } => ErrorKind::Usage,
            Self::NoRun { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoJob { is_in_file: true, .. } => vec!["deploy it: `freehold deploy`".to_owned()],
            Self::NoJob { known, .. } if known.is_empty() => {
                vec!["jobs stand under `cron:` in the deploy file: `freehold docs cron`".to_owned()]
            }
            Self::NoJob { known, .. } => vec![format!("the jobs are: {}", known.join(", "))],
            Self::NoRun { job } => vec![format!("run it now: `freehold cron run {job}`")],
        }
    }
}

/// Returns the schedules of the project on all chosen hosts.
pub(super) async fn schedules(sight: &Sight) -> Result<Vec<Found>, CommandError> {
    let project = &sight.loaded.chosen;
    let all = sight.hosts.each(|host| async move { host.schedules().await }).await?;
    let mut found = Vec::new();
    for (host, schedules) in all {
        let Some(engine) = sight.hosts.get(&host) else { continue };
        let own = schedules.into_iter().filter(|schedule| {
            schedule.service == project.service && schedule.destination == project.destination
        });
        found.extend(own.map(|schedule| Found { host: host.clone(), engine: Arc::clone(engine), schedule }));
    }
    Ok(found)
}

/// Returns the schedule that has a job.
pub(super) async fn job(sight: &Sight, name: &str) -> Result<(Found, JobName), CommandError> {
    let found = schedules(sight).await?;
    let jobs = || found.iter().flat_map(|found| &found.schedule.jobs);
    let known: Vec<String> = jobs().map(|job| job.name.to_string()).collect();
    let job = jobs().find(|job| job.name.as_str() == name).map(|job| job.name.clone());
    let has = |found: &Found| found.schedule.jobs.iter().any(|job| job.name.as_str() == name);
    match (job, found.into_iter().find(has)) {
        (Some(job), Some(found)) => Ok((found, job)),
        _ => {
            let is_in_file = sight.loaded.whole.jobs.keys().any(|job| job.as_str() == name);
            Err(FindError::NoJob { job: name.to_owned(), is_in_file, known }.into())
        }
    }
}
