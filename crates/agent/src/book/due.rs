use std::time::Duration;

use freehold_model::{JobName, Overlap, ReleaseId};
use freehold_wire::agent::{RunCause, RunRecord, RunState};
use jiff::Timestamp;

use super::Book;

/// How late a job is still begun that was due while the agent was not there.
pub(crate) const LATE_LIMIT: Duration = Duration::from_secs(3600);

/// How far a clock may be set back before jobs are due again that were due already.
const BACKWARD_LIMIT: Duration = Duration::from_secs(3600);

/// How many runs of one job may be open at a time.
const MOST_OPEN: usize = 8;

/// What becomes of a run that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The run as it is remembered.
    pub(crate) record: RunRecord,
    /// Whether it begins now.
    pub(crate) begins: bool,
    /// The runs of the job that have to stop for it.
    pub(crate) replaced: Vec<u64>,
}

impl Book {
    /// Returns the jobs that are due, each with its latest time, and takes note that they were looked for. Of several
    /// times that passed since the last look only the latest counts, and only if it is not too long ago.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<(JobName, Timestamp)> {
        if !self.plan.state.is_active() {
            return Vec::new();
        }
        let mut due = Vec::new();
        let earliest = now.checked_sub(LATE_LIMIT).unwrap_or(now);
        for (name, schedule) in self.schedules() {
            let seen = *self.history.seen.entry(name.clone()).or_insert(now);
            let is_far_behind = seen.checked_sub(BACKWARD_LIMIT).is_ok_and(|limit| now < limit);
            if is_far_behind {
                self.history.seen.insert(name, now);
                continue;
            }
            if let Some(time) = schedule.last_between(seen.max(earliest), now) {
                self.history.seen.insert(name.clone(), time);
                due.push((name, time));
            }
        }
        due
    }

    /// Returns when the next job is due.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.plan.state.is_active() {
            return None;
        }
        self.schedules().into_iter().filter_map(|(_, schedule)| schedule.next_after(now)).min()
    }

    fn schedules(&self) -> Vec<(JobName, freehold_model::Schedule)> {
        let jobs = self.set().into_iter().flat_map(|(_, set)| &set.jobs);
        jobs.map(|job| (job.name.clone(), job.schedule.clone())).collect()
    }

    /// Decides what becomes of a run and remembers it. None where there is no such job.
    pub(crate) fn admit(
        &mut self,
        job: &JobName,
        cause: RunCause,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Option<Admission> {
        let (release, set) = self.set()?;
        let (release, version) = (release.clone(), set.version.clone());
        let wanted = self.job(&release, job)?;
        let (overlap, prefix) = (wanted.overlap, wanted.container_prefix.clone());
        let open: Vec<&RunRecord> = self.open(job).collect();
        let others: Vec<u64> = open.iter().map(|run| run.run).collect();
        let (state, begins, replaced) = match overlap {
            _ if others.is_empty() => (RunState::Waiting, true, Vec::new()),
            Overlap::Allow if others.len() < MOST_OPEN => (RunState::Waiting, true, Vec::new()),
            // One goes on, or is about to; the other waits.
            Overlap::Queue if others.len() < 2 => (RunState::Waiting, false, Vec::new()),
            Overlap::Replace => (RunState::Waiting, false, others),
            Overlap::Skip | Overlap::Allow | Overlap::Queue => (RunState::Skipped, false, Vec::new()),
        };
        let number = self.history.last_run.entry(job.clone()).or_default();
        *number += 1;
        let is_open = state.is_open();
        let record = RunRecord {
            job: job.clone(),
            run: *number,
            cause,
            due_at,
            started_at: None,
            ended_at: (!is_open).then_some(now),
            release,
            version,
            container: is_open.then(|| format!("{prefix}-{number}")),
            state,
            last_lines: Vec::new(),
        };
        self.history.runs.push(record.clone());
        Some(Admission { record, begins, replaced })
    }

    /// Returns the runs of a job that have not ended, oldest first.
    pub(crate) fn open(&self, job: &JobName) -> impl Iterator<Item = &RunRecord> {
        self.history.runs.iter().filter(move |run| run.job == *job && run.state.is_open())
    }

    /// Returns a run.
    pub(crate) fn run(&self, job: &JobName, run: u64) -> Option<&RunRecord> {
        self.history.runs.iter().find(|known| known.job == *job && known.run == run)
    }

    /// Changes what is remembered of a run.
    pub(crate) fn run_mut(&mut self, job: &JobName, run: u64) -> Option<&mut RunRecord> {
        self.history.runs.iter_mut().find(|known| known.job == *job && known.run == run)
    }

    /// Closes a run. One that is closed stays as it is.
    pub(crate) fn close(&mut self, (job, run): (&JobName, u64), state: RunState, now: Timestamp) {
        if let Some(record) = self.run_mut(job, run).filter(|record| record.state.is_open()) {
            record.state = state;
            record.ended_at = Some(now);
            record.container = None;
        }
    }

    /// Takes over a run whose container was found although nothing is remembered of it.
    pub(crate) fn adopt(
        &mut self,
        (job, run): (JobName, u64),
        release: ReleaseId,
        container: String,
        now: Timestamp,
    ) {
        let version = self.plan.releases.get(&release).map(|set| set.version.clone());
        let Some(version) = version.or_else(|| self.set().map(|(_, set)| set.version.clone())) else {
            return;
        };
        let last = self.history.last_run.entry(job.clone()).or_default();
        *last = (*last).max(run);
        self.history.runs.push(RunRecord {
            job,
            run,
            cause: RunCause::Schedule,
            due_at: now,
            started_at: Some(now),
            ended_at: None,
            release,
            version,
            container: Some(container),
            state: RunState::Running,
            last_lines: Vec::new(),
        });
    }

    /// Forgets runs that are too many, and returns them: what they wrote goes, too.
    pub(crate) fn trim(&mut self) -> Vec<(JobName, u64)> {
        let mut limits: Vec<(JobName, usize)> = Vec::new();
        for job in self.plan.releases.values().flat_map(|set| &set.jobs) {
            let history = usize::try_from(job.history).unwrap_or(usize::MAX);
            match limits.iter_mut().find(|(name, _)| *name == job.name) {
                // The set that is meant decides where there are several.
                Some((_, limit)) => *limit = (*limit).max(history),
                None => limits.push((job.name.clone(), history)),
            }
        }
        if let Some((_, set)) = self.set() {
            for job in &set.jobs {
                let history = usize::try_from(job.history).unwrap_or(usize::MAX);
                limits
                    .iter_mut()
                    .filter(|(name, _)| *name == job.name)
                    .for_each(|(_, limit)| *limit = history);
            }
        }
        let unknown =
            |run: &&RunRecord| !run.state.is_open() && !limits.iter().any(|(name, _)| *name == run.job);
        let unknown = self.history.runs.iter().filter(unknown);
        let mut gone: Vec<(JobName, u64)> = unknown.map(|run| (run.job.clone(), run.run)).collect();
        for (job, limit) in limits {
            let closed = self.history.runs.iter().filter(|run| run.job == job && !run.state.is_open());
            let numbers: Vec<u64> = closed.map(|run| run.run).collect();
            let old = numbers.len().saturating_sub(limit);
            gone.extend(numbers.into_iter().take(old).map(|run| (job.clone(), run)));
        }
        self.history
            .runs
            .retain(|run| !gone.iter().any(|(job, number)| *job == run.job && *number == run.run));
        gone
    }
}
