//! Carries out what the books decide.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::{JobName, ReleaseId, ScheduleName, ScheduleState};
use freehold_wire::agent::{
    AgentErrorCode, AgentRefusal, RunCause, RunOutput, RunRecord, RunState, ScheduleReply, ScheduleStatus,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::{Admission, Book};
use crate::clock::Clock;
use crate::containers::Containers;
use crate::error::{chain, refusal};
use crate::output::Output;
use crate::store::Store;

mod recover;

/// How many runs go on at a time on a host; further ones wait.
const MOST_RUNS: usize = 16;

/// How long the next look at the clock may be away: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// How long a removal waits for runs to end before it answers.
const ENDING_LIMIT: Duration = Duration::from_secs(10);

/// Runs jobs.
pub(crate) struct Agent {
    pub(crate) containers: Arc<dyn Containers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) permits: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) started_at: Timestamp,
    inner: Mutex<Inner>,
    /// A schedule was changed.
    changed: Notify,
    /// A run has ended.
    ended: Notify,
}

#[derive(Default)]
struct Inner {
    books: BTreeMap<ScheduleName, Book>,
    live: BTreeMap<RunKey, Live>,
}

/// Names a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) schedule: ScheduleName,
    pub(crate) job: JobName,
    pub(crate) run: u64,
}

/// A run that has a task.
struct Live {
    halt: watch::Sender<Option<Halt>>,
    output: Arc<Mutex<Output>>,
}

/// Why a run is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    Replaced,
    Removed,
}

impl Halt {
    pub(crate) fn state(self) -> RunState {
        match self {
            Self::Replaced => RunState::Replaced,
            Self::Removed => RunState::Removed,
        }
    }
}

/// Whether the container of a run is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It is to be made.
    Anew,
    /// An earlier process of the agent made it.
    Found,
}

impl Agent {
    /// Makes an agent with what an earlier process left.
    ///
    /// # Errors
    /// Why the folder cannot be read.
    pub(crate) fn new(
        containers: Arc<dyn Containers>,
        clock: Arc<dyn Clock>,
        store: Store,
        stopping: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let books = store.load()?.into_iter().map(|book| (book.plan.name.clone(), book)).collect();
        Ok(Arc::new(Self {
            containers,
            started_at: clock.now(),
            clock,
            store,
            permits: Semaphore::new(MOST_RUNS),
            tasks: TaskTracker::new(),
            stopping,
            inner: Mutex::new(Inner { books, live: BTreeMap::new() }),
            changed: Notify::new(),
            ended: Notify::new(),
        }))
    }

    /// Begins jobs when they are due, until the agent stops.
    pub(crate) async fn keep_time(self: &Arc<Self>) {
        loop {
            let now = self.clock.now();
            self.tick(now);
            let next = self.inner.lock().books.values().filter_map(|book| book.next_due(now)).min();
            let span = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
            let span = span.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(span) => {}
                () = self.changed.notified() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Begins what is due.
    pub(crate) fn tick(self: &Arc<Self>, now: Timestamp) {
        let mut inner = self.inner.lock();
        let names: Vec<ScheduleName> = inner.books.keys().cloned().collect();
        for name in names {
            let Some(book) = inner.books.get_mut(&name) else { continue };
            for (job, due_at) in book.due(now) {
                let admission = inner
                    .books
                    .get_mut(&name)
                    .and_then(|book| book.admit(&job, RunCause::Schedule, due_at, now));
                if let Some(admission) = admission {
                    self.follow_up(&mut inner, &name, &admission);
                }
            }
        }
    }

    /// Does what an admission asks for.
    fn follow_up(self: &Arc<Self>, inner: &mut Inner, name: &ScheduleName, admission: &Admission) {
        let Admission { record, begins, replaced } = admission;
        let (job, run) = (&record.job, record.run);
        match record.state {
            RunState::Skipped => tracing::info!(schedule = %name, %job, run, "run skipped"),
            _ => tracing::info!(schedule = %name, %job, run, release = %record.release, "run admitted"),
        }
        for run in replaced {
            self.halt(inner, &RunKey { schedule: name.clone(), job: job.clone(), run: *run }, Halt::Replaced);
        }
        if *begins {
            self.spawn(inner, RunKey { schedule: name.clone(), job: job.clone(), run }, Begin::Anew);
        }
        self.tidy(inner, name);
        self.begin_waiting(inner, name, job);
    }

    /// Stops a run, or closes one that never began.
    fn halt(&self, inner: &mut Inner, key: &RunKey, halt: Halt) {
        match inner.live.get(key) {
            Some(live) => {
                live.halt.send_replace(Some(halt));
            }
            None => {
                let now = self.clock.now();
                if let Some(book) = inner.books.get_mut(&key.schedule) {
                    book.close((&key.job, key.run), halt.state(), now);
                }
            }
        }
    }

    /// Begins the oldest run that waits for others of its job, if there are none. During a pause it waits on; where jobs no
    /// longer run here, it never begins.
    fn begin_waiting(self: &Arc<Self>, inner: &mut Inner, name: &ScheduleName, job: &JobName) {
        let is_of_job = |key: &&RunKey| key.schedule == *name && key.job == *job;
        let state = inner.books.get(name).map(|book| book.plan.state.clone()).unwrap_or_default();
        if inner.live.keys().any(|key| is_of_job(&key)) || matches!(state, ScheduleState::Paused { .. }) {
            return;
        }
        let waiting = inner
            .books
            .get(name)
            .and_then(|book| book.open(job).find(|run| run.state == RunState::Waiting).map(|run| run.run));
        let Some(run) = waiting else { return };
        let key = RunKey { schedule: name.clone(), job: job.clone(), run };
        match state {
            ScheduleState::Off => {
                self.halt(inner, &key, Halt::Removed);
                self.tidy(inner, name);
            }
            ScheduleState::Active { .. } | ScheduleState::Paused { .. } => {
                self.spawn(inner, key, Begin::Anew)
            }
        }
    }

    /// Begins what waited for the end of a pause.
    fn begin_all_waiting(self: &Arc<Self>, inner: &mut Inner, name: &ScheduleName) {
        let runs = inner.books.get(name).map(|book| book.history.runs.clone()).unwrap_or_default();
        for run in runs.into_iter().filter(|run| run.state == RunState::Waiting) {
            self.begin_waiting(inner, name, &run.job);
        }
    }

    fn spawn(self: &Arc<Self>, inner: &mut Inner, key: RunKey, begin: Begin) {
        let (halt, halted) = watch::channel(None);
        let output = Arc::new(Mutex::new(Output::default()));
        inner.live.insert(key.clone(), Live { halt, output: Arc::clone(&output) });
        let agent = Arc::clone(self);
        self.tasks.spawn(async move { agent.carry_out(key, begin, halted, output).await });
    }

    /// Forgets old runs and writes the history down.
    fn tidy(&self, inner: &mut Inner, name: &ScheduleName) {
        let Some(book) = inner.books.get_mut(name) else { return };
        for (job, run) in book.trim() {
            if let Err(error) = self.store.remove_output(name, (&job, run)) {
                tracing::warn!(schedule = %name, %job, run, error = chain(&error), "the output of a run is left");
            }
        }
        if let Err(error) = self.store.save_history(name, &book.history) {
            tracing::error!(schedule = %name, error = chain(&error), "the history cannot be stored");
        }
    }

    /// Returns what of a run its task needs.
    pub(crate) fn record(
        &self,
        key: &RunKey,
    ) -> Option<(RunRecord, Option<freehold_wire::agent::ScheduledContainer>)> {
        let inner = self.inner.lock();
        let book = inner.books.get(&key.schedule)?;
        let record = book.run(&key.job, key.run)?.clone();
        let job = book.job(&record.release, &key.job);
        let job = job.or_else(|| book.job(book.set()?.0, &key.job)).cloned();
        Some((record, job))
    }

    /// Takes note that the container of a run was started.
    pub(crate) fn began(&self, key: &RunKey) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let book = inner.books.get_mut(&key.schedule);
        if let Some(record) = book.and_then(|book| book.run_mut(&key.job, key.run)) {
            record.state = RunState::Running;
            record.started_at = Some(now);
        }
        self.tidy(&mut inner, &key.schedule);
        tracing::info!(schedule = %key.schedule, job = %key.job, run = key.run, "run started");
    }

    /// Takes note of the end of a run and begins the one that waits for it.
    pub(crate) fn close(self: &Arc<Self>, key: &RunKey, state: RunState) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let live = inner.live.remove(key);
        let output = live.map(|live| live.output.lock().clone()).unwrap_or_default();
        if let Some(book) = inner.books.get_mut(&key.schedule) {
            book.close((&key.job, key.run), state.clone(), now);
            if let Some(record) = book.run_mut(&key.job, key.run) {
                record.last_lines = output.last_lines();
            }
        }
        self.tidy(&mut inner, &key.schedule);
        let is_known =
            inner.books.get(&key.schedule).is_some_and(|book| book.run(&key.job, key.run).is_some());
        if is_known && let Err(error) = self.store.save_output(&key.schedule, (&key.job, key.run), &output) {
            tracing::error!(schedule = %key.schedule, error = chain(&error), "the output of a run cannot be stored");
        }
        self.begin_waiting(&mut inner, &key.schedule, &key.job);
        let state = serde_json::to_string(&state).unwrap_or_default();
        tracing::info!(schedule = %key.schedule, job = %key.job, run = key.run, state, "run ended");
        drop(inner);
        self.ended.notify_waiters();
    }

    /// Changes a schedule: all of it, or nothing where it cannot be stored.
    pub(crate) fn change(
        self: &Arc<Self>,
        name: &ScheduleName,
        is_new: IsNew,
        change: impl FnOnce(&mut Book, Timestamp) -> Result<ScheduleReply, AgentRefusal>,
    ) -> Result<ScheduleReply, AgentRefusal> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let mut book = match (inner.books.get(name), is_new) {
            (Some(book), _) => book.clone(),
            (None, IsNew::Allowed) => Book::new(name.clone()),
            (None, IsNew::Refused) => return Err(unknown(name)),
        };
        let reply = change(&mut book, now)?;
        let saved = self.store.save_plan(&book.plan);
        let saved = saved.and_then(|()| self.store.save_history(name, &book.history));
        if let Err(error) = saved {
            let message = format!("nothing was changed, because it cannot be stored: {}", chain(&error));
            tracing::error!(schedule = %name, error = chain(&error), "a schedule cannot be stored");
            return Err(refusal(AgentErrorCode::State, message));
        }
        inner.books.insert(name.clone(), book);
        self.tidy(&mut inner, name);
        self.begin_all_waiting(&mut inner, name);
        drop(inner);
        if reply.changed {
            let release = reply.state.release().map(ReleaseId::as_str).unwrap_or_default();
            tracing::info!(schedule = %name, release, is_active = reply.state.is_active(), "schedule changed");
        }
        self.changed.notify_one();
        Ok(reply)
    }

    /// Removes a schedule and stops its runs. Answers when they have ended, or after a while with how many have not.
    ///
    /// # Cancel safety
    /// The removal goes on.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        name: &ScheduleName,
        fence: u64,
    ) -> Result<ScheduleReply, AgentRefusal> {
        let mut reply = self.change(name, IsNew::Refused, |book, _| {
            let changed = !book.is_empty();
            book.clear(fence)?;
            Ok(book.reply(changed))
        })?;
        let deadline = tokio::time::Instant::now() + ENDING_LIMIT;
        {
            let mut inner = self.inner.lock();
            let runs = inner.books.get(name).map(|book| book.history.runs.clone()).unwrap_or_default();
            for run in runs.into_iter().filter(|run| run.state.is_open()) {
                self.halt(
                    &mut inner,
                    &RunKey { schedule: name.clone(), job: run.job, run: run.run },
                    Halt::Removed,
                );
            }
            self.tidy(&mut inner, name);
        }
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            reply.ending_runs = self.live_runs(name);
            if reply.ending_runs == 0 {
                break;
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Ok(reply);
            }
        }
        if let Err(error) = self.store.remove_runs(name) {
            let message = format!("its history cannot be removed: {}", chain(&error));
            return Err(refusal(AgentErrorCode::State, message));
        }
        Ok(reply)
    }

    fn live_runs(&self, name: &ScheduleName) -> u32 {
        let inner = self.inner.lock();
        let live = inner.live.keys().filter(|key| key.schedule == *name).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    /// Runs a job now.
    pub(crate) fn run_now(
        self: &Arc<Self>,
        name: &ScheduleName,
        job: &JobName,
    ) -> Result<RunRecord, AgentRefusal> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let book = inner.books.get_mut(name).ok_or_else(|| unknown(name))?;
        let admission = book
            .admit(job, RunCause::Person, now, now)
            .ok_or_else(|| refusal(AgentErrorCode::Unknown, format!("`{name}` has no job `{job}`")))?;
        self.follow_up(&mut inner, name, &admission);
        Ok(admission.record)
    }

    /// Describes all schedules.
    pub(crate) fn statuses(&self) -> Vec<ScheduleStatus> {
        let now = self.clock.now();
        self.inner.lock().books.values().filter_map(|book| book.status(now)).collect()
    }

    /// Returns the runs of a schedule.
    pub(crate) fn runs(&self, name: &ScheduleName) -> Result<Vec<RunRecord>, AgentRefusal> {
        let inner = self.inner.lock();
        Ok(inner.books.get(name).ok_or_else(|| unknown(name))?.runs())
    }

    /// Returns what a run wrote, from a line on.
    pub(crate) fn output(&self, key: &RunKey, after: u64) -> Result<RunOutput, AgentRefusal> {
        let inner = self.inner.lock();
        let book = inner.books.get(&key.schedule).ok_or_else(|| unknown(&key.schedule))?;
        let run = book.run(&key.job, key.run).cloned().ok_or_else(|| {
            let message = format!("run {} of job `{}` is not remembered", key.run, key.job);
            refusal(AgentErrorCode::Unknown, message)
        })?;
        let (first, lines) = match inner.live.get(key) {
            Some(live) => live.output.lock().after(after),
            None => self.store.load_output(&key.schedule, (&key.job, key.run)).after(after),
        };
        Ok(RunOutput { run, first, lines })
    }
}

/// Whether a change may make a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsNew {
    Allowed,
    Refused,
}

fn unknown(name: &ScheduleName) -> AgentRefusal {
    refusal(AgentErrorCode::Unknown, format!("there is no schedule `{name}`"))
}

#[cfg(test)]
pub(crate) mod tests;
