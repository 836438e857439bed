use freehold_model::JobName;
use freehold_wire::agent::{JobStatus, RunRecord, ScheduleStatus, ScheduledContainer, StoredRelease};
use jiff::Timestamp;

use super::Book;

impl Book {
    /// Describes the schedule; none where no release has jobs.
    pub(crate) fn status(&self, now: Timestamp) -> Option<ScheduleStatus> {
        let (_, any) = self.plan.releases.iter().next()?;
        let jobs = self.set().map(|(_, set)| set.jobs.as_slice()).unwrap_or_default();
        Some(ScheduleStatus {
            name: self.plan.name.clone(),
            service: any.service.clone(),
            destination: any.destination.clone(),
            role: any.role.clone(),
            state: self.plan.state.clone(),
            releases: self
                .plan
                .releases
                .iter()
                .map(|(release, set)| StoredRelease {
                    release: release.clone(),
                    version: set.version.clone(),
                    image: set.image.clone(),
                })
                .collect(),
            jobs: jobs.iter().map(|job| self.job_status(job, now)).collect(),
        })
    }

    fn job_status(&self, job: &ScheduledContainer, now: Timestamp) -> JobStatus {
        let mut runs = self.latest_first(&job.name);
        // What a job writes is for those who ask for it: it is no part of how things stand.
        runs.iter_mut().for_each(|run| run.last_lines.clear());
        let open: Vec<RunRecord> = runs.iter().filter(|run| run.state.is_open()).cloned().collect();
        runs.retain(|run| !run.state.is_open());
        JobStatus {
            name: job.name.clone(),
            schedule: job.schedule.clone(),
            overlap: job.overlap,
            timeout_ms: job.timeout_ms,
            history: job.history,
            next_at: job.schedule.next_after(now).filter(|_| self.plan.state.is_active()),
            open,
            last: runs.into_iter().next(),
        }
    }

    /// Returns the runs of a job, the latest first.
    fn latest_first(&self, job: &JobName) -> Vec<RunRecord> {
        let mut runs: Vec<RunRecord> =
            self.history.runs.iter().filter(|run| run.job == *job).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.run));
        runs
    }

    /// Returns all runs, by job, the latest of each first.
    pub(crate) fn runs(&self) -> Vec<RunRecord> {
        let mut runs = self.history.runs.clone();
        runs.sort_by(|one, other| one.job.cmp(&other.job).then(other.run.cmp(&one.run)));
        runs
    }
}
