use std::sync::Arc;

use freehold_model::HostName;
use freehold_plan::{Step, Undo};
use parking_lot::Mutex;

use crate::event::Event;
use crate::execute::run::{Halt, Run, as_host_error};
use crate::execute::{ExecuteError, PutBack, StepFailure, StepLeft};
use crate::failures::chain;
use crate::host::{Host, HostError, StepContext, StepError};
use crate::journal::JournalState;
use crate::lease::LeaseLost;
use crate::pause::Retry;
use crate::world::{BoxFuture, on_each, together};

/// How undoing the steps of one host ended, if not well.
enum Stuck {
    Fenced(HostName),
    Failed(Box<StepFailure>),
    Stopped,
}

impl Run<'_> {
    /// Puts everything back and makes the error of it.
    pub(crate) async fn put_back_after(&self, halt: Halt) -> ExecuteError {
        let failures = match halt {
            Halt::Fenced(host) => return ExecuteError::Fenced { host },
            Halt::Failed(failures) => failures,
            Halt::Stopped => Vec::new(),
        };
        let cause = failures.first().map_or_else(|| "interrupted".to_owned(), |failure| chain(failure));
        let step =
            failures.first().and_then(|failure| self.plan.steps().find(|step| step.id == failure.step));
        let put_back = match self.put_back(cause, step).await {
            Ok(put_back) => put_back,
            Err(host) => return ExecuteError::Fenced { host },
        };
        let mut failures = failures.into_iter();
        match failures.next() {
            Some(first) => {
                ExecuteError::Failed { first: Box::new(first), others: failures.collect(), put_back }
            }
            None => ExecuteError::Interrupted { put_back },
        }
    }

    /// Undoes every journalled step of every host, the last first, and ends the journals if all went well. The error
    /// is the host by which we know that another client has the lock.
    pub(crate) async fn put_back(&self, cause: String, failed: Option<&Step>) -> Result<PutBack, HostName> {
        self.world.emit(Event::PuttingBack { cause });
        // The new holder owns the state. While nobody knows who has the lock, the hosts' own fencing numbers decide.
        if let Err(LeaseLost::Taken { host }) = self.lease.confirm().await {
            return Err(host);
        }
        let stuck = Mutex::new(Vec::new());
        let work = async {
            self.write_decision(failed).await;
            let hosts: Vec<BoxFuture<'_, ()>> = self
                .world
                .hosts
                .iter()
                .map(|(name, host)| {
                    Box::pin(async {
                        if let Err(end) = self.undo_host(name, host).await {
                            stuck.lock().push(end);
                        }
                    }) as BoxFuture<'_, ()>
                })
                .collect();
            together(self.world, hosts).await;
        };
        self.until_hard_stop(work).await;
        let mut failures = Vec::new();
        for end in stuck.into_inner() {
            match end {
                Stuck::Fenced(host) => return Err(host),
                Stuck::Failed(failure) => failures.push(*failure),
                Stuck::Stopped => {}
            }
        }
        let left = self.not_undone();
        if !failures.is_empty() || !left.is_empty() {
            return Ok(PutBack::Incomplete { failures, left });
        }
        match self.end().await {
            Err(ExecuteError::Fenced { host }) => Err(host),
            _ => Ok(PutBack::Complete),
        }
    }

    /// Writes down on every host that answers that everything is put back: a crash before the first undo must not look
    /// like a release that only lacks its last steps.
    async fn write_decision(&self, failed: Option<&Step>) {
        let Some(step) = failed.or_else(|| self.plan.steps().next()) else { return };
        let entry = [self.entry(step, JournalState::PuttingBack)];
        let token = self.lease.token();
        let answers =
            on_each(self.world, self.world.hosts.iter(), |host| host.append_journal(token, &entry)).await;
        for (host, answer) in answers {
            if let Err(error) = answer {
                tracing::warn!(%host, error = %chain(&error), "decision to put back not journalled");
            }
        }
    }

    fn not_undone(&self) -> Vec<StepLeft> {
        let ledger = self.ledger.lock();
        let mut left: Vec<StepLeft> = self
            .plan
            .steps()
            .filter(|step| self.world.hosts.contains_key(&step.host) && ledger.needs_undo(step))
            .map(StepLeft::to_undo)
            .collect();
        left.reverse();
        left
    }

    async fn undo_host(&self, name: &HostName, host: &Arc<dyn Host>) -> Result<(), Stuck> {
        let mut steps: Vec<&Step> = self.plan.steps().filter(|step| step.host == *name).collect();
        steps.reverse();
        for step in steps {
            if !self.ledger.lock().needs_undo(step) {
                continue;
            }
            if self.stop.hard.is_cancelled() {
                return Err(Stuck::Stopped);
            }
            // What was done before this step may depend on it, as a container on the route to it: no earlier step of
            // this host is undone unless this one is.
            self.undo_step(step, host).await?;
        }
        Ok(())
    }

    async fn undo_step(&self, step: &Step, host: &Arc<dyn Host>) -> Result<(), Stuck> {
        let mut retry = Retry::patient(&self.world.limits);
        let result = loop {
            match self.try_undo(step, host).await {
                Err(error) if retry.again(&error, &self.stop.hard).await => {}
                result => break result,
            }
        };
        let title = step.undo.to_string();
        let error = result.as_ref().err().map(|error| chain(error));
        self.world.emit(Event::Undone {
            host: step.host.clone(),
            step: step.id,
            title: title.clone(),
            error,
        });
        match result {
            Ok(()) => Ok(()),
            Err(StepError::Host(HostError::Fenced { host })) => Err(Stuck::Fenced(host)),
            Err(StepError::Stopped) if self.stop.hard.is_cancelled() => Err(Stuck::Stopped),
            Err(error) => Err(Stuck::Failed(Box::new(StepFailure {
                host: step.host.clone(),
                step: step.id,
                title,
                error,
            }))),
        }
    }

    async fn try_undo(&self, step: &Step, host: &Arc<dyn Host>) -> Result<(), StepError> {
        match self.lease.check().await {
            Err(lost @ LeaseLost::Taken { .. }) => return Err(as_host_error(lost).into()),
            Ok(()) | Err(LeaseLost::Unknown(_)) => {}
        }
        if step.undo == Undo::Impossible {
            return Err(StepError::Host(HostError::Refused {
                host: step.host.clone(),
                operation: format!("undo `{}`", step.action),
                message: "there is no way back from it".to_owned(),
            }));
        }
        let progress = |progress| {
            self.world.emit(Event::StepProgress { host: step.host.clone(), step: step.id, progress });
        };
        let context = StepContext {
            lease: self.lease.token(),
            secrets: self.secrets,
            progress: &progress,
            stop: &self.stop.hard,
        };
        host.undo(step, &context).await?;
        Ok(self.append(host, &[self.entry(step, JournalState::Undone)]).await?)
    }
}
