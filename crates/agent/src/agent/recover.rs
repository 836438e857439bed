use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_model::{ContainerName, JobName, ReleaseId, ScheduleName};
use freehold_wire::agent::RunState;

use super::{Agent, Begin, RunKey};
use crate::book::LATE_LIMIT;
use crate::containers::{
    ContainerError, FoundContainer, JOB_LABEL, RELEASE_LABEL, RUN_LABEL, SCHEDULE_LABEL,
};

impl Agent {
    /// Goes on with what an earlier process began: containers of jobs are found by their labels and watched to their end.
    ///
    /// # Errors
    /// The engine does not answer.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), ContainerError> {
        let mut found = BTreeMap::new();
        for container in self.containers.list().await? {
            match key_of(&container) {
                Some(key) => drop(found.insert(key, container)),
                None => tracing::warn!(container = container.name, "a container has odd labels of a job"),
            }
        }
        for key in self.open_runs() {
            match found.remove(&key) {
                Some(_) => self.resume(&key, Begin::Found),
                None if self.is_late(&key) => self.close(&key, RunState::Skipped),
                None if self.is_waiting(&key) => self.resume(&key, Begin::Anew),
                None => {
                    let cause = "its container was gone when the agent came back".to_owned();
                    self.close(&key, RunState::Lost { cause });
                }
            }
        }
        for (key, container) in found {
            self.settle(&key, container).await;
        }
        Ok(())
    }

    fn open_runs(&self) -> Vec<RunKey> {
        let inner = self.inner.lock();
        let runs = inner.books.values().flat_map(|book| {
            let open = book.history.runs.iter().filter(|run| run.state.is_open());
            open.map(|run| RunKey { schedule: book.plan.name.clone(), job: run.job.clone(), run: run.run })
        });
        runs.collect()
    }

    fn is_waiting(&self, key: &RunKey) -> bool {
        self.record(key).is_some_and(|(record, _)| record.state == RunState::Waiting)
    }

    /// Says whether a run that never began was due too long ago to begin now.
    fn is_late(&self, key: &RunKey) -> bool {
        let earliest = self.clock.now().checked_sub(LATE_LIMIT);
        self.is_waiting(key)
            && self
                .record(key)
                .is_some_and(|(record, _)| earliest.is_ok_and(|earliest| record.due_at < earliest))
    }

    /// Gives a run a task again. One that waits for another of its job gets none yet.
    fn resume(self: &Arc<Self>, key: &RunKey, begin: Begin) {
        let mut inner = self.inner.lock();
        match begin {
            Begin::Found => self.spawn(&mut inner, key.clone(), begin),
            Begin::Anew => self.begin_waiting(&mut inner, &key.schedule, &key.job),
        }
    }

    /// Settles a container of which no open run is remembered.
    async fn settle(self: &Arc<Self>, key: &RunKey, container: FoundContainer) {
        let (is_known, is_remembered) = {
            let inner = self.inner.lock();
            let book = inner.books.get(&key.schedule);
            (
                book.is_some_and(|book| !book.is_empty()),
                book.is_some_and(|book| book.run(&key.job, key.run).is_some()),
            )
        };
        if is_known && container.is_alive && !is_remembered {
            let release = container.labels.get(RELEASE_LABEL).cloned().unwrap_or_default();
            if let Ok(release) = serde_json::from_value::<ReleaseId>(release.into()) {
                let now = self.clock.now();
                let mut inner = self.inner.lock();
                if let Some(book) = inner.books.get_mut(&key.schedule) {
                    book.adopt((key.job.clone(), key.run), release, container.name, now);
                }
                self.spawn(&mut inner, key.clone(), Begin::Found);
            }
            return;
        }
        if container.is_alive && !is_known {
            tracing::warn!(
                container = container.name,
                "a container of an unknown job runs and is left alone"
            );
            return;
        }
        let Ok(name) = ContainerName::parse(container.name) else { return };
        if let Err(error) = self.containers.remove(&name).await {
            tracing::warn!(container = %name, %error, "the container of a run that has ended is left");
        }
    }
}

/// Returns the run of a container.
fn key_of(container: &FoundContainer) -> Option<RunKey> {
    let label = |name: &str| container.labels.get(name);
    Some(RunKey {
        schedule: ScheduleName::parse(label(SCHEDULE_LABEL)?.as_str()).ok()?,
        job: JobName::parse(label(JOB_LABEL)?.as_str()).ok()?,
        run: label(RUN_LABEL)?.parse().ok()?,
    })
}
